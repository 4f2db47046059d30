package pebblestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

var _ commands.SnapshotStore = (*pebblestore.Snapshots)(nil)

func openSnapshots(t *testing.T, dir string) *pebblestore.Snapshots {
	t.Helper()
	s, err := pebblestore.OpenSnapshots(dir, &pebblestore.SnapshotOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func stock(n int) eventstore.StreamID { return eventstore.Stream("inventory", fmt.Sprint(n)) }

// TestDroppedSnapshotsAreGone shows C7: what was dropped is in no file of the folder.
func TestDroppedSnapshotsAreGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "snapshots")
	s := openSnapshots(t, dir)
	ctx := t.Context()
	// Tables are compressed, which leaves what is random as it is.
	mark := func(n int) []byte {
		random := rand.New(rand.NewPCG(uint64(n), 7))
		b := make([]byte, 64)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	for round := range 3 {
		for n := range 50 {
			if err := s.Save(ctx, stock(n), append(mark(n), byte(round))); err != nil {
				t.Fatal(err)
			}
		}
		// Closed, so that all rounds lie in tables of their own.
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openSnapshots(t, dir)
	}
	if got, err := s.Load(ctx, stock(7)); err != nil || !bytes.Equal(got, append(mark(7), 2)) {
		t.Fatalf("snapshot is %d bytes, %v", len(got), err)
	}
	if !inFolder(t, dir, mark(7)) {
		t.Fatal("the search does not find what is there: it shows nothing")
	}
	if err := s.Drop(ctx, stock(7), stock(8)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{7, 8} {
		if _, err := s.Load(ctx, stock(n)); !errors.Is(err, eventstore.ErrNotFound) {
			t.Errorf("a dropped snapshot: %v, want ErrNotFound", err)
		}
	}
	if _, err := s.Load(ctx, stock(9)); err != nil {
		t.Errorf("a snapshot that was not dropped: %v", err)
	}
	// Files that compaction replaced are removed when the database is closed at the latest.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if inFolder(t, dir, mark(7)) || inFolder(t, dir, mark(8)) {
		t.Error("a dropped snapshot can still be read in the folder")
	}
	s = openSnapshots(t, dir)
	if err := s.Clear(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, stock(9)); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("after Clear: %v, want ErrNotFound", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, stock(1)); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

func inFolder(t *testing.T, dir string, what []byte) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var body []byte
			body, err = os.ReadFile(path)
			found = found || bytes.Contains(body, what)
		}
		if errors.Is(err, fs.ErrNotExist) { // what Pebble needs no more it removes meanwhile
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A damaged database of snapshots is made anew, and the folder may be deleted at any time.
func TestDamagedSnapshotsAreMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "snapshots")
	s := openSnapshots(t, dir)
	if err := errors.Join(s.Save(t.Context(), stock(1), []byte("x")), s.Close()); err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("manifests: %v, %v", manifests, err)
	}
	for _, m := range manifests {
		if err := os.WriteFile(m, []byte("not a manifest"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openSnapshots(t, dir)
	if _, err := s.Load(t.Context(), stock(1)); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("a database made anew: %v, want ErrNotFound", err)
	}
	if err := errors.Join(s.Save(t.Context(), stock(1), []byte("y")), s.Close(), os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := openSnapshots(t, dir).Load(t.Context(), stock(1)); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("a database whose folder is gone: %v, want ErrNotFound", err)
	}
}
