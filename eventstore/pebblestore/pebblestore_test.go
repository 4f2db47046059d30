package pebblestore_test

import (
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/storetest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// conformance returns the suite's view of stores that are opened with the given options.
func conformance(o func() *pebblestore.Options) storetest.Options {
	var dirs sync.Map // of the stores, by store
	open := func(t testing.TB, dir string) eventstore.Store {
		s, err := pebblestore.Open(dir, o())
		if err != nil {
			t.Fatal(err)
		}
		dirs.Store(s, dir)
		return s
	}
	return storetest.Options{
		Open: func(t testing.TB) eventstore.Store { return open(t, filepath.Join(t.TempDir(), "store")) },
		Reopen: func(t testing.TB, s eventstore.Store) eventstore.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			dir, _ := dirs.LoadAndDelete(s)
			return open(t, dir.(string))
		},
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, conformance(func() *pebblestore.Options { return &pebblestore.Options{Logger: quiet} }))
}

// With small sizes everything that seldom happens happens all the time: the index is filled, the tail overflows, blocks
// and groups end, the sequencer forgets.
func TestConformanceWithSmallSizes(t *testing.T) {
	storetest.Run(t, conformance(func() *pebblestore.Options {
		return &pebblestore.Options{Logger: quiet, IndexBatch: 3, TailBytes: 2000, MaxGroupEvents: 4, MaxQueueBytes: 10_000, CacheBytes: 1 << 20}
	}))
}
