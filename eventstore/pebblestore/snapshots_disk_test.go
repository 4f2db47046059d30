package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// Whichever write of the snapshots' database finds no room first, with snapshots in memory that are not written: the process
// goes on, nobody waits, what is dropped is gone, and only snapshots are lost. Shows S23.
func TestSnapshotsOnAFullDisk(t *testing.T) {
	acts := map[string]func(ctx context.Context, s *Snapshots) error{
		"close": func(_ context.Context, s *Snapshots) error { return s.Close() },
		"drop":  func(ctx context.Context, s *Snapshots) error { return s.Drop(ctx, eventstore.Stream("inventory", "1")) },
		"clear": func(ctx context.Context, s *Snapshots) error { return s.Clear(ctx) },
	}
	for name, act := range acts {
		failed := 0
		for nth := 1; nth <= 12; nth++ {
			disk := newBudgetFS(vfs.NewMem(), 1<<30)
			s, err := OpenSnapshots("data/snapshots", &SnapshotOptions{Logger: quietLog, FS: disk})
			if err != nil {
				t.Fatal(err)
			}
			for n := range 20 {
				if err := s.Save(t.Context(), eventstore.Stream("inventory", fmt.Sprint(n)), make([]byte, 10<<10)); err != nil {
					t.Fatal(err)
				}
			}
			disk.mu.Lock()
			disk.onNth = disk.writes + nth
			disk.mu.Unlock()
			within(t, fmt.Sprintf("%s with no room at write %d", name, nth), func() error { return act(t.Context(), s) })
			if s.broken() {
				failed++
				// What fails behind the act is removed behind it.
				within(t, "remove", func() error { s.keeper.Wait(); return nil })
				if names, err := disk.List("data/snapshots"); err == nil && len(names) > 0 {
					t.Errorf("%s, write %d: the snapshots failed, and %v are left", name, nth, names)
				}
			}
			if name != "close" {
				if _, err := s.Load(t.Context(), eventstore.Stream("inventory", "1")); !errors.Is(err, eventstore.ErrNotFound) {
					t.Errorf("%s, write %d: a snapshot that was dropped: %v", name, nth, err)
				}
				if err := s.Save(t.Context(), eventstore.Stream("inventory", "1"), nil); err != nil {
					t.Errorf("%s, write %d: save: %v", name, nth, err)
				}
			}
			within(t, "close", s.Close)
			disk.grow(1 << 20)
			again, err := OpenSnapshots("data/snapshots", &SnapshotOptions{Logger: quietLog, FS: disk})
			if err != nil {
				t.Fatalf("%s, write %d: open again: %v", name, nth, err)
			}
			within(t, "close", again.Close)
		}
		if failed == 0 {
			t.Errorf("%s: no write found the disk full: the test shows nothing", name)
		}
	}
}

// While the store's disk is full nothing is saved, and closing writes nothing.
func TestNoSnapshotsWithoutRoom(t *testing.T) {
	var full error
	disk := newBudgetFS(vfs.NewMem(), 1<<30)
	s, err := OpenSnapshots("data/snapshots", &SnapshotOptions{Logger: quietLog, FS: disk, Room: func() error { return full }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, kept, late := t.Context(), eventstore.Stream("inventory", "1"), eventstore.Stream("inventory", "2")
	if err := s.Save(ctx, kept, []byte("x")); err != nil {
		t.Fatal(err)
	}
	full = eventstore.ErrReadOnly
	disk.fill()
	if err := s.Save(ctx, late, []byte("x")); err != nil {
		t.Errorf("save without room: %v", err)
	}
	if _, err := s.Load(ctx, late); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("what was saved without room: %v", err)
	}
	if _, err := s.Load(ctx, kept); err != nil {
		t.Errorf("what was saved before: %v", err)
	}
	before := disk.used
	within(t, "close", s.Close)
	if disk.used != before {
		t.Errorf("closing wrote %d bytes to a full disk", disk.used-before)
	}
}

func within(t *testing.T, what string, do func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s: it has not ended", what)
	}
}
