package pebblestore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// It is noticed at once when the folder of an open store is removed, moved or replaced; as long as it is there nothing is.
func TestFolderIsGone(t *testing.T) {
	for what, lose := range map[string]func(dir string) error{
		"removed":          os.RemoveAll,
		"moved":            func(dir string) error { return os.Rename(dir, dir+"-elsewhere") },
		"its log removed":  func(dir string) error { return os.RemoveAll(filepath.Join(dir, "log")) },
		"its lock removed": func(dir string) error { return os.Remove(filepath.Join(dir, "LOCK")) },
		"replaced": func(dir string) error {
			if err := os.Rename(dir, dir+"-elsewhere"); err != nil {
				return err
			}
			return os.CopyFS(dir, os.DirFS(dir+"-elsewhere"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s, err := Open(dir, &Options{Logger: quietLog, BallastBytes: 1 << 20})
			if err == nil {
				err = s.Close() // which leaves all files where they are
			}
			if err != nil {
				t.Fatal(err)
			}
			gone := make(chan error, 1)
			x := newSpace(vfs.Default, dir, &Options{Logger: quietLog})
			x.begin(func() error { return nil }, func(err error) { gone <- err })
			defer x.close()
			select {
			case err := <-gone:
				t.Fatalf("the folder is there: %v", err)
			case <-time.After(3 * spaceEvery):
			}
			if err := lose(dir); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-gone:
				if !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "put it back where it was") {
					t.Errorf("what is said is %q", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("nobody notices")
			}
		})
	}
}
