package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

func TestBloomHasWhatWasAdded(t *testing.T) {
	const n = 100_000
	random := rand.New(rand.NewPCG(1, 2))
	b := newBloom(n)
	hashes := make([]uint64, n)
	for i := range hashes {
		hashes[i] = requestKey{"default", fmt.Sprint("request-", i)}.hash()
		b.add(hashes[i])
	}
	for i, h := range hashes {
		if !b.has(h) {
			t.Fatalf("hash %d is gone", i)
		}
	}
	wrong := 0
	for range n {
		if b.has(random.Uint64()) {
			wrong++
		}
	}
	if wrong > n/100 {
		t.Errorf("%d of %d hashes that were not added are said to be there, want at most 1 %%", wrong, n)
	}
	for bucket := range uint64(requestBuckets) { // the low bits of a hash may be all there is
		if b.has(bucket<<(64-requestBucketBits)) && wrong == 0 {
			t.Errorf("bucket %d has a hash that was not added", bucket)
		}
	}
}

// However often the filter is made and outgrown while requests come, each of them is found, in memory or on disk.
func TestRequestsAreFoundWhileTheFilterGrows(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, fs, Options{IndexBatch: 5})
	const n = 400
	append1 := func(s *Store, i int) eventstore.Receipt {
		t.Helper()
		r, err := s.Append(context.Background(), eventstore.Request{
			ID: fmt.Sprint("request-", i), Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("a", "1"), Events: []eventstore.Event{{Type: "t.v1"}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for i := range n {
		if append1(s, i).Duplicate {
			t.Fatalf("request %d was there before", i)
		}
		if i%7 == 0 {
			s.makeFilter()
		}
		if j := rand.IntN(i + 1); !append1(s, j).Duplicate {
			t.Fatalf("request %d of %d was applied twice", j, i)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, fs, Options{IndexBatch: 5})
	for i := range n {
		if !append1(s, i).Duplicate {
			t.Fatalf("request %d was applied twice after a restart", i)
		}
	}
	s.makeFilter()
	b := s.filter.current.Load()
	if b == nil || b.count.Load() < n {
		t.Fatalf("the filter was not made of %d requests: %+v", n, b)
	}
}

// However often the filter of streams is made and outgrown while streams begin, each has its version, in memory or on disk.
func TestStreamsAreFoundWhileTheFilterGrows(t *testing.T) {
	fs := vfs.NewMem()
	o := Options{IndexBatch: 5, CachedStreams: 4}
	s := openMem(t, fs, o)
	const n = 400
	append1 := func(s *Store, i int, expect eventstore.Expect) error {
		_, err := s.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("a", fmt.Sprint(i)), Expect: expect, Events: []eventstore.Event{{Type: "t.v1"}},
		}}})
		return err
	}
	for i := range n {
		if err := append1(s, i, eventstore.NoStream); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 {
			s.makeStreamFilter()
		}
		if j := rand.IntN(i + 1); !errors.Is(append1(s, j, eventstore.NoStream), eventstore.ErrConflict) {
			t.Fatalf("stream %d of %d began twice", j, i)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, fs, o)
	s.makeStreamFilter()
	for i := range n {
		if v, err := s.Version(context.Background(), eventstore.Stream("a", fmt.Sprint(i))); v != 1 || err != nil {
			t.Fatalf("stream %d has version %d after a restart (%v), want 1", i, v, err)
		}
	}
	for deadline := time.Now().Add(time.Minute); s.streams.current.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no filter was made")
		}
	}
	if b := s.streams.current.Load(); b.count.Load() < n-10 || b.has(headKeyOf(eventstore.Stream("a", "none")).hash()) {
		t.Fatalf("the filter has %d streams, want %d, and not one that never was", b.count.Load(), n)
	}
}
