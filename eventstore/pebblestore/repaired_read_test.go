package pebblestore

import (
	"path"
	"testing"
)

// What a repair says to have repaired is read from then on, from wherever a reader has the event: the file of the table that was replaced
// is there for a while yet, as long as somebody reads in it.
func TestRepairedIsRead(t *testing.T) {
	for _, hold := range []bool{false, true} {
		files, _, _, others := mixedTables(t)
		o := Options{FS: files, Logger: quietLog}
		s, err := Open("data/store", &o)
		if err != nil {
			t.Fatal(err)
		}
		table := middleTables(t, s)[1]
		first, last := s.spanOf(table.first, table.last)
		lsn := first + (last-first)/2
		dot := forge(t, s, lsn)[0]
		if err := s.log.Compact(t.Context(), firstBlock, afterBlocks, false); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open("data/store", &o); err != nil {
			t.Fatal(err)
		}
		tb, ok := s.tableList.find(lsn)
		if !ok {
			t.Fatal("not listed")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, at := range []float64{0.02, 0.9} {
			flip(t, files, path.Join("data/store/log", tb.number+".sst"), at)
		}
		s = openMem(t, files, Options{})
		read := func() string {
			for e, err := range s.ReadLog(t.Context(), dot.Log, dot.Seq-1) {
				if err != nil {
					t.Fatal(err)
				}
				return string(e.Payload)
			}
			return ""
		}
		want := string(others[dot.Log][dot.Seq-1].Payload)
		if read() == want {
			t.Fatal("it is not forged")
		}
		closeIt := func() error { return nil }
		if hold { // whoever reads through Pebble just now
			it, err := s.log.NewIter(nil)
			if err != nil {
				t.Fatal(err)
			}
			it.First()
			closeIt = it.Close
		}
		report := scrubbed(t, s, ScrubOptions{Repair: true, Holders: []Holder{others}})
		if report.Unrepaired() > 0 || len(report.Faults) == 0 {
			t.Fatalf("%+v", report)
		}
		stale := 0
		for range 50 {
			if read() != want {
				stale++
			}
		}
		if stale > 0 {
			t.Errorf("an iterator open: %v; the scrub says repaired, and %d of 50 reads after it give the event that was not of the chain", hold, stale)
		}
		if err := closeIt(); err != nil {
			t.Fatal(err)
		}
	}
}
