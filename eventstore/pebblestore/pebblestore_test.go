package pebblestore_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/storetest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// conformance returns the suite's view of stores that are opened with the given options, on disk or in memory.
func conformance(inMemory bool, o pebblestore.Options) storetest.Options {
	type place struct {
		dir string
		fs  vfs.FS
	}
	var places sync.Map // of the stores
	open := func(t testing.TB, p place) eventstore.Store {
		o := o
		o.Logger, o.FS = quiet, p.fs
		s, err := pebblestore.Open(p.dir, &o)
		if err != nil {
			t.Fatal(err)
		}
		places.Store(s, p)
		return s
	}
	return storetest.Options{
		Features: storetest.Features{Verifier: true, Replica: true},
		Open: func(t testing.TB) eventstore.Store {
			if inMemory {
				return open(t, place{"data/store", vfs.NewMem()})
			}
			return open(t, place{dir: filepath.Join(t.TempDir(), "store")})
		},
		Reopen: func(t testing.TB, s eventstore.Store) eventstore.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			p, _ := places.LoadAndDelete(s)
			return open(t, p.(place))
		},
	}
}

// TestConformance shows S3, S6, S7, S8, S9 and S16.
func TestConformance(t *testing.T) {
	storetest.Run(t, conformance(true, pebblestore.Options{}))
}

func TestConformanceOnDisk(t *testing.T) {
	o := conformance(false, pebblestore.Options{})
	o.SkipModel = true // it opens hundreds of stores
	storetest.Run(t, o)
}

// With small sizes everything that seldom happens happens all the time: the index is filled, the tail overflows, groups
// end, the sequencer forgets.
func TestConformanceWithSmallSizes(t *testing.T) {
	storetest.Run(t, conformance(true, pebblestore.Options{
		IndexBatch: 3, TailBytes: 2000, MaxGroupEvents: 4, MaxQueueBytes: 10_000, CacheBytes: 1 << 20, CachedStreams: 4,
	}))
}

// archivingStore archives all it can now and then, the more seldom the more there was.
type archivingStore struct {
	*pebblestore.Store
	appends *atomic.Uint64
}

// Append implements eventstore.Appender.
func (s archivingStore) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	receipt, err := s.Store.Append(ctx, r)
	if n := s.appends.Add(1); err == nil && (n < 60 && n%3 == 0 || n%97 == 0) {
		_, err = s.Archive(context.Background(), pebblestore.ArchiveOptions{To: "mem://bucket", SegmentBytes: 1})
		if errors.Is(err, eventstore.ErrClosed) {
			err = nil
		}
	}
	return receipt, err
}

// A store that is archived all the time keeps the promises of a store, and is the same as the model (S28).
func TestConformanceWhileArchiving(t *testing.T) {
	o := conformance(true, pebblestore.Options{IndexBatch: 3, TailBytes: 2000, MaxGroupEvents: 4, CacheBytes: 1 << 20, OpenArchive: pebblestore.OpenMemBucket()})
	open, reopen := o.Open, o.Reopen
	o.Open = func(t testing.TB) eventstore.Store {
		return archivingStore{open(t).(*pebblestore.Store), new(atomic.Uint64)}
	}
	o.Reopen = func(t testing.TB, s eventstore.Store) eventstore.Store {
		a := s.(archivingStore)
		a.Store = reopen(t, a.Store).(*pebblestore.Store)
		return a
	}
	storetest.Run(t, o)
}
