package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"pgregory.net/rapid"
)

// testBlock returns a sealed block of n events from an lsn on.
func testBlock(first uint64, n int) []byte {
	var w blockWriter
	w.reset(first, first-1, eventstore.Hash{1, 2, 3})
	for i := range n {
		e := eventstore.Recorded{
			Dot: eventstore.Dot{Log: eventstore.LogID{Site: "sh", Incarnation: 1}, Seq: first + uint64(i)}, Version: 1,
			Batch: eventstore.Batch{FirstSeq: first, Count: uint32(n)}, Stream: eventstore.Stream("order", fmt.Sprint(i)),
			Event: eventstore.Event{Type: "test.happened.v1", Payload: bytes.Repeat([]byte{byte(i)}, i)},
		}
		w.add(&e, eventstore.AppendContent(nil, &e))
	}
	if size := w.size(); size != len(w.seal()) {
		panic("size is not the length of the sealed block")
	}
	return slices.Clone(w.buf)
}

func TestBlockRoundTrip(t *testing.T) {
	const first, n = 100, 20
	b, err := openBlock(first+n-1, testBlock(first, n))
	if err != nil {
		t.Fatal(err)
	}
	if b.first != first || b.before != first-1 || b.last() != first+n-1 || b.chain != (eventstore.Hash{1, 2, 3}) {
		t.Errorf("block is from %d to %d after seq %d", b.first, b.last(), b.before)
	}
	for _, i := range []int{19, 0, 7} { // in any order
		frame, err := b.frame(i)
		if err != nil {
			t.Fatal(err)
		}
		var e eventstore.Recorded
		if err := b.decode(&e, i, frame, 5); err != nil {
			t.Fatal(err)
		}
		want := eventstore.Position{Incarnation: 5, LSN: first + uint64(i)}
		if e.Position != want || e.Stream.ID != fmt.Sprint(i) || len(e.Payload) != i {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

// The notes of a block are as they were written, and its chains go on event by event, each from where its log was.
func TestNotesRoundTrip(t *testing.T) {
	b, err := openBlock(7, notedBlock(1, 7))
	if err != nil {
		t.Fatal(err)
	}
	at := b.chains()
	for i := range b.count {
		frame, err := b.frame(i)
		if err != nil {
			t.Fatal(err)
		}
		var e eventstore.Recorded
		if err := b.decode(&e, i, frame, 5); err != nil {
			t.Fatal(err)
		}
		far := i%3 > 0
		if n := b.noteOf(i, &e); b.foreign(i) != far || e.Revises != far || n.has(noteRevised) != far || n.has(noteRepeats) || n.place() != uint64(i+1) || n.head().revised() != far {
			t.Errorf("event %d, of another log: %v, has note %b", i, far, n)
		}
		if _, err := at.next(&b, i, &e, frame); err != nil {
			t.Fatal(err)
		}
	}
	if len(at.others) != 1 || at.others[0].seq != 44 || at.own.seq != 10 || b.logs[0].seq != 40 {
		t.Errorf("the block goes on from %+v to %+v", b.logs, at)
	}
}

// Whatever happens to a block's bytes: opening it or decoding its events says so.
func TestDamagedBlockIsRefused(t *testing.T) {
	for _, whole := range [][]byte{testBlock(1, 3), notedBlock(1, 3)} {
		damageIsFound(t, whole)
	}
}

func damageIsFound(t *testing.T, whole []byte) {
	t.Helper()
	if err := readBlock(3, whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for _, damaged := range [][]byte{flipped(whole, i), whole[:i], whole[i+1:]} {
			if err := readBlock(3, damaged); !errors.Is(err, eventstore.ErrCorrupt) {
				t.Fatalf("damaged at byte %d of %d: %v, want %v", i, len(whole), err, eventstore.ErrCorrupt)
			}
		}
	}
	for _, lsn := range []uint64{0, 2, 4} {
		if err := readBlock(lsn, whole); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("under lsn %d: %v, want %v", lsn, err, eventstore.ErrCorrupt)
		}
	}
}

func flipped(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x10
	return b
}

func readBlock(lsn uint64, data []byte) error {
	b, err := openBlock(lsn, data)
	if err != nil {
		return err
	}
	at := b.chains()
	for i := range b.count {
		frame, err := b.frame(i)
		if err != nil {
			return err
		}
		var e eventstore.Recorded
		if err := b.decode(&e, i, frame, 1); err != nil {
			return err
		}
		if _, err := at.next(&b, i, &e, frame); err != nil {
			return err
		}
	}
	return nil
}

// notedBlock returns a block with events of its own log and, after each of them, two of another one.
func notedBlock(first uint64, n int) []byte {
	own, far := eventstore.LogID{Site: "sh", Incarnation: 1, Shard: 1}, eventstore.LogID{Site: "far", Incarnation: 3, Shard: 2}
	w := blockWriter{}
	w.reset(first, 7, eventstore.ChainStart(own))
	w.noted = true
	before := logChain{far, 40, eventstore.ChainStart(far)}
	for i := range n {
		e := eventstore.Recorded{
			Dot: eventstore.Dot{Log: own, Seq: 8 + uint64(i/3)}, Version: uint64(i + 1), Batch: eventstore.Batch{FirstSeq: 8 + uint64(i/3), Count: 1},
			Stream: eventstore.Stream("order", "1"), Event: eventstore.Event{Type: "test.happened.v1"},
		}
		note := plainNote(uint64(i + 1))
		var other *logChain
		if i%3 > 0 {
			e.Dot = eventstore.Dot{Log: far, Seq: 40 + uint64(i-i/3)}
			e.Batch.FirstSeq = e.Dot.Seq
			note, other = note|noteForeign|noteRevises|noteRevised, &before
		}
		w.add(&e, eventstore.AppendContent(nil, &e))
		w.note(note, other)
	}
	return bytes.Clone(w.seal())
}

func FuzzOpenBlock(f *testing.F) {
	f.Add(uint64(3), testBlock(1, 3))
	f.Add(uint64(1), testBlock(1, 1))
	f.Add(uint64(5), notedBlock(3, 3))
	f.Fuzz(func(t *testing.T, lsn uint64, data []byte) {
		if err := readBlock(lsn, data); err != nil && !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("read block: %v, want %v", err, eventstore.ErrCorrupt)
		}
	})
}

// FuzzIndexValues feeds the decoders of everything else that is on disk.
func FuzzIndexValues(f *testing.F) {
	f.Add(appendRun(nil, []uint64{1, 5, 1 << 40}))
	f.Add(appendPlace(nil, requestPlace{hash: 7, lsn: 3}, 9))
	f.Add(mark{log: eventstore.LogID{Site: "sh", Incarnation: 1}}.encode())
	noted := notedBlock(1, 3)
	f.Add(noted[len(noted)-footerBytes-70 : len(noted)-footerBytes-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		if logs, notes, err := readNotes(b, len(b)/2); err == nil && (len(notes) != len(b)/2 || len(logs) > len(b)) {
			t.Fatalf("%d notes and %d logs in %d bytes", len(notes), len(logs), len(b))
		}
		if lsns, ok := parseRun(nil, b); ok && len(lsns) > len(b) {
			t.Fatalf("a run of %d events in %d bytes", len(lsns), len(b))
		}
		if m, ok := parseMark(b); ok && !bytes.Equal(m.encode(), b) {
			t.Fatalf("mark %+v encodes otherwise", m)
		}
		const end = 1 << 40
		var again []byte
		whole := true
		for p, ok := range bucketPlaces(0, end, b) {
			if whole = whole && ok; ok {
				again = appendPlace(again, p, end)
			}
		}
		if whole && len(again) > len(b) { // there are shorter and longer ways to write a number
			t.Fatalf("places of %d bytes are encoded with %d", len(b), len(again))
		}
		_, _, _ = parseSlot(b)
	})
}

func TestRunRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfNDistinct(rapid.Uint64Min(1), 1, 50, rapid.ID[uint64]).Draw(t, "lsns")
		slices.Sort(want)
		got, ok := parseRun(nil, appendRun(nil, want))
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Fatalf("run (-want +got):\n%s", diff)
		}
	})
}
