package queries_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/queries"
)

func logAt(site string) *memstore.Store {
	return memstore.New(memstore.Options{LogID: eventstore.LogID{Site: site, Incarnation: 2}})
}

func write(t *testing.T, s *memstore.Store, n int) eventstore.Receipt {
	t.Helper()
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i].Type = "cart.changed.v1"
	}
	r, err := s.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("cart", "1"), Events: events}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bring has a site receive what another holds of a log after a seq.
func bring(t *testing.T, from, to *memstore.Store, log eventstore.LogID, after uint64) {
	t.Helper()
	var events []eventstore.Recorded
	for e, err := range from.ReadLog(t.Context(), log, after) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if _, err := to.Receive(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// A token of one site is a position at another, where the event stands there, once it has come. Shows R14.
func TestTokenOfAnotherSite(t *testing.T) {
	a, b := logAt("a"), logAt("b")
	write(t, b, 3)
	first := write(t, a, 2)
	token := eventstore.Vector{}.With(first.Dot)
	type answer struct {
		at  eventstore.Position
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		at, err := queries.Locate(t.Context(), b, []string{"a"}, token, time.Minute)
		answered <- answer{at, err}
	}()
	write(t, b, 1)
	select {
	case got := <-answered:
		t.Fatalf("answered with %+v before the event was there", got)
	case <-time.After(20 * time.Millisecond):
	}
	bring(t, a, b, first.Dot.Log, 0)
	if got := <-answered; got.err != nil || got.at != (eventstore.Position{Incarnation: 2, LSN: 6}) {
		t.Errorf("a's event 2 is at %s (%v), want 2-6", got.at, got.err)
	}
	write(t, b, 5)
	if at, err := queries.Locate(t.Context(), b, []string{"a"}, token, 0); err != nil || at.LSN != 6 {
		t.Errorf("with more behind it: %s, %v", at, err)
	}
	if at, err := queries.Locate(t.Context(), a, nil, token, 0); err != nil || at != first.Position {
		t.Errorf("at its own site: %s, %v, want %s", at, err, first.Position)
	}

	// What an answer of b rests on is there at a when all of it is.
	session, err := queries.Session(t.Context(), b)
	if err != nil || len(session) != 2 {
		t.Fatalf("b's session token is %s, %v", session, err)
	}
	bring(t, b, a, eventstore.LogID{Site: "b", Incarnation: 2}, 0)
	if at, err := queries.Locate(t.Context(), a, []string{"b"}, session, 0); err != nil || at.LSN != 11 {
		t.Errorf("at a that is %s, %v", at, err)
	}
}

// A token that cannot be waited out says how far the site is; one that can never be answered is refused at once.
func TestTokensThatCannotBe(t *testing.T) {
	a, b := logAt("a"), logAt("b")
	r := write(t, a, 2)
	bring(t, a, b, r.Dot.Log, 0)
	later := r.Dot
	later.Seq = 5
	_, err := queries.Locate(t.Context(), b, []string{"a"}, eventstore.Vector{}.With(later), 10*time.Millisecond)
	var notHere *queries.NotHereError
	if !errors.As(err, &notHere) || notHere.Held != 2 || notHere.Want != later || !notHere.NotYet() || eventstore.ClassOf(err) != eventstore.Transient {
		t.Errorf("what has not come: %v", err)
	}
	start := time.Now()
	for name, c := range map[string]struct {
		dot  eventstore.Dot
		want error
	}{
		"a site that is not known":   {eventstore.Dot{Log: eventstore.LogID{Site: "x", Incarnation: 1}, Seq: 1}, eventstore.ErrInvalid},
		"a log has no life 0":        {eventstore.Dot{Log: eventstore.LogID{Site: "a"}, Seq: 1}, eventstore.ErrInvalid},
		"this log has no life 0":     {eventstore.Dot{Log: eventstore.LogID{Site: "b"}, Seq: 1}, eventstore.ErrInvalid},
		"nothing of a life 0":        {eventstore.Dot{Log: eventstore.LogID{Site: "b"}}, eventstore.ErrInvalid},
		"more than this log has":     {eventstore.Dot{Log: eventstore.LogID{Site: "b", Incarnation: 2}, Seq: 1}, eventstore.ErrWrongIncarnation},
		"a later life of this log":   {eventstore.Dot{Log: eventstore.LogID{Site: "b", Incarnation: 3}, Seq: 1}, eventstore.ErrWrongIncarnation},
		"nothing of an earlier life": {eventstore.Dot{Log: eventstore.LogID{Site: "b", Incarnation: 1}, Seq: 0}, nil},
	} {
		if _, err := queries.Locate(t.Context(), b, []string{"a"}, eventstore.Vector{}.With(c.dot), time.Minute); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := queries.Locate(t.Context(), b, nil, eventstore.Vector{}.With(r.Dot), time.Minute); err != nil {
		t.Errorf("what is held of a site that takes no part any more: %v", err)
	}
	if time.Since(start) > 30*time.Second {
		t.Error("waited for what cannot be")
	}
}
