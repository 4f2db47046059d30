package groups_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Another site's group of the same name is another group, whose events are received among those of the one here, before and
// after them in canonical order.
func TestGroupsOfOtherSites(t *testing.T) {
	site := func(name string, ahead time.Duration) *memstore.Store {
		clock := hlc.New(func() time.Time { return time.Now().Add(ahead) })
		return memstore.New(memstore.Options{LogID: eventstore.LogID{Site: name, Incarnation: 1}, Clock: clock})
	}
	here, early, late := site("here", 0), site("early", -time.Hour), site("late", time.Hour)
	receive := func(from *memstore.Store) {
		t.Helper()
		state, err := from.Log(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var events []eventstore.Recorded
		for e, err := range from.ReadLog(t.Context(), state.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		if _, err := here.Receive(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	// work has a group of a site settle n events, and park the one after them.
	work := func(store *memstore.Store, n int) {
		t.Helper()
		gs := open(t, store, groups.Options{})
		create(t, gs, "g", groups.Settings{Categories: []string{"order"}, MaxTries: 1})
		m := join(t, gs, "g", "a", 1)
		for range n {
			ack(t, next(t, m))
		}
		if err := next(t, m).Park("no"); err != nil {
			t.Fatal(err)
		}
		if err := gs.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*memstore.Store{here, early, late} {
		fill(t, s, 1, "1", "2", "3", "4", "5", "6")
		defer s.Close()
	}
	work(early, 3)
	receive(early)
	gs := open(t, here, groups.Options{})
	if _, err := gs.Join(t.Context(), "g", "a", 1); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("join a group that only another site has: %v", err)
	}
	if err := gs.Close(); err != nil {
		t.Fatal(err)
	}
	work(here, 2)
	work(late, 4)
	receive(late)
	gs = open(t, here, groups.Options{})
	defer gs.Close()
	if info := describe(t, gs, "g"); info.Parked != 1 {
		t.Errorf("%d events are parked, want 1", info.Parked)
	}
	d := next(t, join(t, gs, "g", "a", 1))
	if d.Event.Dot != (eventstore.Dot{Log: eventstore.LogID{Site: "here", Incarnation: 1}, Seq: 4}) {
		t.Errorf("the group goes on with %s", d.Event.Dot)
	}
	ack(t, d)
}

// A group that was made before streams had the site in them goes on in its own, beside that of another site; one that is made
// now, or anew, has a stream that no other site writes (R12).
func TestGroupsOfBefore(t *testing.T) {
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "here", Incarnation: 1}})
	defer store.Close()
	fill(t, store, 1, "1", "2", "3")
	old := eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: "$group", ID: "g"}
	for _, e := range []struct{ typ, payload string }{
		{"group.created.v1", `{"settings":{"categories":["order"],"start":{},"lease":30000000000,"max_tries":10},"cursor":0}`},
		{"group.checkpoint.v1", `{"cursor":2}`},
	} {
		if _, err := store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: old, Events: []eventstore.Event{
			{Type: e.typ, Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: []byte(e.payload)},
		}}}}); err != nil {
			t.Fatal(err)
		}
	}
	length := func(id string) uint64 {
		t.Helper()
		v, err := store.Version(t.Context(), eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: "$group", ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	gs := open(t, store, groups.Options{})
	d := next(t, join(t, gs, "g", "a", 1))
	if d.Event.Position.LSN != 3 {
		t.Errorf("the group goes on at %s, want the third event", d.Event.Position)
	}
	ack(t, d)
	if err := gs.Close(); err != nil {
		t.Fatal(err)
	}
	if plain, sited := length("g"), length("g@here"); plain != 3 || sited != 0 {
		t.Errorf("streams of g have %d and %d events, want 3 and none", plain, sited)
	}
	gs = open(t, store, groups.Options{})
	if err := gs.Delete(t.Context(), "g", ""); err != nil {
		t.Fatal(err)
	}
	create(t, gs, "g", groups.Settings{Categories: []string{"order"}})
	if err := gs.Close(); err != nil {
		t.Fatal(err)
	}
	gs = open(t, store, groups.Options{})
	defer gs.Close()
	d = next(t, join(t, gs, "g", "a", 1))
	if plain, sited := length("g"), length("g@here"); d.Event.Position.LSN != 1 || plain != 4 || sited == 0 {
		t.Errorf("made anew g begins at %s, and its streams have %d and %d events; want 1, 4 and some", d.Event.Position, plain, sited)
	}
	ack(t, d)
}
