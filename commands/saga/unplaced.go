package saga

import (
	"context"
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
			id, err = "", fmt.Errorf("trigger %s, stream %s, version %d: Instance panicked: %v", e.Type, e.Stream, e.Version, v)
		}
	}()
	if id = r.definition.instance(e); id == "" {
		return "", nil
	}
	if err := r.streamOf(instanceKey{e.Stream.Tenant, id}).Validate(); err != nil {
		return "", fmt.Errorf("trigger %s, stream %s, version %d: its instance: %w", e.Type, e.Stream, e.Version, err)
	}
	return id, nil
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
	collector.inbox[0] = nil
	collector.inbox = collector.inbox[1:]
	key := instanceKey{collector.tenant, id}
	r.checkpoint.dirty[collector.instanceKey], r.checkpoint.dirty[key] = true, true
	r.hand(key, a)
	return true, nil
}

// hand gives an arrival to an instance, which is opened when it is not. REQUIRES: mu is held.
func (r *Runner) hand(key instanceKey, a *arrival) {
	i := r.instances[key]
	if i == nil {
		i = r.open(key)
		i.memory, i.assumed = newMemory(r.definition.fresh()), true
	}
	i.inbox = append(i.inbox, a)
	if i.phase != parked {
		r.rouse(i)
		return
	}
	r.checkpoint.dirty[key] = true // the checkpoint remembers what a parked instance has yet to see
	r.settle(a)
}
