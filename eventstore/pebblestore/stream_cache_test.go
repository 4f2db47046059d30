package pebblestore

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
)

// What a cache says that it holds is what it holds, and that is within its limit, whatever is put, read and removed.
func TestStreamCacheKeepsItsLimit(t *testing.T) {
	c := newStreamCache(64 << 10)
	key := func(i int) headKey { return headKeyOf(eventstore.Stream("order", fmt.Sprint(i))) }
	for i := range 5000 {
		k := key(i * 7 % 300)
		n := 1 + i%20
		var frames []byte
		if i%3 > 0 {
			frames = make([]byte, 10*n)
		}
		c.put(k, make([]uint64, n), frames, 0)
		c.get(key(1)) // stays
		if i%50 == 49 {
			c.forget(k)
		}
		p := c.part(k)
		bytes := 0
		for j := range p.entries {
			bytes += p.entries[j].bytes()
			if p.at[p.entries[j].key] != j {
				t.Fatalf("step %d: entry %d is looked for at %d", i, j, p.at[p.entries[j].key])
			}
		}
		if bytes != p.bytes || bytes > c.limit || len(p.at) != len(p.entries) {
			t.Fatalf("step %d: %d entries of %d bytes, counted as %d and %d, limit %d", i, len(p.entries), bytes, len(p.at), p.bytes, c.limit)
		}
	}
}

// What has just come is there to be read, wherever the hand is, and what is read all the time stays. Keys fall into parts by a
// seed of the process: many are tried.
func TestStreamCacheKeepsWhatIsRead(t *testing.T) {
	key := func(group string, i int) headKey {
		return headKeyOf(eventstore.Stream("order", fmt.Sprint(group, "-", i)))
	}
	for round := range 100 {
		c := newStreamCache(64 << 10)
		others, read := fmt.Sprint("other-", round), key("read", round)
		for i := range 10 * round { // the hand is somewhere else in each
			c.put(key(others, i), make([]uint64, 20), make([]byte, 200), 0)
		}
		c.put(read, make([]uint64, 4), make([]byte, 40), 0)
		for i := range 500 {
			if i == 250 {
				c.put(read, make([]uint64, 20), make([]byte, 200), 0) // it has grown
			}
			if lsns, frames := c.get(read); len(lsns) < 4 || len(frames) != 10*len(lsns) {
				t.Fatalf("round %d: what is read all the time has gone after %d others: %d events, %d bytes", round, i, len(lsns), len(frames))
			}
			c.put(key(others, 10_000+i), make([]uint64, 20), make([]byte, 200), 0)
		}
	}
}

// What was read before the cache was cleared is not taken afterwards: it may be what has been replaced since.
func TestStreamCacheTakesNothingFromBeforeItWasCleared(t *testing.T) {
	c := newStreamCache(64 << 10)
	key := headKeyOf(eventstore.Stream("order", "1"))
	before := c.cleared.Load()
	c.clear()
	if c.put(key, make([]uint64, 1), make([]byte, 10), before); len(c.part(key).entries) > 0 {
		t.Error("what was read before is there")
	}
	c.put(key, make([]uint64, 1), make([]byte, 10), c.cleared.Load())
	if lsns, _ := c.get(key); len(lsns) != 1 {
		t.Error("what was read since is not there")
	}
}

// A stream that is read again and again, with events appended in between, is always what a scan has, from every version on
// and in both forms.
func TestCachedStreamsGrow(t *testing.T) {
	s, _ := mappedStore(t, vfs.NewMem(), 128<<20)
	stream := eventstore.Stream("order", "new")
	kept := 0
	for round := range 20 {
		var want []eventstore.Recorded
		for e, err := range s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Stream == stream {
				want = append(want, e)
			}
		}
		for _, from := range []int{1, 1, 2, len(want) - 1, len(want), len(want) + 1} {
			if from = max(1, from); from > len(want)+1 {
				continue
			}
			var got []eventstore.Recorded
			for e, err := range s.Read(t.Context(), stream, uint64(from)) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e)
			}
			if want := want[from-1:]; len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(want, got) {
				t.Fatalf("round %d, from version %d (-scan +stream):\n%s", round, from, cmp.Diff(want, got))
			}
			if got := decoded(t, s, stream, uint64(from)); len(got) != len(want[from-1:]) || len(got) > 0 && !reflect.DeepEqual(want[from-1:], got) {
				t.Fatalf("round %d, frames from version %d (-scan +frames):\n%s", round, from, cmp.Diff(want[from-1:], got))
			}
		}
		if _, frames := s.streamCache.get(headKeyOf(stream)); frames != nil {
			kept++
		}
		if round%3 == 2 { // what was appended is in no memory but the cache's
			if err := s.log.Flush(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r := eventstore.Request{ID: fmt.Sprint("round-", round), Appends: []eventstore.StreamAppend{{Stream: stream, Events: []eventstore.Event{
			{Type: "test.happened.v1", Payload: []byte(fmt.Sprint("round ", round)), Tags: []string{"a:1", "b:2"}}, {Type: "test.happened.v1"},
		}}}}
		if _, err := s.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if kept == 0 {
		t.Error("the stream's frames were never kept, so that nothing was shown")
	}
}

// decoded returns a stream by its frames.
func decoded(t *testing.T, s *Store, stream eventstore.StreamID, from uint64) (events []eventstore.Recorded) {
	t.Helper()
	const size = 3000
	for f, err := range s.ReadStreamFrames(t.Context(), stream, from, size) {
		if err != nil {
			t.Fatal(err)
		}
		if len(f.LSNs) != f.Count || f.Count == 0 || f.Count > 1 && len(f.Parts[0]) > size {
			t.Fatalf("a piece of %d frames at %d places in %d bytes", f.Count, len(f.LSNs), len(f.Parts[0]))
		}
		rest := f.Parts[0]
		for _, lsn := range f.LSNs {
			var e eventstore.Recorded
			if e, rest, err = eventstore.DecodeFrame(rest); err != nil {
				t.Fatal(err)
			}
			e.Position = s.position(lsn)
			events = append(events, e)
		}
		if len(rest) > 0 {
			t.Fatalf("%d bytes after the last frame", len(rest))
		}
	}
	return events
}

// What changes in the cache's memory is noticed and read from disk again. Invariant A2.
func TestCachedStreamThatChangesInMemory(t *testing.T) {
	s, all := mappedStore(t, vfs.NewMem(), 128<<20)
	stream := eventstore.Stream("order", "3")
	want := map[eventstore.StreamID][]eventstore.Recorded{stream: all[stream]}
	readStreams(t, s, want)
	changed := 0
	for at := 0; ; at += 4999 {
		_, frames := s.streamCache.get(headKeyOf(stream))
		if frames == nil {
			t.Fatal("the stream is not kept")
		}
		if at >= len(frames) {
			break
		}
		frames[at] ^= 8
		readStreams(t, s, want)
		if _, again := s.streamCache.get(headKeyOf(stream)); again != nil && &again[0] == &frames[0] {
			t.Fatalf("byte %d was changed, and the frames are kept as they are", at)
		}
		readStreams(t, s, want) // keeps it again
		changed++
	}
	if changed < 10 {
		t.Fatalf("%d bytes were changed", changed)
	}
}
