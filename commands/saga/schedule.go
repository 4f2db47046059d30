package saga

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// open adds an instance. REQUIRES: mu is held.
func (r *Runner) open(key instanceKey) *instance {
	i := &instance{instanceKey: key, timers: map[string]*alarm{}}
	r.instances[key] = i
	return i
}

// enter moves an instance to a phase and keeps the counts. REQUIRES: mu is held.
func (r *Runner) enter(i *instance, p phase) {
	count := func(p phase, n int) {
		if p.busy() {
			r.busy += n
		}
		if p == parked {
			r.parked += n
		}
	}
	count(i.phase, -1)
	count(p, 1)
	i.phase = p
	if r.busy < r.options.Queue {
		r.room.Signal()
	}
	if r.busy == 0 {
		r.announce()
	}
}

// rouse gives a worker to an instance that rests or waits; the others see their inbox in time. REQUIRES: mu is held.
func (r *Runner) rouse(i *instance) {
	if i.phase != resting && i.phase != waiting {
		return
	}
	r.dropAlarm(i.wake)
	i.wake = nil
	r.enter(i, queued)
	r.ready = append(r.ready, i)
	r.work.Signal()
}

// runWorker works on ready instances until the runner stops.
func (r *Runner) runWorker(ctx context.Context) {
	for i := r.next(); i != nil; i = r.next() {
		r.advance(ctx, i)
	}
}

// next waits for a ready instance; nil when the runner stops.
func (r *Runner) next() *instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ready) == 0 && r.state == started {
		r.work.Wait()
	}
	if r.state != started {
		return nil
	}
	i := r.ready[0]
	r.ready[0] = nil
	r.ready = r.ready[1:]
	r.enter(i, running)
	return i
}

// advance does all that an instance can do now.
func (r *Runner) advance(ctx context.Context, i *instance) {
	for !r.ending() {
		now := r.options.Now()
		if now.Before(i.blocked) {
			r.leave(i, i.blocked, true)
			return
		}
		retryAt, did, err := r.turn(ctx, i, now)
		switch {
		case ctx.Err() != nil:
			return // what it was doing has an unknown end; the next run finds out
		case err == nil:
			i.failures = 0
		case eventstore.ClassOf(err) == eventstore.Transient:
			i.failures++
			i.blocked = now.Add(r.options.Backoff(i.failures))
			r.note(err)
			continue
		default:
			r.park(ctx, i, err)
			return
		}
		if !did && r.leave(i, retryAt, false) {
			return
		}
	}
}

func (r *Runner) ending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state != started
}

// leave ends a worker's turn with an instance that has nothing to do until retryAt (zero: until something arrives), unless
// something has arrived meanwhile and it is not blocked.
func (r *Runner) leave(i *instance, retryAt time.Time, blocked bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(i.inbox) > 0 && !blocked {
		return false
	}
	i.answer(nil)
	switch {
	case !retryAt.IsZero():
		i.wake = r.setAlarm(i, "", retryAt)
		r.enter(i, waiting)
	case i.collects() || i.memory != nil && (i.memory.over() || i.memory.version == 0):
		// It has ended, or ignored all it ever saw.
		r.close(i)
	default:
		r.enter(i, resting)
	}
	return true
}

// close lets go of an instance. REQUIRES: mu is held.
func (r *Runner) close(i *instance) {
	for _, a := range i.timers {
		r.dropAlarm(a)
	}
	delete(r.instances, i.instanceKey)
	if i.moved {
		r.remember(i.messages)
	}
	if i.listed {
		r.checkpoint.dirty[i.instanceKey] = true
	} else {
		delete(r.checkpoint.dirty, i.instanceKey)
	}
	r.enter(i, resting)
}

// arrived returns the first arrival of the inbox; nil when there is none.
func (r *Runner) arrived(i *instance) *arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(i.inbox) == 0 {
		return nil
	}
	return i.inbox[0]
}

// drop takes an arrival that needs no step from the head of the inbox.
func (r *Runner) drop(i *instance, a *arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pop(i, a)
}

// pop takes an arrival from the head of the inbox. REQUIRES: mu is held.
func (r *Runner) pop(i *instance, a *arrival) {
	if a.mark == nil && a.in.Kind == kindTriggered {
		r.checkpoint.dirty[i.instanceKey] = true // a checkpoint may name it
	}
	i.shift()
	r.settle(a)
}

// park stops an instance until somebody has looked at it.
func (r *Runner) park(ctx context.Context, i *instance, err error) {
	if !i.collects() || r.isNews(i, err) {
		r.options.Log.ErrorContext(ctx, "saga instance is parked",
			"saga", r.definition.name, "tenant", i.tenant, "instance", i.id, "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i.memory, i.unrecorded, i.assumed = nil, nil, false
	i.fault = err
	if r.lastFault = err.Error(); !i.collects() {
		r.lastFault = i.id + ": " + r.lastFault
	}
	for _, m := range i.messages {
		if m.Status == StatusPending {
			m.Status, m.LastError = StatusFailed, err.Error()
		}
	}
	for _, a := range i.inbox {
		a.event = nil // it may be long until it is wanted
		r.settle(a)   // the checkpoint remembers it
	}
	r.checkpoint.dirty[i.instanceKey] = true
	i.answer(fmt.Errorf("%w: %w", ErrParkedAgain, err))
	r.enter(i, parked)
}

// note keeps the text of a fault that will be tried again.
func (r *Runner) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastFault = err.Error()
}
