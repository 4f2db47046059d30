package projections

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// A model that is being filled has no position, for nobody can read it; but it is told how much is left, down to the switch.
func TestLagWhileFilling(t *testing.T) {
	b := board{status: Status{State: Rebuilding}}
	b.head(eventstore.Position{Incarnation: 2, LSN: 1000}, time.Time{})
	for done, want := range map[uint64]uint64{0: 1000, 400: 600, 1000: 1, 1200: 1} {
		b.update(func(s *Status) { s.Rebuild = &RebuildProgress{Done: done, Total: 1000} })
		if s := b.read(); s.LagEvents != want || !s.Position.IsZero() {
			t.Errorf("with %d of 1,000 events: %d behind at %s, want %d at none", done, s.LagEvents, s.Position, want)
		}
	}
	b.update(func(s *Status) { s.State, s.Rebuild = Live, nil })
	b.folded(eventstore.Position{Incarnation: 2, LSN: 990}, 0, time.Time{})
	if s := b.read(); s.LagEvents != 10 {
		t.Errorf("it is %d events behind, want 10", s.LagEvents)
	}
}
