package projections_test

import (
	"testing"
	"testing/synctest"

	"github.com/tributary-es/tributary/projections"
)

// TestRunnerIsLiveOnAnEmptyLog: a log without events is folded as soon as the runner begins, so that what is asked of a
// new server is answered.
func TestRunnerIsLiveOnAnEmptyLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 0, projections.Options{})
		start(t, r)
		synctest.Wait()
		if at, err := r.Position(t.Context()); err != nil || at.LSN != 0 || r.Status().State != projections.Live {
			t.Errorf("on an empty log the position is %s, %v, and the status %+v", at, err, r.Status())
		}
		await(t, r, count(t, log, 10))
		if digest(t, l.Keys) != digestOf(t, log) {
			t.Error("the model differs")
		}
	})
}
