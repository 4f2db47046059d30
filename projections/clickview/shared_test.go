package clickview

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
)

// Two models of the same events, which stand in other places of two logs, have the same digests, and a row that is changed, added or
// there twice changes that of its table alone. Shows R32.
func TestSharedDigests(t *testing.T) {
	srv := testenv.SharedClickHouse(t)
	conn := admin(t, srv)
	shared := func(v *View, queries map[string]string) map[string]projections.PartDigest {
		t.Helper()
		parts, err := v.SharedDigests(t.Context(), queries)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]projections.PartDigest{}
		for _, p := range parts {
			out[p.Part] = p
		}
		return out
	}
	var views []*View
	for _, ahead := range []int{0, 90} { // the ledger's times repeat after 90 events
		log := memstore.New(memstore.Options{})
		for range ahead {
			if _, err := log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("note", "elsewhere"), Events: []eventstore.Event{{Type: "note.made.v1"}},
			}}}); err != nil {
				t.Fatal(err)
			}
		}
		credits(t, log, 3000)
		v := ledgerView(t, options(srv, testenv.Unique(t)))
		if err := projections.Replay(t.Context(), log, v, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
	}
	sound := shared(views[0], nil)
	if len(sound) != 2 || sound["entries"].Count == 0 || sound["notes"].Count == 0 {
		t.Fatalf("the digests are %v, want those of entries and notes", sound)
	}
	if diff := cmp.Diff(sound, shared(views[1], nil)); diff != "" {
		t.Errorf("models of the same events have other digests:\n%s", diff)
	}
	sums := map[string]string{"sums": "SELECT account, sum(entries) AS entries FROM {db}.counts GROUP BY account"}
	if a, b := shared(views[0], sums), shared(views[1], sums); a["sums"].Count == 0 || a["sums"] != b["sums"] {
		t.Errorf("a query of the same has the digests %v and %v", a, b)
	}
	for _, tamper := range []struct{ table, sql, undo string }{
		{
			"entries", "ALTER TABLE {db}.entries UPDATE amount = amount + 1 WHERE position = 1000 SETTINGS mutations_sync = 2",
			"ALTER TABLE {db}.entries UPDATE amount = amount - 1 WHERE position = 1000 SETTINGS mutations_sync = 2",
		},
		{
			"notes", "INSERT INTO {db}.notes VALUES (77, 9, 'me', 1, ['b'], 3)",
			"DELETE FROM {db}.notes WHERE account = 'me' SETTINGS lightweight_deletes_sync = 2",
		},
		{"notes", "INSERT INTO {db}.notes SELECT * FROM {db}.notes ORDER BY position LIMIT 1", ""},
	} {
		mustExec(t, conn, strings.ReplaceAll(tamper.sql, "{db}", views[0].Database()))
		changed := shared(views[0], nil)
		if changed[tamper.table] == sound[tamper.table] {
			t.Errorf("%s: the digest of %s is as before", tamper.sql, tamper.table)
		}
		others := maps.Clone(sound)
		others[tamper.table] = changed[tamper.table]
		if diff := cmp.Diff(others, changed); diff != "" {
			t.Errorf("%s changes another table too:\n%s", tamper.sql, diff)
		}
		if tamper.undo != "" {
			mustExec(t, conn, strings.ReplaceAll(tamper.undo, "{db}", views[0].Database()))
		}
	}
}
