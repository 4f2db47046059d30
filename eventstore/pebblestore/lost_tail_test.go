package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// given yields events in their batches.
func given(events []eventstore.Recorded) iter.Seq2[[]eventstore.Recorded, error] {
	return func(yield func([]eventstore.Recorded, error) bool) {
		for batch := range batchesOf(events) {
			if !yield(batch, nil) {
				return
			}
		}
	}
}

// cutLog returns a log of two lives that has lost what follows an lsn of the second, and what it was.
func cutLog(t *testing.T, lsn int) (files vfs.FS, log []eventstore.Recorded) {
	t.Helper()
	files = vfs.NewMem()
	backedUp(t, files, 6)
	if err := files.RemoveAll("data/store"); err != nil {
		t.Fatal(err)
	}
	mustRestore(t, files, "data/backup", "data/store", RestoreOptions{})
	s := openMem(t, files, Options{})
	for i := range 20 {
		mustAppend(t, s, request(fmt.Sprint("later-", i), eventstore.Stream("order", fmt.Sprint(i%3)), eventstore.Any, 1+i%3))
	}
	log = logOf(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tamper(t, files, "log", func(db *pebble.DB) {
		if err := db.DeleteRange(blockKey(uint64(lsn)+1), afterBlocks, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	})
	return files, log
}

// A log that has lost its end takes no appends. What a copy of its events has of it comes back with its dots, and when all of
// it is there, the log goes on in the same life. It is T37 of docs/reliability.md, and shows S17.
func TestLostTailComesBack(t *testing.T) {
	_, whole := cutLog(t, 1<<20)
	base := 0
	for whole[base].Dot.Log.Incarnation == 1 {
		base++
	}
	ends := []int{base}
	for i := base; i < len(whole); i++ {
		if whole[i].EndsBatch() {
			ends = append(ends, i+1)
		}
	}
	result := reliability.Result{Test: "T37", What: "a lost tail of each length, brought back from a copy of the events"}
	for _, keep := range ends {
		for _, known := range []int{keep, ends[len(ends)/2], len(whole)} {
			if known < keep {
				continue
			}
			files, log := cutLog(t, keep)
			s := openMem(t, files, Options{})
			if lost := keep < len(log); (s.writable() != nil) != lost {
				t.Fatalf("with %d of %d events: %v", keep, len(log), s.writable())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := RecoverTail(context.Background(), given(log[:known]), "data/store", &Options{FS: files, Logger: quietLog})
			if err != nil {
				t.Fatalf("with %d of %d events, %d known: %v", keep, len(log), known, err)
			}
			if r.From.LSN != uint64(keep) || r.To.LSN != uint64(known) || r.Missing != uint64(len(log)-known) || r.Log != log[len(log)-1].Dot.Log {
				t.Fatalf("with %d of %d events, %d known: %+v", keep, len(log), known, r)
			}
			again := openMem(t, files, Options{})
			if lost := known < len(log); (again.writable() != nil) != lost {
				t.Fatalf("with %d of %d events brought back: %v", known, len(log), again.writable())
			}
			if known == len(log) {
				checkKept(t, again, log)
				receipt := mustAppend(t, again, request("after", eventstore.Stream("order", "new"), eventstore.NoStream, 1))
				if receipt.Position != again.position(uint64(len(log))+1) {
					t.Fatalf("the log goes on at %s", receipt.Position)
				}
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			result.Cycles++
		}
	}
	result.Print(t)
}

// Events that are not those of the log are refused, and the log stays as it was.
func TestTailOfAnotherLogIsRefused(t *testing.T) {
	files, log := cutLog(t, 28)
	forked := func(at int) []eventstore.Recorded {
		out := append([]eventstore.Recorded{}, log...)
		out[at].Payload = []byte("another")
		return out
	}
	for name, events := range map[string][]eventstore.Recorded{
		"another at the end of the log":    forked(27),
		"another before the end":           forked(25),
		"another before the watermark":     forked(35),
		"an event is missing":              append(append([]eventstore.Recorded{}, log[:33]...), log[34:]...),
		"ends before the log":              log[:25],
		"nothing":                          nil,
		"of the life before, and no other": log[:10],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := RecoverTail(context.Background(), given(events), "data/store", &Options{FS: files, Logger: quietLog})
			if !errors.Is(err, ErrNotThisLog) {
				t.Fatalf("recover: %v, want %v", err, ErrNotThisLog)
			}
			s := openMem(t, files, Options{})
			if got := s.recent.state().lsn; got != 28 || s.writable() == nil {
				t.Errorf("the log ends at lsn %d, and takes appends: %t", got, s.writable() == nil)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
