package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
)

// throughPebble returns the log as Pebble's iterator has it.
func throughPebble(t *testing.T, s *Store) (events []eventstore.Recorded) {
	t.Helper()
	end := s.durable.Load()
	blocks, err := s.logCursor().readPebble(nil, 1, end, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	d := pageDecoder{incarnation: s.id.Incarnation}
	for i := range blocks {
		if events, _, err = d.block(events, &blocks[i], 1, end); err != nil {
			t.Fatal(err)
		}
	}
	return events
}

func scanned(t *testing.T, s *Store) (events []eventstore.Recorded) {
	t.Helper()
	for e, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// A scan whose payloads are lent gives what any scan gives, from every place on, and uses memory again.
func TestScanThatLends(t *testing.T) {
	s := openLarge(t, 20_000)
	want := scanned(t, s)
	for _, from := range []int{0, 1, 7000, len(want) - 1} {
		n, places := from, map[*byte]bool{}
		for e, err := range s.ReadAll(t.Context(), want[from].Position, eventstore.Filter{Lent: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; !reflect.DeepEqual(want[n], e) {
				t.Fatalf("event %d of a scan from %d that lends (-want +got):\n%s", n, from, cmp.Diff(want[n], e))
			}
			places[&e.Payload[0]] = true
		}
		if n != len(want)-1 {
			t.Errorf("a scan from %d that lends came to event %d of %d", from, n, len(want)-1)
		}
		if read := n - from; read > len(want)/2 && len(places) > read*3/4 {
			t.Errorf("%d payloads stood at %d places: their memory was not used again", read, len(places))
		}
	}
}

// openLarge returns a store with so many events of 500 bytes, which differ, on disk but for the last few.
func openLarge(t *testing.T, events int) *Store {
	t.Helper()
	s, err := Open("data/store", &Options{FS: vfs.NewMem(), Logger: quietLog, TailBytes: 1, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for done := 0; done < events; {
		var r eventstore.Request
		for range 1000 {
			payload := fmt.Appendf(make([]byte, 0, 500), "%0500d", done)
			r.Appends = append(r.Appends, eventstore.StreamAppend{
				Stream: eventstore.Stream("thing", fmt.Sprint(done%2000)), Events: []eventstore.Event{{Type: "thing.happened.v1", Payload: payload}},
			})
			done++
		}
		if _, err := s.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// From every place on, what the tables' files have is what Pebble says, and a scan needs nothing else.
func TestTablesAreReadFromEveryPlace(t *testing.T) {
	s, _ := mappedStore(t, vfs.NewMem(), 1<<20)
	want := throughPebble(t, s)
	if got := scanned(t, s); !reflect.DeepEqual(want, got) {
		t.Fatalf("a scan differs from what Pebble has (-Pebble +scan):\n%s", cmp.Diff(want, got))
	}
	if len(s.tableList.tables) < 3 {
		t.Fatalf("the log is in %d tables: too few to show anything", len(s.tableList.tables))
	}
	cursor := s.logCursor()
	for lsn := uint64(1); lsn <= uint64(len(want)); lsn += 7 {
		blocks, err := cursor.tables.read(nil, lsn)
		if err != nil {
			t.Fatalf("lsn %d cannot be read from its table: %v", lsn, err)
		}
		d := pageDecoder{incarnation: s.id.Incarnation}
		got, _, err := d.block(nil, &blocks[0], lsn, lsn)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[lsn-1:lsn], got); diff != "" {
			t.Fatalf("lsn %d read from its table (-want +got):\n%s", lsn, diff)
		}
	}
	if blocks, err := cursor.tables.read(nil, uint64(len(want))+1); err == nil {
		t.Fatalf("what is not in the log was read from a table: %d blocks", len(blocks))
	}
}

// Tables that are deleted are let go, and those in their place are found.
func TestDeletedTablesAreLetGo(t *testing.T) {
	files := &handles{FS: vfs.NewMem(), open: map[string]int{}}
	s, _ := mappedStore(t, files, 1<<20)
	want := scanned(t, s)
	s.tableList.mu.RLock()
	before := slices.Clone(s.tableList.tables)
	s.tableList.mu.RUnlock()
	next, stop := iter.Pull2(s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}))
	defer stop()
	var got []eventstore.Recorded
	read := func(n int) { // by a scan that is under way meanwhile
		for range n {
			e, err, _ := next()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
	}
	read(1000)
	if err := s.log.Compact(context.Background(), firstBlock, afterBlocks, false); err != nil {
		t.Fatal(err)
	}
	for _, table := range before {
		await(t, "table "+table.number+", which is deleted, is closed", func() bool { return files.of(table.number) == 0 })
	}
	read(len(want) - 1000)
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("a scan during a compaction differs (-before +during):\n%s", cmp.Diff(want, got))
	}
	if got := scanned(t, s); !reflect.DeepEqual(want, got) {
		t.Fatalf("a scan after a compaction differs (-before +after):\n%s", cmp.Diff(want, got))
	}
	if table, ok := s.tableList.find(1); !ok || slices.Contains(before, table) {
		t.Fatalf("after the compaction lsn 1 is looked for in %v, %t", table, ok)
	}
}

// Where a block has been written twice, and where Pebble shows a table in part, which blocks hold is left to Pebble.
func TestTablesThatOverlapAreLeftToPebble(t *testing.T) {
	var last pebble.SSTableInfo
	table := func(first, end uint64) pebble.SSTableInfo {
		last.BackingSSTNum++
		last.Smallest.UserKey, last.Largest.UserKey = blockKey(first), blockKey(end)
		return last
	}
	part := table(35, 40)
	part.Virtual = true
	meta := table(1, 1)
	meta.Largest.UserKey = afterBlocks
	var l tableList
	got := l.inOrder([][]pebble.SSTableInfo{{table(15, 15), meta}, {table(22, 30), table(2, 10), part}, {table(11, 20), table(41, 50)}})
	want := []logTable{{"000005", 0, 10}, {"000004", 20, 30}, {"000007", 40, 50}}
	if !slices.Equal(got, want) {
		t.Errorf("tables that can be read by themselves are %v, want %v", got, want)
	}
}

// Damage anywhere in a table's file is an error of a scan, or changes nothing, and no other event comes than was written.
// Invariant A2.
func TestScanOfADamagedTable(t *testing.T) {
	whole := written(t, 300, Options{MemTableBytes: 64 << 10})
	open := func(fs vfs.FS) *Store {
		s, err := Open("data/store", &Options{FS: fs, Logger: quietLog, TailBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(whole)
	want := scanned(t, s)
	table, ok := s.tableList.find(150)
	if !ok {
		t.Fatal("lsn 150 is in no table")
	}
	path := s.opts.fs().PathJoin("data/store/log", table.number+".sst")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for share := range 40 {
		fs := vfs.NewMem()
		if _, err := vfs.Clone(whole, fs, "data", "data"); err != nil {
			t.Fatal(err)
		}
		flip(t, fs, path, float64(share)/40)
		s, err := Open("data/store", &Options{FS: fs, Logger: quietLog, TailBytes: 1})
		if err != nil { // it was noticed even before
			failed++
			continue
		}
		n := 0
		for e, err := range s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{Lent: share%2 == 0}) {
			if err != nil {
				if !errors.Is(err, eventstore.ErrCorrupt) {
					t.Errorf("damage at %d/40 of the table: %v, want %v", share, err, eventstore.ErrCorrupt)
				}
				failed++
				break
			}
			if !reflect.DeepEqual(want[n], e) {
				t.Fatalf("damage at %d/40 of the table changed event %d:\n%s", share, n+1, cmp.Diff(want[n], e))
			}
			n++
		}
		if err := s.Close(); err != nil && !bytes.Contains([]byte(err.Error()), []byte("corrupt")) {
			t.Error(err)
		}
	}
	if failed < 20 {
		t.Errorf("%d of 40 places that were damaged were noticed", failed)
	}
}
