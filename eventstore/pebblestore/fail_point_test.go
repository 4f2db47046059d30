package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/internal/reliability"
)

// failPoint is a step on the way of an append to the disk, of the index, of the watermark, or of opening and closing: the
// file operation by which it is known.
type failPoint struct {
	name string
	hit  func(op errorfs.Op) bool
}

// onFile returns a fail point: operations of some kinds on files of one folder whose names hold a part.
func onFile(name, dir, part string, kinds ...errorfs.OpKind) failPoint {
	return failPoint{name, func(op errorfs.Op) bool {
		folder, file := op.Path[:strings.LastIndexByte(op.Path, '/')+1], op.Path[strings.LastIndexByte(op.Path, '/')+1:]
		if !strings.HasSuffix(folder, "/"+dir) || !strings.Contains(file, part) {
			return false
		}
		for _, kind := range kinds {
			if op.Kind == kind {
				return true
			}
		}
		return false
	}}
}

var syncs = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}

var failPoints = []failPoint{
	onFile("the WAL is made", "store/log/", ".log", errorfs.OpCreate, errorfs.OpRename),
	onFile("the WAL is written", "store/log/", ".log", errorfs.OpFileWrite),
	onFile("the WAL is synced", "store/log/", ".log", syncs...),
	onFile("a WAL is removed", "store/log/", ".log", errorfs.OpRemove),
	onFile("a table of the log is made", "store/log/", ".sst", errorfs.OpCreate),
	onFile("a table of the log is written", "store/log/", ".sst", errorfs.OpFileWrite),
	onFile("a table of the log is synced", "store/log/", ".sst", syncs...),
	onFile("the log's MANIFEST is made", "store/log/", "MANIFEST", errorfs.OpCreate),
	onFile("the log's MANIFEST is written", "store/log/", "MANIFEST", errorfs.OpFileWrite),
	onFile("the log's MANIFEST is synced", "store/log/", "MANIFEST", syncs...),
	onFile("a marker of the log is made", "store/log/", "marker.", errorfs.OpCreate),
	onFile("a marker of the log is removed", "store/log/", "marker.", errorfs.OpRemove),
	onFile("the folder of the log is synced", "store/", "log", syncs...),
	onFile("a table of the index is made", "store/index/", ".sst", errorfs.OpCreate),
	onFile("a table of the index is written", "store/index/", ".sst", errorfs.OpFileWrite),
	onFile("a table of the index is synced", "store/index/", ".sst", syncs...),
	onFile("the index's MANIFEST is written", "store/index/", "MANIFEST", errorfs.OpFileWrite),
	onFile("the index's MANIFEST is synced", "store/index/", "MANIFEST", syncs...),
	onFile("a marker of the index is made", "store/index/", "marker.", errorfs.OpCreate),
	onFile("the watermark is made", "store/", "WATERMARK", errorfs.OpCreate),
	onFile("the watermark gets its name", "store/", "WATERMARK", errorfs.OpRename),
	onFile("the watermark is written", "store/", "WATERMARK", errorfs.OpFileWriteAt),
	onFile("the watermark is synced", "store/", "WATERMARK", syncs...),
	onFile("the folder of the store is synced", "", "store", syncs...),
}

// failure is what happens at a fail point.
type failure string

const (
	crashes failure = "crash" // power is lost
	fails   failure = "error" // the operation fails, once
	stalls  failure = "delay"
)

var failures = []failure{crashes, stalls, fails}

// trigger has something happen the first time that a fail point is come to while it is armed.
type trigger struct {
	point        failPoint
	act          func(op errorfs.Op) error
	armed, fired atomic.Bool
}

func (x *trigger) fs(disk vfs.FS) vfs.FS {
	return watched(disk, func(op errorfs.Op) error {
		if !x.armed.Load() || !x.point.hit(op) || !x.fired.CompareAndSwap(false, true) {
			return nil
		}
		return x.act(op)
	})
}

// eachAppends is how many requests each writer makes in the life of a store that a trigger is set on.
const eachAppends = 30

func trialOptions(disk vfs.FS) *Options {
	return &Options{FS: disk, Logger: quietLog, IndexBatch: 20, MemTableBytes: 32 << 10, CacheBytes: 1 << 20, BallastBytes: littleBallast}
}

// live opens a store on the camera's disk, has all writers append, and closes it. What happens at the fail point, which
// it is armed for from the start or from some request on, must not be noticed.
func (x *trigger) live(c *camera, rng *rand.Rand) (f findings) {
	x.armed.Store(rng.IntN(2) == 0)
	armAt := rng.IntN(eachAppends)
	s, err := Open("data/store", trialOptions(x.fs(c.disk)))
	if err != nil {
		note(&f.violations, "open: %v", err)
		return f
	}
	faults := make(chan error, workWriters)
	var writing sync.WaitGroup
	for w := range workWriters {
		writing.Go(func() {
			for n := range eachAppends {
				if w == 0 && n == armAt {
					x.armed.Store(true)
				}
				if err := c.ledger.append(context.Background(), s, w); err != nil {
					faults <- err
					return
				}
			}
		})
	}
	writing.Wait()
	close(faults)
	for err := range faults {
		note(&f.violations, "append: %v", err)
	}
	if err := s.Close(); err != nil {
		note(&f.violations, "close: %v", err)
	}
	return f
}

// failAtPoint is the life of a store in a process of its own, for an error may well end it: Pebble answers some with
// Fatalf, some with a panic. It prints what happens, as workForEver does, and "fired" before the error.
func failAtPoint() {
	var point, armAt int
	if n, _ := fmt.Sscanf(os.Getenv(childRun), "%d %d", &point, &armAt); n != 2 {
		panic("which point: " + os.Getenv(childRun))
	}
	x := &trigger{point: failPoints[point], act: func(errorfs.Op) error {
		say("fired")
		return syscall.EIO
	}}
	x.armed.Store(armAt < 0)
	s, err := Open(os.Getenv(childDir), trialOptions(x.fs(vfs.Default)))
	if err != nil {
		return
	}
	var writing sync.WaitGroup
	for w := range workWriters {
		writing.Go(func() {
			for n := range eachAppends {
				if w == 0 && n == armAt {
					x.armed.Store(true)
				}
				if !sayAppend(s, work{w, n}) {
					return
				}
			}
		})
	}
	writing.Wait()
	_ = s.Close() // may tell of the error
}

// failings are what the fail points of a test have shown so far.
type failings struct {
	rounds int // hits of each point with each failure that are wanted
	seed   uint64

	mu     sync.Mutex // guards what follows
	result reliability.Result
	all    findings
	ended  int // processes that an error ended
}

// TestFailPoints has a crash, an error and a delay happen at every step of a store's life, and examines what is left. It
// is T33 of docs/reliability.md, and shows S4, S5, S7 and S14.
func TestFailPoints(t *testing.T) {
	x := &failings{rounds: 1, seed: rand.Uint64()}
	if *reliability.Long {
		x.rounds = 30
	}
	t.Logf("seed %d", x.seed)
	x.result = reliability.Result{Test: "T33", What: fmt.Sprintf("%d points of log, index, watermark, opening and closing, each with crash, error and delay", len(failPoints)), Seed: x.seed}
	sideBySide(len(failPoints)*len(failures), 4, func(n int) bool {
		x.have(t, n)
		return true
	})
	result := &x.result
	result.Lost, result.Duplicated, result.Phantom = len(x.all.lost), len(x.all.duplicated), len(x.all.phantom)
	result.Violations += len(x.all.violations)
	result.Extra = map[string]any{"points": len(failPoints), "errors that ended the process": x.ended}
	result.Print(t)
}

// have has the n-th combination of a failure and a point happen until it was come to often enough: not every life comes to
// the point while it is armed.
func (x *failings) have(t *testing.T, n int) {
	point, failure := n/len(failures), failures[n%len(failures)]
	name := failPoints[point].name
	hits := 0
	for tries := 0; hits < x.rounds && tries < 50*x.rounds; tries++ {
		rng := rand.New(rand.NewPCG(x.seed, uint64(n)<<32+uint64(tries)))
		var f findings
		var fired, died bool
		if failure == fails {
			f, fired, died = failInChild(t, point, rng)
		} else {
			f, fired = failInMemory(failPoints[point], failure, rng)
		}
		if fired {
			hits++
		}
		f.report(t, fmt.Sprintf("%s: %s", name, failure))
		x.mu.Lock()
		x.result.Cycles++
		if died {
			x.ended++
		}
		x.all.add(f)
		x.mu.Unlock()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.result.Faults += hits
	if hits == 0 {
		x.result.Violations++
		t.Errorf("%s: was never come to with %s", name, failure)
	}
}

// failInMemory has a power loss or a delay happen, and examines what is left.
func failInMemory(point failPoint, failure failure, rng *rand.Rand) (f findings, fired bool) {
	c := &camera{disk: vfs.NewCrashableMem(), ledger: newLedger(), most: 1, every: 1, rng: rand.New(rand.NewPCG(rng.Uint64(), 1))}
	x := &trigger{point: point, act: func(errorfs.Op) error {
		if failure == crashes {
			c.take(false)
		} else {
			time.Sleep(15 * time.Millisecond)
		}
		return nil
	}}
	f = x.live(c, rng)
	c.take(false) // unless there is one
	left := c.images[0]
	s, err := Open("data/store", trialOptions(left.disk))
	if err != nil {
		note(&f.lost, "open: %v", err)
		return f, x.fired.Load()
	}
	f.add(left.ledger.examine(context.Background(), s))
	if err := s.Close(); err != nil {
		note(&f.violations, "close: %v", err)
	}
	return f, x.fired.Load()
}

// failInChild has an error happen in a process of its own, and examines what that left when it ended, however it did.
func failInChild(t *testing.T, point int, rng *rand.Rand) (f findings, fired, died bool) {
	t.Helper()
	top := t.TempDir()
	defer os.RemoveAll(top)
	dir := filepath.Join(top, "store")
	armAt := rng.IntN(eachAppends)
	if rng.IntN(2) == 0 {
		armAt = -1
	}
	l := newLedger()
	c := startChild(t, "fail at a point", dir, fmt.Sprint(point, " ", armAt))
	c.answers(l, func(line string) bool {
		fired = fired || line == "fired"
		return true // a panic has much to say
	}, func() {})
	died = c.cmd.Wait() != nil
	s, err := Open(dir, &Options{Logger: quietLog, BallastBytes: littleBallast})
	if err != nil {
		note(&f.lost, "open: %v", err)
		return f, fired, died
	}
	f = l.examine(context.Background(), s)
	if err := s.Close(); err != nil {
		note(&f.violations, "close: %v", err)
	}
	return f, fired, died
}
