package pebblestore

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// TestFolderOfAnEarlierFormat takes a folder back to where its meta record was before data format 3: it opens with all that it
// holds, and afterwards has the record at its new place, and at the old one what a program of before refuses.
func TestFolderOfAnEarlierFormat(t *testing.T) {
	const n = 500
	fs := written(t, n, Options{})
	tamper(t, fs, "log", func(db *pebble.DB) {
		set(t, db, metaKey, get(t, db, logMetaKey))
		if err := db.Delete(logMetaKey, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	})
	s := openMem(t, fs, Options{})
	if r := verify(t, s); len(r.Faults) > 0 || r.Events != n {
		t.Errorf("verify: %d events, %q", r.Events, r.Faults)
	}
	if _, err := s.Append(context.Background(), request("", eventstore.Stream("order", "new"), eventstore.Any, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tamper(t, fs, "log", func(db *pebble.DB) {
		var old, now meta
		for key, m := range map[string]*meta{string(metaKey): &old, string(logMetaKey): &now} {
			if err := json.Unmarshal(get(t, db, []byte(key)), m); err != nil {
				t.Fatal(err)
			}
		}
		if now.Format != 1 || now.Site == "" || old.Format <= 2 {
			t.Errorf("the folder says %+v, and for programs of before %+v", now, old)
		}
		signposts := 0
		tables, err := tablesOf(db)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			if string(table.first) == string(metaKey) {
				signposts++
			}
		}
		if signposts != 1 {
			t.Errorf("%d tables begin with the signpost, want one that has it alone", signposts)
		}
	})
}

// TestSignpostIsNoMetaRecord: where the meta record is lost, the signpost is not taken for one, nor the log for a new one.
func TestSignpostIsNoMetaRecord(t *testing.T) {
	fs := written(t, 10, Options{})
	tamper(t, fs, "log", func(db *pebble.DB) {
		if err := db.Delete(logMetaKey, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
	})
	s, err := Open("data/store", &Options{FS: fs, Logger: quietLog})
	if err == nil {
		t.Fatal("it opens", s.Close())
	}
	if !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("%v, want ErrCorrupt", err)
	}
}

// TestDamagedSignpostIsRepaired flips a bit of the signpost's table in a store that is open.
func TestDamagedSignpostIsRepaired(t *testing.T) {
	fs := written(t, 100, Options{})
	s := openMem(t, fs, Options{})
	tables, err := tablesOf(s.log)
	if err != nil {
		t.Fatal(err)
	}
	damaged := ""
	for _, table := range tables {
		if string(table.first) == string(metaKey) && string(table.last) == string(metaKey) {
			damaged = table.name
		}
	}
	if damaged == "" {
		t.Fatal("there is no table of the signpost's own")
	}
	flip(t, fs, "data/store/log/"+damaged, 0.02)
	report, err := s.Scrub(t.Context(), ScrubOptions{BytesPerSecond: -1, Repair: true})
	if err != nil || len(report.Faults) != 1 || report.Unrepaired() != 0 {
		t.Fatalf("scrub: %+v, %v; want one fault, repaired", report, err)
	}
	if report, err := s.Scrub(t.Context(), ScrubOptions{BytesPerSecond: -1}); err != nil || len(report.Faults) > 0 {
		t.Errorf("scrub after the repair: %+v, %v", report, err)
	}
	if value := get(t, s.log, metaKey); !isSignpost(value) {
		t.Errorf("the signpost is %s", value)
	}
}
