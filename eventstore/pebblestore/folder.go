package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// lockName is the file that whoever has a folder open holds a lock on.
const lockName = "LOCK"

// lockFolder makes sure that nobody else has the folder open. The lock falls with the process, however it ends.
func lockFolder(files vfs.FS, dir string) (io.Closer, error) {
	lock, err := files.Lock(files.PathJoin(dir, lockName))
	if err == nil {
		return lock, nil
	}
	// Errors about the file itself carry its path; those about the lock do not, and say it in as many ways as there are
	// platforms.
	var file *fs.PathError
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("lock folder: %w; a store is opened by who may write its folder, to read it too: make it writable, or work on a copy", err)
	}
	if errors.As(err, &file) || errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	return nil, ErrLocked
}

// makeFolder makes a folder and those above it that are missing, and syncs what they are entered in, so that the folder
// is still there after a power loss.
func makeFolder(files vfs.FS, dir string) error {
	parent := files.PathDir(dir)
	if exists(files, dir) {
		return nil
	}
	if parent != dir {
		if err := makeFolder(files, parent); err != nil {
			return err
		}
	}
	if err := files.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return syncFolder(files, parent)
}

// syncFolder makes the entries of a folder durable.
func syncFolder(files vfs.FS, dir string) error {
	f, err := files.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// markFolder makes an empty file in a folder, durable when it returns: that it is there says all.
func markFolder(files vfs.FS, dir, name string) error {
	f, err := files.Create(files.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("mark folder: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("mark folder: %w", err)
	}
	return syncFolder(files, dir)
}

func exists(files vfs.FS, path string) bool {
	_, err := files.Stat(path)
	return err == nil
}
