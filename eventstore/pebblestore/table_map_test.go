package pebblestore

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
)

// mappedStore returns a store of 10 streams with 3,000 events in many tables, and the streams as a scan of the log has
// them. Nothing of it is in memory.
func mappedStore(t *testing.T, fs vfs.FS, cacheBytes int64) (s *Store, want map[eventstore.StreamID][]eventstore.Recorded) {
	t.Helper()
	o := Options{FS: fs, Logger: quietLog, MemTableBytes: 256 << 10, TailBytes: 1, CacheBytes: cacheBytes}
	s, err := Open("data/store", &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range 600 {
		events := make([]eventstore.Event, 5)
		for j := range events {
			events[j] = eventstore.Event{Type: "test.happened.v1", Payload: fmt.Appendf(nil, "%d-%d-%0500d", i, j, i)}
		}
		r := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("order", fmt.Sprint(i%10)), Events: events}}}
		if _, err := s.Append(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.log.Flush(); err != nil {
		t.Fatal(err)
	}
	want = map[eventstore.StreamID][]eventstore.Recorded{}
	for e, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		want[e.Stream] = append(want[e.Stream], e)
	}
	return s, want
}

// readStreams reads every stream and compares it.
func readStreams(t *testing.T, s *Store, want map[eventstore.StreamID][]eventstore.Recorded) {
	t.Helper()
	for stream, events := range want {
		var got []eventstore.Recorded
		for e, err := range s.Read(context.Background(), stream, 1) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if !reflect.DeepEqual(events, got) {
			t.Fatalf("stream %s read by itself is not what a scan of the log has (-scan +stream):\n%s", stream, cmp.Diff(events, got))
		}
	}
}

// mapped returns how many events have a place in a map, and the numbers of the tables.
func (m *tableMaps) mapped() (events int, numbers []string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, t := range m.tables {
		events += len(t.frames)
		numbers = append(numbers, t.number)
	}
	return events, numbers
}

// readUntil reads every stream until a condition on the maps holds.
func readUntil(t *testing.T, s *Store, want map[eventstore.StreamID][]eventstore.Recorded, holds func(events int, numbers []string) bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		readStreams(t, s, want)
		events, numbers := s.tables.mapped()
		if holds(events, numbers) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("tables %v are mapped, with %d events: not what was waited for", numbers, events)
		}
	}
}

// handles is a file system that knows how often each table of the log is open for reading.
type handles struct {
	vfs.FS
	mu   sync.Mutex // guards open
	open map[string]int
}

func (h *handles) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := h.FS.Open(name, o...)
	number, table := strings.CutSuffix(h.PathBase(name), ".sst")
	if err != nil || !table || h.PathBase(h.PathDir(name)) != "log" {
		return f, err
	}
	h.count(number, 1)
	return &handle{f, func() { h.count(number, -1) }}, nil
}

func (h *handles) count(number string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[number] += n
}

func (h *handles) of(number string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open[number]
}

type handle struct {
	vfs.File
	closed func()
}

func (h *handle) Close() error {
	h.closed()
	return h.File.Close()
}

func TestStreamsAreReadThroughMaps(t *testing.T) {
	files := &handles{FS: vfs.NewMem(), open: map[string]int{}}
	s, want := mappedStore(t, files, 1<<20)
	readUntil(t, s, want, func(events int, numbers []string) bool { return events == 3000 && len(numbers) > 2 })
	readStreams(t, s, want)

	// A compaction writes the tables anew.
	_, before := s.tables.mapped()
	for _, number := range before {
		if files.of(number) == 0 {
			t.Fatalf("table %s is mapped and not open", number)
		}
	}
	if err := s.log.Compact(context.Background(), firstBlock, afterBlocks, false); err != nil {
		t.Fatal(err)
	}
	readUntil(t, s, want, func(events int, numbers []string) bool {
		left := slices.ContainsFunc(numbers, func(n string) bool { return slices.Contains(before, n) })
		return events == 3000 && !left
	})
	for _, number := range before { // one that is open takes up its space
		await(t, "table "+number+", which is deleted, is closed", func() bool { return files.of(number) == 0 })
	}
}

func TestMapsHaveALimit(t *testing.T) {
	s, want := mappedStore(t, vfs.NewMem(), 4*framePlaceBytes*1000) // room for 1,000 of 3,000 events
	readUntil(t, s, want, func(events int, numbers []string) bool { return events > 300 })
	for range 20 {
		readStreams(t, s, want)
		if events, _ := s.tables.mapped(); events > 1000 {
			t.Fatalf("%d events are mapped, there is room for 1000", events)
		}
	}
}

// TestMapOfADamagedFile: what was damaged after it was mapped is read through Pebble, which says what is wrong with it or,
// as here, has it in its cache.
func TestMapOfADamagedFile(t *testing.T) {
	s, want := mappedStore(t, vfs.NewMem(), 1<<20)
	readUntil(t, s, want, func(events int, _ []string) bool { return events == 3000 })
	s.tables.mu.Lock()
	for _, table := range s.tables.tables {
		for i := range table.frames {
			table.frames[i] += 1 << (frameLengthBits + 1) // each a byte too late
		}
	}
	s.tables.mu.Unlock()
	readStreams(t, s, want)
}
