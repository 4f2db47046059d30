package pebblestore

import (
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// budgetFS is a file system of limited size. What does not fit fails with ENOSPC, a write after its part that fits, as on
// a real disk.
type budgetFS struct {
	vfs.FS

	mu     sync.Mutex // guards what follows
	size   int64
	used   int64
	files  map[string]int64
	writes int
	onNth  int // the disk is full from this write on; 0: no such
}

func newBudgetFS(fs vfs.FS, size int64) *budgetFS {
	return &budgetFS{FS: reopened{fs}, size: size, files: map[string]int64{}}
}

// copyOf returns a file system with an image of this one's files, on a disk as full as this one.
func (b *budgetFS) copyOf(image vfs.FS) *budgetFS {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := newBudgetFS(image, b.size)
	var add func(dir string)
	add = func(dir string) {
		names, err := image.List(dir)
		if err != nil {
			return
		}
		for _, name := range names {
			full := path.Join(dir, name)
			info, err := image.Stat(full)
			if err != nil {
				continue
			}
			if info.IsDir() {
				add(full)
				continue
			}
			c.files[full] = info.Size()
			if strings.HasSuffix(full, "BALLAST") { // it is empty here, and takes up what it was made for
				c.files[full] = b.files[full]
			}
			c.used += c.files[full]
		}
	}
	add("data")
	c.size -= max(0, b.used-c.used) // nothing has become free
	return c
}

// fill takes all the room there is, as another program would.
func (b *budgetFS) fill() { b.resize(func(used int64) int64 { return used }) }

// grow makes room.
func (b *budgetFS) grow(n int64) { b.resize(func(used int64) int64 { return used + n }) }

func (b *budgetFS) resize(to func(used int64) int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onNth = 0
	b.size = to(b.used)
}

// take takes up to n bytes and returns how many there were.
func (b *budgetFS) take(name string, n int64) (taken int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writes++; b.onNth > 0 && b.writes >= b.onNth {
		b.size = min(b.size, b.used)
	}
	taken = max(0, min(n, b.size-b.used))
	b.used += taken
	b.files[name] += taken
	if taken < n || n == 0 && b.used >= b.size {
		return taken, syscall.ENOSPC
	}
	return taken, nil
}

func (b *budgetFS) release(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= b.files[name]
	delete(b.files, name)
}

func (b *budgetFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := uint64(max(0, b.size-b.used))
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: uint64(b.size), UsedBytes: uint64(b.used)}, nil
}

func (b *budgetFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if _, err := b.take(name, 0); err != nil {
		return nil, err
	}
	b.release(name)
	f, err := b.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return &budgetFile{File: f, fs: b, name: name}, nil
}

func (b *budgetFS) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if _, err := b.take(old, 0); err != nil {
		return nil, err
	}
	b.release(old)
	f, err := b.FS.ReuseForWrite(old, name, category)
	if err != nil {
		return nil, err
	}
	return &budgetFile{File: f, fs: b, name: name}, nil
}

func (b *budgetFS) Remove(name string) error {
	b.release(name)
	return b.FS.Remove(name)
}

func (b *budgetFS) RemoveAll(name string) error {
	b.mu.Lock()
	for file, size := range b.files {
		if strings.HasPrefix(file, name+"/") {
			b.used -= size
			delete(b.files, file)
		}
	}
	b.mu.Unlock()
	return b.FS.RemoveAll(name)
}

func (b *budgetFS) Rename(old, name string) error {
	if _, err := b.take(old, 0); err != nil {
		return err
	}
	b.mu.Lock()
	b.used -= b.files[name]
	b.files[name] = b.files[old]
	delete(b.files, old)
	b.mu.Unlock()
	return b.FS.Rename(old, name)
}

func (b *budgetFS) MkdirAll(dir string, perm os.FileMode) error {
	if _, err := b.FS.Stat(dir); err == nil {
		return nil
	}
	if _, err := b.take(dir, 0); err != nil {
		return err
	}
	return b.FS.MkdirAll(dir, perm)
}

// budgetFile is a file that was made on a budgetFS. Files that are only opened do not grow.
type budgetFile struct {
	vfs.File
	fs   *budgetFS
	name string
}

func (f *budgetFile) Write(p []byte) (int, error) {
	taken, full := f.fs.take(f.name, int64(len(p)))
	n, err := f.File.Write(p[:taken])
	if err == nil {
		err = full
	}
	return n, err
}

func (f *budgetFile) Preallocate(offset, length int64) error {
	if !strings.Contains(f.name, "BALLAST") { // what Pebble asks for ahead it writes later
		return nil
	}
	taken, err := f.fs.take(f.name, length)
	if err != nil {
		f.fs.mu.Lock()
		f.fs.used -= taken
		f.fs.files[f.name] -= taken
		f.fs.mu.Unlock()
	}
	return err
}
