package pebblestore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/eventstore"
)

// moments takes images of a disk and of a bucket, as a power loss may leave both.
type moments struct {
	disk   *vfs.MemFS
	bucket *memBucket

	mu    sync.Mutex // guards what follows
	rng   *rand.Rand
	taken []moment
}

type moment struct {
	disk   *vfs.MemFS
	bucket *memBucket
}

func newMoments(t *testing.T) *moments {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &moments{disk: vfs.NewCrashableMem(), bucket: newMemBucket(), rng: rand.New(rand.NewPCG(seed, 1))}
}

func (m *moments) take() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.taken) < 60 {
		image := m.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.rng.IntN(5) * 25, RNG: m.rng})
		bucket := newMemBucket()
		m.bucket.mu.Lock()
		bucket.objects = maps.Clone(m.bucket.objects)
		m.bucket.mu.Unlock()
		m.taken = append(m.taken, moment{image, bucket})
	}
}

// during returns the moments of what do does: before each operation of the bucket, and whenever take is called.
func (m *moments) during(do func()) []moment {
	m.bucket.before = func(string, string) error { m.take(); return nil }
	m.mu.Lock()
	m.taken = nil
	m.mu.Unlock()
	do()
	m.bucket.before = func(string, string) error { return nil }
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.taken)
}

// Wherever a power loss comes while a log is archived, and in whatever order the bucket and the disk have it, no event is in
// neither place, and the next try goes on (S29).
func TestPowerLossWhileArchiving(t *testing.T) {
	m := newMoments(t)
	disk, bucket, now := m.disk, m.bucket, archiveBegan
	o := openAgain(&now, bucket)
	o.MemTableBytes = 64 << 10
	s := openMem(t, beforeSyncs(disk, m.take), *o)
	fillForArchive(t, s, &now, 0, 40)
	want := views(t, s)
	moments := m.during(func() { mustArchive(t, s, ArchiveOptions{SegmentBytes: 30_000}) })
	if len(moments) < 20 {
		t.Fatalf("only %d moments", len(moments))
	}
	behind := 0
	for i, m := range moments {
		again := openAt(t, m.disk, "data/store", *openAgain(&now, m.bucket))
		if again.archived.Load().end() < s.archived.Load().end() {
			behind++
		}
		for range 2 {
			if others := otherViews(t, want, again); len(others) > 0 {
				t.Fatalf("after a power loss at moment %d, archived up to %d, the log reads otherwise: %q", i, again.archived.Load().end(), others)
			}
			if faults := verify(t, again).Faults; len(faults) > 0 {
				t.Fatalf("after a power loss at moment %d: %s", i, faults)
			}
			mustArchive(t, again, ArchiveOptions{SegmentBytes: 30_000})
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if behind == 0 || behind == len(moments) {
		t.Errorf("of %d moments %d were before the end", len(moments), behind)
	}
}

// Wherever a power loss comes while events are dropped, each of them is there with its content or known to be dropped, and
// the next try goes on (S31).
func TestPowerLossWhileDropping(t *testing.T) {
	m := newMoments(t)
	now := archiveBegan
	s := openMem(t, beforeSyncs(m.disk, m.take), *openAgain(&now, m.bucket))
	fillForArchive(t, s, &now, 0, 40)
	events, err := collectEvents(s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}))
	if err != nil {
		t.Fatal(err)
	}
	mustArchive(t, s, ArchiveOptions{SegmentBytes: 30_000})
	before := DropOptions{Before: s.position(60)}
	moments := m.during(func() {
		if _, err := s.Drop(t.Context(), before); err != nil {
			t.Fatal(err)
		}
	})
	if len(moments) < 10 {
		t.Fatalf("only %d moments", len(moments))
	}
	for i, m := range moments {
		again := openAt(t, m.disk, "data/store", *openAgain(&now, m.bucket))
		for range 2 {
			left := again.dropped.Load()
			got, err := collectEvents(again.ReadAll(t.Context(), again.position(left), eventstore.Filter{}))
			if err != nil || !sameEvents(got, events[left:]) {
				t.Fatalf("after a power loss at moment %d, dropped up to %d, %d events of %d are read: %v", i, left, len(got), len(events[left:]), err)
			}
			if c, err := again.VerifyArchive(t.Context(), nil); err != nil || len(c.Faults) > 0 {
				t.Fatalf("after a power loss at moment %d: %s, %v", i, c.Faults, err)
			}
			if _, err := again.Drop(t.Context(), before); err != nil {
				t.Fatal(err)
			}
		}
		if again.dropped.Load() == 0 {
			t.Fatalf("after a power loss at moment %d nothing was dropped by the next try", i)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// While what is archived is gone from the database, and not known to be on disk yet, it is read from the archive (S28).
func TestReadWhileArchivedBlocksGo(t *testing.T) {
	var s *Store
	var block []byte // key of the first
	var looking, looked atomic.Bool
	files := beforeSyncs(vfs.NewMem(), func() {
		if !looking.CompareAndSwap(true, false) {
			return
		}
		for deadline := time.Now().Add(time.Minute); ; {
			_, closer, err := s.log.Get(block)
			if errors.Is(err, pebble.ErrNotFound) {
				break
			}
			if err = errors.Join(err, closer.Close()); err != nil || time.Now().After(deadline) {
				t.Errorf("the first block is still in the database: %v", err)
				return
			}
		}
		looked.Store(true)
		if got, err := collectEvents(s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{})); err != nil || len(got) < 30 {
			t.Errorf("%d events are read, %v", len(got), err)
		}
	})
	bucket, now := newMemBucket(), archiveBegan
	s = openMem(t, files, *openAgain(&now, bucket))
	fillForArchive(t, s, &now, 0, 20)
	r, err := s.blockReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := r.seek(1); err != nil {
		t.Fatal(err)
	}
	block = blockKey(r.cur.last())
	bucket.before = func(op, name string) error {
		if op == "put" && strings.HasSuffix(name, ".json") { // what comes next is the record of the segment
			looking.Store(true)
		}
		return nil
	}
	mustArchive(t, s, ArchiveOptions{})
	if !looked.Load() {
		t.Error("nothing was read between the removal and the sync")
	}
}

// A store that was killed right after it archived starts without the archive, though its index was far behind (S30).
func TestStartAfterAKillNeedsNoArchive(t *testing.T) {
	disk, bucket, now := vfs.NewCrashableMem(), newMemBucket(), archiveBegan
	o := *openAgain(&now, bucket)
	o.IndexBatch = 10_000
	s := openMem(t, disk, o)
	fillForArchive(t, s, &now, 0, 40)
	mustArchive(t, s, ArchiveOptions{KeepLast: 5})
	away := newMemBucket()
	away.before = func(string, string) error { return errors.New("away") }
	again := openAt(t, disk.CrashClone(vfs.CrashCloneCfg{}), "data/store", *openAgain(&now, away))
	for i := range 5 {
		stream := eventstore.Stream("order", fmt.Sprint(i))
		want, err := s.Version(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Version(t.Context(), stream); err != nil || got != want {
			t.Errorf("%s is at version %d, want %d: %v", stream, got, want, err)
		}
	}
}

// beforeSyncs returns a disk that calls act before each sync.
func beforeSyncs(disk vfs.FS, act func()) vfs.FS {
	return watched(disk, func(op errorfs.Op) error {
		if slices.Contains(syncs, op.Kind) {
			act()
		}
		return nil
	})
}
