package saga

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// load folds the steps of an instance's stream.
func (r *Runner) load(ctx context.Context, i *instance) error {
	m := newMemory(r.definition.fresh())
	var folded eventstore.Vector
	for event, err := range r.store.Read(ctx, i.stream, 1) {
		if err != nil {
			return storeFault("load instance", err)
		}
		m.height++
		if event.Dot.Log.Site != r.site {
			continue
		}
		if beside(&event, folded) {
			m.beside[event.Event.ID] = true
			continue
		}
		folded = folded.With(event.Dot)
		if err := r.fold(ctx, i, m, &event); err != nil {
			return fmt.Errorf("load instance, step %d: %w", event.Version, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i.memory = m
	i.messages = m.messages
	i.unreviewed = r.options.Void != nil && m.version > 0
	if i.recorded = i.recorded || m.version > 0; !i.listed {
		r.checkpoint.dirty[i.instanceKey] = true
	}
	r.syncTimers(i)
	return nil
}

// beside reports whether a step was recorded without the knowledge of steps that stand before it: in another life of the log,
// which had lost them. They count, as they do in every stream that its home writes (commands.Home), and it does not.
func beside(step *eventstore.Recorded, folded eventstore.Vector) bool {
	for _, d := range folded {
		if d.Log != step.Dot.Log && !step.Knew(&eventstore.Recorded{Dot: d}) {
			return true
		}
	}
	return false
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
	m.apply(&p, r.definition.name, i, event.Event.ID.String())
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
		in.Dot = dotText{event.Dot}
		m.follow(event)
		return Triggered{Event: event, Instance: i.name, At: step.At}, nil
	case kindVoided:
		event, err := r.trigger(ctx, in)
		if err != nil {
			return nil, err
		}
		return Voided{Event: event, Reason: in.Reason, At: step.At}, nil
	case kindSucceeded:
		receipt, _, err := r.store.Receipt(ctx, i.tenant, CommandID(i.category, i.id, in.Key))
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

// trigger reads a trigger from its stream. In a stream that several sites have written it does not stand before the place that
// its version says, but may stand behind it.
func (r *Runner) trigger(ctx context.Context, in *inputRecord) (*eventstore.Recorded, error) {
	stream, err := eventstore.ParseStreamID(in.Stream)
	if err != nil {
		return nil, broken(err)
	}
	for event, err := range r.store.Read(ctx, stream, in.Version) {
		if err != nil {
			return nil, storeFault("read trigger", err)
		}
		if in.Dot == (dotText{event.Dot}) || in.Dot == (dotText{}) && event.Version == in.Version && event.Dot.Log.Site == r.site {
			return &event, nil
		}
	}
	return nil, broken(fmt.Errorf("trigger %s, version %d, is not in the log", in.Stream, in.Version))
}
