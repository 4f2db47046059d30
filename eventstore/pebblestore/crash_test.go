package pebblestore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
)

// crashRequest is what a writer of these tests appends: a batch over a stream of its own and one that all share.
func crashRequest(id string, writer, n int) eventstore.Request {
	r := request(id, eventstore.Stream("writer", fmt.Sprint(writer)), eventstore.Any, 1+n%3)
	shared := request("", eventstore.Stream("shared", "all"), eventstore.Any, 1)
	r.Appends = append(r.Appends, shared.Appends...)
	return r
}

// checkRecovered checks that a store has everything that was acknowledged, each request once and whole, and verifies.
func checkRecovered(t *testing.T, s *Store, acked map[string]eventstore.Receipt) {
	t.Helper()
	ctx := context.Background()
	for id, want := range acked {
		got, _, err := s.Receipt(ctx, "", id)
		want.Duplicate = true
		if err != nil || !cmp.Equal(got, want) {
			t.Fatalf("request %s was acknowledged with %+v; after the crash there is %+v, %v", id, want, got, err)
		}
	}
	seen := map[string]bool{}
	versions := map[eventstore.StreamID]uint64{}
	var events []eventstore.Recorded
	for e, err := range s.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	for batch := range batchesOf(events) {
		id := batch[0].CommandID
		if seen[id] {
			t.Fatalf("request %s stands in the log twice", id)
		}
		seen[id] = true
		for i, e := range batch {
			if e.CommandID != id || int(e.Batch.Count) != len(batch) || e.Dot.Seq != e.Batch.FirstSeq+uint64(i) || e.Position.LSN != e.Dot.Seq {
				t.Fatalf("batch of request %s is not whole and dense at %s: %+v", id, e.Position, e.Batch)
			}
			if versions[e.Stream]++; e.Version != versions[e.Stream] {
				t.Fatalf("stream %s has version %d after %d", e.Stream, e.Version, versions[e.Stream]-1)
			}
		}
	}
	for _, fault := range verify(t, s).Faults {
		t.Fatalf("verify: %s", fault)
	}
}

// A batch that fills many blocks is there whole after a power loss, or not at all, whatever part of it had come to the disk.
// Shows S5.
func TestPowerLossInABatchOfManyBlocks(t *testing.T) {
	const blocks, images = 6, 33
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	files := vfs.NewCrashableMem()
	g := newGate(files)
	s := openMem(t, g, Options{})
	before, err := s.Append(context.Background(), request("before", eventstore.Stream("order", "old"), eventstore.NoStream, 1))
	if err != nil {
		t.Fatal(err)
	}
	unshut := g.shut()
	defer unshut()
	large := request("large", eventstore.Stream("order", "large"), eventstore.NoStream, 2*blocks)
	for i := range large.Appends[0].Events {
		payload := make([]byte, blockBytes/2)
		for k := range payload {
			payload[k] = byte(rng.Uint32()) // does not compress
		}
		large.Appends[0].Events[i].Payload = payload
	}
	p := submit(t, s, large)
	<-g.waiting
	recovered := map[uint64]int{}
	for n := range images {
		image := files.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: n % 11 * 10, RNG: rng})
		again, err := Open("data/store", &Options{FS: image, Logger: quietLog})
		if err != nil {
			t.Fatalf("open image %d: %v", n, err)
		}
		checkRecovered(t, again, map[string]eventstore.Receipt{"before": before})
		state, err := again.Log(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		recovered[state.Durable.LSN]++
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(recovered) != 2 || recovered[1] == 0 || recovered[1+2*blocks] == 0 {
		t.Errorf("images end at (LSN: images) %v, want some without the batch and some with all of it", recovered)
	}
	unshut()
	if _, err := p.wait(t); err != nil {
		t.Fatal(err)
	}
}

// Children of this test binary are told by the environment what to do.
const (
	childJob = "PEBBLESTORE_TEST_CHILD"
	childDir = "PEBBLESTORE_TEST_DIR"
	childRun = "PEBBLESTORE_TEST_RUN"
)

func TestMain(m *testing.M) {
	if os.Getenv(childJob) != "" {
		go func() { // a child does not outlive who started it, whatever that died of
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
	}
	switch job := os.Getenv(childJob); job {
	case "":
		os.Exit(m.Run())
	case "append":
		appendForEver(nil)
	case "work":
		workForEver()
	case "receive":
		receiveForEver()
	case "serve":
		serveForEver()
	case "fail at a point":
		failAtPoint()
	case "failing disk":
		appendForEver(failingDisk)
	default:
		panic("no such child: " + job)
	}
}

// littleBallast is for stores of which a test makes many on one disk.
const littleBallast = 64 << 10

// falseAck is what a child says of an answer that rests on a sync that failed.
const falseAck = "error: acknowledged although its sync failed:"

// appendForEver appends with 8 writers and prints a line for every acknowledged request.
func appendForEver(disk func(current func() *Store) vfs.FS) {
	var store atomic.Pointer[Store]
	o := &Options{Logger: quietLog, IndexBatch: 500, MemTableBytes: 256 << 10, BallastBytes: littleBallast}
	if disk != nil {
		o.FS = disk(store.Load)
	}
	s, err := Open(os.Getenv(childDir), o)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	store.Store(s)
	fmt.Println("open")
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("%s-%d-%d", os.Getenv(childRun), w, n)
				receipt, err := s.Append(context.Background(), crashRequest(id, w, n))
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				if limit := falseBeyond.Load(); limit > 0 && receipt.Position.LSN >= limit {
					fmt.Println(falseAck, id)
				}
				fmt.Printf("ack %s %d %d\n", id, receipt.First.LSN, receipt.Position.LSN)
			}
		}()
	}
	select {}
}

// child is a process that does a job.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startChild(t *testing.T, job, dir, run string, more ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(self)}
	c.cmd.Env = append(append(os.Environ(), childJob+"="+job, childDir+"="+dir, childRun+"="+run), more...)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stderr = c.cmd.Stdout
	if _, err := c.cmd.StdinPipe(); err != nil { // is held open, and says nothing
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	c.lines = bufio.NewScanner(out)
	return c
}

// ack parses a line of the child about an acknowledged request.
func ack(line string) (id string, first, last uint64, ok bool) {
	n, _ := fmt.Sscanf(line, "ack %s %d %d", &id, &first, &last)
	return id, first, last, n == 3
}

// Nothing of Pebble reaches stdout or stderr; all goes through the logger.
func TestNothingOnStderr(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	c := startChild(t, "append", dir, "0")
	n := 0
	for c.lines.Scan() {
		line := c.lines.Text()
		if !strings.HasPrefix(line, "ack ") && line != "open" {
			t.Errorf("child says %q", line)
		}
		if n++; n == 3000 {
			_ = c.cmd.Process.Kill()
		}
	}
	_ = c.cmd.Wait()
	if n < 3000 {
		t.Fatalf("child said %d lines", n)
	}
}
