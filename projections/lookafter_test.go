package projections_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

// lines keeps what is logged at level warning and above.
type lines struct {
	slog.Handler
	mu   sync.Mutex
	said []string
}

func newLines() *lines { return &lines{Handler: slog.DiscardHandler} }

func (l *lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := r.Message
	r.Attrs(func(a slog.Attr) bool {
		said += " " + a.String()
		return true
	})
	l.said = append(l.said, said)
	return nil
}

// take returns what was logged since the last take.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.said
	l.said = nil
	return out
}

// headless is a source whose head can be made to fail while its events still come.
type headless struct {
	*memstore.Store
	mu   sync.Mutex
	fail func(ctx context.Context) error // nil: it answers
}

func (h *headless) set(fail func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = fail
}

func (h *headless) Log(ctx context.Context) (eventstore.LogState, error) {
	h.mu.Lock()
	fail := h.fail
	h.mu.Unlock()
	if fail != nil {
		if err := fail(ctx); err != nil {
			return eventstore.LogState{}, err
		}
	}
	return h.Store.Log(ctx)
}

// TestRunnerStaysRetryingWhileTheHeadFails: it is told of once, the state is steady, and the model can be read meanwhile.
func TestRunnerStaysRetryingWhileTheHeadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &headless{Store: memstore.New(memstore.Options{})}
		logged := newLines()
		r := projections.NewRunner(source, memview.NewKeys(counters(1)), projections.Options{Logger: slog.New(logged)})
		start(t, r)
		await(t, r, count(t, source.Store, 10))
		synctest.Wait()
		logged.take()

		var mu sync.Mutex
		var seen []projections.State
		source.set(func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.Status().State)
			return errDown
		})
		time.Sleep(20 * time.Second)
		synctest.Wait()
		mu.Lock()
		if len(seen) < 10 {
			t.Fatalf("the head was asked for %d times in 20 checks", len(seen))
		}
		for n, state := range seen[1:] {
			if state != projections.Retrying {
				t.Fatalf("at failing check %d the state is %q, want it to stay %q", n+2, state, projections.Retrying)
			}
		}
		mu.Unlock()
		if said := logged.take(); len(said) != 1 {
			t.Errorf("a head that fails over and over was told of %d times, want once: %q", len(said), said)
		}
		if _, err := r.Position(t.Context()); err != nil {
			t.Errorf("while the head fails the position is %v: the model can still be read", err)
		}
		source.set(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := r.Status(); s.State != projections.Live {
			t.Errorf("when the head answers again the status is %+v", s)
		}
	})
}

// TestRunnerTellsOfOneFaultWhenBothSidesFail: two faults that take turns are not told of anew at each check.
func TestRunnerTellsOfOneFaultWhenBothSidesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memstore.New(memstore.Options{})
		source := &headless{Store: log}
		sink := &link{Source: log, Appender: log, Keys: memview.NewKeys(counters(1))}
		logged := newLines()
		r := projections.NewRunner(source, sink, projections.Options{Logger: slog.New(logged)})
		start(t, r)
		await(t, r, count(t, log, 10))
		synctest.Wait()
		logged.take()
		sink.set(func() { sink.sinkDown = errDown })
		source.set(func(context.Context) error { return fmt.Errorf("the head: %w", errDown) })
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if said := logged.take(); len(said) != 1 {
			t.Errorf("they were told of %d times, want once: %q", len(said), said)
		}
	})
}

// TestRunnerIsHeldWhileTheHeadHangs: a source that does not answer keeps nobody waiting for a pause.
func TestRunnerIsHeldWhileTheHeadHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &headless{Store: memstore.New(memstore.Options{})}
		r := projections.NewRunner(source, memview.NewKeys(counters(1)), quiet)
		start(t, r)
		await(t, r, count(t, source.Store, 10))
		hangs := make(chan struct{}, 1000)
		source.set(func(ctx context.Context) error {
			hangs <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		<-hangs
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Pause(ctx); err != nil {
			t.Fatalf("Pause while the head hangs: %v", err)
		}
		r.Resume()
	})
}

// countless is a sink whose list of parked events can be made to fail.
type countless struct {
	*link
	down bool // guarded by link.mu
}

func (c *countless) Parked(ctx context.Context) ([]projections.Parked, error) {
	c.mu.Lock()
	down := c.down
	c.mu.Unlock()
	if down {
		return nil, errDown
	}
	return c.Keys.Parked(ctx)
}

// TestRunnerCountsWhatWasParkedBehindALostAnswer shows P6 for a commit that went through unseen.
func TestRunnerCountsWhatWasParkedBehindALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memstore.New(memstore.Options{})
		count(t, log, 10)
		l := &countless{link: &link{Source: log, Appender: log, Keys: memview.NewKeys(counters(1))}}
		logged := newLines()
		r := projections.NewRunner(log, l, projections.Options{Logger: slog.New(logged)})
		wait := start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 10})
		synctest.Wait()
		l.set(func() { l.loseAnswer, l.down = true, true })
		logged.take()
		await(t, r, appendTo(t, log, "bad", counted, "not a number"))
		time.Sleep(3 * time.Second) // counts fail as well
		l.set(func() { l.down = false })
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if n := r.Status().Parked; n != 1 {
			t.Errorf("%d events are parked after a lost answer, want 1", n)
		}
		if said := fmt.Sprint(logged.take()); !strings.Contains(said, "events are parked") {
			t.Errorf("the event that was parked unseen is not told of: %s", said)
		}

		// A start at which the count fails learns it later.
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		l.set(func() { l.down = true })
		r = projections.NewRunner(log, l, quiet)
		start(t, r)
		time.Sleep(3 * time.Second)
		l.set(func() { l.down = false })
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if n := r.Status().Parked; n != 1 {
			t.Errorf("%d events are parked after a start at which they could not be counted, want 1", n)
		}
	})
}

// ended is a sink with a parked event, which is tried again when the runner's time is up.
type ended struct {
	*memview.Keys
	end context.CancelFunc
}

func (e *ended) Parked(context.Context) ([]projections.Parked, error) {
	return make([]projections.Parked, 1), nil
}

func (e *ended) Retry(ctx context.Context, _ eventstore.StreamID) (int, error) {
	e.end()
	return 0, ctx.Err()
}

// A runner that ends while it tries parked events again does not warn of that.
func TestEndIsNoWarning(t *testing.T) {
	log, said := memstore.New(memstore.Options{}), newLines()
	count(t, log, 1)
	ctx, cancel := context.WithCancel(t.Context())
	sink := &ended{memview.NewKeys(counters(1)), cancel}
	if err := projections.NewRunner(log, sink, projections.Options{Logger: slog.New(said)}).Run(ctx); err != nil || ctx.Err() == nil {
		t.Fatalf("the run ended with %v, %v", err, ctx.Err())
	}
	if warned := said.take(); len(warned) > 0 {
		t.Errorf("it warned of %q", warned)
	}
}

// Nor does one that ends while it asks how far the log is.
func TestEndBesideTheHeadIsNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, said := &headless{Store: memstore.New(memstore.Options{})}, newLines()
		r := projections.NewRunner(source, memview.NewKeys(counters(1)), projections.Options{Logger: slog.New(said)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		await(t, r, count(t, source.Store, 1))
		synctest.Wait()
		source.set(func(ctx context.Context) error {
			cancel()
			return ctx.Err()
		})
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if warned := said.take(); len(warned) > 0 {
			t.Errorf("it warned of %q", warned)
		}
	})
}
