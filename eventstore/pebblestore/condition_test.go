package pebblestore

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// What a reader is told to be durable is a position to guard an append with, at that very moment.
func TestConditionAfterWhatWasJustPublished(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	ctx := context.Background()
	if _, err := s.Append(ctx, request("", eventstore.Stream("order", "1"), eventstore.Any, 3)); err != nil {
		t.Fatal(err)
	}
	s.durable.Store(2) // as between the two steps of publishing
	defer s.durable.Store(3)
	state, err := s.Log(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := request("", eventstore.Stream("order", "1"), eventstore.Any, 1)
	r.Condition = &eventstore.Condition{Query: eventstore.Tagged("x"), After: state.Durable}
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	p := s.prepare(ctx, &r)
	defer p.giveBack()
	if _, _, err := s.check(p); err != nil {
		t.Errorf("a condition after %s, which the log says is durable: %v", state.Durable, err)
	}
}

// The last place of a tag is found wherever it is: in memory, on disk, in a cache that has room for it or has not, and when
// it moves between them.
func TestLastPlaceOfATagThatMoves(t *testing.T) {
	for _, cached := range []int{8, 1000} {
		t.Run(fmt.Sprint(cached), func(t *testing.T) {
			s := openMem(t, vfs.NewMem(), Options{IndexBatch: 4, CachedStreams: cached})
			ctx := context.Background()
			last := map[string]uint64{}
			for i := range 300 {
				tag := fmt.Sprint("tag:", i*i%23)
				r := request("", eventstore.Stream("order", fmt.Sprint(i%5)), eventstore.Any, 1)
				r.Appends[0].Events[0].Tags = []string{tag, "all"}
				receipt, err := s.Append(ctx, r)
				if err != nil {
					t.Fatal(err)
				}
				last[tag], last["all"] = receipt.Position.LSN, receipt.Position.LSN
				for tag, want := range last {
					got, err := s.lastOfTerm(term{tagTerm, "default", tag})
					if err != nil || got != want {
						t.Fatalf("after %d appends tag %s is last at lsn %d (%v), want %d", i+1, tag, got, err, want)
					}
				}
			}
			if got, err := s.lastOfTerm(term{tagTerm, "default", "none"}); err != nil || got != 0 {
				t.Errorf("a tag that nobody used is last at lsn %d (%v), want 0", got, err)
			}
		})
	}
}
