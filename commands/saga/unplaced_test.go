package saga_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// A trigger whose instance cannot be told is parked and remembered; all others go on.
func TestTriggersWithoutAValidInstanceAreParked(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	var bug atomic.Bool
	bug.Store(true)
	d := sleeper
	d.Instance = func(r *eventstore.Recorded) string {
		switch {
		case bug.Load() && r.Stream.ID == "long":
			return strings.Repeat("x", 1000)
		case bug.Load() && r.Stream.ID == "panics":
			panic("no idea whose it is")
		}
		return r.Stream.ID
	}
	r := newRunner(t, store, shop, d, saga.Options{})
	stop := run(t, r)
	for _, id := range []string{"before", "long", "between", "panics", "after"} {
		place(t, shop, id, "A", 1)
	}
	idle(t, r, store)
	parkedAre := func(when string) {
		t.Helper()
		if p := r.Parked(); len(p) != 1 || p[0].Instance != "" || p[0].Waiting != 2 || !strings.Contains(p[0].Err.Error(), "order.placed.v1") {
			t.Errorf("%s parked are %+v, want two triggers without an instance, and an error that names one", when, p)
		}
		if !strings.Contains(r.LastError(), "order.placed.v1") {
			t.Errorf("%s the last error is %q, want one that names the trigger", when, r.LastError())
		}
	}
	stepsAre := func(when string, want map[string]int) {
		t.Helper()
		for id, n := range want {
			if got := len(steps(t, store, "sleeper", id)); got != n {
				t.Errorf("%s instance %s has %d steps, want %d", when, id, got, n)
			}
		}
	}
	parkedAre("at first")
	stepsAre("at first", map[string]int{"before": 1, "between": 1, "after": 1, "long": 0, "panics": 0})
	stop()

	r = newRunner(t, store, shop, d, saga.Options{})
	stop = run(t, r)
	idle(t, r, store)
	parkedAre("after a restart")

	// Retry hands them out, and so does a restart.
	bug.Store(false)
	must(t, r.Retry(context.Background(), eventstore.DefaultTenant, ""))
	idle(t, r, store)
	stepsAre("after Retry", map[string]int{"before": 1, "between": 1, "after": 1, "long": 1, "panics": 1})
	if p := r.Parked(); len(p) != 0 || r.Open() != 5 {
		t.Errorf("after Retry %+v are parked and %d instances open, want none and 5", p, r.Open())
	}
	stop()
	r = newRunner(t, store, shop, d, saga.Options{})
	run(t, r)
	idle(t, r, store)
	if r.Open() != 5 {
		t.Errorf("%d instances are open after the last restart, want 5", r.Open())
	}
}

// What is handed out late may meet an instance that is parked itself.
func TestARestartHandsOutWhatHadNoInstance(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	var bug atomic.Bool
	bug.Store(true)
	d := script("script", func(saga.Input) []saga.Action {
		if bug.Load() {
			panic("boom")
		}
		return []saga.Action{saga.Complete{Outcome: "done"}}
	})
	d.Instance = func(r *eventstore.Recorded) string {
		if bug.Load() && r.Stream.ID != "0" {
			return "\x00"
		}
		return "all"
	}
	r := newRunner(t, store, shop, d, saga.Options{})
	stop := run(t, r)
	for n := range 3 {
		place(t, shop, fmt.Sprint(n), "A", 1)
	}
	idle(t, r, store)
	if n := len(r.Parked()); n != 2 {
		t.Errorf("%d are parked, want the instance and the triggers without one", n)
	}
	stop()
	bug.Store(false)
	r = newRunner(t, store, shop, d, saga.Options{})
	run(t, r)
	idle(t, r, store)
	if p, n := r.Parked(), len(steps(t, store, "script", "all")); len(p) != 0 || n != 1 || r.Open() != 0 {
		t.Errorf("parked are %+v, %d steps, %d open; want none, 1 and none", p, n, r.Open())
	}
}
