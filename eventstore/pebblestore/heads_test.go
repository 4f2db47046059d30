package pebblestore

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
)

func TestHeadCacheIsBoundedAndKeepsWhatWasWrittenLast(t *testing.T) {
	c := newHeadCache(8)
	key := func(i int) headKey { return headKeyOf(eventstore.Stream("order", fmt.Sprint(i))) }
	for i := range 100 {
		c.put(key(i), 1)
		c.put(key(i), uint64(i)+1)
		if n := c.young.len() + c.old.len(); n > 8 {
			t.Fatalf("%d entries after %d streams, want 8 at most", n, i+1)
		}
		for j := max(0, i-3); j <= i; j++ {
			if v, known := c.get(key(j)); !known || v != uint64(j)+1 {
				t.Fatalf("version of stream %d after %d: %d, %v; want %d", j, i, v, known, j+1)
			}
		}
	}
	if v, known := c.get(key(0)); known {
		t.Fatalf("stream 0 is known at %d after 100 others", v)
	}
}

// A reader that looked into the index, and was overtaken before it says what it saw there, must not bring back a version
// of the past.
func TestRememberKeepsNoPast(t *testing.T) {
	stream := eventstore.Stream("order", "1")
	event := func(s eventstore.StreamID, lsn, version uint64) []keyedBatch {
		return []keyedBatch{keyed([]eventstore.Recorded{{Stream: s, Version: version, Position: eventstore.Position{Incarnation: 1, LSN: lsn}}}, nil)}
	}
	others := func(r *recent, from uint64) {
		for i := range uint64(10) { // more than are cached
			r.add(event(eventstore.Stream("other", fmt.Sprint(from+i)), from+i, 1))
		}
	}
	for name, overtake := range map[string]func(*recent){
		"an event came":                            func(r *recent) { r.add(event(stream, 50, 6)) },
		"an event came and left the cache":         func(r *recent) { r.add(event(stream, 50, 6)); others(r, 60) },
		"an event came and went on to the index":   func(r *recent) { r.add(event(stream, 50, 6)); others(r, 60); r.turn(); r.turn() },
		"an event came and stands with the oldest": func(r *recent) { r.add(event(stream, 50, 6)); others(r, 60); r.turn() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecent(&history{}, logState{}, 4)
			_, known, turns := r.head(stream)
			if known {
				t.Fatal("the stream is known from the start")
			}
			overtake(r)
			r.remember(stream, 5, turns)
			if v, known, _ := r.head(stream); known && v != 6 {
				t.Fatalf("the version is %d, want 6 or none", v)
			}
		})
	}
	t.Run("nothing came", func(t *testing.T) {
		r := newRecent(&history{}, logState{}, 4)
		_, _, turns := r.head(stream)
		r.remember(stream, 5, turns)
		v, known, _ := r.head(stream)
		if diff := cmp.Diff([]any{uint64(5), true}, []any{v.version(), known}); diff != "" {
			t.Fatalf("version and known (-want +got):\n%s", diff)
		}
	})
}
