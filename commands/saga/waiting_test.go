package saga_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// undecided is a saga whose Instance panics until the test says otherwise.
type undecided struct {
	mu   sync.Mutex
	mind string // what Instance panics with; empty: it knows
}

func (u *undecided) set(mind string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mind = mind
}

func (u *undecided) definition() saga.Definition[int] {
	d := sleeper
	d.Instance = func(r *eventstore.Recorded) string {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.mind != "" {
			panic(u.mind)
		}
		return r.Stream.ID
	}
	return d
}

// More triggers wait than one checkpoint event holds: each event stays within the limit, together they grow with the
// triggers and not with their square, and a restart finds every one of them, some of them handed out or not.
func TestWaitingTriggersAreRememberedInBoundedCheckpoints(t *testing.T) {
	for _, every := range []int{10, 1 << 30} {
		t.Run(fmt.Sprint("every ", every), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rememberWaiting(t, every) })
		})
	}
}

func rememberWaiting(t *testing.T, every int) {
	const limit, many = 8 << 10, 400
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	u := &undecided{mind: "no idea whose it is"}
	runner := func() (*saga.Runner, func()) {
		r := newRunner(t, store, shop, u.definition(), saga.Options{CheckpointTriggers: every})
		r.LimitCheckpoints(limit)
		return r, run(t, r)
	}
	r, stop := runner()
	for n := range many {
		place(t, shop, fmt.Sprint(n), "A", 1)
		if n%every == every-1 {
			idle(t, r, store)
			synctest.Wait() // a checkpoint is written
		}
	}
	idle(t, r, store)
	if n := r.Held(); n != 0 {
		t.Errorf("%d triggers of a parked instance are kept with their events, want none", n)
	}
	stop()
	total, largest := 0, 0
	for _, c := range checkpoints(t, store, "sleeper") {
		total, largest = total+c.bytes, max(largest, c.bytes)
	}
	if largest > limit {
		t.Errorf("the largest checkpoint event has %d bytes, the limit is %d", largest, limit)
	}
	if bound := many * 400; total > bound {
		t.Errorf("checkpoints of %d waiting triggers have %d bytes in all, want less than %d", many, total, bound)
	}

	// The first checkpoint of a life lists them all, in parts; the one after it what is new.
	for life := range 3 {
		r, stop = runner()
		idle(t, r, store)
		if p := r.Parked(); len(p) != 1 || p[0].Waiting != many+2*life {
			t.Fatalf("in life %d parked are %+v, want one with %d waiting", life, p, many+2*life)
		}
		place(t, shop, fmt.Sprint("first of life ", life), "A", 1)
		idle(t, r, store)
		stop()
		r, stop = runner()
		place(t, shop, fmt.Sprint("second of life ", life), "A", 1)
		idle(t, r, store)
		stop()
	}
	for _, c := range checkpoints(t, store, "sleeper") {
		largest = max(largest, c.bytes)
	}
	if largest > limit {
		t.Errorf("the largest checkpoint event has %d bytes, the limit is %d", largest, limit)
	}

	u.set("")
	r, stop = runner()
	idle(t, r, store)
	if p := r.Parked(); len(p) != 0 || r.Open() != many+6 {
		t.Errorf("%+v are parked and %d instances open, want none and %d", p, r.Open(), many+6)
	}
	stop()
	r, stop = runner()
	idle(t, r, store)
	if r.Open() != many+6 {
		t.Errorf("%d instances are open after the last restart, want %d", r.Open(), many+6)
	}
	stop()
}

// What is handed out between two checkpoints is not told of as waiting by the second, and what came meanwhile is.
func TestCheckpointsTellWhichTriggersStillWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		var mu sync.Mutex
		known := map[string]bool{}
		d := sleeper
		d.Instance = func(r *eventstore.Recorded) string {
			mu.Lock()
			defer mu.Unlock()
			if !known[r.Stream.ID] {
				panic("no idea whose it is")
			}
			return r.Stream.ID
		}
		learn := func(ids ...string) {
			mu.Lock()
			defer mu.Unlock()
			clear(known)
			for _, id := range ids {
				known[id] = true
			}
		}
		r := newRunner(t, store, shop, d, saga.Options{CheckpointTriggers: 1})
		stop := run(t, r)
		settled := func() {
			idle(t, r, store)
			synctest.Wait()
		}
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			place(t, shop, id, "A", 1)
			settled()
		}
		learn("a", "b")
		if err := r.Retry(context.Background(), eventstore.DefaultTenant, ""); !errors.Is(err, saga.ErrParkedAgain) {
			t.Errorf("Retry while there are others that nobody can tell gives %v, want ErrParkedAgain", err)
		}
		settled()
		place(t, shop, "f", "A", 1)
		settled()
		learn("c")
		if err := r.Retry(context.Background(), eventstore.DefaultTenant, ""); !errors.Is(err, saga.ErrParkedAgain) {
			t.Errorf("Retry while there are others that nobody can tell gives %v, want ErrParkedAgain", err)
		}
		settled()
		place(t, shop, "g", "A", 1)
		settled()
		if p := r.Parked(); len(p) != 1 || p[0].Waiting != 4 {
			t.Fatalf("parked are %+v, want one with d, e, f and g", p)
		}
		stop()
		learn() // none: whatever a checkpoint still lists stays to be seen
		r = newRunner(t, store, shop, d, saga.Options{CheckpointTriggers: 1})
		stop = run(t, r)
		settled()
		if p := r.Parked(); len(p) != 1 || p[0].Waiting != 4 || r.Open() != 4 {
			t.Errorf("after a restart parked are %+v and %d are open, want one with d, e, f and g, and a, b and c", p, r.Open())
		}
		stop()
	})
}

// A bug of Instance is told of once, and again when it is another one, not with every trigger.
func TestTriggersWithoutAnInstanceAreToldOfOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		u := &undecided{mind: "one bug"}
		var mu sync.Mutex
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(p)
		}), &slog.HandlerOptions{Level: slog.LevelError}))
		said := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return strings.Split(strings.TrimSpace(out.String()), "\n")
		}
		r := newRunner(t, store, shop, u.definition(), saga.Options{Log: log})
		stop := run(t, r)
		for n := range 50 {
			if n == 25 {
				u.set("another bug")
			}
			place(t, shop, fmt.Sprint(n), "A", 1)
			idle(t, r, store)
		}
		if got := said(); len(got) != 2 || !strings.Contains(got[0], "one bug") || !strings.Contains(got[1], "another bug") {
			t.Errorf("50 triggers and two bugs were told of in %d lines, want 2: %q", len(got), got)
		}
		stop()
		r = newRunner(t, store, shop, u.definition(), saga.Options{Log: log})
		stop = run(t, r)
		idle(t, r, store)
		if got := said(); len(got) != 3 {
			t.Errorf("a restart made %d lines, want 1: the bug is still there", len(got)-2)
		}
		stop()
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
