package groups

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// keep keeps leases, reads parked events that are to be tried again, and writes checkpoints, until ctx ends or the group
// has been without members for long enough.
func (g *group) keep(ctx context.Context, epoch uint64, nudges chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-nudges:
		case <-timer.C:
		}
		refilled := g.readRefills(ctx, epoch)
		save, next := g.tend(epoch)
		if later := time.Now().Add(readPause); !refilled && (next.IsZero() || later.Before(next)) {
			next = later
		}
		if save {
			g.saveInTime(ctx)
			signal(nudges) // for when to look again
			continue
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// tend does what is due, and returns whether to write a checkpoint and when to look again; zero is when nudged.
func (g *group) tend(epoch uint64) (save bool, next time.Time) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.epoch != epoch {
		return false, next
	}
	next = g.expire(now)
	g.dispatch()
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if len(g.members) == 0 {
		idle := g.emptyAt.Add(g.owner.options.Idle)
		if !idle.After(now) {
			g.stop()
			return true, next
		}
		sooner(idle)
	}
	if g.unsaved() {
		due := g.checkpoint.at.Add(g.owner.options.CheckpointEvery)
		if !due.After(now) || g.checkpoint.settled >= g.owner.options.CheckpointEvents && !g.checkpoint.failed {
			return true, next
		}
		sooner(due)
	}
	return false, next
}

// saveInTime writes a checkpoint, also when the group has just stopped. A checkpoint that cannot be written is tried again
// with the next; until then a crash has more handed out twice.
func (g *group) saveInTime(ctx context.Context) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.owner.options.Timeout)
	defer cancel()
	if err := g.save(bounded); err != nil && ctx.Err() == nil && eventstore.ClassOf(err) != eventstore.Rejected {
		g.owner.options.Log.Warn("group's checkpoint is not written", slog.String("group", g.name), slog.Any("error", err))
	}
}

// refillPage is how many events behind a parked one are in memory at a time.
const refillPage = 16

// refill has the keeper read the next of what is parked in a lane. REQUIRES: mu is held.
func (g *group) refill(l *lane) {
	if p := l.parked; p.reading || len(l.queue) > 0 {
		return
	}
	l.parked.reading = true
	g.refills = append(g.refills, l)
	g.nudge()
}

// readRefills reads what lanes are waiting for; false when something is left that cannot be read now.
func (g *group) readRefills(ctx context.Context, epoch uint64) (done bool) {
	for {
		g.mu.Lock()
		if g.epoch != epoch || len(g.refills) == 0 {
			g.mu.Unlock()
			return true
		}
		l := g.refills[0]
		from, until := l.parked.version, l.parked.until
		g.mu.Unlock()

		events, err := g.parkedPage(ctx, l.key.stream, from, until)
		if err != nil {
			if ctx.Err() == nil {
				g.report(epoch, fmt.Errorf("read what is parked: %w", err))
			}
			return false
		}
		g.mu.Lock()
		if g.epoch == epoch {
			g.refills = g.refills[1:]
			g.refilled(l, events, until)
		}
		g.mu.Unlock()
	}
}

// parkedPage reads events of a stream from a version on, up to an lsn.
func (g *group) parkedPage(ctx context.Context, s eventstore.StreamID, from, until uint64) (events []eventstore.Recorded, err error) {
	for e, err := range g.owner.store.Read(ctx, s, from) {
		if err != nil {
			return nil, err
		}
		if e.Position.LSN > until || len(events) == refillPage {
			break
		}
		if g.filter.Matches(&e) {
			events = append(events, e)
		}
	}
	return events, nil
}

// refilled takes what was read of a parked stream. When there is no more of it, and nothing has come since, the stream is
// like any other again. REQUIRES: mu is held.
func (g *group) refilled(l *lane, events []eventstore.Recorded, until uint64) {
	p := l.parked
	p.reading = false
	for i := range events {
		l.queue = append(l.queue, &item{
			lsn: events[i].Position.LSN, event: events[i], lane: l, replay: true, tries: g.triedBefore(events[i].Position.LSN),
		})
	}
	if len(events) == 0 {
		if p.until != until {
			g.refill(l)
			return
		}
		l.parked = nil
		delete(g.parked, l.key)
		delete(g.lanes, l.key)
		g.checkpoint.parkedChanged = true
		g.moved()
		return
	}
	g.offer(l)
	g.dispatch()
}
