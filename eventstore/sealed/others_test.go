package sealed_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

// send has another store take in what a store has of its own, through the stores that seal.
func send(t *testing.T, from, to *rig) {
	t.Helper()
	state, err := from.raw.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var events []eventstore.Recorded
	for e, err := range from.store.ReadLog(t.Context(), state.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if _, err := to.store.Receive(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// What another site has sealed is received as it is, and reads as what cannot be opened: the number of its key is that of
// another key here. What is sealed here opens as ever, and an erasure elsewhere destroys the key that the subject has here.
func TestOtherSitesKeysOpenNothingHere(t *testing.T) {
	here, there := newRig(t), newRig(t)
	there.raw = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "there"}})
	there.store = there.over(there.keys)
	there.place("a", created("1", "99"), created("2", grace.ID)) // grace's key has number 2 there
	here.place("b", created("3", grace.ID))                      // and 1 here
	send(t, there, here)
	here.place("c", created("4", "98")) // which has number 2 here
	erased := map[string]bool{}
	for e, err := range here.store.ReadAll(t.Context(), eventstore.Position{}, orders) {
		if err != nil {
			t.Fatal(err)
		}
		erased[e.Stream.ID] = e.Erased
	}
	for id, want := range map[string]bool{"1": true, "2": true, "3": false, "4": false} {
		if got, read := erased[id]; !read || got != want {
			t.Errorf("order %s was read: %v, without what is sealed: %v; want that %v", id, read, got, want)
		}
	}
	sub, err := here.store.Subscribe(t.Context(), eventstore.Position{}, orders)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if chunk, err := sub.Next(t.Context()); err != nil || len(chunk.Events) != 4 {
		t.Errorf("a subscriber gets %d orders, %v", len(chunk.Events), err)
	}
	if highest, _, err := sealed.HighestKey(t.Context(), here.raw, eventstore.Position{}); err != nil || highest != 2 {
		t.Errorf("highest key %d, %v; want 2", highest, err)
	}

	if _, err := there.store.Erase(t.Context(), grace, "asked for it", eventstore.Metadata{}); err != nil {
		t.Fatal(err)
	}
	send(t, there, here)
	// The key is there until the next start; who reads again what was dropped already has it withheld.
	for e, err := range here.store.ReadAll(t.Context(), eventstore.Position{}, orders) {
		was := e.Erased
		if err == nil {
			err = here.store.Withhold(t.Context(), &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := was || e.Stream.ID == "3"; e.Erased != want {
			t.Errorf("order %s is withheld: %v, want %v", e.Stream.ID, e.Erased, want)
		}
	}
	if destroyed, _, err := here.store.Resume(t.Context()); err != nil || destroyed != 1 {
		t.Fatalf("%d keys were destroyed, %v; want 1", destroyed, err)
	}
	for e, err := range here.store.ReadAll(t.Context(), eventstore.Position{}, orders) {
		if err != nil {
			t.Fatal(err)
		}
		if want := e.Stream.ID != "4"; e.Erased != want {
			t.Errorf("order %s is read without what is sealed: %v, want %v", e.Stream.ID, e.Erased, want)
		}
	}
}

// A log that has named no keys yet names its own beside those that other sites have named.
func TestKeysAreNamedBesideThoseOfOthers(t *testing.T) {
	here, there := newRig(t), newRig(t)
	there.raw = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "there"}})
	there.store = sealed.New(there.raw, there.keys, "those")
	if _, err := there.store.Erase(t.Context(), grace, "asked for it", eventstore.Metadata{}); err != nil {
		t.Fatal(err)
	}
	send(t, there, here)
	if id, err := sealed.KeysOf(t.Context(), here.raw); err != nil || id != "" {
		t.Errorf("keys %q before any are used, %v", id, err)
	}
	here.place("a", created("1", "99"))
	if id, err := sealed.KeysOf(t.Context(), here.raw); err != nil || id != "these" {
		t.Errorf("keys %q, %v; want these", id, err)
	}
}

// An erasure that another site has recorded destroys the key here when it comes. Shows E2.
func TestErasuresOfOthersAreDoneAsTheyCome(t *testing.T) {
	here, there := newRig(t), newRig(t)
	there.raw = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "there"}})
	there.store = there.over(there.keys)
	here.place("a", created("1", grace.ID), created("2", "98"))
	if _, _, err := here.store.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan sealed.Subject, 1), make(chan error, 1)
	go func() {
		ended <- here.store.Follow(ctx, func(of sealed.Subject, _ eventstore.Position) { told <- of })
	}()
	if _, err := there.store.Erase(t.Context(), grace, "asked for it", eventstore.Metadata{}); err != nil {
		t.Fatal(err)
	}
	send(t, there, here)
	select {
	case of := <-told:
		if of != grace {
			t.Errorf("told of %s, want %s", of, grace)
		}
	case err := <-ended:
		t.Fatalf("Follow has ended: %v", err)
	}
	for e, err := range here.store.ReadAll(t.Context(), eventstore.Position{}, orders) {
		if err != nil {
			t.Fatal(err)
		}
		if want := e.Stream.ID == "1"; e.Erased != want {
			t.Errorf("order %s is read without what is sealed: %v, want %v", e.Stream.ID, e.Erased, want)
		}
	}
	if e, err := here.store.Erasure(t.Context(), grace); err != nil || !e.Destroyed {
		t.Errorf("the erasure here is %+v, %v; want the key destroyed", e, err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow ends with %v", err)
	}
}

// An erasure of another site that comes after a start, and before one of this site is asked for, is done all the same, once, though it
// is only followed from then on; one that was on record at the start is not told again. Shows E2.
func TestErasureOfAnotherBeforeOnesOwn(t *testing.T) {
	here, there := newRig(t), newRig(t)
	there.raw = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "there"}})
	there.store = there.over(there.keys)
	before, own, after := sealed.Subject{Tenant: grace.Tenant, ID: "97"}, sealed.Subject{Tenant: grace.Tenant, ID: "98"}, sealed.Subject{Tenant: grace.Tenant, ID: "99"}
	here.place("a", created("1", grace.ID), created("2", before.ID), created("3", own.ID), created("4", after.ID))
	erase := func(at *rig, of sealed.Subject) {
		t.Helper()
		if _, err := at.store.Erase(t.Context(), of, "asked for it", eventstore.Metadata{}); err != nil {
			t.Fatal(err)
		}
		if at == there {
			send(t, there, here)
		}
	}
	erase(there, before)
	if destroyed, _, err := here.store.Resume(t.Context()); err != nil || destroyed != 1 {
		t.Fatalf("%d keys were destroyed, %v; want 1", destroyed, err)
	}
	erase(there, grace)
	erase(here, own)
	for _, want := range []sealed.Subject{grace, after} { // Follow is called once more for the second
		ctx, cancel := context.WithCancel(t.Context())
		told, ended := make(chan sealed.Subject, 4), make(chan error, 1)
		go func() {
			ended <- here.store.Follow(ctx, func(of sealed.Subject, _ eventstore.Position) { told <- of })
		}()
		if want == after {
			erase(there, after)
		}
		select {
		case of := <-told:
			if of != want {
				t.Errorf("told of %s, want %s", of, want)
			}
		case err := <-ended:
			t.Fatalf("Follow has ended: %v", err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || len(told) > 0 {
			t.Errorf("Follow ends with %v, and has told of %d more", err, len(told))
		}
		if e, err := here.store.Erasure(t.Context(), want); err != nil || !e.Destroyed {
			t.Errorf("the erasure of %s here is %+v, %v; want the key destroyed", want, e, err)
		}
	}
}
