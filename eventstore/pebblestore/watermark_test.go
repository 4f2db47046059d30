package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/eventstore"
)

const watermarkPath = "data/store/WATERMARK"

// tornFile tears its writes while it is told to: half is written, and then they fail.
type tornFile struct {
	vfs.File
	torn bool
}

func (f *tornFile) WriteAt(b []byte, at int64) (int, error) {
	if !f.torn {
		return f.File.WriteAt(b, at)
	}
	n, err := f.File.WriteAt(b[:len(b)/2], at)
	return n, errors.Join(err, syscall.EIO)
}

// However often a write fails, the mark before it is still there, and a later one takes its place.
func TestWatermarkOutlivesFailedWrites(t *testing.T) {
	files := vfs.NewMem()
	at := func(lsn uint64) mark {
		return mark{logState{logHead: logHead{lsn: lsn, seq: lsn}}, eventstore.LogID{Site: "local", Incarnation: 1}}
	}
	newest := func() uint64 {
		w, m, found, fault, err := openWatermark(files, "WATERMARK")
		if err != nil || fault != nil || !found {
			t.Fatalf("watermark: found %t, %v, %v", found, fault, err)
		}
		if err := w.file.Close(); err != nil {
			t.Fatal(err)
		}
		return m.lsn
	}
	if err := makeWatermark(files, "WATERMARK", at(0)); err != nil {
		t.Fatal(err)
	}
	w, _, _, _, err := openWatermark(files, "WATERMARK")
	if err != nil {
		t.Fatal(err)
	}
	file := &tornFile{File: w.file}
	w.file = file
	for lsn := uint64(1); lsn < 10; lsn++ {
		file.torn = true
		for range lsn {
			if err := w.write(at(lsn)); !errors.Is(err, syscall.EIO) {
				t.Fatalf("torn write: %v", err)
			}
		}
		if got := newest(); got != lsn-1 {
			t.Fatalf("after %d failed writes of lsn %d the watermark says %d, want %d", lsn, lsn, got, lsn-1)
		}
		file.torn = false
		if err := w.write(at(lsn)); err != nil {
			t.Fatal(err)
		}
		if got := newest(); got != lsn {
			t.Fatalf("the watermark says %d, want %d", got, lsn)
		}
	}
	if err := w.file.Close(); err != nil {
		t.Fatal(err)
	}
}

// unsynced is a file that knows where it was written to, and whose next syncs fail.
type unsynced struct {
	vfs.File
	fail int
	at   []int64
}

func (f *unsynced) WriteAt(b []byte, at int64) (int, error) {
	f.at = append(f.at, at)
	return f.File.WriteAt(b, at)
}

func (f *unsynced) SyncData() error {
	if f.fail > 0 {
		f.fail--
		return syscall.EIO
	}
	return f.File.SyncData()
}

// A slot whose sync failed is written again: the other one has the only mark that is certain to be on disk.
func TestSlotWhoseSyncFailedIsWrittenAgain(t *testing.T) {
	files := vfs.NewMem()
	if err := makeWatermark(files, "WATERMARK", mark{}); err != nil {
		t.Fatal(err)
	}
	w, _, _, _, err := openWatermark(files, "WATERMARK")
	if err != nil {
		t.Fatal(err)
	}
	file := &unsynced{File: w.file, fail: 1}
	w.file = file
	m := mark{logState{logHead: logHead{lsn: 1, seq: 1}}, eventstore.LogID{Site: "local", Incarnation: 1}}
	if err := w.write(m); !errors.Is(err, syscall.EIO) {
		t.Fatalf("write whose sync fails: %v", err)
	}
	if err := w.write(m); err != nil {
		t.Fatal(err)
	}
	if len(file.at) != 2 || file.at[0] != file.at[1] {
		t.Errorf("slots at %v were written, want one and the same twice", file.at)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// A slot that is torn although its write was synced leaves the mark before it.
func TestTornSlotLeavesTheMarkBeforeIt(t *testing.T) {
	files := vfs.NewMem()
	at := func(lsn uint64) mark {
		return mark{logState{logHead: logHead{lsn: lsn, seq: lsn}}, eventstore.LogID{Site: "local", Incarnation: 1}}
	}
	if err := makeWatermark(files, "WATERMARK", at(0)); err != nil {
		t.Fatal(err)
	}
	w, _, _, _, err := openWatermark(files, "WATERMARK")
	if err != nil {
		t.Fatal(err)
	}
	written := &writes{File: w.file}
	w.file = written
	for lsn := uint64(1); lsn < 6; lsn++ {
		if err := w.write(at(lsn)); err != nil {
			t.Fatal(err)
		}
		half := len(written.last) / 2
		if _, err := written.File.WriteAt(make([]byte, half), written.at); err != nil {
			t.Fatal(err)
		}
		again, m, found, fault, err := openWatermark(files, "WATERMARK")
		if err != nil || fault != nil || !found || m.lsn != lsn-1 {
			t.Fatalf("with the slot of lsn %d torn the watermark says %d, found %t, %v, %v; want %d", lsn, m.lsn, found, fault, err, lsn-1)
		}
		if err := again.file.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := written.File.WriteAt(written.last[:half], written.at); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.file.Close(); err != nil {
		t.Fatal(err)
	}
}

// writes is a file that knows its last write.
type writes struct {
	vfs.File
	last []byte
	at   int64
}

func (f *writes) WriteAt(b []byte, at int64) (int, error) {
	f.last, f.at = bytes.Clone(b), at
	return f.File.WriteAt(b, at)
}

// The watermark follows the log while the store runs, so that what was lost before the next Close is noticed.
func TestWatermarkFollowsTheLog(t *testing.T) {
	s := openMem(t, vfs.NewMem(), Options{})
	for range 50 {
		if _, err := s.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); err != nil {
			t.Fatal(err)
		}
	}
	lsn := func() uint64 {
		w, m, found, fault, err := openWatermark(s.opts.fs(), watermarkPath)
		if err != nil || fault != nil || !found {
			t.Fatalf("watermark: found %t, %v, %v", found, fault, err)
		}
		if err := w.file.Close(); err != nil {
			t.Fatal(err)
		}
		return m.lsn
	}
	tick := time.NewTicker(watermarkEvery)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for lsn() != 50 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the watermark stands at %d, want 50", lsn())
		}
	}
}

// Without a slot that can be read nothing tells whether the log's end was lost: it takes no writes, and says why.
func TestUnreadableWatermarkTakesNoWrites(t *testing.T) {
	overwrite := func(t *testing.T, files vfs.FS, b []byte) {
		f, err := files.Create(watermarkPath, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(t *testing.T, files vfs.FS) vfs.FS{
		"both slots damaged": func(t *testing.T, files vfs.FS) vfs.FS {
			overwrite(t, files, bytes.Repeat([]byte{7}, 2*slotBytes))
			return files
		},
		"empty": func(t *testing.T, files vfs.FS) vfs.FS {
			overwrite(t, files, nil)
			return files
		},
		"disk does not read it": func(_ *testing.T, files vfs.FS) vfs.FS {
			return watched(files, func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileReadAt && op.Path == watermarkPath {
					return syscall.EIO
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := change(t, written(t, 20, Options{}))
			s := openMem(t, files, Options{})
			_, err := s.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1))
			if !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), "neither slot of its watermark") {
				t.Fatalf("append: %v; want %v that names the watermark", err, eventstore.ErrReadOnly)
			}
			if state, err := s.Log(context.Background()); err != nil || state.Durable.LSN != 20 {
				t.Errorf("log: %+v, %v; it should be there for reading", state, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := openMem(t, files, Options{})
			if err := again.Writable(); !errors.Is(err, eventstore.ErrReadOnly) {
				t.Errorf("the second open takes writes: %v", err)
			}
		})
	}
}

// lines is a log that can be searched.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func openLogged(t *testing.T, files vfs.FS) (*Store, *lines) {
	t.Helper()
	var said lines
	s, err := Open("data/store", &Options{FS: files, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s, &said
}

// A watermark that is gone is said to be, and written anew at once.
func TestMissingWatermark(t *testing.T) {
	files := written(t, 20, Options{})
	if err := files.Remove(watermarkPath); err != nil {
		t.Fatal(err)
	}
	const warning = "THE WATERMARK IS MISSING"
	s, said := openLogged(t, files)
	if said.count(warning) != 1 || said.count("level=WARN") != 1 {
		t.Errorf("a missing watermark is not warned of: %s", said.text.String())
	}
	w, m, found, fault, err := openWatermark(files, watermarkPath)
	if err != nil || fault != nil || !found || m.lsn != 20 {
		t.Errorf("it was not written anew: lsn %d, found %t, %v, %v", m.lsn, found, fault, err)
	} else if err := w.file.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); err != nil {
		t.Errorf("append: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, said = openLogged(t, files)
	if said.count("level=WARN")+said.count("level=ERROR") > 0 {
		t.Errorf("the second open says %s", said.text.String())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A new store that loses power before its watermark was written a second time has lost nothing.
func TestPowerLossInTheFirstMoment(t *testing.T) {
	files := vfs.NewCrashableMem()
	s := openMem(t, files, Options{})
	receipt, err := s.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 3))
	if err != nil {
		t.Fatal(err)
	}
	again := openMem(t, files.CrashClone(vfs.CrashCloneCfg{}), Options{})
	if err := again.Writable(); err != nil {
		t.Errorf("writable: %v", err)
	}
	if state, err := again.Log(context.Background()); err != nil || state.Durable != receipt.Position {
		t.Errorf("log: %+v, %v; want %s", state, err, receipt.Position)
	}
}

// A file that cannot be written is tried twenty times a second, and complained of once in a while.
func TestWatermarkThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	var tries atomic.Int64
	enough := make(chan struct{})
	var failing atomic.Bool
	files := watched(vfs.NewMem(), func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileWriteAt || op.Path != watermarkPath || !failing.Load() {
			return nil
		}
		if tries.Add(1) == 10 {
			close(enough)
		}
		return syscall.ENOSPC
	})
	s, said := openLogged(t, files)
	started := time.Now()
	failing.Store(true)
	if _, err := s.Append(context.Background(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Fatalf("the watermark was tried %d times", tries.Load())
	}
	warned, most := said.count("level=WARN"), 1+int(time.Since(started)/complainEvery)
	if warned < 1 || warned > most {
		t.Errorf("%d warnings of %d tries, want 1 to %d", warned, tries.Load(), most)
	}
	failing.Store(false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if said.count("written again") != 1 {
		t.Errorf("the end of it is not said: %s", said.text.String())
	}
}

func TestComplaint(t *testing.T) {
	full, broken := errors.New("full"), errors.New("broken")
	start := time.Unix(1, 0)
	var c complaint
	for _, step := range []struct {
		after     time.Duration
		err       error
		say, over bool
	}{
		{0, nil, false, false},
		{0, full, true, false},
		{time.Second, full, false, false},
		{2 * time.Second, broken, true, false},
		{11 * time.Second, broken, false, false},
		{12 * time.Second, broken, true, false},
		{13 * time.Second, broken, false, false},
		{13 * time.Second, nil, false, true},
		{13 * time.Second, nil, false, false},
		{14 * time.Second, broken, true, false},
	} {
		if say, over := c.about(step.err, start.Add(step.after)); say != step.say || over != step.over {
			t.Errorf("after %s, %v: say %t, over %t; want %t, %t", step.after, step.err, say, over, step.say, step.over)
		}
	}
}
