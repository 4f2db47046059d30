package saga_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		gate := make(chan struct{})
		r := newRunner(t, store, flaky{shop, func(commands.Meta) error { <-gate; return nil }}, checkoutSaga, saga.Options{Queue: 5, Workers: 2})
		stop := run(t, r)
		for n := range 100 {
			place(t, shop, fmt.Sprint(n), "A", 100)
		}
		synctest.Wait()
		if r.Busy() != 5 || r.Open() != 5 {
			t.Errorf("%d instances are busy and %d open while nothing moves, want the bound of 5", r.Busy(), r.Open())
		}
		if p := r.Position(); p.LSN > 6 {
			t.Errorf("the runner says to be done with %v while nothing moves", p)
		}
		close(gate)
		synctest.Wait()
		if r.Open() != 0 || r.Position().LSN < 100 {
			t.Errorf("%d instances are open at %v after the gate has opened, want none", r.Open(), r.Position())
		}
		stop()
	})
}

func TestStopWaitsForWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		r := newRunner(t, store, flaky{shop, func(commands.Meta) error { time.Sleep(time.Second); return nil }}, checkoutSaga, saga.Options{})
		stop := run(t, r)
		place(t, shop, "1", "A B C", 100)
		time.Sleep(1500 * time.Millisecond)
		start := time.Now()
		stop()
		if took := time.Since(start); took != 500*time.Millisecond {
			t.Errorf("stopping took %v, want the 500 ms that the dispatch still needed", took)
		}
		if got := effects(t, store, "1"); got["B+1"] != 1 || got["C+1"] != 0 {
			t.Errorf("effects after the stop are %v, want B reserved and nothing begun after it", got)
		}
	})
}

// stuck never answers but to the end of its context.
type stuck struct{}

func (stuck) Dispatch(ctx context.Context, _ commands.Meta, _ ...any) (eventstore.Receipt, error) {
	<-ctx.Done()
	return eventstore.Receipt{}, ctx.Err()
}

func TestGraceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		r := newRunner(t, store, stuck{}, checkoutSaga, saga.Options{Grace: 2 * time.Second})
		stop := run(t, r)
		place(t, newShop(t, store), "1", "A", 100)
		synctest.Wait()
		start := time.Now()
		stop()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("stopping took %v, want the grace of 2 s", took)
		}
		if got := len(checkpoints(t, store, "checkout")); got != 1 {
			t.Errorf("%d checkpoints stand after the stop, want 1", got)
		}
	})
}

func TestStuckDispatchIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		r := newRunner(t, store, stuck{}, checkoutSaga, saga.Options{Timeout: 10 * time.Second})
		stop := run(t, r)
		place(t, newShop(t, store), "1", "A", 100)
		time.Sleep(time.Minute)
		synctest.Wait()
		for m, err := range r.Outbox(context.Background(), saga.StatusPending) {
			if must(t, err); m.RetryCount < 3 {
				t.Errorf("tried again %d times in a minute of 10 s timeouts, want at least 3", m.RetryCount)
			}
		}
		stop()
	})
}

func TestIdleBeforeAndAfterRun(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	place(t, shop, "1", "A", 100)
	r := newRunner(t, store, shop, checkoutSaga, saga.Options{})
	var wg sync.WaitGroup
	wg.Go(func() { idle(t, r, store) })
	stop := run(t, r)
	wg.Wait()
	if n := effects(t, store, "1")["order.confirmed.v1"]; n != 1 {
		t.Errorf("the order was confirmed %d times when Idle returned, want once", n)
	}
	if err := r.Run(context.Background()); err == nil {
		t.Error("a second Run beside the first gives no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	beyond := head(t, store)
	place(t, shop, "2", "A", 100)
	beyond.LSN += 1000
	if err := r.Idle(ctx, beyond); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Idle with an ended context gives %v", err)
	}
	stop()
	if err := r.Idle(context.Background(), head(t, store)); !errors.Is(err, saga.ErrStopped) {
		t.Errorf("Idle after Run gives %v, want ErrStopped", err)
	}
}

func TestRunnerRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		r := newRunner(t, store, shop, checkoutSaga, saga.Options{})
		for n := range 3 {
			stop := run(t, r)
			place(t, shop, fmt.Sprint(n), "A", 0)
			synctest.Wait()
			if r.Open() != n+1 {
				t.Errorf("%d instances are open in run %d, want %d", r.Open(), n+1, n+1)
			}
			stop()
		}
	})
}

func TestStoreThatCloses(t *testing.T) {
	store := memstore.New(memstore.Options{})
	r := newRunner(t, store, newShop(t, store), checkoutSaga, saga.Options{})
	done := make(chan error, 1)
	go func() { done <- r.Run(context.Background()) }()
	idle(t, r, store)
	must(t, store.Close())
	if err := <-done; !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("Run gives %v, want ErrClosed", err)
	}
}

func TestDefinitionsAreChecked(t *testing.T) {
	store := memstore.New(memstore.Options{})
	_, err := saga.New(store, newShop(t, store), saga.Definition[int]{Name: "Bad Name"}, saga.Options{})
	for _, text := range []string{"category", "no triggers", "Instance is nil", "React is nil"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v does not mention %q", err, text)
		}
	}
}

// script is a saga whose reactions are given by the test, by input.
func script(name string, react func(in saga.Input) []saga.Action) saga.Definition[int] {
	return saga.Definition[int]{
		Name: name, Triggers: []string{"order.placed.v1"},
		Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
		React:    func(s int, in saga.Input) (int, []saga.Action, error) { return s, react(in), nil },
	}
}

func TestActionsAreChecked(t *testing.T) {
	some := []any{confirmOrder{"1"}}
	for says, actions := range map[string][]saga.Action{
		"has no key":       {saga.Send{Commands: some}},
		"has no commands":  {saga.Send{Key: "a"}},
		"used twice":       {saga.Send{Key: "a", Commands: some}, saga.Send{Key: "a", Commands: some}},
		"timer has no":     {saga.SetTimer{}},
		"only action":      {saga.Ignore{}, saga.Complete{}},
		"<nil> is unknown": {nil},
	} {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		r := newRunner(t, store, shop, script("script", func(saga.Input) []saga.Action { return actions }), saga.Options{})
		stop := run(t, r)
		place(t, shop, "1", "A", 1)
		idle(t, r, store)
		if p := r.Parked(); len(p) != 1 || !strings.Contains(p[0].Err.Error(), says) {
			t.Errorf("parked are %+v, want one that says %q", p, says)
		}
		if !strings.Contains(r.LastError(), says) {
			t.Errorf("the last error is %q", r.LastError())
		}
		stop()
	}
}

func TestPanicInReactParks(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	r := newRunner(t, store, shop, script("script", func(saga.Input) []saga.Action { panic("boom") }), saga.Options{})
	run(t, r)
	place(t, shop, "1", "A", 1)
	idle(t, r, store)
	if p := r.Parked(); len(p) != 1 || !strings.Contains(p[0].Err.Error(), "boom") {
		t.Errorf("parked are %+v, want one", p)
	}
}

func TestTimersAreMovedAndCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		start := time.Now()
		var fired []string
		r := newRunner(t, store, shop, script("script", func(in saga.Input) []saga.Action {
			switch in := in.(type) {
			case saga.Triggered:
				return []saga.Action{
					saga.SetTimer{Name: "a", After: time.Hour},
					saga.SetTimer{Name: "b", After: 2 * time.Hour},
					saga.SetTimer{Name: "c", After: 3 * time.Hour},
					saga.SetTimer{Name: "d", After: time.Minute},
					saga.CancelTimer{Name: "d"},
				}
			case saga.Fired:
				fired = append(fired, fmt.Sprint(in.Timer, " ", in.At.Sub(start)))
				switch len(fired) {
				case 1:
					return []saga.Action{saga.CancelTimer{Name: "b"}, saga.SetTimer{Name: "a", After: time.Hour}, saga.SetTimer{Name: "c", After: 90 * time.Minute}}
				case 3:
					return []saga.Action{saga.SetTimer{Name: "e", After: time.Hour}, saga.Complete{Outcome: "done"}}
				}
			}
			return nil
		}), saga.Options{})
		stop := run(t, r)
		place(t, shop, "1", "A", 1)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a 1h0m0s", "a 2h0m0s", "c 2h30m0s"}, fired); diff != "" {
			t.Errorf("fired (-want +got):\n%s", diff)
		}
		if r.Open() != 0 {
			t.Errorf("%d instances are open, want none", r.Open())
		}
		stop()
	})
}

func TestATimerFiresWhileASendWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		var fired bool
		r := newRunner(t, store, flaky{shop, func(commands.Meta) error { return eventstore.ErrUnavailable }}, script("script", func(in saga.Input) []saga.Action {
			switch in.(type) {
			case saga.Triggered:
				return []saga.Action{saga.Send{Key: "k", Commands: []any{confirmOrder{"1"}}}, saga.SetTimer{Name: "late", After: time.Hour}}
			case saga.Fired:
				fired = true
			}
			return nil
		}), saga.Options{})
		stop := run(t, r)
		place(t, shop, "1", "A", 1)
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		if !fired {
			t.Error("the timer did not fire, though it was due a minute ago")
		}
		stop()
	})
}

// Complete lets sends that are under way finish, but nobody reacts any more; refusals show in the outbox.
func TestCompleteFinishesItsSends(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	var reactions int
	r := newRunner(t, store, shop, script("script", func(saga.Input) []saga.Action {
		reactions++
		return []saga.Action{
			saga.Send{Key: "a", Topic: "t", Commands: []any{stockCommand{"A", "1", 1}}},
			saga.Send{Key: "b", Topic: "t", Commands: []any{stockCommand{"none", "1", 1}}},
			saga.Complete{Outcome: "sent"},
		}
	}), saga.Options{})
	run(t, r)
	place(t, shop, "1", "A", 1)
	idle(t, r, store)
	if reactions != 1 || r.Open() != 0 || effects(t, store, "1")["A+1"] != 1 {
		t.Errorf("%d reactions, %d open, effects %v; want one, none, and A reserved", reactions, r.Open(), effects(t, store, "1"))
	}
	got := map[string]saga.Status{}
	for m, err := range r.Outbox(context.Background(), "") {
		must(t, err)
		got[m.ID] = m.Status
	}
	want := map[string]saga.Status{"saga/script/1/a": saga.StatusSent, "saga/script/1/b": saga.StatusFailed}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outbox (-want +got):\n%s", diff)
	}
	// The instance stays ended when more triggers come.
	place(t, shop, "1", "A", 1)
	idle(t, r, store)
	if n := len(steps(t, store, "script", "1")); n != 3 {
		t.Errorf("the ended instance has %d steps, want the 3 it had", n)
	}
}

func TestOutboxKeepsTheMostRecent(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	r := newRunner(t, store, shop, checkoutSaga, saga.Options{Recent: 10})
	run(t, r)
	for n := range 40 {
		place(t, shop, fmt.Sprint(n), "A", 100)
		idle(t, r, store)
	}
	var got []saga.Message
	for m, err := range r.Outbox(context.Background(), saga.StatusSent) {
		must(t, err)
		got = append(got, m)
	}
	if len(got) < 10 || len(got) > 20 || got[len(got)-1].Instance != "39" {
		t.Errorf("the outbox shows %d messages, the last of instance %s; want 10 to 20 up to 39", len(got), got[len(got)-1].Instance)
	}
}

func TestCommandIDs(t *testing.T) {
	long := strings.Repeat("x", 200)
	ids := map[string]bool{}
	for _, c := range [][2]string{{"1", "a"}, {"1/a", "b"}, {"1", "a/b"}, {"1%2Fa", "b"}, {long, "a"}, {long, "b"}} {
		id := saga.CommandID("checkout", c[0], c[1])
		if len(id) > eventstore.MaxRequestIDBytes || ids[id] {
			t.Errorf("the id of %q, %q is %q: too long, or that of another", c[0], c[1], id)
		}
		ids[id] = true
	}
	if got := saga.CommandID("checkout", "1", "reserve"); got != "saga/checkout/1/reserve" {
		t.Errorf("the id is %q", got)
	}
}
