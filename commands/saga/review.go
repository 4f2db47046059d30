package saga

import (
	"context"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// review reacts to the next thing that other sites did in the streams of the instance's triggers: an event of this site that
// does not count because of it, or one of theirs that does. The step is then unrecorded; news is false when there is nothing.
func (r *Runner) review(ctx context.Context, i *instance, now time.Time) (news bool, err error) {
	for _, stream := range i.memory.streams {
		void, err := r.options.Void(ctx, stream)
		if err != nil {
			return false, storeFault("tell what is void", err)
		}
		events, err := r.triggersIn(ctx, i, stream)
		if err != nil {
			return false, err
		}
		// What is void is told first: nobody should take for the instance's what counts in its place.
		for _, own := range []bool{true, false} {
			for n := range events {
				e := &events[n]
				reason, isVoid := void[e.Dot]
				if isVoid != own || (e.Dot.Log.Site == r.site) != own {
					continue
				}
				if news, err := r.learn(i, e, reason, now); news || err != nil {
					return news, err
				}
			}
		}
	}
	return false, nil
}

// triggersIn returns the events of a stream that are triggers of the instance.
func (r *Runner) triggersIn(ctx context.Context, i *instance, stream eventstore.StreamID) ([]eventstore.Recorded, error) {
	var out []eventstore.Recorded
	for e, err := range r.store.Read(ctx, stream, 1) {
		if err != nil {
			return nil, storeFault("read what other sites did", err)
		}
		if !slices.Contains(r.definition.triggers, e.Type) {
			continue
		}
		if id, fault := r.instanceOf(&e); fault == nil && id == i.id {
			out = append(out, e)
		}
	}
	return out, nil
}

// learn reacts to an event of another site, or to one of this site that is void for the reason given, unless it is known.
func (r *Runner) learn(i *instance, e *eventstore.Recorded, void string, now time.Time) (news bool, err error) {
	m := i.memory
	now = instant(now)
	record := inputOf(kindTriggered, e)
	var in Input = Triggered{Event: e, Instance: i.name, At: now}
	known := m.done || m.void[m.began] || e.Dot.Seq <= m.seen[record.seenKey()]
	if void != "" {
		record.Kind, record.Reason = kindVoided, void
		in = Voided{Event: e, Reason: void, At: now}
		known = m.void[e.Dot]
	}
	if known || m.passed[e.Dot] {
		return false, nil
	}
	p, err := m.react(in, record, now)
	if err != nil {
		return false, broken(err)
	}
	if p.ignore {
		m.passed[e.Dot] = true
		return false, nil
	}
	p.cause = e.Event.ID.String()
	i.unrecorded = &p
	return true, nil
}
