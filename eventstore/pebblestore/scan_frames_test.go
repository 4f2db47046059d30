package pebblestore

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
)

// The frames of a log are its events, from every place on and however they are cut into pieces. Invariant A2.
func TestReadFrames(t *testing.T) {
	store, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	const events = 30
	for n := range events / 3 {
		r := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("order", "1")}}}
		for i := range 3 {
			r.Appends[0].Events = append(r.Appends[0].Events, eventstore.Event{Type: "order.changed.v1", Payload: make([]byte, 30*n*i), Tags: []string{"k:1"}})
		}
		if _, err := store.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{1, 1000, 1 << 20} {
		for after := range uint64(events + 1) {
			from := eventstore.Position{Incarnation: 1, LSN: after}
			var want, got []eventstore.Recorded
			for e, err := range store.ReadAll(t.Context(), from, eventstore.Filter{}) {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, e)
			}
			for piece, err := range store.ReadFrames(t.Context(), from, size) {
				rest := bytes.Join(piece.Parts, nil)
				if err != nil || piece.Count == 0 || piece.Count > 1 && len(rest) > size+size/8 {
					t.Fatalf("%d frames in %d bytes, of %d: %v", piece.Count, len(rest), size, err)
				}
				for i := range piece.Count {
					var e eventstore.Recorded
					if e, rest, err = eventstore.DecodeFrame(rest); err != nil {
						t.Fatal(err)
					}
					e.Payload = bytes.Clone(e.Payload)
					e.Position = eventstore.Position{Incarnation: 1, LSN: piece.First.LSN + uint64(i)}
					got = append(got, e)
				}
				if len(rest) > 0 {
					t.Fatalf("%d bytes after the last frame", len(rest))
				}
				if after%2 == 0 {
					piece.Release()
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("frames after %d in pieces of %d bytes (-events +frames):\n%s", after, size, diff)
			}
		}
	}
	for _, err := range store.ReadFrames(t.Context(), eventstore.Position{Incarnation: 2, LSN: 1}, 1000) {
		if !errors.Is(err, eventstore.ErrWrongIncarnation) {
			t.Errorf("another incarnation: %v", err)
		}
	}
}
