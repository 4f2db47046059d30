package redisview_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/projections/redisview"
)

// load is a shop that goes on selling while its Redis suffers.
type load struct {
	log    *memstore.Store
	view   *redisview.View
	runner *projections.Runner

	stop           context.CancelFunc
	selling, owned sync.WaitGroup
	reads, refused atomic.Int64
}

// begin starts to sell, to project and to read.
func begin(t *testing.T, address string) *load {
	l := &load{log: shop(t, 200), view: redisview.New(dial(t, address), orders(), redisview.Options{})}
	l.runner = projections.NewRunner(l.log, l.view, projections.Options{
		CheckEvery: 100 * time.Millisecond, RetryMax: 200 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	selling, stop := context.WithCancel(ctx)
	l.stop = stop
	l.owned.Go(func() {
		if err := l.runner.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	l.settle(t)
	l.selling.Go(func() { l.sell(selling, t) })
	l.selling.Go(func() { l.read(selling, t) })
	t.Cleanup(func() {
		cancel()
		l.selling.Wait()
		l.owned.Wait()
		_ = l.view.Close()
	})
	return l
}

// sell appends some 6,000 events a second.
func (l *load) sell(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 200; ; n += 100 {
		select {
		case <-tick.C:
			addOrders(t, l.log, n, n+100)
		case <-ctx.Done():
			return
		}
	}
}

// read asks for an order that has been there from the beginning. It may be refused, it may never be missing.
func (l *load) read(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		order, err := l.view.Hash(ctx, "order:536365")
		switch {
		case err == nil && order["customer"] == "12000":
			l.reads.Add(1)
		case errors.Is(err, projections.ErrRebuilding), errors.Is(err, projections.ErrUnavailable):
			l.refused.Add(1)
		case ctx.Err() != nil:
			return
		default:
			t.Errorf("a reader was told %v, %v", order, err)
			return
		}
	}
}

// settle waits until the model has all that is in the log.
func (l *load) settle(t *testing.T) {
	t.Helper()
	head, err := l.log.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := l.runner.Await(ctx, head.Durable); err != nil {
		t.Fatalf("wait for %s: %v; status %+v", head.Durable, err, l.runner.Status())
	}
}

// check ends the selling and compares what is in Redis with a fold in memory.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.stop()
	l.selling.Wait()
	l.settle(t)
	same(t, l.log, l.view)
	if l.reads.Load() == 0 {
		t.Error("no read was answered")
	}
	t.Logf("%d reads answered, %d refused; status %+v", l.reads.Load(), l.refused.Load(), l.runner.Status())
}

// same compares a view with a fold of the whole log in memory, by digest and key by key.
func same(t testing.TB, log *memstore.Store, view *redisview.View) {
	t.Helper()
	want := memview.NewKeys(orders())
	if err := projections.Replay(t.Context(), log, want, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	faults, err := view.Diff(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
	ours, err := want.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err := view.Digest(t.Context()); err != nil || theirs != ours {
		t.Errorf("the digest in Redis is %s, %v, in memory %s", theirs, err, ours)
	}
}

// TestRedisFlushedUnderLoad shows P4.
func TestRedisFlushedUnderLoad(t *testing.T) {
	srv := testenv.Redis(t)
	l := begin(t, srv.Addr())
	for range 5 {
		flush(t, srv.Addr())
		rebuilt(t, l.runner)
	}
	l.check(t)
}

// rebuilt waits until the runner has filled its model once more.
func rebuilt(t testing.TB, r *projections.Runner) {
	t.Helper()
	until(t, r, "filled again", func(s projections.Status, before int) bool { return s.Rebuilds > before })
}

// until waits for a runner's status.
func until(t testing.TB, r *projections.Runner, what string, reached func(s projections.Status, rebuilds int) bool) {
	t.Helper()
	before := r.Status().Rebuilds
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !reached(r.Status(), before) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not %s in time; status %+v", what, r.Status())
		}
	}
}

// TestRedisKilledUnderLoad shows P1 and P4.
func TestRedisKilledUnderLoad(t *testing.T) {
	for _, kept := range []bool{false, true} {
		name := "restarted empty"
		if kept {
			name = "restarted with its data"
		}
		t.Run(name, func(t *testing.T) {
			srv := testenv.RedisWith(t, engine.RedisOptions{AppendOnly: kept})
			l := begin(t, srv.Addr())
			for range 3 {
				head, err := l.log.Log(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				srv.Kill()
				until(t, l.runner, "retrying", func(s projections.Status, _ int) bool { return s.State == projections.Retrying })
				if _, err := l.runner.Position(t.Context()); !errors.Is(err, projections.ErrUnavailable) {
					t.Errorf("with Redis dead the position is %v, want ErrUnavailable", err)
				}
				if err := srv.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if err := l.runner.Await(ctx, eventstore.Position{Incarnation: 1, LSN: head.Durable.LSN + 3000}); err != nil {
					t.Fatalf("after the restart: %v; status %+v", err, l.runner.Status())
				}
				cancel()
			}
			l.check(t)
			if n := l.runner.Status().Rebuilds; kept && n != 1 || !kept && n < 4 {
				t.Errorf("the model was filled %d times", n)
			}
		})
	}
}

func TestRedisPausedUnderLoad(t *testing.T) {
	srv := testenv.Redis(t)
	l := begin(t, srv.Addr())
	if err := srv.Pause(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // the fault itself
	if err := srv.Resume(); err != nil {
		t.Fatal(err)
	}
	l.check(t)
	if n := l.runner.Status().Rebuilds; n != 1 {
		t.Errorf("the model was filled %d times, want once: nothing was lost", n)
	}
}

func TestConnectionsCutUnderLoad(t *testing.T) {
	srv := testenv.Redis(t)
	way := testenv.Proxy(t, srv.Addr())
	l := begin(t, way.Addr())
	for range 30 {
		way.Cut()
		head, err := l.log.Log(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		way.Restore()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := l.runner.Await(ctx, eventstore.Position{Incarnation: 1, LSN: head.Durable.LSN + 300}); err != nil {
			t.Fatalf("after a cut: %v; status %+v", err, l.runner.Status())
		}
		cancel()
	}
	l.check(t)
	if n := l.runner.Status().Rebuilds; n != 1 {
		t.Errorf("the model was filled %d times, want once: nothing was lost", n)
	}
}

// TestTwoProcessesKeepOneModel: they take turns or get in each other's way, but no event counts twice.
func TestTwoProcessesKeepOneModel(t *testing.T) {
	everywhere(t, func(t *testing.T, address string) {
		l := begin(t, address)
		ctx, cancel := context.WithCancel(t.Context())
		other := projections.NewRunner(l.log, newView(t, dial(t, address), orders()), projections.Options{
			RetryMax: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		done := make(chan error, 1)
		go func() { done <- other.Run(ctx) }()
		if err := other.Await(ctx, eventstore.Position{Incarnation: 1, LSN: 6000}); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		l.check(t)
	})
}
