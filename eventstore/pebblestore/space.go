package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// space watches how much room the store's disk has, and that the folder is there. A full disk must not end the process, for a process that it ended
// would not come up again either: Pebble ends it when a write to its WAL fails, and tries for ever in its Open.
//
// Three lines stand before that:
//   - Below Options.MinFreeBytes appends are refused. What is on its way then still has room.
//   - When a write finds no room all the same, the ballast is let go, a file that does nothing but hold some.
//   - When that is gone too, writes wait for room, and everything that only reads goes on.
//
// All of it ends by itself once there is room, and the ballast is made anew.
//
// INVARIANT: a write that found no room is repeated or waits; Pebble sees no error of a full disk while the store is open.
type space struct {
	files vfs.FS // without the hook
	dir   string
	least int64 // free bytes, below which nothing is appended
	size  int64 // of the ballast
	log   *slog.Logger

	fault atomic.Pointer[fullError] // nil while there is room
	free  atomic.Int64              // bytes, as last seen; -1: the file system does not say

	leave    chan struct{} // closed when nobody is to wait for room any more
	watching sync.WaitGroup

	mu sync.Mutex // guards the ballast file
}

// spaceEvery is how often free space is looked at; a disk that fills faster than MinFreeBytes in that time meets the ballast.
const spaceEvery = 100 * time.Millisecond

// resumeAtMost is the longest pause between two tries to go on, each of which may open the databases anew.
const resumeAtMost = 10 * time.Second

func newSpace(files vfs.FS, dir string, o *Options) *space {
	least := o.MinFreeBytes
	x := &space{files: files, dir: dir, least: least, size: min(o.BallastBytes, least/2), log: o.Logger, leave: make(chan struct{})}
	x.free.Store(-1)
	return x
}

// fullError says that the disk is full. It matches eventstore.ErrReadOnly, and passes.
type fullError struct {
	dir        string
	free, need int64
}

// Error says what is full, what is there, what is needed and what to do.
func (e *fullError) Error() string {
	free := "no room is left"
	if e.free >= 0 {
		free = sizeText(e.free) + " are free"
	}
	return fmt.Sprintf("%s: the disk of %s is full: %s, %s are needed to take appends; make room on it or enlarge it, the store goes on by itself then",
		eventstore.ErrReadOnly, e.dir, free, sizeText(e.need))
}

// Is makes the error match eventstore.ErrReadOnly.
func (e *fullError) Is(target error) bool { return target == eventstore.ErrReadOnly }

// Class says that it is worth trying again.
func (e *fullError) Class() eventstore.Class { return eventstore.Transient }

// sizeText writes a number of bytes in the largest unit of which there is one: what is left of a full disk is seldom a MiB.
func sizeText(n int64) string {
	switch {
	case n < 0:
		return "unknown"
	case n < 1<<10:
		return fmt.Sprintf("%d bytes", n)
	}
	const units = "KMGT"
	size, unit := float64(n)/(1<<10), 0
	for ; size >= 1<<10 && unit+1 < len(units); unit++ {
		size /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", size, units[unit])
}

// err returns why nothing may be appended; nil when there is room.
func (x *space) err() error {
	if fault := x.fault.Load(); fault != nil {
		return fault
	}
	return nil
}

// look asks the file system for the free bytes, -1 when it does not say.
func (x *space) look() int64 {
	usage, err := x.files.GetDiskUsage(x.dir)
	free := int64(-1)
	if err == nil {
		free = int64(usage.AvailBytes)
	}
	x.free.Store(free)
	return free
}

// begin starts to watch. When there is room again, resume is called, and appends are taken once that has worked. When the folder is
// gone, gone is called, and nothing is watched any more.
func (x *space) begin(resume func() error, gone func(error)) {
	folder := watchFolder(x.files, x.dir)
	x.watching.Go(func() { x.watch(resume, folder, gone) })
}

// close ends watching, and frees those who wait for room, now and from now on: what they wait with fails then.
func (x *space) close() {
	close(x.leave)
	x.watching.Wait()
}

func (x *space) watch(resume func() error, folder *folderWatch, gone func(error)) {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	var complaint complaint
	var next time.Time // when to try again
	var pause time.Duration
	for {
		select {
		case <-tick.C:
		case <-x.leave:
			return
		}
		if err := folder.gone(); err != nil {
			gone(err)
			return
		}
		free := x.look()
		switch full := x.fault.Load(); {
		case full == nil && free >= 0 && free < x.least:
			x.fill(free, x.least)
		case full != nil && free >= 0:
			full = &fullError{x.dir, free, full.need}
			x.fault.Store(full)
			fallthrough
		case full != nil:
			if time.Now().Before(next) || !x.roomy(full) || x.left() {
				continue
			}
			err := resume()
			pause = min(2*pause+spaceEvery, resumeAtMost)
			next = time.Now().Add(pause)
			if say, _ := complaint.about(err, time.Now()); say {
				x.log.Error("there is room on the disk again, but the store cannot go on", "error", err)
			}
			if err == nil {
				pause, next = 0, time.Time{}
				x.fault.Store(nil)
				x.log.Info("there is room on the disk again, appends are taken", "folder", x.dir, "free", sizeText(x.look()))
			}
		}
	}
}

// left reports whether close was called.
func (x *space) left() bool {
	select {
	case <-x.leave:
		return true
	default:
		return false
	}
}

// roomy reports whether there is room enough to go on, and makes the ballast, which is the proof: a quota, say, is not seen
// in the free bytes.
func (x *space) roomy(full *fullError) bool {
	margin := x.least / 8 // so that it does not go to and fro
	if !x.hasBallast() {
		margin += x.size
	}
	return (full.free < 0 || full.free >= full.need+margin) && x.makeBallast() == nil
}

// fill says that the disk is full.
func (x *space) fill(free, need int64) {
	fault := &fullError{x.dir, free, need}
	if x.fault.CompareAndSwap(nil, fault) {
		x.log.Error("the store takes no appends", "error", fault)
	}
}

// exhausted is called when a write found no room. It returns when the write may be repeated; meanwhile other writes wait.
func (x *space) exhausted() {
	x.fill(x.look(), x.least)
	if x.dropBallast() {
		return
	}
	x.log.Error("the disk has no room at all: what is on its way waits for some", "folder", x.dir)
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-x.leave:
			return
		}
		// A ballast that can be made is room; without it the write has that room.
		if free := x.look(); (free < 0 || free >= x.size) && x.makeBallast() == nil && x.dropBallast() {
			return
		}
	}
}

func (x *space) path() string { return x.files.PathJoin(x.dir, "BALLAST") }

func (x *space) hasBallast() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return exists(x.files, x.path())
}

// makeBallast makes the ballast if it is not there.
func (x *space) makeBallast() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if exists(x.files, x.path()) {
		return nil
	}
	fresh := x.path() + ".new"
	err := writeBallast(x.files, fresh, x.size)
	if err == nil {
		err = x.files.Rename(fresh, x.path())
	}
	if err != nil {
		return fmt.Errorf("make ballast: %w", errors.Join(err, removeIfThere(x.files, fresh)))
	}
	return nil
}

// dropBallast removes the ballast, if it is there.
func (x *space) dropBallast() (dropped bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !exists(x.files, x.path()) {
		return false
	}
	if err := x.files.Remove(x.path()); err != nil {
		x.log.Error("the ballast cannot be removed", "file", x.path(), "error", err)
		return false
	}
	x.log.Warn("the ballast is let go, so that what is on its way has room", "file", x.path(), "freed", sizeText(x.size))
	return true
}

// writeBallast makes a file that takes up size bytes.
func writeBallast(files vfs.FS, path string, size int64) error {
	f, err := files.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = f.Preallocate(0, size)
	if runtime.GOOS != "linux" || errors.Is(err, errors.ErrUnsupported) {
		zeros := make([]byte, 1<<20)
		err = nil
		for left := size; left > 0 && err == nil; left -= int64(len(zeros)) {
			_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func removeIfThere(files vfs.FS, path string) error {
	if err := files.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// open looks before the databases are opened. sealed is true when there is not even the room that opening them takes: then
// they can be opened for reading only.
func (x *space) open() (sealed bool) {
	free := x.look()
	if free < 0 {
		return false
	}
	need := x.toOpen()
	if free < need && x.dropBallast() {
		free = x.look()
	}
	sealed = free < need
	if free < x.least || sealed {
		x.fill(free, max(need, x.least))
	} else if !x.hasBallast() && free >= x.least+x.size {
		if err := x.makeBallast(); err != nil {
			x.log.Warn("the store has no ballast: a full disk finds it unprepared", "error", err)
		}
	}
	return sealed
}

// openBytes is room for what every opening writes: a few small files.
const openBytes = 4 << 20

// toOpen is the room that it takes to open the databases: what stands in the WAL becomes a table before the WAL goes.
func (x *space) toOpen() int64 {
	need := int64(openBytes)
	dir := x.files.PathJoin(x.dir, "log")
	names, err := x.files.List(dir)
	if err != nil {
		return need // there is no log yet, or its Open says what is wrong
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		if info, err := x.files.Stat(x.files.PathJoin(dir, name)); err == nil {
			need += 2 * info.Size()
		}
	}
	return need
}
