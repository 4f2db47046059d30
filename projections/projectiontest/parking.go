package projectiontest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// sick returns a fixture whose log holds garbled events of two streams among those of others, with ordinary ones behind
// them, and the number of events that cannot be applied while the projection is ill.
func (s *suite[W]) sick(t testing.TB) (f fixture[W], parked int) {
	f = s.fixture(t, 30)
	f.patient.ill.Store(true)
	append1(t, f.log, account(100), event(credited, 1))
	append1(t, f.log, account(100), event(garbled, 2))
	append1(t, f.log, account(101), event(garbled, 3))
	append1(t, f.log, account(100), event(credited, 4), event(credited, 5))
	grow(t, f.log, 5)
	append1(t, f.log, account(101), event(closed, 6))
	return f, 5
}

// testParked shows P6.
func (s *suite[W]) testParked(t *testing.T) {
	f, want := s.sick(t)
	sink := empty(t, f.sink(t))
	events, to := read(t, f.log, projections.Cursor{})
	parked := commit(t, sink, projections.Cursor{}, to, events)
	if len(parked) != want {
		t.Fatalf("Commit parked %d events, want %d: %v", len(parked), want, parked)
	}
	reasons := 0
	for i, p := range parked {
		if p.Projection != Name || p.Type == "" || p.Stream != account(100) && p.Stream != account(101) {
			t.Errorf("parked event is %+v", p)
		}
		if i > 0 && parked[i-1].Position.Compare(p.Position) >= 0 {
			t.Errorf("parked events are out of order: %s before %s", parked[i-1].Position, p.Position)
		}
		if p.Reason != "" {
			reasons++
			if p.Type != garbled || !strings.Contains(p.Reason, errGarbled.Error()) {
				t.Errorf("parked %s with reason %q", p.Type, p.Reason)
			}
		}
	}
	if reasons != 2 {
		t.Errorf("%d parked events have reasons, want the 2 that cannot be applied", reasons)
	}

	// What was applied is what is left of the log without them.
	healthy := s.open(t)
	other := empty(t, healthy.Sink(t, s.projection(1).Projection))
	held := make(map[eventstore.Position]bool)
	for _, p := range parked {
		held[p.Position] = true
	}
	var rest []eventstore.Recorded
	for _, e := range events {
		if !held[e.Position] {
			rest = append(rest, e)
		}
	}
	commit(t, other, projections.Cursor{}, to, rest)
	if digest(t, sink) != digest(t, other) {
		t.Error("parked events, or parts of them, are in the model")
	}

	// A new process knows who waits, even if it could apply the event.
	f.patient.ill.Store(false)
	append1(t, f.log, account(100), event(credited, 7))
	next := opened(t, f.sink(t), to)
	more, end := read(t, f.log, to)
	parked = commit(t, next, to, end, more)
	if len(parked) != 1 || parked[0].Reason != "" || parked[0].Stream != account(100) {
		t.Errorf("an event behind a parked one was not queued: %v", parked)
	}
}

// testEnded shows P6: a context that ends while an event is applied, or an archive that is away, says nothing of the event. The commit
// fails, and counts when it is tried again.
func (s *suite[W]) testEnded(t *testing.T) {
	f := s.fixture(t, 30)
	var ended error
	apply := f.patient.Apply
	f.patient.Apply = func(w W, e *eventstore.Recorded) error {
		if err := apply(w, e); err != nil || ended == nil || e.Version != 2 {
			return err
		}
		return fmt.Errorf("read beside the event: %w", ended)
	}
	sink := empty(t, f.sink(t))
	events, to := read(t, f.log, projections.Cursor{})
	for _, ended = range []error{context.Canceled, context.DeadlineExceeded, eventstore.ErrArchiveUnavailable} {
		if parked, err := sink.Commit(t.Context(), projections.Cursor{}, to, events); !errors.Is(err, ended) || len(parked) > 0 {
			t.Errorf("Commit gives %v and parks %d events, want %v and none", err, len(parked), ended)
		}
	}
	ended = nil
	if parked := commit(t, sink, projections.Cursor{}, to, events); len(parked) > 0 {
		t.Errorf("tried again, Commit parks %d events", len(parked))
	}
	if got := digest(t, sink); got != s.undisturbed(t, f.log) {
		t.Error("tried again, the model is another one")
	}
}

func (s *suite[W]) testParking(t *testing.T) {
	f, want := s.sick(t)
	sink := empty(t, f.sink(t))
	lot, ok := sink.(projections.Parking)
	if !ok {
		return // an operator rebuilds such a sink
	}
	at := fill(t, sink, f.log, projections.Cursor{})
	// The operator's process is not the one that runs: that one has seen what is parked before. It may find that the
	// cursor was touched, and opens again.
	running := f.sink(t)
	goOn := func(to projections.Cursor, events []eventstore.Recorded) []projections.Parked {
		t.Helper()
		parked, err := running.Commit(t.Context(), at, to, events)
		if errors.Is(err, projections.ErrCursorMoved) {
			parked = commit(t, opened(t, running, at), at, to, events)
		} else if err != nil {
			t.Fatalf("Commit from %s to %s: %v", at, to, err)
		}
		opened(t, sink, to)
		at = to
		return parked
	}
	follow := func() {
		t.Helper()
		events, to := read(t, f.log, at)
		goOn(to, events)
	}
	opened(t, running, at)
	grow(t, f.log, 1)
	follow()
	list := func() []projections.Parked {
		t.Helper()
		l, err := lot.Parked(t.Context())
		if err != nil {
			t.Fatalf("Parked: %v", err)
		}
		return l
	}
	if got := list(); len(got) != want {
		t.Fatalf("Parked lists %d events, want %d", len(got), want)
	}
	before := digest(t, sink)
	if n, err := lot.Retry(t.Context(), eventstore.StreamID{}); n != 0 || err != nil {
		t.Errorf("Retry while nothing has changed: %d applied, %v", n, err)
	}
	if got := list(); len(got) != want || digest(t, sink) != before {
		t.Errorf("Retry while nothing has changed left %d parked, want %d, or changed the model", len(got), want)
	}

	// Skipped: the first event of account 101. The one behind it follows.
	if err := lot.Skip(t.Context(), eventstore.Position{Incarnation: 1, LSN: 1}); !errors.Is(err, eventstore.ErrNotFound) && !errors.Is(err, projections.ErrNotFound) {
		t.Errorf("Skip of an event that is not parked: %v, want ErrNotFound", err)
	}
	var skipped eventstore.Position
	for _, p := range list() {
		if p.Stream == account(101) && p.Reason != "" {
			skipped = p.Position
		}
	}
	if err := lot.Skip(t.Context(), skipped); err != nil {
		t.Fatalf("Skip: %v", err)
	}
	if got := list(); len(got) != 3 || got[0].Stream != account(100) {
		t.Fatalf("after Skip %d events are parked, want the 3 of the other stream: %v", len(got), got)
	}

	grow(t, f.log, 1)
	follow()

	// Retried: those of account 100, in order, by a projection in good health.
	f.patient.ill.Store(false)
	if n, err := lot.Retry(t.Context(), account(100)); n != 3 || err != nil {
		t.Fatalf("Retry: %d applied, %v, want 3", n, err)
	}
	if got := list(); len(got) != 0 {
		t.Fatalf("after Retry %v are parked", got)
	}
	events, _ := read(t, f.log, projections.Cursor{})
	var rest []eventstore.Recorded
	for _, e := range events {
		if e.Position != skipped {
			rest = append(rest, e)
		}
	}
	healthy := s.open(t)
	other := empty(t, healthy.Sink(t, s.projection(1).Projection))
	commit(t, other, projections.Cursor{}, at, rest)
	model := digest(t, other)
	if got := digest(t, sink); got != model {
		t.Error("after Skip and Retry the model differs from one of the log without the skipped event")
	}

	// The cursor is as it was, the stream goes on, and what is skipped stays skipped.
	append1(t, f.log, account(100), event(credited, 8))
	last := at
	more, end := read(t, f.log, at)
	if parked := goOn(end, more); len(parked) != 0 {
		t.Errorf("a stream that was retried still parks %v", parked)
	}
	commit(t, other, last, end, more)
	model = digest(t, other)
	if err := sink.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	fill(t, sink, f.log, projections.Cursor{})
	if got := digest(t, sink); got != model {
		t.Error("filled again the model differs: was the skipped event applied?")
	}
}
