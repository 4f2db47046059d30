package clickview

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
)

var errCrash = errors.New("crash on purpose")

// crashAt returns a fault that comes at the first call whose operation has a prefix, and stays.
func crashAt(prefix string, sent bool) func(op string, sent bool) error {
	var mu sync.Mutex
	dead := false
	return func(op string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		dead = dead || strings.HasPrefix(op, prefix) && done == sent
		if dead {
			return errCrash
		}
		return nil
	}
}

// readAll returns the events of a log and the cursor behind them.
func readAll(t testing.TB, log *memstore.Store, after projections.Cursor) ([]eventstore.Recorded, projections.Cursor) {
	t.Helper()
	var events []eventstore.Recorded
	for e, err := range log.ReadAll(t.Context(), after.Position, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
		after = projections.Cursor{Position: e.Position, Seq: e.Dot.Seq}
	}
	return events, after
}

// The commit dies before and after each of its calls to the server; the next process finishes what was intended (P1).
func TestCommitDiesAtEveryStage(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	log := memstore.New(memstore.Options{})
	credits(t, log, 400)
	first, middle := readAll(t, log, projections.Cursor{})
	credits(t, log, 700)
	second, end := readAll(t, log, middle)
	for _, stage := range []struct {
		op       string
		sent     bool
		intended bool
	}{
		{"store the intent", false, false},
		{"store the intent", true, true},
		{"insert into entries", false, true},
		{"insert into entries", true, true},
		{"insert into notes", false, true},
		{"insert into notes", true, true},
		{"commit", false, true},
		{"commit", true, true},
	} {
		t.Run(fmt.Sprintf("%s, sent %t", stage.op, stage.sent), func(t *testing.T) {
			o := options(srv, testenv.Unique(t))
			v := ledgerView(t, o)
			if _, err := v.Open(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
				t.Fatalf("Open: %v", err)
			}
			if _, err := v.Commit(t.Context(), projections.Cursor{}, middle, first); err != nil {
				t.Fatal(err)
			}
			dying := o
			dying.fault = crashAt(stage.op, stage.sent)
			d := ledgerView(t, dying)
			_, err := d.Commit(t.Context(), middle, end, second)
			if !errors.Is(err, errCrash) {
				t.Fatalf("Commit of the process that dies: %v", err)
			}
			next := ledgerView(t, o)
			at, err := next.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := middle
			if stage.intended {
				want = end
			}
			if at != want {
				t.Fatalf("the next process finds %s, want %s", at, want)
			}
			if !stage.intended {
				if _, err := next.Commit(t.Context(), middle, end, second); err != nil {
					t.Fatal(err)
				}
			}
			checkWhole(t, next, log)
		})
	}
}

// Of two writers that want the same step the one whose intent is stored gets it, though the other began before that.
func TestStepTakenBetweenIntentAndCommit(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	o := options(srv, testenv.Unique(t))
	a, log := filled(t, o)
	_, middle := readAll(t, log, projections.Cursor{})
	credits(t, log, 100)
	events, end := readAll(t, log, middle)
	b := ledgerView(t, o)
	if at, err := b.Open(t.Context()); err != nil || at != middle {
		t.Fatalf("Open: %s, %v, want %s", at, err, middle)
	}
	var taken error
	stood := false
	a.link.fault = func(op string, sent bool) error {
		if op == "store the intent" && sent && !stood {
			stood = true
			_, taken = b.Commit(t.Context(), middle, end, events)
		}
		return nil
	}
	if _, err := a.Commit(t.Context(), middle, end, events); err != nil {
		t.Errorf("Commit of the writer that has the step: %v", err)
	}
	if !stood {
		t.Fatal("no intent was stored")
	}
	if !errors.Is(taken, projections.ErrCursorMoved) {
		t.Errorf("Commit of the other writer: %v, want ErrCursorMoved", taken)
	}
	next := ledgerView(t, o)
	if at, err := next.Open(t.Context()); err != nil || at != end {
		t.Fatalf("Open: %s, %v, want %s", at, err, end)
	}
	checkWhole(t, next, log)
}

// The server takes the rows into their table, and then fails to take them into a view: both are there once in the end.
func TestInsertFailsBetweenTableAndView(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	log := memstore.New(memstore.Options{})
	credits(t, log, 600)
	events, end := readAll(t, log, projections.Cursor{})

	tables := fstest.MapFS{}
	for name, file := range ledgerTables {
		tables[name] = file
	}
	tables["0003_gate.sql"] = &fstest.MapFile{Data: []byte(`
CREATE TABLE IF NOT EXISTS {db}.gate (closed UInt8) ENGINE = MergeTree ORDER BY closed;

DROP TABLE IF EXISTS {db}.counts_of_entries;

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.counts_of_entries TO {db}.counts AS
SELECT toString(e.account) AS account, count() AS entries FROM {db}.entries AS e
WHERE throwIf((SELECT max(closed) FROM {db}.gate) = 1, 'the gate is closed') = 0 GROUP BY account;
`)}
	v, err := New(ledger(), tables, options(srv, testenv.Unique(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := v.Open(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
		t.Fatal(err)
	}
	mustExec(t, conn, "INSERT INTO "+v.Database()+".gate VALUES (1)")
	if _, err := v.Commit(t.Context(), projections.Cursor{}, end, events); err == nil || !strings.Contains(err.Error(), "the gate is closed") {
		t.Fatalf("Commit behind a closed gate: %v", err)
	}
	inTable := count(t, conn, "SELECT count() FROM "+v.Database()+".entries")
	inView := count(t, conn, "SELECT toUInt64(sum(entries)) FROM "+v.Database()+".counts")
	if inTable == inView {
		t.Fatalf("the table has %d rows and its view has counted %d: nothing came in between", inTable, inView)
	}
	if _, err := v.Commit(t.Context(), projections.Cursor{}, end, events); err == nil {
		t.Fatal("a repeated Commit behind a closed gate succeeds")
	}
	mustExec(t, conn, "TRUNCATE TABLE "+v.Database()+".gate")
	if at, err := v.Open(t.Context()); err != nil || at != end {
		t.Fatalf("Open after the gate was opened: %s, %v, want %s", at, err, end)
	}
	checkWhole(t, v, log)
	if n := count(t, conn, "SELECT toUInt64(sum(entries)) FROM "+v.Database()+".counts"); n != 600 {
		t.Errorf("the view has counted %d rows, want 600", n)
	}
}

// The switch to a rebuilt model dies before and after each of its calls.
func TestPromotionDiesAtEveryStep(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	log := memstore.New(memstore.Options{})
	credits(t, log, 200)
	first, middle := readAll(t, log, projections.Cursor{})
	credits(t, log, 300)
	all, end := readAll(t, log, projections.Cursor{})
	old, renewed := 0, 0
	for step := 0; ; step++ {
		o := options(srv, testenv.Unique(t))
		v := ledgerView(t, o)
		if _, err := v.Commit(t.Context(), projections.Cursor{}, middle, first); err != nil {
			t.Fatal(err)
		}
		armed, calls := false, 0
		dying := o
		dying.fault = func(string, bool) error {
			if armed {
				if calls++; calls > step {
					return errCrash
				}
			}
			return nil
		}
		d := ledgerView(t, dying)
		g, err := d.Beside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Commit(t.Context(), projections.Cursor{}, end, all); err != nil {
			t.Fatal(err)
		}
		armed = true
		promoted := g.Promote(t.Context(), end)
		if promoted != nil && !errors.Is(promoted, errCrash) {
			t.Fatalf("Promote that dies at call %d: %v", step, promoted)
		}
		next := ledgerView(t, o)
		at, err := next.Open(t.Context())
		if err != nil {
			t.Fatalf("Open after Promote died at call %d: %v", step, err)
		}
		switch {
		case at == middle && promoted != nil:
			old++
			if _, err := next.Commit(t.Context(), middle, end, all[len(first):]); err != nil {
				t.Fatal(err)
			}
		case at == end:
			renewed++
		default:
			t.Fatalf("after Promote died at call %d the cursor is %s", step, at)
		}
		checkWhole(t, next, log)
		if t.Failed() {
			t.Fatalf("Promote died at call %d", step)
		}
		if promoted == nil {
			break
		}
	}
	if old < 2 || renewed < 10 {
		t.Errorf("%d deaths left the old model, %d the new one: the calls in between were not hit", old, renewed)
	}
}

// A switch that dies before its last call leaves nothing of the old model on disk once the next process has opened; and a
// generation that is being filled outlives an Open.
func TestOpenDropsWhatAPromotionLeft(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	log := memstore.New(memstore.Options{})
	credits(t, log, 200)
	all, end := readAll(t, log, projections.Cursor{})
	fill := func(v *View) projections.Generation {
		t.Helper()
		g, err := v.Beside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Commit(t.Context(), projections.Cursor{}, end, all); err != nil {
			t.Fatal(err)
		}
		return g
	}
	o := options(srv, testenv.Unique(t))
	nextHas := func() uint64 {
		t.Helper()
		return count(t, conn, "SELECT count() FROM system.tables WHERE database = '"+o.Database+"__next'")
	}
	if _, err := ledgerView(t, o).Commit(t.Context(), projections.Cursor{}, end, all); err != nil {
		t.Fatal(err)
	}
	armed := false
	dying := o
	dying.fault = func(op string, _ bool) error {
		if armed && strings.HasPrefix(op, "drop the generation") {
			return errCrash
		}
		return nil
	}
	g := fill(ledgerView(t, dying))
	armed = true
	if err := g.Promote(t.Context(), end); !errors.Is(err, errCrash) {
		t.Fatalf("Promote that dies before it drops the old model: %v", err)
	}
	if nextHas() == 0 {
		t.Fatal("the process that died left nothing to drop")
	}
	next := ledgerView(t, o)
	if at, err := next.Open(t.Context()); err != nil || at != end {
		t.Fatalf("Open: %s, %v, want %s", at, err, end)
	}
	if n := nextHas(); n != 0 {
		t.Errorf("after the next process has opened, %d tables of the old model are on disk", n)
	}
	checkWhole(t, next, log)

	g = fill(next)
	if _, err := next.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at, err := g.(projections.CursorReader).Cursor(t.Context()); err != nil || at != end {
		t.Errorf("after Open the generation that is being filled stands at %s, %v, want %s", at, err, end)
	}
	if err := g.Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The runner discards a generation that it could not promote. When the switch was under way by then, it is finished all the
// same, and not the new model dropped from under it.
func TestDiscardLeavesASwitchThatWasCutOff(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	log := memstore.New(memstore.Options{})
	credits(t, log, 200)
	all, end := readAll(t, log, projections.Cursor{})
	cut := false
	o := options(srv, testenv.Unique(t))
	o.fault = func(op string, _ bool) error {
		if cut && op == "switch "+lastSwitched {
			return errCrash
		}
		return nil
	}
	v := ledgerView(t, o)
	if _, err := v.Commit(t.Context(), projections.Cursor{}, end, all); err != nil {
		t.Fatal(err)
	}
	g, err := v.Beside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Commit(t.Context(), projections.Cursor{}, end, all); err != nil {
		t.Fatal(err)
	}
	cut = true
	if err := g.Promote(t.Context(), end); !errors.Is(err, errCrash) {
		t.Fatalf("Promote that is cut off: %v", err)
	}
	cut = false
	if err := g.Discard(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at, err := v.Open(t.Context()); err != nil || at != end {
		t.Fatalf("Open after a switch that was cut off: %s, %v, want %s", at, err, end)
	}
	checkWhole(t, v, log)
}

// P1 and P5: the server is killed again and again while a runner follows a growing log and rebuilds.
func TestServerIsKilled(t *testing.T) {
	srv := testenv.ClickHouse(t)
	kills := 6
	if testing.Short() {
		kills = 2
	}
	log := memstore.New(memstore.Options{})
	o := options(srv, "ledger")
	v := ledgerView(t, o)
	runner := projections.NewRunner(log, v, projections.Options{
		MaxBatch: 200, Linger: 5 * time.Millisecond, CheckEvery: 50 * time.Millisecond, RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := runner.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	defer running.Wait()
	defer cancel()
	random := rand.New(rand.NewPCG(1, 2))
	for range kills {
		wait := time.NewTimer(time.Duration(random.IntN(300)) * time.Millisecond)
		for growing := true; growing; {
			credits(t, log, 25)
			select {
			case <-wait.C:
				growing = false
			case <-time.After(2 * time.Millisecond):
			}
		}
		srv.Kill()
		credits(t, log, 50)
		if err := srv.Restart(ctx); err != nil {
			t.Fatal(err)
		}
	}
	head, err := log.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waiting, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := runner.Await(waiting, head.Durable); err != nil {
		t.Fatalf("%v; status %+v", err, runner.Status())
	}
	if err := runner.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, v, log)
	runner.Resume()
}
