package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// A client that lets every lease end has the server keep no more than what its member may have, twice; what was dropped is
// told as lost should it be settled after all.
func TestConsumerDropsWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		gs, err := groups.Open(t.Context(), store, groups.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := gs.Close(); err != nil {
				t.Error(err)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}()
		if _, err := gs.Create(t.Context(), "g", groups.Settings{Lease: time.Second, MaxTries: 1000}); err != nil {
			t.Fatal(err)
		}
		_, err = store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("thing", "1"), Events: []eventstore.Event{{Type: "thing.happened.v1"}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		const capacity = 2
		m, err := gs.Join(t.Context(), "g", "a", capacity)
		if err != nil {
			t.Fatal(err)
		}
		c := newConsumer(nil, m, capacity)
		for id := range uint64(50) {
			d, err := m.Next(t.Context()) // after the lease of the one before
			if err != nil {
				t.Fatal(err)
			}
			if got := c.keep(d); got != id+1 || len(c.held) > 2*capacity {
				t.Fatalf("delivery %d has the id %d, %d are kept", id+1, got, len(c.held))
			}
		}
		if d, dropped := c.take(1); d != nil || !dropped {
			t.Errorf("the first delivery: %v, dropped: %v", d, dropped)
		}
		if d, dropped := c.take(50); d == nil || dropped || !d.Held() {
			t.Errorf("the last delivery is not held: %v, dropped: %v", d, dropped)
		}
		if d, dropped := c.take(51); d != nil || dropped {
			t.Errorf("a delivery that was never sent: %v, dropped: %v", d, dropped)
		}
	})
}
