package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

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
