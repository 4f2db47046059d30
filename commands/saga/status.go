package saga

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Name returns the saga's name.
func (r *Runner) Name() string { return r.definition.name }

// Open returns how many instances have begun and not ended, all that Parked lists included.
func (r *Runner) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.instances)
}

// Busy returns how many instances have something to do that is not waiting for a trigger or a timer.
func (r *Runner) Busy() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy
}

// Position returns the position up to which every trigger is recorded with its instance.
func (r *Runner) Position() eventstore.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settledTo()
}

// LastError returns what last kept an instance from going on; empty when nothing has since Run began.
func (r *Runner) LastError() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastFault
}

// Parked is an instance that something broken has stopped. Where Instance is empty, it stands for all triggers of the
// tenant whose instance cannot be told, because Definition.Instance panics or returns no valid id.
type Parked struct {
	Tenant, Instance string
	Err              error
	// Waiting is how many triggers have come for it since.
	Waiting int
}

// Parked lists the instances that are parked, sorted by tenant and id.
func (r *Runner) Parked() []Parked {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Parked
	for _, i := range r.instances {
		if i.phase == parked {
			out = append(out, Parked{i.tenant, i.id, i.fault, len(i.inbox)})
		}
	}
	slices.SortFunc(out, func(a, b Parked) int {
		return compareKeys(instanceKey{a.Tenant, a.Instance}, instanceKey{b.Tenant, b.Instance})
	})
	return out
}

// ErrParkedAgain: an instance that was tried again is parked again. The error says why.
var ErrParkedAgain = errors.New("it is parked again")

// Retry has a parked instance go on: it is loaded anew, and what it has to send is sent again. It returns nil when the instance
// has done what there was to do, or waits to try again what failed for the moment, and ErrParkedAgain when it is parked again.
// With an empty instance the tenant's triggers without one are handed to those that Definition.Instance names now; an instance
// that has seen a later event of the same stream meanwhile passes over them. ErrNotFound when no such instance is parked,
// ErrStopped when Run is not under way, or ends first.
func (r *Runner) Retry(ctx context.Context, tenant, instance string) error {
	tried, err := r.rouseParked(instanceKey{tenant, instance})
	if err != nil {
		return err
	}
	select {
	case err := <-tried:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rouseParked has a parked instance go on, and returns what will tell of the outcome.
func (r *Runner) rouseParked(key instanceKey) (tried <-chan error, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.instances[key]
	switch {
	case r.state != started:
		return nil, fmt.Errorf("saga %s: %w", r.definition.name, ErrStopped)
	case i == nil || i.phase != parked:
		return nil, fmt.Errorf("parked instance %s of saga %s: %w", key.id, r.definition.name, eventstore.ErrNotFound)
	}
	i.fault, i.failures, i.reloads = nil, 0, 0
	outcome := make(chan error, 1)
	i.tried = outcome
	r.enter(i, resting)
	r.rouse(i)
	return outcome, nil
}

// answer tells who had the instance tried again what came of it. REQUIRES: Runner.mu is held.
func (i *instance) answer(err error) {
	if i.tried != nil {
		i.tried <- err
		i.tried = nil
	}
}

// Idle waits until all triggers up to a position are dealt with and no instance has anything to do but wait for a timer
// or another trigger. Parked instances are not waited for: see Parked. It may be called before Run; ErrStopped when Run
// has returned.
func (r *Runner) Idle(ctx context.Context, p eventstore.Position) error {
	for {
		read, quiet, changed, err := r.look()
		if err != nil {
			return err
		}
		if quiet {
			// Positions move with triggers; after the last one the rest of the log has to be looked at.
			if read.Compare(p) >= 0 {
				return nil
			}
			if none, err := r.noTriggers(ctx, read, p); none || err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look says how far triggers were read, whether nothing is going on, and when to look again.
func (r *Runner) look() (read eventstore.Position, quiet bool, changed <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == stopped {
		return read, false, nil, fmt.Errorf("saga %s: %w", r.definition.name, ErrStopped)
	}
	r.waiters++
	return r.read, r.state == started && r.subscribed && r.busy == 0, r.changed, nil
}

// announce has those in Idle look again. REQUIRES: mu is held.
func (r *Runner) announce() {
	if r.waiters > 0 {
		r.waiters = 0
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// noTriggers reports whether the log has no triggers after one position up to another.
func (r *Runner) noTriggers(ctx context.Context, after, upTo eventstore.Position) (bool, error) {
	filter := eventstore.Filter{Types: r.definition.triggers}
	for event, err := range r.store.ReadAll(ctx, after, filter) {
		if err != nil {
			return false, fmt.Errorf("look for triggers: %w", err)
		}
		if event.Position.Compare(upTo) > 0 {
			break
		}
		if id, fault := r.instanceOf(&event); id != "" || fault != nil {
			return false, nil
		}
	}
	return true, nil
}
