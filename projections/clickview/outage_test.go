package clickview

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
)

// The server is away, or hangs, while the log grows; afterwards the model catches up, whole, and memory was bounded.
func TestServerIsAwayUnderLoad(t *testing.T) {
	for name, outage := range map[string]struct {
		begin, end func(t *testing.T, srv *engine.ClickHouse)
	}{
		"stopped": {
			func(_ *testing.T, srv *engine.ClickHouse) { srv.Stop() },
			func(t *testing.T, srv *engine.ClickHouse) {
				if err := srv.Restart(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
		},
		"hanging": {
			func(t *testing.T, srv *engine.ClickHouse) {
				if err := srv.Pause(); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, srv *engine.ClickHouse) {
				if err := srv.Resume(); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := testenv.ClickHouse(t)
			log := memstore.New(memstore.Options{})
			o := options(srv, "ledger")
			o.OpTimeout = 500 * time.Millisecond
			v := ledgerView(t, o)
			runner := projections.NewRunner(log, v, projections.Options{
				MaxBatch: 500, CheckEvery: 50 * time.Millisecond, RetryMin: 5 * time.Millisecond, RetryMax: 100 * time.Millisecond,
			})
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() {
				if err := runner.Run(ctx); err != nil {
					t.Errorf("Run: %v", err)
				}
			})
			defer running.Wait()
			defer cancel()
			credits(t, log, 1000)
			await(t, runner, log)

			outage.begin(t, srv)
			// It lasts until the runner has noticed, for a statement that hangs is told of when its timeout is over, and that
			// takes as long as the machine is busy.
			away, patience := time.After(2*time.Second), time.After(time.Minute)
			goroutines := runtime.NumGoroutine()
			for growing, noticed := true, false; growing || !noticed; {
				credits(t, log, 20)
				noticed = noticed || runner.Status().State == projections.Retrying
				select {
				case <-away:
					growing = false
				case <-patience:
					t.Fatalf("the server is away for a minute, and the runner is %+v", runner.Status())
				case <-time.After(20 * time.Millisecond):
				}
			}
			if n := runtime.NumGoroutine(); n > goroutines+20 {
				t.Errorf("%d goroutines at the begin of the outage, %d at its end", goroutines, n)
			}
			outage.end(t, srv)
			await(t, runner, log)
			if err := runner.Pause(ctx); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, v, log)
			runner.Resume()
		})
	}
}

// await waits until a runner has folded all of a log.
func await(t testing.TB, runner *projections.Runner, log *memstore.Store) {
	t.Helper()
	head, err := log.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := runner.Await(ctx, head.Durable); err != nil {
		t.Fatalf("%v; status %+v", err, runner.Status())
	}
}
