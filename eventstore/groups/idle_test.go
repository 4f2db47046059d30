package groups_test

import (
	"context"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// idle is long enough for a group without members to stop.
const idle = 10 * time.Second

// An event that takes its only consumer down each time is parked after its tries, however long the consumer is away in
// between. Invariant G5.
func TestTriesOutliveAnIdleStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		gs := open(t, store, groups.Options{})
		defer closeAll(t, gs, store)
		create(t, gs, "g", groups.Settings{MaxTries: 3})
		fill(t, store, 1, "1")
		lose := func(want int) {
			t.Helper()
			m := join(t, gs, "g", "a", 1)
			if d := next(t, m); d.Event.Position.LSN != 2 || d.Tries != want {
				t.Fatalf("event at %s, try %d, want lsn 2, try %d", d.Event.Position, d.Tries, want)
			}
			m.Lose("it died")
			time.Sleep(idle)
		}
		for try := range 3 {
			lose(try + 1)
		}
		if info := describe(t, gs, "g"); info.Parked != 1 {
			t.Fatalf("%d events are parked after the last try, want 1", info.Parked)
		}
		if _, err := gs.RetryParked(t.Context(), "g", eventstore.Position{}); err != nil {
			t.Fatal(err)
		}
		lose(1)
		lose(2)
		if d := next(t, join(t, gs, "g", "b", 1)); d.Tries != 3 {
			t.Errorf("event at %s after it was retried: try %d, want 3", d.Event.Position, d.Tries)
		}
	})
}

// unreadable is a store whose streams cannot be read while it is down.
type unreadable struct {
	eventstore.Store
	down atomic.Bool
}

func (u *unreadable) Read(ctx context.Context, s eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	if u.down.Load() {
		return func(yield func(eventstore.Recorded, error) bool) {
			yield(eventstore.Recorded{}, eventstore.ErrUnavailable)
		}
	}
	return u.Store.Read(ctx, s, from)
}

// What is parked and being read again when the group stops is handed out in its next run. Invariant G5.
func TestRetryOutlivesAnIdleStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unreadable{Store: memstore.New(memstore.Options{})}
		gs := open(t, store, groups.Options{})
		defer closeAll(t, gs, store)
		create(t, gs, "g", groups.Settings{})
		fill(t, store, 1, "1")
		m := join(t, gs, "g", "a", 1)
		d := next(t, m)
		if err := d.Park("bad"); err != nil {
			t.Fatal(err)
		}
		store.down.Store(true)
		if _, err := gs.RetryParked(t.Context(), "g", eventstore.Position{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		m.Leave()
		time.Sleep(idle)
		store.down.Store(false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		again, err := join(t, gs, "g", "a", 1).Next(ctx)
		if err != nil || again.Event.Position != d.Event.Position {
			t.Errorf("handed out in the next run: %+v, %v, want what is retried", again, err)
		}
	})
}

// What is parked while a checkpoint cannot be written is in the next one. Invariant G5.
func TestParkedOutlivesAFailedCheckpoint(t *testing.T) {
	store := &flaky{Store: memstore.New(memstore.Options{})}
	o := groups.Options{CheckpointEvents: 1 << 30, CheckpointEvery: time.Hour}
	gs := open(t, store, o)
	create(t, gs, "g", groups.Settings{})
	fill(t, store, 1, "1", "2")
	m := join(t, gs, "g", "a", 2)
	if err := next(t, m).Park("bad"); err != nil {
		t.Fatal(err)
	}
	store.down.Store(true)
	if err := m.Flush(t.Context()); err == nil {
		t.Fatal("a checkpoint was written to a store that is down")
	}
	store.down.Store(false)
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := gs.Close(); err != nil {
		t.Fatal(err)
	}
	gs = open(t, store, o)
	defer closeAll(t, gs, store)
	if info := describe(t, gs, "g"); info.Parked != 1 {
		t.Errorf("%d events are parked after a restart, want 1", info.Parked)
	}
}
