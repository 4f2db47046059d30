package saga

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// load folds the steps of an instance's stream.
func (r *Runner) load(ctx context.Context, i *instance) error {
	m := newMemory(r.definition.fresh())
	for event, err := range r.store.Read(ctx, i.stream, 1) {
		if err != nil {
			return storeFault("load instance", err)
		}
		if err := r.fold(ctx, i, m, &event); err != nil {
			return fmt.Errorf("load instance, step %d: %w", event.Version, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i.memory = m
	i.messages = m.messages
	if i.recorded = i.recorded || m.version > 0; !i.listed {
		r.checkpoint.dirty[i.instanceKey] = true
	}
	r.syncTimers(i)
	return nil
}

// fold reacts again to the input of a recorded step.
func (r *Runner) fold(ctx context.Context, i *instance, m *memory, event *eventstore.Recorded) error {
	step, err := decodeStep(event, r.definition.name)
	if err != nil {
		return broken(err)
	}
	in, err := r.input(ctx, i, m, step)
	if err != nil {
		return err
	}
	p, err := m.react(in, step.In, step.At)
	if err != nil {
		return broken(err)
	}
	if difference := p.differs(step); difference != "" {
		return broken(fmt.Errorf("the definition does not react to its history as it did: %s", difference))
	}
	m.apply(&p, r.definition.name, i.instanceKey, event.Event.ID.String())
	return nil
}

// input returns the input of a recorded step, with what the step only refers to.
func (r *Runner) input(ctx context.Context, i *instance, m *memory, step *stepRecord) (Input, error) {
	in := &step.In
	switch in.Kind {
	case kindTriggered:
		event, err := r.trigger(ctx, in)
		if err != nil {
			return nil, err
		}
		m.follow(event)
		return Triggered{Event: event, At: step.At}, nil
	case kindSucceeded:
		receipt, _, err := r.store.Receipt(ctx, i.tenant, CommandID(r.definition.name, i.id, in.Key))
		if err != nil {
			return nil, storeFault(fmt.Sprintf("receipt of %q", in.Key), err)
		}
		return Succeeded{Key: in.Key, Receipt: lasting(receipt), At: step.At}, nil
	case kindRefused:
		return Refused{Key: in.Key, Code: in.Code, Reason: in.Reason, At: step.At}, nil
	case kindFired:
		return Fired{Timer: in.Timer, At: step.At}, nil
	}
	return nil, broken(fmt.Errorf("step's input %q is unknown", in.Kind))
}

// trigger reads a trigger from its stream.
func (r *Runner) trigger(ctx context.Context, in *inputRecord) (*eventstore.Recorded, error) {
	stream, err := eventstore.ParseStreamID(in.Stream)
	if err != nil {
		return nil, broken(err)
	}
	for event, err := range r.store.Read(ctx, stream, in.Version) {
		if err != nil {
			return nil, storeFault("read trigger", err)
		}
		if event.Version == in.Version {
			return &event, nil
		}
		break
	}
	return nil, broken(fmt.Errorf("trigger %s, version %d, is not in the log", in.Stream, in.Version))
}
