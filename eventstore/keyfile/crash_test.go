package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

// memDisk is a disk in memory that can lose what was not synced, or part of it.
type memDisk struct {
	synced, now []byte
	// before, when set, is called before each sync.
	before  func(d *memDisk)
	syncErr error
}

func (d *memDisk) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(d.now).ReadAt(p, at)
}

func (d *memDisk) WriteAt(p []byte, at int64) (int, error) {
	if missing := int(at) + len(p) - len(d.now); missing > 0 {
		d.now = append(slices.Clone(d.now), make([]byte, missing)...)
	}
	return copy(d.now[at:], p), nil
}

func (d *memDisk) Sync() error {
	if d.before != nil {
		d.before(d)
	}
	if d.syncErr != nil {
		return d.syncErr
	}
	d.synced = slices.Clone(d.now)
	return nil
}

func (d *memDisk) Close() error { return nil }

// images returns what a crash may leave just now: of what was not synced nothing, all, or a part that ends anywhere.
func (d *memDisk) images() [][]byte {
	out := [][]byte{slices.Clone(d.synced)}
	first := 0
	for first < len(d.synced) && d.synced[first] == d.now[first] {
		first++
	}
	for end := first + 1; end <= len(d.now); end++ {
		image := slices.Clone(d.now[:end])
		if end < len(d.synced) {
			image = append(image, d.synced[end:]...)
		}
		out = append(out, image)
	}
	return out
}

func testMaster(t testing.TB) master {
	t.Helper()
	m, err := newMaster(bytes.Repeat([]byte{7}, masterBytes))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func testDisk(t testing.TB) (*memDisk, *File) {
	t.Helper()
	head, err := newHeader(uuid.New(), testMaster(t))
	if err != nil {
		t.Fatal(err)
	}
	d := &memDisk{now: head, synced: slices.Clone(head)}
	return d, reload(t, d)
}

func reload(t testing.TB, d *memDisk) *File {
	t.Helper()
	f, err := load(d, int64(len(d.now)), testMaster(t))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func person(n int) sealed.Subject {
	return sealed.Subject{Tenant: "default", ID: fmt.Sprintf("customer-%d", n)}
}

// TestCrashAtEverySync crashes at every sync of a life of keys, with every part of what was not synced: a key that was
// given out is there, one that was destroyed is not, and no number is given twice. What is left of a destruction can be
// finished. Shows E2 and E3.
func TestCrashAtEverySync(t *testing.T) {
	d, f := testDisk(t)
	given := map[uint32]sealed.Key{} // by number
	owner := map[uint32]int{}
	gone := map[int]bool{}
	erasing := -1 // whose destruction is under way
	checked := 0
	d.before = func(d *memDisk) {
		for _, image := range d.images() {
			checked++
			after := &memDisk{now: image, synced: slices.Clone(image)}
			g := reload(t, after)
			for number, key := range given {
				got, err := g.Key(t.Context(), number)
				switch who := owner[number]; {
				case who == erasing:
					if err == nil && got != key {
						t.Fatalf("key %d is another while it is destroyed", number)
					}
				case gone[who]:
					if !errors.Is(err, eventstore.ErrErased) {
						t.Fatalf("key %d was destroyed, and now: %v", number, err)
					}
				case err != nil || got != key:
					t.Fatalf("key %d was given out, and now: %v, the same: %v", number, err, got == key)
				}
			}
			fresh, key, err := g.Of(t.Context(), person(1_000))
			if err != nil {
				t.Fatalf("a new key after a crash: %v", err)
			}
			if _, twice := given[fresh]; twice {
				t.Fatalf("number %d is given twice", fresh)
			}
			if again, err := reload(t, after).Key(t.Context(), fresh); err != nil || again != key {
				t.Fatalf("the new key, after another start: %v", err)
			}
			if erasing >= 0 {
				finish(t, after, erasing, given, owner)
			}
		}
	}
	for n := range 6 {
		number, key, err := f.Of(t.Context(), person(n))
		if err != nil {
			t.Fatal(err)
		}
		given[number], owner[number] = key, n
		if n%2 == 1 {
			victim := n - 1
			erasing = victim
			number, _, err := f.Known(t.Context(), person(victim))
			if err == nil {
				err = f.Destroy(t.Context(), person(victim), number)
			}
			if err != nil {
				t.Fatal(err)
			}
			erasing, gone[victim] = -1, true
		}
	}
	if checked < 1_000 {
		t.Errorf("only %d images were looked at", checked)
	}
}

// finish destroys again what a crash has left of a subject's key, as a start does from the log.
func finish(t *testing.T, d *memDisk, who int, given map[uint32]sealed.Key, owner map[uint32]int) {
	t.Helper()
	f := reload(t, d)
	for number := range given {
		if owner[number] != who {
			continue
		}
		if err := f.Destroy(t.Context(), person(who), number); err != nil {
			t.Fatal(err)
		}
		if _, err := reload(t, d).Key(t.Context(), number); !errors.Is(err, eventstore.ErrErased) {
			t.Fatalf("key %d, destroyed again: %v", number, err)
		}
	}
}

// TestDestroyedKeyIsOverwritten looks for the wrapped key in the file after it was destroyed. Shows E2.
func TestDestroyedKeyIsOverwritten(t *testing.T) {
	d, f := testDisk(t)
	number, _, err := f.Of(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := f.slots[number-1].key
	if !bytes.Contains(d.synced, wrapped[:]) {
		t.Fatal("the wrapped key is not where it is looked for")
	}
	if err := f.Destroy(t.Context(), person(1), number); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(d.synced, wrapped[:]) || bytes.Contains(d.now, wrapped[:]) {
		t.Error("the wrapped key is still in the file")
	}
	if f.slots[number-1].key == wrapped {
		t.Error("the wrapped key is still in memory")
	}
}

// TestFailedSync: after a sync that failed nobody knows what the disk holds; nothing is given out and nothing taken.
func TestFailedSync(t *testing.T) {
	d, f := testDisk(t)
	number, key, err := f.Of(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	d.syncErr = io.ErrShortWrite
	if _, _, err := f.Of(t.Context(), person(2)); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a key whose sync failed: %v", err)
	}
	d.syncErr = nil
	if _, _, err := f.Of(t.Context(), person(3)); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a key after a failed sync: %v", err)
	}
	if err := f.Destroy(t.Context(), person(1), number); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a destruction after a failed sync: %v", err)
	}
	if got, err := f.Key(t.Context(), number); err != nil || got != key {
		t.Errorf("a key from before: %v", err)
	}
}

// TestWhatCannotBeHadIsNotErased: a key that is not there, or damaged, is unavailable. Shows E4.
func TestWhatCannotBeHadIsNotErased(t *testing.T) {
	d, f := testDisk(t)
	number, _, err := f.Of(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint32{0, number + 1} {
		if _, err := f.Key(t.Context(), n); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrErased) {
			t.Errorf("key %d, which there is not: %v", n, err)
		}
	}
	d.now[int(number)*slotBytes+atWrapped] ^= 1
	g := reload(t, d)
	_, err = g.Key(t.Context(), number)
	if !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrErased) || !strings.Contains(err.Error(), "tributary keys restore") {
		t.Errorf("a damaged key: %v", err)
	}
	if eventstore.ClassOf(err) != eventstore.Transient {
		t.Errorf("a damaged key is %s", eventstore.ClassOf(err))
	}
}
