package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
)

// fillMixed has a store append, and receive two logs, in turns that are drawn.
func fillMixed(t *testing.T, s *Store, turns int, logs ...*elsewhere) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(turns)))
	for i := range turns {
		if rng.IntN(3) == 0 {
			r := request(fmt.Sprint("own", s.id.Incarnation, "-", i), eventstore.Stream("shared", fmt.Sprint(i%2)), eventstore.Any, 1+i%3)
			r.Appends[0].Events[0].Tags = []string{"tag:1"}
			mustAppend(t, s, r)
			continue
		}
		l := logs[rng.IntN(len(logs))]
		receiveNext(t, s, l, 1+rng.IntN(4))
	}
}

// receiveNext has a store receive the next batches of a log.
func receiveNext(t *testing.T, s *Store, l *elsewhere, batches int) {
	t.Helper()
	h, err := s.logHead(t.Context(), l.id)
	if err != nil {
		t.Fatal(err)
	}
	if events := l.after(h.Seq, batches); len(events) > 0 {
		if _, err := s.Receive(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
}

// mixedViews is views with what can be asked of a log that has events of others.
func mixedViews(t *testing.T, s *Store, logs ...*elsewhere) map[string]any {
	t.Helper()
	out := views(t, s)
	heads, err := s.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out["heads"] = heads
	list := func(what string, events iter.Seq2[eventstore.Recorded, error]) {
		all, err := collectEvents(events)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		out[what] = all
	}
	for _, h := range heads {
		list("log "+h.Log.String(), s.ReadLog(t.Context(), h.Log, 0))
		list("rest of log "+h.Log.String(), s.ReadLog(t.Context(), h.Log, h.Seq/2))
	}
	for i := range 2 {
		stream := eventstore.Stream("shared", fmt.Sprint(i))
		list("stream "+stream.String(), s.Read(t.Context(), stream, 1))
		list("stream back "+stream.String(), s.ReadBackwards(t.Context(), stream, 0))
		var frames []eventstore.Dot
		for piece, err := range s.ReadStreamFrames(t.Context(), stream, 5, 2000) {
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range piece.Parts {
				for len(part) > 0 {
					e, rest, err := eventstore.DecodeFrame(part)
					if err != nil {
						t.Fatal(err)
					}
					frames, part = append(frames, e.Dot), rest
				}
			}
		}
		out["frames of "+stream.String()] = frames
		if read := out["stream "+stream.String()].([]eventstore.Recorded); len(frames) != len(read)-4 || frames[0] != read[4].Dot {
			t.Errorf("stream %s has %d events, from the fifth on %d frames", stream, len(read), len(frames))
		}
	}
	for _, l := range logs {
		receipt, _, err := s.Receipt(t.Context(), "", l.events[0].CommandID)
		if err != nil {
			t.Fatal(err)
		}
		out["receipt of "+l.id.String()] = receipt
	}
	return out
}

// sameViews wants a store to answer as before, and to verify.
func sameViews(t *testing.T, what string, s *Store, want map[string]any, logs ...*elsewhere) {
	t.Helper()
	got := mixedViews(t, s, logs...)
	for name := range want {
		if !reflect.DeepEqual(want[name], got[name]) {
			t.Fatalf("%s: %s is not as it was:\n%.2000s", what, name, cmp.Diff(want[name], got[name]))
		}
	}
	verified(t, s)
}

func verified(t *testing.T, s *Store) {
	t.Helper()
	report, err := s.Verify(t.Context(), nil)
	if err != nil || len(report.Faults) > 0 {
		t.Fatalf("verify: %v, %v", report.Faults, err)
	}
}

// TestReceivedEventsStay shows S34: a log that has events of others answers the same when it is opened again, with its index
// or without, while that is made anew, and when it is archived.
func TestReceivedEventsStay(t *testing.T) {
	logs := []*elsewhere{newElsewhere("far", 120, -time.Hour), newElsewhere("late", 120, time.Hour)}
	files, bucket := vfs.NewMem(), newMemBucket()
	o := archiveOptions(bucket)
	o.IndexBatch, o.TailBytes, o.CachedStreams = 40, 2000, 10
	s := openAt(t, files, "data/store", o)
	fillMixed(t, s, 150, logs...)
	want := mixedViews(t, s, logs...)
	verified(t, s)
	again := func(what string) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if what == "without its index" {
			if err := files.RemoveAll("data/store/index"); err != nil {
				t.Fatal(err)
			}
		}
		s = openAt(t, files, "data/store", o)
		sameViews(t, "opened again "+what, s, want, logs...)
	}
	again("")
	again("without its index")
	if err := s.renewIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameViews(t, "with an index that was made anew", s, want, logs...)
	mustArchive(t, s, ArchiveOptions{SegmentBytes: 20_000, KeepLast: 20})
	sameViews(t, "archived", s, want, logs...)
	if check, err := s.VerifyArchive(t.Context(), nil); err != nil || len(check.Faults) > 0 || check.Segments < 2 {
		t.Fatalf("archive: %+v, %v", check, err)
	}
	again("archived")
	again("without its index")

	// And all goes on from there.
	for _, l := range logs {
		for range 40 {
			receiveNext(t, s, l, 3)
		}
		h, err := s.logHead(t.Context(), l.id)
		if err != nil || h.Seq != uint64(len(l.events)) || h.Chain != l.chainAt(h.Seq) {
			t.Errorf("%s is held up to seq %d of %d, %v", l.id, h.Seq, len(l.events), err)
		}
	}
	verified(t, s)
}

// What was dropped of other logs is compared by its hash when it comes again, is given to nobody, and the chains go on.
func TestReceivedEventsAreDropped(t *testing.T) {
	l := newElsewhere("far", 120, -time.Hour)
	files, bucket := vfs.NewMem(), newMemBucket()
	o := archiveOptions(bucket)
	s := openAt(t, files, "data/store", o)
	fillMixed(t, s, 60, l)
	mustArchive(t, s, ArchiveOptions{SegmentBytes: 10_000, KeepLast: 20})
	report, err := s.Drop(t.Context(), DropOptions{})
	if err != nil || report.Events == 0 {
		t.Fatalf("drop: %+v, %v", report, err)
	}
	for range 2 {
		h, err := s.logHead(t.Context(), l.id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(t.Context(), l.after(0, 3)); err != nil {
			t.Errorf("events that were dropped come again: %v", err)
		}
		other := l.after(0, 3)
		other[1].Payload = []byte("other")
		var fork *eventstore.ForkError
		if _, err := s.Receive(t.Context(), other); !errors.As(err, &fork) || fork.Dot != other[1].Dot {
			t.Errorf("an event that is another than the one that was dropped: %v", err)
		}
		for _, err := range s.ReadLog(t.Context(), l.id, 0) {
			if !errors.Is(err, eventstore.ErrTruncated) {
				t.Errorf("a log whose beginning was dropped: %v", err)
			}
			break
		}
		rest, err := collectEvents(s.ReadLog(t.Context(), l.id, h.Seq-3))
		if err != nil || len(rest) != 3 || rest[2].Chain != l.chainAt(h.Seq) {
			t.Errorf("the end of a log whose beginning was dropped: %d events, %v", len(rest), err)
		}
		for _, err := range s.Read(t.Context(), eventstore.Stream("shared", "0"), 1) {
			if !errors.Is(err, eventstore.ErrTruncated) {
				t.Errorf("a revised stream of which events were dropped: %v", err)
			}
			break
		}
		verified(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, files, "data/store", o)
	}
}

// TestLivesWithOtherLogs shows S17 and S33 for a log that has events of others: a restore keeps them, also one to a place
// between them, and what the life before has lost is received as of another log.
func TestLivesWithOtherLogs(t *testing.T) {
	logs := []*elsewhere{newElsewhere("far", 80, -time.Hour), newElsewhere("late", 80, time.Hour)}
	files := vfs.NewMem()
	s := openAt(t, files, "data/first", Options{IndexBatch: 40})
	fillMixed(t, s, 60, logs...)
	mustBackUp(t, s, "backup/one")
	all := logOf(t, s)
	fillMixed(t, s, 30, logs...)
	lost, err := collectEvents(s.ReadLog(t.Context(), s.id, 0))
	if err != nil {
		t.Fatal(err)
	}
	for lsn := uint64(3); lsn < uint64(len(all)); lsn += uint64(len(all)) / 12 { // in the middle of blocks, too
		dir := fmt.Sprint("data/at", lsn)
		mustRestore(t, files, "backup/one", dir, RestoreOptions{At: s.position(lsn)})
		r := openAt(t, files, dir, Options{})
		kept := logOf(t, r)
		if uint64(len(kept)) < lsn {
			t.Fatalf("%d events are kept up to lsn %d", len(kept), lsn)
		}
		checkKept(t, r, all[:len(kept)])
		verified(t, r)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for n, ro := range []RestoreOptions{{}, {At: s.position(uint64(len(all)) / 2)}, {Until: all[len(all)/2].Time()}} {
		if n == 2 {
			for i := len(all) / 3; ; i++ { // of an own event: others are of any time
				if all[i].Dot.Log == s.id {
					ro.Until = all[i].Time()
					break
				}
			}
		}
		dir := fmt.Sprint("data/restored", n)
		restored := mustRestore(t, files, "backup/one", dir, ro)
		r := openAt(t, files, dir, Options{IndexBatch: 40})
		kept := logOf(t, r)
		checkKept(t, r, all[:len(kept)])
		if n == 0 && len(kept) != len(all) || len(kept) == 0 || !kept[len(kept)-1].EndsBatch() {
			t.Fatalf("%d of %d events are kept", len(kept), len(all))
		}
		if n == 2 {
			for _, e := range all {
				if e.Dot.Log == s.id && !e.Time().After(ro.Until) != (e.Position.LSN <= restored.Position.LSN) {
					t.Errorf("event %s of %s is kept up to lsn %d, until %s", e.Dot, e.Time(), restored.Position.LSN, ro.Until)
				}
			}
		}
		verified(t, r)
		h, err := r.logHead(t.Context(), s.id)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, r, request("new life", eventstore.Stream("shared", "0"), eventstore.Any, 1))
		back := slices.Clone(lost[h.Seq:])
		if _, err := r.Receive(t.Context(), back); err != nil {
			t.Fatalf("receive what the life before has lost: %v", err)
		}
		mustAppend(t, r, request("after it", eventstore.Stream("shared", "0"), eventstore.Any, 1))
		for _, l := range logs {
			receiveNext(t, r, l, 100)
		}
		last := logOf(t, r)
		e := last[slices.IndexFunc(last, func(e eventstore.Recorded) bool { return e.CommandID == "after it" })]
		if e.Dep.At(s.id) != uint64(len(lost)) || e.HLC <= lost[len(lost)-1].HLC {
			t.Errorf("an own event knows seq %d of the life before, which has %d; its clock is %s, that of the last one %s", e.Dep.At(s.id), len(lost), e.HLC, lost[len(lost)-1].HLC)
		}
		want := mixedViews(t, r, logs...)
		verified(t, r)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := files.RemoveAll(dir + "/index"); err != nil {
			t.Fatal(err)
		}
		r = openAt(t, files, dir, Options{IndexBatch: 40})
		sameViews(t, "opened again", r, want, logs...)
		got, err := collectEvents(r.ReadLog(t.Context(), s.id, 0))
		if err != nil || len(got) != len(lost) {
			t.Fatalf("%d events of the life before, %v; want %d", len(got), err, len(lost))
		}
		for i := range got {
			if got[i].Dot != lost[i].Dot || got[i].Chain != lost[i].Chain {
				t.Fatalf("event %s of the life before is another", got[i].Dot)
			}
		}
	}
}

// TestRestoreFromOwnEventsOnly shows S34: a log is restored from its own events, as its topic has them, although their
// versions count events of others that are not there; those come back later.
func TestRestoreFromOwnEventsOnly(t *testing.T) {
	l := newElsewhere("far", 60, -time.Hour)
	files := vfs.NewMem()
	s := openAt(t, files, "data/first", Options{})
	fillMixed(t, s, 80, l)
	own, err := collectEvents(s.ReadLog(t.Context(), s.id, 0))
	if err != nil {
		t.Fatal(err)
	}
	events := func(yield func([]eventstore.Recorded, error) bool) {
		for batch := range batchesOf(slices.Clone(own)) {
			if !yield(batch, nil) {
				return
			}
		}
	}
	restored, err := RestoreEvents(t.Context(), events, "data/second", RestoreOptions{Store: &Options{FS: files, Logger: quietLog}})
	if err != nil {
		t.Fatal(err)
	}
	r := openAt(t, files, "data/second", Options{})
	if got, want := r.history.earlier[0], own[len(own)-1]; got.Seq != want.Dot.Seq || eventstore.Hash(got.Chain) != want.Chain {
		t.Errorf("the life before ends with seq %d, %+v", got.Seq, restored)
	}
	verified(t, r)
	for range 60 {
		receiveNext(t, r, l, 2)
	}
	mustAppend(t, r, request("on", eventstore.Stream("shared", "1"), eventstore.Any, 1))
	verified(t, r)
	for range 60 {
		receiveNext(t, s, l, 2)
	}
	want, err := collectEvents(s.Read(t.Context(), eventstore.Stream("shared", "0"), 1))
	if err != nil {
		t.Fatal(err)
	}
	got, err := collectEvents(r.Read(t.Context(), eventstore.Stream("shared", "0"), 1))
	if err != nil || len(got) != len(want) {
		t.Fatalf("stream has %d events, %v; it had %d", len(got), err, len(want))
	}
	for i := range got {
		if got[i].Dot != want[i].Dot || got[i].Version != want[i].Version {
			t.Fatalf("event %d of the stream is %s, was %s", i+1, got[i].Dot, want[i].Dot)
		}
	}
}

// A log that receives nothing is written as programs read it that know of no other logs, and one that does is refused by them.
func TestFormatIsThatOfWhatIsThere(t *testing.T) {
	files := vfs.NewMem()
	s := openMem(t, files, Options{})
	formats := func() (folder int, blocks []byte) {
		t.Helper()
		m, _, err := readMeta(s.log)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.blockReader()
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		for found, err := r.from(1); found; found, err = r.next() {
			if err != nil {
				t.Fatal(err)
			}
			blocks = append(blocks, r.cur.version)
		}
		return m.Format, blocks
	}
	one := func() { mustAppend(t, s, request("", eventstore.Stream("order", "1"), eventstore.Any, 1)) }
	one()
	if folder, blocks := formats(); folder != 1 || !slices.Equal(blocks, []byte{blockVersion}) {
		t.Errorf("folder of format %d, blocks %d before anything is received", folder, blocks)
	}
	l := newElsewhere("far", 2, -time.Hour)
	receiveNext(t, s, l, 1)
	one()
	if folder, blocks := formats(); folder != 5 || !slices.Equal(blocks, []byte{blockVersion, notedVersion, blockVersion}) {
		t.Errorf("folder of format %d, blocks %d", folder, blocks)
	}
}

// Events that come twice at once are recorded once, and both callers get their place.
func TestSameEventsReceivedAtOnce(t *testing.T) {
	l := newElsewhere("far", 300, -time.Hour)
	s := openMem(t, vfs.NewMem(), Options{MaxGroupEvents: 20})
	ctx := context.Background()
	errs := make(chan error)
	for w := range 4 {
		go func() {
			rng := rand.New(rand.NewPCG(7, uint64(w)))
			for seq := uint64(0); ; {
				events := l.after(seq, 1+rng.IntN(5))
				if len(events) == 0 {
					errs <- nil
					return
				}
				last := events[len(events)-1].Dot
				at, err := s.Receive(ctx, events)
				if err != nil {
					errs <- err
					return
				}
				var e eventstore.Recorded
				if err := s.readLSN(&e, at.LSN); err != nil || e.Dot != last {
					errs <- fmt.Errorf("event %s is said to be at %s, where %s is: %w", last, at, e.Dot, err)
					return
				}
				seq = last.Seq
			}
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if state, err := s.Log(ctx); err != nil || state.Durable.LSN != uint64(len(l.events)) {
		t.Errorf("the log has %d events, %v; want %d", state.Durable.LSN, err, len(l.events))
	}
	verified(t, s)
}
