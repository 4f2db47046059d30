package pebblestore

import (
	"context"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// A log that begins another life keeps what it has, gives no dot twice, and takes in what it has lost of the earlier one, in a
// folder whose watermark knew of more. Shows S18.
func TestBeginLife(t *testing.T) {
	fs := vfs.NewMem()
	s := openAt(t, fs, "a", Options{})
	for range 3 {
		mustAppend(t, s, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}, {Type: "cart.changed.v1"}},
		}}})
	}
	all := logOf(t, s)
	first, err := s.Log(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	o := &Options{FS: fs, Logger: quietLog}
	if err := BeginLife("a", 4, o); err != nil {
		t.Fatal(err)
	}
	if err := BeginLife("a", 4, o); err != nil {
		t.Errorf("the same life again: %v", err)
	}
	if err := BeginLife("a", 3, o); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("an earlier life: %v", err)
	}
	if err := BeginLife("nowhere", 3, o); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("a folder that is not there: %v", err)
	}
	s = openAt(t, fs, "a", Options{})
	state, err := s.Log(context.Background())
	if err != nil || state.ID.Incarnation != 4 || state.Seq != 0 || state.Durable.LSN != 6 {
		t.Fatalf("the log is %+v (%v)", state, err)
	}
	// What it has lost of the first life comes back as events of a foreign log, behind what was appended meanwhile.
	receipt := mustAppend(t, s, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("cart", "1"), Expect: eventstore.Exactly(6), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
	}}})
	if receipt.Position != (eventstore.Position{Incarnation: 4, LSN: 7}) {
		t.Errorf("the first receipt of the life is for %s", receipt.Position)
	}
	lost := all[5]
	lost.Dot.Seq, lost.Batch = 7, eventstore.Batch{FirstSeq: 7, Count: 1}
	if _, err := s.Receive(context.Background(), []eventstore.Recorded{lost}); err != nil {
		t.Fatal(err)
	}
	heads, err := s.Heads(context.Background())
	if err != nil || len(heads) != 2 || heads[0].Log != first.ID || heads[0].Seq != 7 || heads[1].Log.Incarnation != 4 || heads[1].Seq != 1 {
		t.Errorf("the store holds %+v (%v), want 7 of the first life and 1 of the present one", heads, err)
	}
	if report, err := s.Verify(context.Background(), nil); err != nil || len(report.Faults) > 0 {
		t.Errorf("verify finds %+v (%v)", report, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, fs, "a", Options{})
	if again, err := s.Heads(context.Background()); err != nil || again[0] != heads[0] || again[1] != heads[1] {
		t.Errorf("opened again the store holds %+v (%v)", again, err)
	}
}

// A log that has nothing goes on in another life as well, and takes appends and what it had lost.
func TestBeginLifeOfAnEmptyLog(t *testing.T) {
	fs := vfs.NewMem()
	if err := openAt(t, fs, "a", Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	for _, life := range []uint32{2, 5} {
		if err := BeginLife("a", life, &Options{FS: fs, Logger: quietLog}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		s := openAt(t, fs, "a", Options{})
		receipt := mustAppend(t, s, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
		}}})
		if receipt.Position.Incarnation != 5 {
			t.Errorf("the receipt is for %s, want life 5", receipt.Position)
		}
		if report, err := s.Verify(context.Background(), nil); err != nil || len(report.Faults) > 0 {
			t.Errorf("verify finds %+v (%v)", report, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
