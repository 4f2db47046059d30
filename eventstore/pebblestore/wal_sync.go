package pebblestore

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walSyncs is a file system (a pointer: Pebble compares them) that tells of a sync of a WAL that fails before Pebble hears of it.
//
// What the disk has is not known any more then, and the process has to end. Pebble says so to who waits for the sync; where it
// syncs by itself, to end one WAL and begin the next, it panics with a lock that it does not have, which Go answers with a page
// of stacks that says nothing of the disk.
type walSyncs struct {
	vfs.FS
	failed func(error)
}

// Create implements vfs.FS.
func (f *walSyncs) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return f.watch(name, file, err)
}

// ReuseForWrite implements vfs.FS.
func (f *walSyncs) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	return f.watch(newname, file, err)
}

func (f *walSyncs) watch(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return file, err
	}
	return walFile{file, f.failed}, nil
}

// walFile is a file of a WAL.
type walFile struct {
	vfs.File
	failed func(error)
}

// Sync implements vfs.File.
func (f walFile) Sync() error { return f.done(f.File.Sync()) }

// SyncData implements vfs.File.
func (f walFile) SyncData() error { return f.done(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f walFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.done(err)
}

func (f walFile) done(err error) error {
	if err != nil {
		f.failed(err)
	}
	return err
}
