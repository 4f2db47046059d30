package clickview

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/queries"
)

// filled returns a view that holds a log of some credits.
func filled(t testing.TB, o Options) (*View, *memstore.Store) {
	t.Helper()
	log := memstore.New(memstore.Options{})
	credits(t, log, 300)
	v := ledgerView(t, o)
	if err := projections.Replay(t.Context(), log, v, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	return v, log
}

// queryError runs a statement to its end and returns its error.
func queryError(v *View, sql string) error {
	for _, err := range v.Query(context.Background(), sql) {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestLostTablesAreMissed shows P4: a model that lacks something is no model.
func TestLostTablesAreMissed(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	for _, loss := range []string{
		"DROP DATABASE {db} SYNC",
		"TRUNCATE DATABASE {db}",
		"TRUNCATE TABLE {db}.entries",
		"DROP TABLE {db}.notes SYNC",
		"TRUNCATE TABLE {db}.projection_commits",
		"DROP TABLE {db}.projection_intents SYNC",
		"ALTER TABLE {db}.entries DROP PARTITION 201012",
		"TRUNCATE TABLE {db}.balances",
		"DROP TABLE {db}.counts_of_entries SYNC",
	} {
		t.Run(loss, func(t *testing.T) {
			v, log := filled(t, options(srv, testenv.Unique(t)))
			if _, err := v.Cursor(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustExec(t, conn, strings.ReplaceAll(loss, "{db}", v.Database()))
			_, err := v.Cursor(t.Context())
			if !errors.Is(err, projections.ErrNoCursor) {
				t.Errorf("Cursor: %v, want ErrNoCursor", err)
			}
			if err := queryError(v, "SELECT count() FROM {db}.entries"); !errors.Is(err, queries.ErrRebuilding) {
				t.Errorf("Query: %v, want ErrRebuilding", err)
			}
			if _, _, err := projections.Rebuild(t.Context(), log, v, projections.Options{}, nil); err != nil {
				t.Fatalf("Rebuild: %v", err)
			}
			checkWhole(t, v, log)
		})
	}
}

func TestLossIsMissedByCommit(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	v, log := filled(t, options(srv, testenv.Unique(t)))
	_, at := readAll(t, log, projections.Cursor{})
	credits(t, log, 10)
	events, to := readAll(t, log, at)
	mustExec(t, conn, "TRUNCATE TABLE "+v.Database()+".notes")
	if _, err := v.Commit(t.Context(), at, to, events); !errors.Is(err, projections.ErrNoCursor) {
		t.Errorf("Commit after a table was emptied: %v, want ErrNoCursor", err)
	}
}

func TestMigrations(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	o := options(srv, testenv.Unique(t))
	v, log := filled(t, o)
	db := v.Database()

	with := func(name, text string) fstest.MapFS {
		files := maps.Clone(ledgerTables)
		files[name] = &fstest.MapFile{Data: []byte(text)}
		return files
	}
	open := func(files fstest.MapFS) error {
		t.Helper()
		v, err := New(ledger(), files, o)
		if err != nil {
			return err
		}
		defer v.Close()
		_, err = v.Open(t.Context())
		return err
	}
	if err := open(ledgerTables); err != nil {
		t.Fatalf("Open with the same files: %v", err)
	}
	if n := count(t, conn, "SELECT count() FROM (SELECT DISTINCT name FROM "+db+".schema_migrations)"); n != 3 {
		t.Errorf("%d migrations are noted, want 3", n)
	}
	err := open(with("0002_counts.sql", "SELECT 1"))
	if err == nil || !strings.Contains(err.Error(), "migration 0002_counts.sql was changed after it was applied") {
		t.Errorf("Open with a changed file: %v", err)
	}
	if err := open(with("0004_gap.sql", "SELECT 1")); err == nil || !strings.Contains(err.Error(), "0003_") {
		t.Errorf("Open with a gap in the numbers: %v", err)
	}
	// A new file is applied to the tables as they stand; the view of the table that changes is made anew.
	err = open(with("0003_memo.sql", `
-- A column more, with a default for the rows that are there.
ALTER TABLE {db}.counts ADD COLUMN IF NOT EXISTS memo String DEFAULT 'none; really';
`))
	if err != nil {
		t.Fatalf("Open with a new file: %v", err)
	}
	if n := count(t, conn, "SELECT count() FROM "+db+".counts WHERE memo = 'none; really'"); n == 0 {
		t.Error("the new column is not there")
	}
	checkWhole(t, v, log)
}

func TestWhatTablesCannotHoldStopsTheProjection(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	log := memstore.New(memstore.Options{})
	credits(t, log, 3)
	events, to := readAll(t, log, projections.Cursor{})
	at := time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, write := range map[string]func(projections.Rows){
		"an unknown table":         func(w projections.Rows) { w.Insert("nonsense", 1) },
		"a table of the sink":      func(w projections.Rows) { w.Insert("projection_parked", 1) },
		"too few values":           func(w projections.Rows) { w.Insert("entries", "a", 1, "1") },
		"rows of different length": func(w projections.Rows) { w.Insert("entries", "a", 1, "1", at); w.Insert("entries", "a", 1) },
		"a type that is no type":   func(w projections.Rows) { w.Insert("entries", struct{}{}, 1, "1", at) },
		"a number for a string":    func(w projections.Rows) { w.Insert("entries", 7, 1, "1", at) },
		"a string for a number":    func(w projections.Rows) { w.Insert("entries", "a", "b", "1", at) },
		"a number out of range":    func(w projections.Rows) { w.Insert("notes", "a", 1, []string{}, 200) },
		"no decimal":               func(w projections.Rows) { w.Insert("entries", "a", 1, "1.x", at) },
		"too large a decimal":      func(w projections.Rows) { w.Insert("entries", "a", 1, strings.Repeat("9", 60), at) },
		"a string for a time":      func(w projections.Rows) { w.Insert("entries", "a", 1, "1", "2011-01-01") },
	} {
		t.Run(name, func(t *testing.T) {
			p := ledger()
			p.Apply = func(w projections.Rows, e *eventstore.Recorded) error {
				w.Insert("notes", "good", 1, []string{}, 1)
				if e.Position.LSN == 2 {
					write(w)
				}
				return nil
			}
			v, err := New(p, ledgerTables, options(srv, testenv.Unique(t)))
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			if _, err := v.Commit(t.Context(), projections.Cursor{}, to, events); !errors.Is(err, projections.ErrBadWrite) {
				t.Fatalf("Commit: %v, want ErrBadWrite", err)
			}
			for _, table := range []string{"projection_intents", "projection_commits", "notes", "entries"} {
				if n := count(t, conn, "SELECT count() FROM "+v.Database()+"."+table); n != 0 {
					t.Errorf("%s has %d rows", table, n)
				}
			}
			// The same in an event that is parked does no harm.
			apply := p.Apply
			p.Apply = func(w projections.Rows, e *eventstore.Recorded) error {
				if err := apply(w, e); err != nil || e.Position.LSN != 2 {
					return err
				}
				return errors.New("parked")
			}
			parking, err := New(p, ledgerTables, options(srv, v.Database()))
			if err != nil {
				t.Fatal(err)
			}
			defer parking.Close()
			parked, err := parking.Commit(t.Context(), projections.Cursor{}, to, events)
			if err != nil || len(parked) != 1 {
				t.Errorf("Commit that parks the event: %v, %v", parked, err)
			}
		})
	}
}

func TestQuery(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	o := options(srv, testenv.Unique(t))
	o.ReadRows = 1000
	o.ReadTimeout = 2 * time.Second
	v, _ := filled(t, o)
	all := func(sql string, args ...any) (rows []map[string]any, err error) {
		for row, err := range v.Query(t.Context(), sql, args...) {
			if err != nil {
				return rows, err
			}
			rows = append(rows, row)
		}
		return rows, nil
	}
	rows, err := all("SELECT toString(account) AS account, amount, fee, at, toNullable('x') AS some, CAST(NULL AS Nullable(String)) AS none, 1.5 AS float, count() OVER () AS n FROM {db}.entries ORDER BY position LIMIT ?", 1)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"account": "0", "amount": int64(-20), "fee": "-20.5", "at": time.UnixMilli(1_290_000_000_000 + 86_400_000).UTC(),
		"some": "x", "none": nil, "float": 1.5, "n": uint64(300),
	}
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1", len(rows))
	}
	for name, value := range want {
		if rows[0][name] != value {
			t.Errorf("%s is %v (%[2]T), want %v (%[3]T)", name, rows[0][name], value)
		}
	}
	for name, sql := range map[string]string{
		"writes":             "INSERT INTO {db}.counts VALUES ('a', 1)",
		"drops":              "DROP TABLE {db}.counts",
		"is no SQL":          "SELEKT 1",
		"has too many rows":  "SELECT number FROM system.numbers LIMIT 1001",
		"takes too long":     "SELECT count() FROM system.numbers WHERE NOT ignore(sleepEachRow(0.1)) SETTINGS max_block_size = 1",
		"takes much memory":  "SELECT groupArray(number) FROM numbers(1000000000)",
		"lifts the limits":   "SELECT 1 SETTINGS readonly = 0",
		"misses an argument": "SELECT ?",
	} {
		if rows, err := all(sql); err == nil {
			t.Errorf("a statement that %s succeeds with %d rows", name, len(rows))
		}
	}
	// The reader may stop early, and nothing is held up.
	for range 50 {
		for _, err := range v.Query(t.Context(), "SELECT number FROM numbers(900)") {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
}

func TestQueryWithoutModel(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	v := ledgerView(t, options(srv, testenv.Unique(t)))
	if err := queryError(v, "SELECT 1"); !errors.Is(err, queries.ErrRebuilding) {
		t.Errorf("Query before the model is filled: %v, want ErrRebuilding", err)
	}
	o := options(srv, testenv.Unique(t))
	o.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("nobody is there") }
	away := ledgerView(t, o)
	err := queryError(away, "SELECT 1")
	if !errors.Is(err, queries.ErrUnavailable) || !strings.Contains(err.Error(), "nobody is there") {
		t.Errorf("Query of a server that is away: %v, want ErrUnavailable and why", err)
	}
	if eventstore.ClassOf(err) != eventstore.Transient {
		t.Errorf("the class of %v is %s", err, eventstore.ClassOf(err))
	}
	if _, err := away.Open(t.Context()); !errors.Is(err, projections.ErrUnavailable) {
		t.Errorf("Open of a server that is away: %v, want ErrUnavailable", err)
	}
}

// A foreign client reads the model with plain SQL over HTTP.
func TestForeignRead(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	v, _ := filled(t, options(srv, testenv.Unique(t)))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		"http://"+srv.HTTPAddr()+"/?query="+url.QueryEscape("SELECT count(), sum(fee) FROM "+v.Database()+".entries FORMAT CSV"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(srv.User(), srv.Password())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	twice := 0 // the sum of the fees, times two
	for i := range 300 {
		if amount := i%97 - 20; amount < 0 {
			twice += 2*amount - 1
		} else {
			twice += 2*amount + 1
		}
	}
	want := fmt.Sprintf("300,%g", float64(twice)/2)
	if got := strings.TrimSpace(string(body)); got != want {
		t.Errorf("the answer is %q, want %q", got, want)
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no address":     {},
		"a strange name": {Addr: "127.0.0.1:1", Database: "a`b"},
	} {
		if _, err := New(ledger(), ledgerTables, o); err == nil {
			t.Errorf("New with %s succeeds", name)
		}
	}
}
