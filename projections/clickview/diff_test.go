package clickview

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/rowwrites"
	"github.com/tributary-es/tributary/projections/memview"
)

// ledger is a projection of two tables: every credit is an entry, and every third also a note.
func ledger() projections.Projection[projections.Rows] {
	return projections.Projection[projections.Rows]{
		Name: "ledger", Version: 1, Types: []string{"account.credited.v1"},
		Apply: func(w projections.Rows, e *eventstore.Recorded) error {
			amount, err := strconv.Atoi(string(e.Payload))
			if err != nil {
				return err
			}
			at := time.UnixMilli(1_290_000_000_000 + 86_400_000*int64(e.Position.LSN%90)).UTC()
			w.Insert("entries", e.Stream.ID, amount, fmt.Sprintf("%d.5", amount), at)
			if e.Version%3 == 0 {
				w.Insert("notes", e.Stream.ID, uint64(1)<<63+e.Version, []string{"a", strconv.Itoa(amount)}, int8(-3))
			}
			return nil
		},
	}
}

// ledgerTables are partitioned by month, and summed up by two views.
var ledgerTables = fstest.MapFS{
	"0001_ledger.sql": {Data: []byte(`
CREATE TABLE IF NOT EXISTS {db}.entries
(
    position UInt64, row UInt32,
    account LowCardinality(String), amount Int64, fee Decimal(38, 9), at DateTime64(3, 'UTC'),
    month Date MATERIALIZED toStartOfMonth(at)
)
ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (account, position)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS {db}.notes
(
    position UInt64, row UInt32,
    account String, number UInt64, words Array(String), small Int8
)
ENGINE = MergeTree ORDER BY position
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS {db}.balances (account String, amount Int64, fees Decimal(38, 9))
ENGINE = SummingMergeTree ORDER BY account
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.balances_of_entries TO {db}.balances AS
SELECT toString(e.account) AS account, sum(e.amount) AS amount, sum(e.fee) AS fees FROM {db}.entries AS e GROUP BY account;
`)},
	"0002_counts.sql": {Data: []byte(`
CREATE TABLE IF NOT EXISTS {db}.counts (account String, entries UInt64)
ENGINE = SummingMergeTree ORDER BY account
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.counts_of_entries TO {db}.counts AS
SELECT toString(e.account) AS account, count() AS entries FROM {db}.entries AS e GROUP BY account;
`)},
	"checks/balances.sql": {Data: []byte(`
SELECT * FROM (
    SELECT account, sum(amount) AS amount, sum(fees) AS fees FROM {db}.balances GROUP BY account
    EXCEPT
    SELECT toString(account) AS account, sum(amount) AS amount, sum(fee) AS fees FROM {db}.entries GROUP BY account)
`)},
	"checks/counts.sql": {Data: []byte(`
SELECT * FROM (
    SELECT account, sum(entries) AS entries FROM {db}.counts GROUP BY account
    EXCEPT
    SELECT toString(account) AS account, count() AS entries FROM {db}.entries GROUP BY account)
`)},
}

// ledgerView returns a view of the ledger in a database of the test's own.
func ledgerView(t testing.TB, o Options) *View {
	t.Helper()
	v, err := New(ledger(), ledgerTables, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// credits appends n events, several to a batch, over some accounts.
func credits(t testing.TB, log *memstore.Store, n int) {
	t.Helper()
	for i := 0; i < n; {
		var appends []eventstore.StreamAppend
		for k := 0; k < 5 && i < n; k++ {
			appends = append(appends, eventstore.StreamAppend{
				Stream: eventstore.Stream("account", strconv.Itoa(k*7+i%7)),
				Events: []eventstore.Event{{Type: "account.credited.v1", Payload: []byte(strconv.Itoa(i%97 - 20))}},
			})
			i++
		}
		if _, err := log.Append(context.Background(), eventstore.Request{Appends: appends}); err != nil {
			t.Fatal(err)
		}
	}
}

// wantDigest is the digest of what a fold in memory gives.
func wantDigest(t testing.TB, log *memstore.Store) string {
	t.Helper()
	fold := memview.NewRows(ledger())
	if err := projections.Replay(t.Context(), log, fold, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	var sum rowwrites.Sum
	for _, table := range fold.Tables() {
		h := rowwrites.NewHasher(table)
		for _, r := range fold.Table(table) {
			row := rowwrites.AppendInt(rowwrites.AppendUint(nil, r.Position), int64(r.Row))
			for _, value := range r.Values {
				var err error
				if row, err = rowwrites.AppendValue(row, value); err != nil {
					t.Fatal(err)
				}
			}
			h.Add(&sum, row)
		}
	}
	return sum.String()
}

// checkWhole fails the test unless the view holds exactly what a fold of the log gives, derived tables included.
func checkWhole(t testing.TB, v *View, log *memstore.Store) {
	t.Helper()
	got, err := v.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := wantDigest(t, log); got != want {
		t.Errorf("the digest is %s, that of a fold in memory %s", got, want)
	}
	diff, err := v.Diff(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	if len(diff) > 0 {
		t.Errorf("Diff finds %d differences, the first: %s", len(diff), diff[0])
	}
}

func TestDiffNamesWhatWasTamperedWith(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	log := memstore.New(memstore.Options{})
	credits(t, log, 10_000)
	v := ledgerView(t, options(srv, testenv.Unique(t)))
	if err := projections.Replay(t.Context(), log, v, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, v, log)

	db := v.Database()
	for _, tamper := range []struct {
		name, sql, undo string
		want            []string
	}{
		{
			"a changed row", "ALTER TABLE {db}.entries UPDATE amount = amount + 1, fee = fee / 10 WHERE position = 5000 SETTINGS mutations_sync = 2",
			"ALTER TABLE {db}.entries UPDATE amount = amount - 1, fee = fee * 10 WHERE position = 5000 SETTINGS mutations_sync = 2",
			[]string{"entries: row 0 of position 5000 is changed: ", "amount is ", "fee is ", "the log says "},
		},
		{
			"an added row", "INSERT INTO {db}.notes VALUES (77, 9, 'me', 1, ['b'], 3)",
			"DELETE FROM {db}.notes WHERE account = 'me' SETTINGS lightweight_deletes_sync = 2",
			[]string{"notes: row 9 of position 77 should not be there"},
		},
		{
			"a row that is there twice", "INSERT INTO {db}.notes SELECT * FROM {db}.notes ORDER BY position LIMIT 1", "",
			[]string{"notes: row 1 of position ", "is there more than once"},
		},
		{
			"a derived row", "INSERT INTO {db}.counts VALUES ('13', 1)", "ALTER TABLE {db}.counts DELETE WHERE entries = 1 SETTINGS mutations_sync = 2",
			[]string{"counts: disagrees with what it is derived from: account=13 entries="},
		},
	} {
		t.Run(tamper.name, func(t *testing.T) {
			sound, err := v.Digest(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			mustExec(t, conn, strings.ReplaceAll(tamper.sql, "{db}", db))
			if changed, err := v.Digest(t.Context()); err != nil || changed == sound {
				t.Errorf("the digest is %s as before, %v", changed, err)
			}
			diff, err := v.Diff(t.Context(), log)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Join(diff, "\n")
			for _, want := range tamper.want {
				if !strings.Contains(text, want) {
					t.Errorf("Diff says:\n%s\nwant something with %q", text, want)
				}
			}
			if len(diff) == 0 || len(diff) > 3 {
				t.Errorf("Diff finds %d differences:\n%s", len(diff), text)
			}
			if tamper.undo != "" {
				mustExec(t, conn, strings.ReplaceAll(tamper.undo, "{db}", db))
			}
		})
	}
}

func TestDiffNamesDeletedRows(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	log := memstore.New(memstore.Options{})
	credits(t, log, 9000)
	v := ledgerView(t, options(srv, testenv.Unique(t)))
	if err := projections.Replay(t.Context(), log, v, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, "DELETE FROM "+v.Database()+".entries WHERE position = 4321 SETTINGS lightweight_deletes_sync = 2")
	mustExec(t, conn, "ALTER TABLE "+v.Database()+".entries DELETE WHERE position = 8999 SETTINGS mutations_sync = 2")
	diff, err := v.Diff(t.Context(), log)
	if err != nil {
		t.Fatalf("Diff: %v", err)
	}
	text := strings.Join(diff, "\n")
	for _, want := range []string{"entries: row 0 of position 4321 is missing", "entries: row 0 of position 8999 is missing"} {
		if !strings.Contains(text, want) {
			t.Errorf("Diff says:\n%s\nwant something with %q", text, want)
		}
	}
}

// count reads one number.
func count(t testing.TB, conn driver.Conn, sql string) uint64 {
	t.Helper()
	var n uint64
	if err := conn.QueryRow(context.Background(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}
