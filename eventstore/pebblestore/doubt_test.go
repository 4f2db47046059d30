package pebblestore

import (
	"path"
	"testing"
	"time"
)

// Damage that Pebble comes upon by itself, with nobody reading there, is a reason to look at the store's files: once, however often Pebble
// tries again.
func TestDamageInACompactionIsDoubted(t *testing.T) {
	files, _, _, _ := mixedTables(t)
	s, err := Open("data/store", &Options{FS: files, Logger: quietLog})
	if err != nil {
		t.Fatal(err)
	}
	table := middleTables(t, s)[1]
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flip(t, files, path.Join("data/store/log", table.name), 0.4)
	s = openMem(t, files, Options{})
	for try := range 2 {
		if err := s.log.Compact(t.Context(), firstBlock, afterBlocks, false); err == nil {
			t.Fatal("a damaged table is compacted")
		}
		select {
		case <-s.Doubted():
			if try > 0 {
				t.Error("the same damage is told again")
			}
		case <-time.After(100 * time.Millisecond):
			if try == 0 {
				t.Error("nobody is told")
			}
		}
	}
}
