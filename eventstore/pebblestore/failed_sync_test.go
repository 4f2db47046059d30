package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// childSyncs tells a child how many syncs of the WAL work before one fails.
const childSyncs = "PEBBLESTORE_TEST_SYNCS"

// falseBeyond is the first lsn whose sync failed.
var falseBeyond atomic.Uint64

// failingDisk fails a sync of the WAL once so many have worked after the store was opened, and all that follow.
func failingDisk(current func() *Store) vfs.FS {
	working, err := strconv.ParseInt(os.Getenv(childSyncs), 10, 64)
	if err != nil {
		panic("syncs: " + err.Error())
	}
	var syncs atomic.Int64
	return watched(vfs.Default, func(op errorfs.Op) error {
		if !isWALSync(op) || current() == nil || syncs.Add(1) <= working {
			return nil
		}
		// The committer starts a sync before it publishes what the sync before it made durable: that is let come first.
		time.Sleep(50 * time.Millisecond)
		if falseBeyond.CompareAndSwap(0, current().durable.Load()+1) {
			fmt.Println("failed", time.Now().UnixNano())
		}
		return syscall.EIO
	})
}

// failedSyncs are what the failed syncs of a test have shown so far.
type failedSyncs struct {
	mu     sync.Mutex // guards what follows
	result reliability.Result
	gone   []time.Duration // from a failure to the end of its process
}

// When a sync fails, nothing that rests on it is acknowledged, and the process is gone in under a second; the next one finds
// everything that was acknowledged, and goes on. It is T5 of docs/reliability.md, and shows S14.
func TestFailedSync(t *testing.T) {
	const perLog = 20 // processes: a log that grows for ever would make looking at it slow
	working := []int{0, 1, 2, 7, 40, 200}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 5))
	if *reliability.Long {
		for len(working) < 200 {
			working = append(working, rng.IntN(400))
		}
	}
	x := &failedSyncs{result: reliability.Result{Test: "T5", What: "a process whose syncs of the WAL fail from the n-th on", Seed: seed}}
	logs := slices.Collect(slices.Chunk(working, perLog))
	sideBySide(len(logs), 4, func(n int) bool {
		dir := t.TempDir()
		defer os.RemoveAll(dir)
		return x.failAgainAndAgain(t, filepath.Join(dir, "store"), logs[n])
	})
	result := &x.result
	if result.Acked == 0 {
		t.Error("nothing was acknowledged before a failure")
	}
	result.P50, result.P99 = reliability.Percentiles(x.gone)
	result.Extra = map[string]any{"false acknowledgements": result.Violations, "ended with code 70": result.Cycles}
	result.Print(t)
}

// failAgainAndAgain has processes work on a log, one after another, until a sync fails after so many that work. It returns
// false when there is something wrong, or no time left.
func (x *failedSyncs) failAgainAndAgain(t *testing.T, dir string, working []int) bool {
	acked := map[string]eventstore.Receipt{}
	for run, n := range working {
		if !reliability.TimeLeft(t) || t.Failed() {
			return false
		}
		told, took, falsely := workUntilSyncFails(t, dir, fmt.Sprint(run), n)
		lost := 0
		s, err := Open(dir, &Options{Logger: quietLog, BallastBytes: littleBallast})
		if err != nil {
			t.Errorf("open after %d syncs: %v", n, err)
			return false
		}
		for id, last := range told {
			receipt, _, err := s.Receipt(context.Background(), "", id)
			if err != nil || receipt.Position.LSN != last {
				t.Errorf("request %s was acknowledged up to lsn %d; there is %+v, %v", id, last, receipt, err)
				lost++
				continue
			}
			acked[id] = receipt
		}
		checkRecovered(t, s, acked)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		x.mu.Lock()
		x.gone = append(x.gone, took)
		x.result.Cycles++
		x.result.Acked += len(told)
		x.result.Lost += lost
		x.result.Violations += falsely
		x.mu.Unlock()
	}
	return true
}

// workUntilSyncFails runs a child until a sync fails after so many that work. It returns what was acknowledged, up to which
// lsn, how long after the failure the process was gone, and how many answers rested on a sync that failed.
func workUntilSyncFails(t *testing.T, dir, run string, working int) (told map[string]uint64, gone time.Duration, falsely int) {
	t.Helper()
	c := startChild(t, "failing disk", dir, run, childSyncs+"="+fmt.Sprint(working))
	told = map[string]uint64{}
	var failed time.Time
	var rest []string
	for c.lines.Scan() {
		line := c.lines.Text()
		var nanos int64
		if id, _, last, ok := ack(line); ok {
			told[id] = last
		} else if n, _ := fmt.Sscanf(line, "failed %d", &nanos); n == 1 {
			failed = time.Unix(0, nanos)
		} else if line != "open" {
			rest = append(rest, line)
		}
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFatal {
		t.Fatalf("after %d syncs: child ended with %v, want exit status %d; it said %q", working, err, exitFatal, rest)
	}
	if gone = time.Since(failed); failed.IsZero() || gone > time.Second {
		t.Errorf("after %d syncs: the process was gone %s after the one that failed", working, gone)
	}
	for _, line := range rest {
		t.Errorf("after %d syncs: a child says %q", working, line)
		if strings.HasPrefix(line, falseAck) {
			falsely++
		}
	}
	return told, gone, falsely
}
