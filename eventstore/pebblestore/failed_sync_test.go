package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !isWALSync(op) || current() == nil || syncs.Add(1) <= working {
			return nil
		}
		// The committer has published all before this one.
		// The committer starts a sync before it publishes what the sync before it made durable: that is let come first.
		time.Sleep(50 * time.Millisecond)
		if falseBeyond.CompareAndSwap(0, current().durable.Load()+1) {
			fmt.Println("failed", time.Now().UnixNano())
		}
		return syscall.EIO
	}))
}

// When a sync fails, nothing that rests on it is acknowledged, and the process is gone in under a second; the next one finds
// everything that was acknowledged, and goes on. It is T5 of docs/reliability.md, and shows S14.
func TestFailedSync(t *testing.T) {
	working := []int{0, 1, 2, 7, 40, 200} // syncs
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 5))
	if *reliability.Long {
		for len(working) < 200 {
			working = append(working, rng.IntN(1000))
		}
	}
	dir := filepath.Join(t.TempDir(), "store")
	acked := map[string]eventstore.Receipt{}
	result := reliability.Result{Test: "T5", What: "a process whose syncs of the WAL fail from the n-th on", Seed: seed}
	var gone []time.Duration
	for run, n := range working {
		if !reliability.TimeLeft(t) {
			break
		}
		if run%20 == 0 { // a log that grows for ever would make looking at it slow
			dir, acked = filepath.Join(t.TempDir(), "store"), map[string]eventstore.Receipt{}
		}
		told, took, falsely := workUntilSyncFails(t, dir, fmt.Sprint(run), n)
		gone = append(gone, took)
		result.Violations += falsely
		result.Acked += len(told)
		s, err := Open(dir, &Options{Logger: quietLog, BallastBytes: littleBallast})
		if err != nil {
			t.Fatalf("open after %d syncs: %v", n, err)
		}
		for id, last := range told {
			receipt, _, err := s.Receipt(context.Background(), "", id)
			if err != nil || receipt.Position.LSN != last {
				t.Errorf("request %s was acknowledged up to lsn %d; there is %+v, %v", id, last, receipt, err)
				result.Lost++
				continue
			}
			acked[id] = receipt
		}
		checkRecovered(t, s, acked)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		result.Cycles++
	}
	if result.Acked == 0 {
		t.Error("nothing was acknowledged before a failure")
	}
	result.P50, result.P99 = reliability.Percentiles(gone)
	result.Extra = map[string]any{"false acknowledgements": result.Violations, "ended with code 70": result.Cycles}
	result.Print(t)
}

// workUntilSyncFails runs a child until a sync fails after so many that work. It returns what was acknowledged, up to which
// lsn, how long after the failure the process was gone, and how many answers rested on a sync that failed.
func workUntilSyncFails(t *testing.T, dir, run string, working int) (told map[string]uint64, gone time.Duration, falsely int) {
	t.Helper()
	t.Setenv(childSyncs, fmt.Sprint(working))
	c := startChild(t, "failing disk", dir, run)
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
