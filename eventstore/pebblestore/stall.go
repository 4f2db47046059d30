package pebblestore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"golang.org/x/sync/semaphore"
)

// stall notices a disk that does not answer: a group of events has been on its way to it for longer than
// Options.StallAfter. Appends that find no room in the queue then are refused at once, in place of waiting with all the
// others; those in the queue wait as long as their callers do. It is over when the disk has answered.
type stall struct {
	after time.Duration
	log   *slog.Logger

	turn  atomic.Uint64              // odd while a group is on its way
	fault atomic.Pointer[stallError] // nil while the disk answers

	mu      sync.Mutex // guards what follows
	answers context.Context
	stalled context.CancelCauseFunc // of answers
}

// stallEvery is how often is looked whether the disk has answered.
const stallEvery = 50 * time.Millisecond

func newStall(o *Options) *stall {
	x := &stall{after: o.StallAfter, log: o.Logger}
	x.answers, x.stalled = context.WithCancelCause(context.Background())
	return x
}

// stallError says that the disk does not answer. It matches eventstore.ErrUnavailable.
type stallError struct {
	dir   string
	since time.Time
}

// Error says since when, and that the request is not in the log.
func (e *stallError) Error() string {
	return fmt.Sprintf("%s: the disk of %s has not answered since %s and the queue is full; nothing was appended, try again",
		eventstore.ErrUnavailable, e.dir, e.since.Format(time.RFC3339))
}

// Is makes the error match eventstore.ErrUnavailable.
func (e *stallError) Is(target error) bool { return target == eventstore.ErrUnavailable }

// begin and end enclose each group's way to the disk; there is one at a time.
func (x *stall) begin() { x.turn.Add(1) }

func (x *stall) end() { x.turn.Add(1) }

// watch looks until stop is closed. It counts its own looks rather than the time: in a process that was stopped as a whole
// they stop too, and the disk is not to blame.
func (x *stall) watch(dir string, stop <-chan struct{}) {
	tick := time.NewTicker(stallEvery)
	defer tick.Stop()
	seen, looks := uint64(0), 0
	for {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		turn := x.turn.Load()
		if turn != seen || turn%2 == 0 {
			seen, looks = turn, 0
			x.over()
			continue
		}
		if looks++; time.Duration(looks)*stallEvery >= x.after && x.fault.Load() == nil {
			x.begun(dir, time.Now().Add(-time.Duration(looks)*stallEvery))
		}
	}
}

func (x *stall) begun(dir string, since time.Time) {
	fault := &stallError{dir, since}
	x.fault.Store(fault)
	x.mu.Lock()
	x.stalled(fault)
	x.mu.Unlock()
	x.log.Error("the disk is stalled: it has not answered for "+time.Since(since).Round(stallEvery).String(), "folder", dir, "since", since)
}

func (x *stall) over() {
	fault := x.fault.Load()
	if fault == nil {
		return
	}
	x.mu.Lock()
	x.answers, x.stalled = context.WithCancelCause(context.Background())
	x.mu.Unlock()
	x.fault.Store(nil)
	x.log.Info("the disk answers again", "folder", fault.dir, "stalled", time.Since(fault.since).Round(stallEvery))
}

// err returns why the disk is taken for stalled; nil when it is not.
func (x *stall) err() error {
	if fault := x.fault.Load(); fault != nil {
		return fault
	}
	return nil
}

// enter waits until there is room for the request, or the disk is found stalled.
func (x *stall) enter(ctx context.Context, p *pending, room *semaphore.Weighted, most int64) error {
	if p.tryEnter(room, most) {
		return nil
	}
	x.mu.Lock()
	answers := x.answers
	x.mu.Unlock()
	waiting, leave := context.WithCancel(ctx)
	defer leave()
	defer context.AfterFunc(answers, leave)()
	err := room.Acquire(waiting, p.weight)
	if err != nil && ctx.Err() == nil {
		return context.Cause(answers)
	}
	return err
}

// tryEnter takes the room that the request needs, if there is as much.
func (p *pending) tryEnter(room *semaphore.Weighted, most int64) bool {
	p.room, p.weight = room, min(most, p.size())
	return room.TryAcquire(p.weight)
}
