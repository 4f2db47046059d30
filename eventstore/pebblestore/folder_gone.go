package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// folderWatch notices that the folder of an open store was removed or moved, or that another is in its place, as under a disk that
// was unmounted. The files that are open work on all the same: all would be acknowledged, and nothing of it ever found again.
//
// What tells it are the lock files, which are made at the start and stay for good.
type folderWatch struct {
	files vfs.FS
	dir   string
	locks map[string]uint64 // inodes by path; 0 where the file system has none
}

// watchFolder notes what there is. What cannot be looked at is not watched.
func watchFolder(files vfs.FS, dir string) *folderWatch {
	w := &folderWatch{files: files, dir: dir, locks: map[string]uint64{}}
	for _, path := range []string{files.PathJoin(dir, lockName), files.PathJoin(dir, "log", lockName)} {
		if info, err := files.Stat(path); err == nil {
			w.locks[path] = inodeOf(info)
		}
	}
	return w
}

// gone returns an error when what was there is not any more. That it cannot be looked at for another reason tells nothing.
func (w *folderWatch) gone() error {
	for path, inode := range w.locks {
		info, err := w.files.Stat(path)
		var what string
		switch {
		case errors.Is(err, fs.ErrNotExist):
			what = "is gone"
		case err == nil && inodeOf(info) != inode:
			what = "is another one than was opened"
		default:
			continue
		}
		return fmt.Errorf("the folder %s was removed or moved while it was in use (%s %s); put it back where it was, or restore it, see Restore in docs/operations.md; then start again",
			w.dir, path, what)
	}
	return nil
}

func inodeOf(info vfs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}
