package projections_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// TestRunnerGoesOnWhenTheLogIsRepaired has a log that is damaged when its model is to be filled, and again when the runner
// follows: each time the status says so, a rebuild is refused with the fault, and after the repair the runner goes on by itself.
func TestRunnerGoesOnWhenTheLogIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 50, projections.Options{})
		rot := fmt.Errorf("%w: block 7 is damaged", eventstore.ErrDamaged)
		damaged := func(at eventstore.Position) {
			t.Helper()
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if s := r.Status(); s.State != projections.Damaged || !strings.Contains(s.LastError, "block 7") {
				t.Errorf("while the log is damaged the status is %+v", s)
			}
			if _, _, err := r.Rebuild(t.Context(), nil); !errors.Is(err, eventstore.ErrDamaged) || !strings.Contains(err.Error(), "block 7") {
				t.Errorf("Rebuild while the log is damaged: %v, want its fault", err)
			}
			l.set(func() { l.unreadable = nil })
			await(t, r, at)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s := r.Status(); s.State != projections.Live || digest(t, l.Keys) != digestOf(t, log) {
				t.Errorf("after the repair the status is %+v", s)
			}
		}
		l.unreadable = rot
		start(t, r)
		damaged(eventstore.Position{Incarnation: 1, LSN: 50})
		if r.Status().Rebuilds != 1 {
			t.Errorf("the model was filled %d times, want once", r.Status().Rebuilds)
		}
		l.set(func() { l.unreadable = rot })
		at := count(t, log, 30)
		damaged(at)
		if _, _, err := r.Rebuild(t.Context(), nil); err != nil {
			t.Errorf("Rebuild after the repair: %v", err)
		}
	})
}

// TestRunnerStopsAtWhatNoRepairMends has a log with an event that does not verify, in files that are whole: nothing comes of
// trying again.
func TestRunnerStopsAtWhatNoRepairMends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l, r := linked(t, 50, projections.Options{})
		l.unreadable = fmt.Errorf("event 7: %w", eventstore.ErrCorrupt)
		if err := r.Run(t.Context()); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Errorf("Run: %v, want the fault of the event", err)
		}
		if s := r.Status(); s.State != projections.Stopped || !strings.Contains(s.LastError, "event 7") {
			t.Errorf("the status is %+v", s)
		}
	})
}
