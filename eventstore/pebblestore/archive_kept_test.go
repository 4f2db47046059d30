package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// Of the copies of archived system events, a repair keeps those on both sides of what is damaged, and says which it leaves out.
func TestRepairKeepsCopiesBehindTheDamage(t *testing.T) {
	files, bucket, now := vfs.NewMem(), newMemBucket(), archiveBegan
	var said lines
	o := *openAgain(&now, bucket)
	s := openMem(t, files, o)
	for i := range 100 {
		r := request("", eventstore.Stream("$schemas", fmt.Sprint(i)), eventstore.Any, 30)
		for j := range r.Appends[0].Events {
			r.Appends[0].Events[j].Kind = eventstore.KindSystem
		}
		mustAppend(t, s, r)
	}
	fillForArchive(t, s, &now, 0, 20)
	mustArchive(t, s, ArchiveOptions{SegmentBytes: 30_000})
	if err := s.log.Compact(t.Context(), logMetaKey, afterBlocks, false); err != nil {
		t.Fatal(err)
	}
	kept := func() (lsns []uint64) {
		t.Helper()
		it, err := s.keptFrom(0)
		if err != nil {
			t.Fatal(err)
		}
		for valid := it.First(); valid; valid = it.Next() {
			lsns = append(lsns, binary.BigEndian.Uint64(it.Key()[len(keptPrefix):]))
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			t.Fatal(err)
		}
		return lsns
	}
	before := kept()
	tables, err := tablesOf(s.log)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tables, func(table scrubTable) bool {
		return bytes.Compare(table.first, keptKey(before[0])) <= 0 && bytes.Compare(table.last, keptKey(before[len(before)-1])) >= 0
	})
	if i < 0 {
		t.Fatal("no table has all copies")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, files, "data/store/log/"+tables[i].name, 0.3)
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	s = openMem(t, files, o)
	if err := s.repairTables(t.Context(), []tableRange{{first: tables[i].first, last: tables[i].last}}, &ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	after := kept()
	if len(after) == 0 {
		t.Fatal("no copy is there any more")
	}
	if after[0] != before[0] || after[len(after)-1] != before[len(before)-1] || len(after) == len(before) || len(after) < len(before)*9/10 {
		t.Errorf("%d copies of %d are there, %d to %d of %d to %d", len(after), len(before), after[0], after[len(after)-1], before[0], before[len(before)-1])
	}
	if n := said.count("left out"); n < 1 || n > 2 {
		t.Errorf("it was said %d times what is left out", n)
	}
}
