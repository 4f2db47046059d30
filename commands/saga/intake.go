package saga

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// mark stands for a trigger that was read and is not dealt with.
type mark struct {
	// before is the last position at whose reading the trigger is seen again.
	before  eventstore.Position
	settled bool
}

// intake reads triggers and hands them to their instances until ctx ends.
func (r *Runner) intake(ctx context.Context, from eventstore.Position) error {
	filter := eventstore.Filter{Types: r.definition.triggers}
	failures := 0
	for {
		got, err := r.follow(ctx, from, filter)
		if ctx.Err() != nil {
			return nil
		}
		if got {
			failures = 0
		}
		failures++
		switch {
		case errors.Is(err, eventstore.ErrWrongIncarnation) && !from.IsZero():
			r.options.Log.Warn("saga checkpoint is of another life of the log; reading it from the start",
				"saga", r.definition.name, "position", from.String())
			from = eventstore.Position{}
			continue
		case eventstore.ClassOf(err) != eventstore.Transient || errors.Is(err, eventstore.ErrClosed):
			return err
		}
		if err := pause(ctx, r.options.Backoff(failures)); err != nil {
			return nil
		}
		r.mu.Lock()
		if r.subscribed {
			from = r.read
		}
		r.mu.Unlock()
	}
}

// follow reads one subscription until it fails; got says whether there was anything.
func (r *Runner) follow(ctx context.Context, from eventstore.Position, f eventstore.Filter) (got bool, err error) {
	sub, err := r.store.Subscribe(ctx, from, f)
	if err != nil {
		return false, fmt.Errorf("subscribe: %w", err)
	}
	defer sub.Close()
	r.readFrom(from)
	for {
		chunk, err := sub.Next(ctx)
		if err != nil {
			return got, fmt.Errorf("read triggers: %w", err)
		}
		got = true
		for i := range chunk.Events {
			r.take(&chunk.Events[i])
		}
		if !r.passed(chunk.Position) {
			return got, ctx.Err()
		}
	}
}

// readFrom notes where a subscription begins.
func (r *Runner) readFrom(p eventstore.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read, r.subscribed = p, true
	r.announce()
}

// take hands a trigger to its instance, or to the tenant's collector when it has none, and waits for room first.
//
// INVARIANT: what was born at another site begins nothing: the saga of that site acts on it, and two would act twice. An
// instance that there is already learns of it.
func (r *Runner) take(e *eventstore.Recorded) {
	foreign := e.Dot.Log.Site != r.site
	if foreign && r.options.Void == nil {
		return
	}
	id, fault := r.instanceOf(e)
	if id == "" && fault == nil || foreign && fault != nil {
		return
	}
	if news := r.accept(e, id, fault); news {
		r.options.Log.Error("saga triggers are parked: their instance cannot be told",
			"saga", r.definition.name, "tenant", e.Stream.Tenant, "error", fault)
	}
}

// accept is take with what is known of the trigger's instance; news says that the log is to be told of the fault.
func (r *Runner) accept(e *eventstore.Recorded, id string, fault error) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy >= r.options.Queue && r.state == started {
		r.room.Wait()
	}
	if r.state != started {
		return false
	}
	event := *e
	a := &arrival{
		in:    inputOf(kindTriggered, e),
		event: &event,
		mark:  &mark{before: beforeBatch(e)},
	}
	r.marks = append(r.marks, a.mark)
	i := r.hand(instanceKey{e.Stream.Tenant, id}, a)
	r.read = e.Position
	if fault == nil {
		return false
	}
	r.lastFault = fault.Error()
	return i.differs(fault)
}

// beforeBatch returns the position before the batch that e came in.
func beforeBatch(e *eventstore.Recorded) eventstore.Position {
	p := e.Position
	back := uint64(1)
	if e.Batch.Count > 0 && e.Dot.Seq >= e.Batch.FirstSeq {
		back += e.Dot.Seq - e.Batch.FirstSeq
	}
	p.LSN -= min(back, p.LSN)
	return p
}

// passed notes that all triggers up to p have been handed out; false when it is time to stop.
func (r *Runner) passed(p eventstore.Position) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != started {
		return false
	}
	r.read = p
	if r.busy == 0 {
		r.announce()
	}
	return true
}

// settle notes that a trigger is dealt with. REQUIRES: mu is held.
func (r *Runner) settle(a *arrival) {
	if a.mark == nil {
		return
	}
	a.mark.settled = true
	a.mark = nil
	for len(r.marks) > 0 && r.marks[0].settled {
		r.marks[0] = nil
		r.marks = r.marks[1:]
	}
	if r.checkpoint.triggers++; r.checkpoint.triggers >= r.options.CheckpointTriggers {
		signal(r.due)
	}
}

// settledTo returns the position up to which every trigger is dealt with. REQUIRES: mu is held.
func (r *Runner) settledTo() eventstore.Position {
	if len(r.marks) > 0 {
		return r.marks[0].before
	}
	return r.read
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
