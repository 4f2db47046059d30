package saga_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts a runner and returns how to stop it, which is safe to do twice.
func run(t testing.TB, r *saga.Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func newRunner[S any](t testing.TB, store eventstore.Store, bus saga.Dispatcher, d saga.Definition[S], o saga.Options) *saga.Runner {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r, err := saga.New(store, bus, d, o)
	must(t, err)
	return r
}

func head(t testing.TB, store eventstore.Store) eventstore.Position {
	t.Helper()
	state, err := store.Log(context.Background())
	must(t, err)
	return state.Durable
}

func idle(t testing.TB, r *saga.Runner, store eventstore.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Idle(ctx, head(t, store)); err != nil {
		t.Fatalf("wait until idle: %v; open %d, last error %q", err, r.Open(), r.LastError())
	}
}

func place(t testing.TB, bus *commands.Bus, id, codes string, price int) {
	t.Helper()
	_, err := bus.Dispatch(context.Background(), commands.Meta{}, placeOrder{id, codes, price})
	must(t, err)
}

// steps lists an instance's steps in short.
func steps(t testing.TB, store eventstore.Store, name, id string) []eventstore.Recorded {
	t.Helper()
	var out []eventstore.Recorded
	for e, err := range store.Read(context.Background(), eventstore.Stream(name, id), 1) {
		must(t, err)
		out = append(out, e)
	}
	return out
}

func TestSagaRunsToItsEnd(t *testing.T) {
	store := memstore.New(memstore.Options{})
	bus := newShop(t, store)
	r := newRunner(t, store, bus, checkoutSaga, saga.Options{})
	run(t, r)
	_, err := bus.Dispatch(context.Background(), commands.Meta{ID: "place-1", Metadata: eventstore.Metadata{
		Correlation: "visit-7", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}}, placeOrder{"1", "A B", 100})
	must(t, err)
	idle(t, r, store)

	want := map[string]int{"order.placed.v1": 1, "A+1": 1, "B+1": 1, "payment.charged.v1": 1, "order.confirmed.v1": 1}
	if diff := cmp.Diff(want, effects(t, store, "1")); diff != "" {
		t.Errorf("effects of the order (-want +got):\n%s", diff)
	}
	if r.Open() != 0 {
		t.Errorf("%d instances are open, want none", r.Open())
	}
	all := steps(t, store, "checkout", "1")
	if len(all) != 5 {
		t.Fatalf("the saga has %d steps, want 5", len(all))
	}
	var confirmed eventstore.Recorded
	for e, err := range store.ReadBackwards(context.Background(), eventstore.Stream("order", "1"), 0) {
		must(t, err)
		confirmed = e
		break
	}
	if confirmed.CommandID != "saga/checkout/1/confirm" {
		t.Errorf("the confirmation's command id is %q", confirmed.CommandID)
	}
	for _, e := range append(all, confirmed) {
		if e.Correlation != "visit-7" || e.TraceParent != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" {
			t.Errorf("%s of %s has correlation %q and trace %q, want those of the trigger", e.Type, e.Stream, e.Correlation, e.TraceParent)
		}
	}
	if want := all[3].Event.ID.String(); confirmed.Causation != want {
		t.Errorf("the confirmation was caused by %q, want the step %s", confirmed.Causation, want)
	}
}

func TestRefusalIsCompensated(t *testing.T) {
	store := memstore.New(memstore.Options{})
	bus := newShop(t, store)
	r := newRunner(t, store, bus, checkoutSaga, saga.Options{})
	run(t, r)
	place(t, bus, "dear", "A B", 5000)
	place(t, bus, "short", "A none", 10)
	idle(t, r, store)

	for id, want := range map[string]map[string]int{
		"dear":  {"order.placed.v1": 1, "A+1": 1, "B+1": 1, "A-1": 1, "B-1": 1, "order.cancelled.v1": 1},
		"short": {"order.placed.v1": 1, "A+1": 1, "A-1": 1, "order.cancelled.v1": 1},
	} {
		if diff := cmp.Diff(want, effects(t, store, id)); diff != "" {
			t.Errorf("effects of order %s (-want +got):\n%s", id, diff)
		}
	}
	compensations := 0
	for _, e := range steps(t, store, "checkout", "dear") {
		if e.Kind == eventstore.KindCompensation {
			compensations++
		}
	}
	if compensations != 1 {
		t.Errorf("%d steps are of kind compensation, want 1", compensations)
	}
	var failed []saga.Message
	for m, err := range r.Outbox(context.Background(), saga.StatusFailed) {
		must(t, err)
		failed = append(failed, m)
	}
	if len(failed) != 2 || failed[0].LastError == "" {
		t.Errorf("the outbox shows %d failed messages, want the refused charge and the refused reservation: %+v", len(failed), failed)
	}
}

func TestTimersOutliveTheRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		bus := newShop(t, store)
		first := newRunner(t, store, bus, checkoutSaga, saga.Options{})
		stop := run(t, first)
		start := time.Now()
		place(t, bus, "1", "A", 0)
		place(t, bus, "2", "A", 0)
		idle(t, first, store)
		if first.Open() != 2 {
			t.Fatalf("%d instances are open, want 2 that wait for their timers", first.Open())
		}
		stop()
		time.Sleep(10 * time.Minute)

		second := newRunner(t, store, bus, checkoutSaga, saga.Options{})
		stop = run(t, second)
		idle(t, second, store)
		time.Sleep(payLater - 10*time.Minute - time.Second)
		synctest.Wait()
		if n := effects(t, store, "1")["payment.charged.v1"]; n != 0 {
			t.Fatalf("charged %d times after %v, want not before %v", n, time.Since(start), payLater)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, id := range []string{"1", "2"} {
			if n := effects(t, store, id)["order.confirmed.v1"]; n != 1 {
				t.Errorf("order %s was confirmed %d times when its timer was due, want once", id, n)
			}
		}
		if second.Open() != 0 {
			t.Errorf("%d instances are open, want none", second.Open())
		}
		stop()
	})
}

func TestTimerDueWhileNobodyRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		bus := newShop(t, store)
		first := newRunner(t, store, bus, checkoutSaga, saga.Options{})
		stop := run(t, first)
		place(t, bus, "1", "A", 0)
		idle(t, first, store)
		stop()
		time.Sleep(48 * time.Hour)
		second := newRunner(t, store, bus, checkoutSaga, saga.Options{})
		stop = run(t, second)
		synctest.Wait()
		if n := effects(t, store, "1")["order.confirmed.v1"]; n != 1 {
			t.Errorf("the order was confirmed %d times at the start, want once", n)
		}
		stop()
	})
}

// flaky fails dispatches as told.
type flaky struct {
	saga.Dispatcher
	fail func(meta commands.Meta) error
}

func (f flaky) Dispatch(ctx context.Context, m commands.Meta, cmds ...any) (eventstore.Receipt, error) {
	if err := f.fail(m); err != nil {
		return eventstore.Receipt{}, err
	}
	return f.Dispatcher.Dispatch(ctx, m, cmds...)
}

func TestTransientErrorsAreRetriedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		bus := newShop(t, store)
		var down atomic.Bool
		down.Store(true)
		r := newRunner(t, store, flaky{bus, func(m commands.Meta) error {
			if down.Load() && m.ID == "saga/checkout/1/charge" {
				return eventstore.ErrUnavailable
			}
			return nil
		}}, checkoutSaga, saga.Options{Workers: 1})
		stop := run(t, r)
		place(t, bus, "1", "A", 10)
		place(t, bus, "2", "A", 10)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := effects(t, store, "2")["order.confirmed.v1"]; n != 1 {
			t.Errorf("the other order was confirmed %d times, want once: one instance that waits must not hold up others", n)
		}
		var pending []saga.Message
		for m, err := range r.Outbox(context.Background(), saga.StatusPending) {
			must(t, err)
			pending = append(pending, m)
		}
		if len(pending) != 1 {
			t.Fatalf("the outbox shows %d pending messages, want 1: %+v", len(pending), pending)
		}
		// At most every 15 s, once the back-off has grown.
		if m := pending[0]; m.RetryCount < 200 || m.RetryCount > 800 || m.LastError != "unavailable" || m.Topic != "payment.charge" {
			t.Errorf("the pending message is %+v, want some 360 retries in three hours and the last error", m)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := effects(t, store, "1")["order.confirmed.v1"]; n != 1 {
			t.Errorf("the order was confirmed %d times after the fault ended, want once", n)
		}
		stop()
	})
}

func TestBrokenInstancesAreParked(t *testing.T) {
	store := memstore.New(memstore.Options{})
	bus := newShop(t, store)
	bug := errors.New("a bug")
	broken := true
	r := newRunner(t, store, flaky{bus, func(m commands.Meta) error {
		if broken && m.ID == "saga/checkout/1/charge" {
			return bug
		}
		return nil
	}}, checkoutSaga, saga.Options{})
	stop := run(t, r)
	place(t, bus, "1", "A", 10)
	place(t, bus, "2", "A", 10)
	idle(t, r, store)
	parked := r.Parked()
	if len(parked) != 1 || parked[0].Instance != "1" || !errors.Is(parked[0].Err, bug) {
		t.Fatalf("parked are %+v, want instance 1 with the bug", parked)
	}
	if n := effects(t, store, "2")["order.confirmed.v1"]; n != 1 {
		t.Errorf("the other order was confirmed %d times, want once", n)
	}
	stop()

	// Parked is not lost: a new runner finds it, though every trigger is behind the checkpoint.
	r = newRunner(t, store, flaky{bus, func(m commands.Meta) error {
		if broken && m.ID == "saga/checkout/1/charge" {
			return bug
		}
		return nil
	}}, checkoutSaga, saga.Options{})
	run(t, r)
	idle(t, r, store)
	if len(r.Parked()) != 1 {
		t.Fatalf("after a restart %d instances are parked, want 1", len(r.Parked()))
	}
	if err := r.Retry(context.Background(), eventstore.DefaultTenant, "1"); !errors.Is(err, saga.ErrParkedAgain) || !errors.Is(err, bug) {
		t.Errorf("Retry while the bug is there gives %v, want ErrParkedAgain and the bug", err)
	}
	broken = false
	must(t, r.Retry(context.Background(), eventstore.DefaultTenant, "1"))
	idle(t, r, store)
	want := map[string]int{"order.placed.v1": 1, "A+1": 1, "payment.charged.v1": 1, "order.confirmed.v1": 1}
	if diff := cmp.Diff(want, effects(t, store, "1")); diff != "" {
		t.Errorf("effects after Retry (-want +got):\n%s", diff)
	}
	if err := r.Retry(context.Background(), eventstore.DefaultTenant, "1"); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("a second Retry gives %v, want ErrNotFound", err)
	}
}

func TestTriggersOfAParkedInstanceAreRemembered(t *testing.T) {
	store := memstore.New(memstore.Options{})
	bus := newShop(t, store)
	bug := true
	d := saga.Definition[int]{
		Name: "tally", Triggers: []string{"payment.charged.v1"},
		Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
		React: func(n int, in saga.Input) (int, []saga.Action, error) {
			if bug {
				return n, nil, errors.New("a bug")
			}
			if n++; n == 3 {
				return n, []saga.Action{saga.Complete{Outcome: "three"}}, nil
			}
			return n, nil, nil
		},
	}
	r := newRunner(t, store, bus, d, saga.Options{})
	stop := run(t, r)
	for range 2 {
		_, err := bus.Dispatch(context.Background(), commands.Meta{}, charge{"1", 5})
		must(t, err)
		idle(t, r, store)
	}
	stop()
	r = newRunner(t, store, bus, d, saga.Options{})
	stop = run(t, r)
	idle(t, r, store)
	if p := r.Parked(); len(p) != 1 || p[0].Waiting != 2 {
		t.Fatalf("parked are %+v, want one instance with two triggers waiting", p)
	}
	stop()
	bug = false
	r = newRunner(t, store, bus, d, saga.Options{})
	run(t, r)
	_, err := bus.Dispatch(context.Background(), commands.Meta{}, charge{"1", 5})
	must(t, err)
	idle(t, r, store)
	if n := len(steps(t, store, "tally", "1")); n != 3 || r.Open() != 0 {
		t.Errorf("the instance has %d steps and %d are open, want 3 steps and none open", n, r.Open())
	}
}

func TestTenantsAreApart(t *testing.T) {
	store := memstore.New(memstore.Options{})
	bus := newShop(t, store)
	r := newRunner(t, store, bus, checkoutSaga, saga.Options{})
	run(t, r)
	for _, tenant := range []string{"north", "south"} {
		_, err := bus.Dispatch(context.Background(), commands.Meta{Tenant: tenant}, placeOrder{"1", "A", 10})
		must(t, err)
	}
	idle(t, r, store)
	for _, tenant := range []string{"north", "south"} {
		v, err := store.Version(context.Background(), eventstore.StreamID{Tenant: tenant, Category: "order", ID: "1"})
		if must(t, err); v != 2 {
			t.Errorf("the order of tenant %s is at version %d, want placed and confirmed", tenant, v)
		}
	}
}

func TestIgnoredTriggersLeaveNothing(t *testing.T) {
	store := memstore.New(memstore.Options{})
	bus := newShop(t, store)
	d := saga.Definition[int]{
		Name: "watch", Triggers: []string{"payment.charged.v1"},
		Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
		React: func(n int, in saga.Input) (int, []saga.Action, error) {
			return n, []saga.Action{saga.Ignore{}}, nil
		},
	}
	r := newRunner(t, store, bus, d, saga.Options{})
	run(t, r)
	for n := range 20 {
		_, err := bus.Dispatch(context.Background(), commands.Meta{}, charge{fmt.Sprint(n), 5})
		must(t, err)
	}
	idle(t, r, store)
	if r.Open() != 0 || len(steps(t, store, "watch", "1")) != 0 {
		t.Errorf("%d instances are open and one has %d steps, want none", r.Open(), len(steps(t, store, "watch", "1")))
	}
}

func TestChangedDefinitionParks(t *testing.T) {
	store := memstore.New(memstore.Options{})
	bus := newShop(t, store)
	r := newRunner(t, store, bus, checkoutSaga, saga.Options{})
	stop := run(t, r)
	place(t, bus, "1", "A", 0) // waits for its timer
	idle(t, r, store)
	stop()
	changed := checkoutSaga
	changed.React = func(s checkout, in saga.Input) (checkout, []saga.Action, error) {
		if _, ok := in.(saga.Triggered); ok {
			return s, []saga.Action{saga.Send{Key: "else", Commands: []any{confirmOrder{"1"}}}}, nil
		}
		return reactToCheckout(s, in)
	}
	r = newRunner(t, store, bus, changed, saga.Options{})
	run(t, r)
	idle(t, r, store)
	if len(r.Parked()) != 1 {
		t.Errorf("%d instances are parked, want the one whose history the new definition contradicts", len(r.Parked()))
	}
}

// A saga acts on what was born at its own site, and leaves to the others what is theirs. Shows R6.
func TestSagaLeavesOtherSitesAlone(t *testing.T) {
	there := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "there", Incarnation: 1}})
	place(t, newShop(t, there), "1", "A", 100)
	var events []eventstore.Recorded
	for e, err := range there.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		must(t, err)
		events = append(events, e)
	}
	store := memstore.New(memstore.Options{})
	_, err := store.Receive(context.Background(), events)
	must(t, err)
	shop := newShop(t, store)
	place(t, shop, "2", "A", 100)
	r := newRunner(t, store, shop, checkoutSaga, saga.Options{})
	run(t, r)
	idle(t, r, store)
	if n := effects(t, store, "2")["order.confirmed.v1"]; n != 1 {
		t.Errorf("the order of this site is confirmed %d times, want once", n)
	}
	if n := len(steps(t, store, "checkout", "1")); n != 0 {
		t.Errorf("the saga has taken %d steps for the order of another site", n)
	}
}
