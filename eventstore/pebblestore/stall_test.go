package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
	"golang.org/x/sync/semaphore"
)

// A disk that does not answer is noticed and said; what is in the queue waits as long as its callers do, what comes to a
// full queue is refused at once, those who waited before it too, and all goes on when the disk answers. Shows S25.
func TestStalledDisk(t *testing.T) {
	cycles := 2
	if *reliability.Long {
		cycles = 50
	}
	var said strings.Builder
	g := newGate(vfs.NewMem())
	const room = 256 << 10
	s, err := Open("data/store", &Options{
		FS: g, Logger: slog.New(slog.NewTextHandler(&said, nil)), StallAfter: 300 * time.Millisecond, MaxQueueBytes: room,
	})
	if err != nil {
		t.Fatal(err)
	}
	large := func(id string) eventstore.Request {
		r := request(id, eventstore.Stream("order", id), eventstore.Any, 1)
		r.Appends[0].Events[0].Payload = make([]byte, 16<<10)
		return r
	}
	var noticed, refused []time.Duration
	waited, acked := 0, 0
	for cycle := range cycles {
		unshut := g.shut()
		var mu sync.Mutex // guards the counts
		inTime, inVain := 0, 0
		var clients sync.WaitGroup
		start := time.Now()
		for n := range 40 { // more than there is room for
			clients.Go(func() {
				_, err := s.Append(t.Context(), large(fmt.Sprintf("%d-%d", cycle, n)))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					inTime++
				case errors.Is(err, eventstore.ErrUnavailable) && eventstore.ClassOf(err) == eventstore.Transient:
					inVain++
				default:
					t.Errorf("append to a stalled disk: %v", err)
				}
			})
		}
		await(t, "the stall is noticed", func() bool { return !s.Disk().StalledSince.IsZero() })
		noticed = append(noticed, time.Since(start))
		if since := s.Disk().StalledSince; since.Before(start.Add(-stallEvery)) || since.After(time.Now()) {
			t.Errorf("stalled since %v; the disk was shut at %v", since, start)
		}
		if err := s.Writable(); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("writable says %v", err)
		}
		await(t, "those who wait before the queue are refused", func() bool { mu.Lock(); defer mu.Unlock(); return inVain > 20 })
		before := time.Now()
		if _, err := s.Append(t.Context(), large("late")); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("append to a full queue before a stalled disk: %v", err)
		}
		refused = append(refused, time.Since(before))
		if s.room.TryAcquire(64 << 10) {
			t.Error("there is room in the queue after all")
		}
		for _, err := range s.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
			if err != nil {
				t.Errorf("read while the disk is stalled: %v", err)
			}
		}
		unshut()
		clients.Wait()
		await(t, "the stall is over", func() bool { return s.Writable() == nil })
		if _, err := s.Append(t.Context(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); err != nil {
			t.Fatalf("append after the stall: %v", err)
		}
		waited, acked = waited+inVain, acked+inTime+1
	}
	if report := verify(t, s); len(report.Faults) > 0 || report.Events != uint64(acked) {
		t.Errorf("%d events were acknowledged, %d are there; %v", acked, report.Events, report.Faults)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if stalls, ends := strings.Count(said.String(), "disk is stalled"), strings.Count(said.String(), "answers again"); stalls != cycles || ends != cycles {
		t.Errorf("%d stalls were said to begin %d times and to end %d times", cycles, stalls, ends)
	}
	_, p99 := reliability.Percentiles(noticed)
	_, quick := reliability.Percentiles(refused)
	reliability.Result{
		Test: "T7", What: "syncs that do not return; a disk is stalled after 0.3 s here", Cycles: cycles, Faults: cycles, Acked: acked, P99: p99,
		Extra: map[string]any{"refused": waited, "refused_p99_ms": quick, "queue_bytes": room},
	}.Print(t)
}

// After a stall that is over, who finds no room waits for it again. Shows S25.
func TestRoomIsWaitedForAfterAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, stop := newStall(&Options{StallAfter: time.Second, Logger: quietLog}), make(chan struct{})
		go x.watch("data/store", stop)
		defer close(stop)
		x.begin()
		time.Sleep(2 * time.Second)
		if x.err() == nil {
			t.Fatal("the stall is not noticed")
		}
		x.end()
		time.Sleep(2 * stallEvery)
		if err := x.err(); err != nil {
			t.Fatalf("the stall is over, and the disk is said to be stalled: %v", err)
		}

		room := semaphore.NewWeighted(1)
		if !room.TryAcquire(1) {
			t.Fatal("the queue is full already")
		}
		x.begin()
		entered := make(chan error, 1)
		go func() {
			entered <- x.enter(t.Context(), &pending{contents: []byte("event")}, room, 1)
		}()
		synctest.Wait()
		select {
		case err := <-entered:
			t.Fatalf("who found no room before a disk that answers did not wait: %v", err)
		default:
		}
		x.end()
		room.Release(1)
		if err := <-entered; err != nil {
			t.Errorf("there is room: %v", err)
		}
	})
}

// A caller's deadline holds on a stalled disk.
func TestDeadlineOnAStalledDisk(t *testing.T) {
	g := newGate(vfs.NewMem())
	s := openMem(t, g, Options{})
	unshut := g.shut()
	defer unshut()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := s.Append(ctx, request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append: %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a deadline of 20 ms was kept after %v", took)
	}
}
