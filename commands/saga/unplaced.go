package saga

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Triggers whose instance cannot be told, because Instance panics or returns no valid id, are a fault of the definition
// that other instances do not suffer from. They go to a collector, an entry of the runner's instances without an id, one
// a tenant: it has no stream and no memory, is parked as soon as it has a trigger, and checkpoints remember it like any
// parked instance. When it is retried, which a restart does too, its triggers go to the instances that they now have.

// collects reports whether i is a collector.
func (i *instance) collects() bool { return i.id == "" }

// instanceOf returns the id of the trigger's instance; empty when it is for none.
func (r *Runner) instanceOf(e *eventstore.Recorded) (id string, err error) {
	defer func() {
		if v := recover(); v != nil {
			id, err = "", unplaceableOf(e, fmt.Errorf("its Instance panicked: %v", v))
		}
	}()
	if id = r.definition.instance(e); id == "" {
		return "", nil
	}
	if err := (eventstore.StreamID{Tenant: e.Stream.Tenant, Category: r.definition.name, ID: id}).Validate(); err != nil {
		return "", unplaceableOf(e, fmt.Errorf("its instance: %w", err))
	}
	return id, nil
}

// unplaceable says of which trigger the instance cannot be told, and why.
type unplaceable struct {
	trigger string
	cause   error
}

func unplaceableOf(e *eventstore.Recorded, cause error) error {
	return &unplaceable{fmt.Sprintf("trigger %s, stream %s, version %d", e.Type, e.Stream, e.Version), cause}
}

func (u *unplaceable) Error() string { return u.trigger + ": " + u.cause.Error() }
func (u *unplaceable) Unwrap() error { return u.cause }

// isNews reports whether the log is to be told of a collector's fault: not for each trigger that has it.
func (r *Runner) isNews(collector *instance, fault error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return collector.differs(fault)
}

// differs reports whether a fault is another than the one before, whichever trigger it is of. REQUIRES: Runner.mu is held.
func (i *instance) differs(fault error) bool {
	text := fault.Error()
	if u, ok := errors.AsType[*unplaceable](fault); ok {
		text = u.cause.Error()
	}
	differs := text != i.reported
	i.reported = text
	return differs
}

// place moves the collector's first trigger to its instance. An error parks the collector.
func (r *Runner) place(ctx context.Context, collector *instance) (did bool, err error) {
	a := r.arrived(collector)
	if a == nil {
		return false, nil
	}
	if a.event == nil {
		if a.event, err = r.trigger(ctx, &a.in); err != nil {
			return true, err
		}
	}
	id, err := r.instanceOf(a.event)
	switch {
	case err != nil:
		return true, broken(err)
	case id == "":
		r.drop(collector, a)
		return true, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// One checkpoint tells both, that the one has it no more and the other has yet to see it.
	collector.shift()
	key := instanceKey{collector.tenant, id}
	r.checkpoint.dirty[collector.instanceKey], r.checkpoint.dirty[key] = true, true
	r.hand(key, a)
	return true, nil
}

// hand gives an arrival to an instance, which is opened when it is not, and returns it. REQUIRES: mu is held.
func (r *Runner) hand(key instanceKey, a *arrival) *instance {
	i := r.instances[key]
	if i == nil {
		i = r.open(key)
		i.memory, i.assumed = newMemory(r.definition.fresh()), !a.foreign(r.site)
	}
	i.inbox = append(i.inbox, a)
	if i.phase != parked {
		r.rouse(i)
		return i
	}
	r.checkpoint.dirty[key] = true // the checkpoint remembers what a parked instance has yet to see
	a.event = nil
	r.settle(a)
	return i
}
