package redisview_test

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/redisview"
)

// TestAlone: another generation is seen while it is filled, and until what was replaced is swept.
func TestAlone(t *testing.T) {
	view := redisview.New(dial(t, testenv.SharedRedis(t).Addr()), orders(), redisview.Options{})
	t.Cleanup(func() { _ = view.Close() })
	log := shop(t, 50)
	alone := func() bool {
		t.Helper()
		ok, err := view.Alone(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	eventually := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !alone(); {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	if err := view.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := projections.Replay(t.Context(), log, view, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	eventually("a filled model is not alone")
	beside, err := view.Beside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if alone() {
		t.Error("a generation that is being filled is not seen")
	}
	if err := beside.Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually("a discarded generation stays")
}
