package clickview

import (
	"errors"
	"testing"

	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
)

// A generation can be asked where it stands, so that a commit whose answer was lost is seen to have gone through.
func TestGenerationTellsItsCursor(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	v, log := filled(t, options(srv, testenv.Unique(t)))
	events, end := readAll(t, log, projections.Cursor{})
	lost := false
	v.link.fault = func(op string, sent bool) error {
		if op == "commit" && sent && !lost {
			lost = true
			return projections.ErrUnavailable
		}
		return nil
	}
	g, err := v.Beside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, ok := g.(projections.CursorReader)
	if !ok {
		t.Fatal("a generation is no CursorReader")
	}
	if at, err := r.Cursor(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
		t.Errorf("Cursor before a commit: %s, %v, want ErrNoCursor", at, err)
	}
	if _, err := g.Commit(t.Context(), projections.Cursor{}, end, events); !errors.Is(err, projections.ErrUnavailable) {
		t.Fatalf("Commit whose answer is lost: %v", err)
	}
	if at, err := r.Cursor(t.Context()); err != nil || at != end {
		t.Errorf("Cursor after the commit: %s, %v, want %s", at, err, end)
	}
	if err := g.Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at, err := r.Cursor(t.Context()); !errors.Is(err, projections.ErrCursorMoved) {
		t.Errorf("Cursor of a generation that has ended: %s, %v, want ErrCursorMoved", at, err)
	}
}

// A refill goes through although an answer is lost.
func TestRebuildOutlivesLostAnswer(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	v, log := filled(t, options(srv, testenv.Unique(t)))
	lost := false
	v.link.fault = func(op string, sent bool) error {
		if op == "commit" && sent && !lost {
			lost = true
			return projections.ErrUnavailable
		}
		return nil
	}
	if _, _, err := projections.Rebuild(t.Context(), log, v, projections.Options{}, nil); err != nil {
		t.Fatalf("Rebuild: %v", err)
	}
	if !lost {
		t.Fatal("no answer was lost")
	}
	checkWhole(t, v, log)
}

// forgetLastStep does to the bookkeeping what a loss of power may do: the last step's intent and commit are gone, its rows
// are there.
func forgetLastStep(t *testing.T, v *View, exec func(sql string)) {
	t.Helper()
	db := v.Database()
	for _, table := range []string{"projection_commits", "projection_intents"} {
		exec("DROP TABLE " + db + "." + table + " SYNC")
		exec("RENAME TABLE " + db + ".before_" + table + " TO " + db + "." + table)
	}
}

// Rows of a step that the server has forgotten are noticed, when the state is read and when the step is made again.
func TestRowsOfForgottenStepAreNoticed(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	for name, again := range map[string]bool{"at once": false, "after the step was made again": true} {
		t.Run(name, func(t *testing.T) {
			o := options(srv, testenv.Unique(t))
			v, log := filled(t, o)
			first, middle := readAll(t, log, projections.Cursor{})
			credits(t, log, 20)
			second, end := readAll(t, log, middle)
			if len(first) == 0 || len(second) != 20 {
				t.Fatalf("%d and %d events", len(first), len(second))
			}
			db := v.Database()
			for _, table := range []string{"projection_commits", "projection_intents"} {
				mustExec(t, conn, "CREATE TABLE "+db+".before_"+table+" AS "+db+"."+table)
				mustExec(t, conn, "INSERT INTO "+db+".before_"+table+" SELECT * FROM "+db+"."+table)
			}
			behind := ledgerView(t, o) // knows the state before the step
			if at, err := behind.Open(t.Context()); err != nil || at != middle {
				t.Fatalf("Open: %s, %v, want %s", at, err, middle)
			}
			if _, err := v.Commit(t.Context(), middle, end, second); err != nil {
				t.Fatal(err)
			}
			forgetLastStep(t, v, func(sql string) { mustExec(t, conn, sql) })
			if again {
				to := projections.Cursor{Position: second[9].Position, Seq: second[9].Dot.Seq}
				if _, err := behind.Commit(t.Context(), middle, to, second[:10]); err != nil {
					t.Fatal(err)
				}
				if n := count(t, conn, "SELECT count() FROM "+db+".entries"); n != 330 {
					t.Errorf("%d rows, want 330: those of the step that was made again are there too", n)
				}
			}
			next := ledgerView(t, o)
			if at, err := next.Open(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
				t.Errorf("Open: %s, %v, want ErrNoCursor", at, err)
			}
			if _, _, err := projections.Rebuild(t.Context(), log, next, projections.Options{}, nil); err != nil {
				t.Fatal(err)
			}
			checkWhole(t, next, log)
		})
	}
}

// A table that has more rows because another writer's step is under way is not taken for damaged.
func TestStepUnderWayIsNoSurplus(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	o := options(srv, testenv.Unique(t))
	v, log := filled(t, o)
	_, middle := readAll(t, log, projections.Cursor{})
	credits(t, log, 20)
	events, end := readAll(t, log, middle)
	dying := o
	dying.fault = crashAt("commit", false)
	writer := ledgerView(t, dying)
	began := false
	// The reader has read the state and found no intent when the writer begins its step.
	late := o
	late.fault = func(op string, sent bool) error {
		if op == "read parked events" && sent && !began {
			began = true
			if _, err := writer.Commit(t.Context(), middle, end, events); !errors.Is(err, errCrash) {
				t.Errorf("Commit of the process that dies: %v", err)
			}
		}
		return nil
	}
	reader := ledgerView(t, late)
	if at, err := reader.Cursor(t.Context()); err != nil || at != middle || !began {
		t.Errorf("Cursor while a step is under way: %s, %v, want %s; begun: %t", at, err, middle, began)
	}
	if at, err := v.Open(t.Context()); err != nil || at != end {
		t.Errorf("Open: %s, %v, want %s", at, err, end)
	}
	checkWhole(t, v, log)
}
