package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// smallDisk is for disks of a few MiB. The process must not end.
func smallDisk(t *testing.T, fs vfs.FS) *Options {
	return &Options{
		FS: fs, Logger: quietLog, MinFreeBytes: 2 << 20, BallastBytes: 1 << 20, MemTableBytes: 256 << 10, IndexBatch: 200,
		Fatal: func(message string) { t.Errorf("the process was ended: %s", message); select {} },
	}
}

// filler appends until it is stopped, and knows what was acknowledged. What the full disk refuses it tries again.
type filler struct {
	mu      sync.Mutex // guards what follows
	acked   map[string]eventstore.Receipt
	refused int
	strange []error
}

func (f *filler) run(ctx context.Context, s *Store, name string) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s-%d", name, n)
		r := crashRequest(id, n%8, n)
		r.Appends[0].Events[0].Payload = make([]byte, 32<<10)
		receipt, err := s.Append(ctx, r)
		f.mu.Lock()
		switch {
		case err == nil:
			f.acked[id] = receipt
		case errors.Is(err, eventstore.ErrReadOnly) && eventstore.ClassOf(err) == eventstore.Transient:
			f.refused++
		case ctx.Err() == nil:
			f.strange = append(f.strange, err)
		}
		f.mu.Unlock()
		if err != nil {
			time.Sleep(time.Millisecond)
		}
	}
}

func (f *filler) all() map[string]eventstore.Receipt {
	f.mu.Lock()
	defer f.mu.Unlock()
	acked := make(map[string]eventstore.Receipt, len(f.acked))
	for id, r := range f.acked {
		acked[id] = r
	}
	return acked
}

// await waits for what has to come, and returns how long it took.
func await(t *testing.T, what string, come func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !come() {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%s: it has not come in 20 s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(start)
}

// There may be room again, and the store cannot go on all the same: nothing is taken until it can. Shows S23.
func TestRoomAloneIsNotEnough(t *testing.T) {
	disk := newBudgetFS(vfs.NewMem(), 1<<20)
	if err := disk.MkdirAll("data/store", 0o755); err != nil {
		t.Fatal(err)
	}
	x := newSpace(disk, "data/store", &Options{MinFreeBytes: 2 << 20, Logger: quietLog})
	var resumed atomic.Int32
	verdicts := make(chan error)
	x.begin(func() error { resumed.Add(1); return <-verdicts }, func(err error) { t.Error(err) })
	defer x.close()
	defer close(verdicts)
	await(t, "the disk is found to be full", func() bool { return x.err() != nil })
	disk.grow(1 << 30)
	for n := range int32(4) {
		await(t, "the store tries to go on", func() bool { return resumed.Load() > n || x.err() == nil })
		if x.err() == nil {
			t.Fatalf("appends are taken although the store has failed %d times to go on", n)
		}
		if n < 3 {
			verdicts <- eventstore.ErrUnavailable
		}
	}
	verdicts <- nil
	await(t, "appends are taken", func() bool { return x.err() == nil })
}

// The disk fills up, the machine loses power, the store comes back with the disk still full, and goes on when there is
// room: nothing that was acknowledged is lost, everything can be read all the time, and nothing is acknowledged meanwhile.
// It is T6 of docs/reliability.md, and shows S23 and S24.
func TestDiskFull(t *testing.T) {
	logs, cycles := 1, 3 // a log that grows for ever would make looking at it slow
	if *reliability.Long {
		logs, cycles = 20, 10
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var x fullDisks
	for n := 0; n < logs && reliability.TimeLeft(t) && !t.Failed(); n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) { x.fillAndRecover(t, rand.New(rand.NewPCG(seed, uint64(n))), cycles) })
	}
	_, restart := reliability.Percentiles(x.restarts)
	_, resume := reliability.Percentiles(x.resumes)
	reliability.Result{
		Test: "T6", What: "disk full and power lost, in memory with a budget of bytes", Seed: seed, Cycles: len(x.resumes), Faults: len(x.resumes),
		Acked: x.acked, P99: max(restart, resume),
		Extra: map[string]any{"refused": x.refused, "restart_p99_ms": restart, "resume_p99_ms": resume, "reads_of_everything": x.reads},
	}.Print(t)
}

// fullDisks are what the full disks of a test have shown so far.
type fullDisks struct {
	restarts, resumes     []time.Duration
	reads, acked, refused int
}

// fillAndRecover has one log meet a full disk again and again.
func (x *fullDisks) fillAndRecover(t *testing.T, rng *rand.Rand, cycles int) {
	t.Helper()
	files := vfs.NewCrashableMem()
	disk := newBudgetFS(files, 16<<20)
	f := &filler{acked: map[string]eventstore.Receipt{}}
	for cycle := range cycles {
		s, err := Open("data/store", smallDisk(t, disk))
		if err != nil {
			t.Fatalf("cycle %d: %v", cycle, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var writing sync.WaitGroup
		for w := range 4 {
			writing.Go(func() { f.run(ctx, s, fmt.Sprintf("%d-%d", cycle, w)) })
		}
		if rng.IntN(2) == 0 { // somebody else takes all there is, in the middle of it
			time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
			disk.fill()
		}
		await(t, "the disk is full", func() bool { return s.Disk().Full != nil })
		cancel()
		writing.Wait()
		checkRecovered(t, s, f.all())
		x.reads++

		image := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * rng.IntN(5), RNG: rng})
		full := disk.copyOf(image)
		if rng.IntN(2) == 0 {
			full.fill()
		}
		files = image
		disk = full
		_ = s.Close() // on a disk that the crash has parted from it

		start := time.Now()
		again, err := Open("data/store", smallDisk(t, disk))
		if err != nil {
			t.Fatalf("cycle %d: open on a full disk: %v", cycle, err)
		}
		x.restarts = append(x.restarts, time.Since(start))
		checkRecovered(t, again, f.all())
		x.reads++
		head, _ := again.Log(t.Context())
		// One that were taken would wait for room, and with it whoever waits for it.
		brief, done := context.WithTimeout(t.Context(), 5*time.Second)
		_, err = again.Append(brief, request("", eventstore.Stream("order", "1"), eventstore.Any, 1))
		done()
		if !errors.Is(err, eventstore.ErrReadOnly) {
			t.Fatalf("cycle %d: append on a full disk: %v", cycle, err)
		} else if cycle == 0 {
			t.Log(err)
		}
		if state, _ := again.Log(t.Context()); state != head {
			t.Fatalf("cycle %d: an append was refused, and the log went from %v to %v", cycle, head, state)
		}
		sub, err := again.Subscribe(t.Context(), eventstore.Position{}, eventstore.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if chunk, err := sub.Next(t.Context()); err != nil || len(chunk.Events) == 0 {
			t.Fatalf("cycle %d: subscription on a full disk: %d events, %v", cycle, len(chunk.Events), err)
		}
		disk.grow(16 << 20)
		x.resumes = append(x.resumes, await(t, "appends are taken again", func() bool {
			id := fmt.Sprintf("after-%d", cycle)
			receipt, err := again.Append(t.Context(), request(id, eventstore.Stream("order", "1"), eventstore.Any, 1))
			if err == nil {
				f.acked[id] = receipt
			}
			return err == nil
		}))
		checkRecovered(t, again, f.all())
		sub.Close()
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		f.acked = f.all()
	}
	for _, err := range f.strange {
		t.Errorf("append: %v", err)
	}
	if f.refused == 0 || len(f.acked) == 0 {
		t.Fatalf("%d appends were acknowledged, %d refused: the test shows nothing", len(f.acked), f.refused)
	}
	x.acked += len(f.acked)
	x.refused += f.refused
}

// Whichever write it is that finds no room first, and every write after it: the process goes on, everything can be read,
// and with room again what was on its way is acknowledged and stays. Shows S23 and S24.
func TestNoRoomAtAnyWrite(t *testing.T) {
	points, step := 150, 10
	if *reliability.Long {
		points, step = 600, 1
	}
	acked, tried := 0, 0
	var resumes []time.Duration
	for nth := 1; nth < points; nth += step {
		files := vfs.NewMem()
		if s, err := Open("data/store", &Options{FS: files, Logger: quietLog}); err != nil { // what is there before
			t.Fatal(err)
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		disk := newBudgetFS(files, 1<<30)
		s, err := Open("data/store", smallDisk(t, disk))
		if err != nil {
			t.Fatal(err)
		}
		s.space.dropBallast() // so that writes have to wait
		disk.mu.Lock()
		disk.onNth = disk.writes + nth
		disk.mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		f := &filler{acked: map[string]eventstore.Receipt{}}
		var writing sync.WaitGroup
		for w := range 3 {
			writing.Go(func() { f.run(ctx, s, fmt.Sprint(w)) })
		}
		await(t, fmt.Sprintf("write %d finds no room", nth), func() bool { return s.Disk().Full != nil })
		before := f.all()
		for id, want := range before {
			if got, _, err := s.Receipt(t.Context(), "", id); err != nil || got.Position != want.Position {
				t.Fatalf("write %d: receipt of %s: %+v, %v; want %+v", nth, id, got, err, want)
			}
		}
		disk.grow(64 << 20)
		resumes = append(resumes, await(t, "appends are taken again", func() bool { return len(f.all()) > len(before)+10 }))
		cancel()
		writing.Wait()
		if err := s.Close(); err != nil {
			t.Fatalf("write %d: close: %v", nth, err)
		}
		again := openMem(t, files, Options{})
		checkRecovered(t, again, f.all())
		for _, err := range f.strange {
			t.Errorf("write %d: append: %v", nth, err)
		}
		acked += len(f.all())
		tried++
	}
	_, resume := reliability.Percentiles(resumes)
	reliability.Result{
		Test: "T6", What: "no room from each of the writes on, without ballast", Cycles: tried, Faults: tried, Acked: acked, P99: resume,
	}.Print(t)
}

// A full disk is said once, with what is full, what there is, what is needed and what to do.
func TestFullDiskIsSaidOnce(t *testing.T) {
	var said strings.Builder
	disk := newBudgetFS(vfs.NewMem(), 16<<20)
	o := smallDisk(t, disk)
	o.Logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))
	s, err := Open("data/store", o)
	if err != nil {
		t.Fatal(err)
	}
	disk.fill()
	await(t, "the disk is full", func() bool { return s.Writable() != nil })
	for range 20 {
		time.Sleep(spaceEvery / 10)
		_, err = s.Append(t.Context(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1))
	}
	for _, part := range []string{"data/store", " are free", "2.0 MiB are needed", "make room"} {
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), " 0.0 ") {
			t.Errorf("append: %v; want it to say %q, in units that tell", err, part)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(said.String(), "level=ERROR"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, said.String())
	}
}

// A size is told by a unit that says something of it.
func TestSizeText(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "unknown", 0: "0 bytes", 1023: "1023 bytes", 1 << 10: "1.0 KiB", 52_000: "50.8 KiB", 256 << 20: "256.0 MiB", 3 << 39: "1.5 TiB", 1 << 52: "4096.0 TiB",
	} {
		if got := sizeText(n); got != want {
			t.Errorf("%d bytes are told as %q, want %q", n, got, want)
		}
	}
}
