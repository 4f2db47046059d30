package projections

import (
	"context"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// asked is a History that counts how often it is asked.
type asked struct{ times int }

func (a *asked) Change(context.Context, *eventstore.Recorded, bool) (Change, error) {
	a.times++
	return Change{Appends: true}, nil
}

// TestAloneAsksNothing: of a log that has events of one log alone nobody asks what counts, and events of other types are passed over.
func TestAloneAsksNothing(t *testing.T) {
	history := &asked{}
	applied := 0
	p := Projection[noWrites]{
		Name: "people", Types: []string{"a.v1"}, Categories: []string{"a"}, History: history,
		Apply: func(noWrites, *eventstore.Recorded) error { applied++; return nil },
	}
	wants := wanted{types: map[string]bool{"a.v1": true}, touches: p.Touches}
	event := func(lsn, seq uint64, typ string) eventstore.Recorded {
		e := logged(ownLog, lsn, seq, "a", seq)
		e.Stream, e.Type = eventstore.Stream("a", "1"), typ
		e.Context = eventstore.Vector{{Log: ownLog, Seq: seq - 1}}
		return e
	}
	fold := func(events ...eventstore.Recorded) {
		t.Helper()
		taken := wants.of(events)
		if parked, err := Fold(t.Context(), &p, noWrites{}, noWrites{}, &Lot{}, taken); err != nil || len(parked) > 0 {
			t.Fatalf("parked %v, %v", PlainParked(parked), err)
		}
	}
	fold(event(1, 1, "a.v1"), event(2, 2, "b.v1"), event(3, 3, "a.v1"))
	if history.times != 0 || applied != 2 {
		t.Errorf("asked %d times, %d events applied; want none and 2", history.times, applied)
	}
	// With an event of another log before them, the one of another type is looked at too, and not applied.
	fold(event(5, 4, "b.v1"), event(6, 5, "a.v1"))
	if history.times != 2 || applied != 3 {
		t.Errorf("asked %d times, %d events applied; want 2 and 3", history.times, applied)
	}
}
