package saga

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// turn does the next thing that an instance has to do, in this order: be named; be loaded; record the step it has reacted
// with; react to what other sites have done, and to what has arrived; send. When there is nothing, did is false, and retryAt says when a send is to be tried again.
func (r *Runner) turn(ctx context.Context, i *instance, now time.Time) (retryAt time.Time, did bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.options.Timeout)
	defer cancel()
	switch {
	case i.collects():
		did, err := r.place(ctx, i)
		return time.Time{}, did, err
	case i.stream.IsZero():
		return time.Time{}, true, r.identify(ctx, i)
	case i.memory == nil:
		return time.Time{}, true, r.load(ctx, i)
	case i.unrecorded != nil:
		return time.Time{}, true, r.record(ctx, i)
	case i.unreviewed:
		news, err := r.review(ctx, i, now)
		i.unreviewed = news || err != nil
		return time.Time{}, true, err
	}
	if a := r.arrived(i); a != nil {
		return time.Time{}, true, r.reactTo(ctx, i, a, now)
	}
	if len(i.memory.sends) == 0 {
		return time.Time{}, false, nil
	}
	s := i.memory.sends[0]
	if now.Before(s.notBefore) {
		return s.notBefore, false, nil
	}
	return time.Time{}, true, r.send(ctx, i, s)
}

// instant returns t as steps record it.
func instant(t time.Time) time.Time { return t.UTC().Round(0) }

// reactTo reacts to a trigger or a timer; the step is then unrecorded.
func (r *Runner) reactTo(ctx context.Context, i *instance, a *arrival, now time.Time) error {
	m := i.memory
	if a.in.Kind == kindTriggered && a.event == nil {
		event, err := r.trigger(ctx, &a.in)
		if err != nil {
			return err
		}
		a.event, a.in.Dot = event, dotText{event.Dot}
	}
	if a.foreign(r.site) {
		if news, err := r.review(ctx, i, now); news || err != nil {
			return err
		}
		r.drop(i, a)
		return nil
	}
	if m.knows(a) {
		r.drop(i, a)
		return nil
	}
	now = instant(now)
	var in Input = Fired{Timer: a.in.Timer, At: now}
	cause := "timer/" + a.in.Timer
	if a.in.Kind == kindTriggered {
		in, cause = Triggered{Event: a.event, Instance: i.name, At: now}, a.event.Event.ID.String()
	}
	p, err := m.react(in, a.in, now)
	switch {
	case err != nil && i.assumed:
		// It may make no sense only because the instance is not as new as was assumed.
		i.forget()
		return nil
	case err != nil:
		return broken(err)
	case p.ignore:
		r.drop(i, a)
		return nil
	}
	if a.event != nil {
		m.follow(a.event)
	}
	p.from, p.cause = a, cause
	i.unrecorded = &p
	return nil
}

// forget has the instance loaded before anything else is done.
func (i *instance) forget() { i.memory, i.unrecorded, i.assumed = nil, nil, false }

// record appends the unrecorded step.
func (r *Runner) record(ctx context.Context, i *instance) error {
	p, m := i.unrecorded, i.memory
	id, eventID := m.stepIDs(i, &p.record.In)
	event, err := p.record.event(r.definition.name, eventID)
	if err != nil {
		return broken(err)
	}
	receipt, err := r.store.Append(ctx, eventstore.Request{
		Tenant: i.tenant, ID: id, Hash: sha256.Sum256([]byte(id)),
		Appends: []eventstore.StreamAppend{{
			Stream: i.stream, Expect: eventstore.Exactly(m.height), Events: []eventstore.Event{event},
		}},
		Metadata: r.metadata(m, p.cause),
	})
	if errors.Is(err, eventstore.ErrConflict) || err == nil && receipt.Duplicate {
		// The log knows more than the memory: it holds this very step, or others. That happens after a restart, or beside
		// another runner; happening over and over it is a fault.
		if i.reloads++; i.reloads > maxReloads {
			return broken(fmt.Errorf("the stream of the instance does not fit its memory, even after %d reloads", maxReloads))
		}
		i.forget()
		return nil
	}
	if err != nil {
		return storeFault("record step", err)
	}
	i.reloads = 0
	i.assumed = false
	r.recorded(i, p, eventID.String())
	return nil
}

const maxReloads = 10

// stepIDs returns the request id under which the step for an input is recorded, and the id of its event. Where a step with these
// stands in the stream and does not count, the log would take the step that is to count for a repetition of it: it gets the next ids.
// What both have asked for is done once all the same, for commands go by the keys of sends (CommandID).
func (m *memory) stepIDs(i *instance, in *inputRecord) (string, uuid.UUID) {
	for nth := 1; ; nth++ {
		id := stepID(i.category, i.id, in, nth)
		if event := stepEventID(i.tenant, id); !m.beside[event] {
			return id, event
		}
	}
}

// recorded takes note that the unrecorded step is in the log.
func (r *Runner) recorded(i *instance, p *planned, causation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := i.memory
	m.height++
	m.apply(p, r.definition.name, i, causation)
	i.unrecorded = nil
	i.messages = m.messages
	r.syncTimers(i)
	i.recorded, i.moved = true, true
	if !i.listed {
		r.checkpoint.dirty[i.instanceKey] = true
	}
	if p.from != nil {
		r.pop(i, p.from)
	}
}

func (r *Runner) metadata(m *memory, causation string) eventstore.Metadata {
	meta := m.metadata
	meta.Causation, meta.Actor = causation, "saga/"+r.definition.name
	return meta
}

// send dispatches commands and reacts to the outcome; the step is then unrecorded.
func (r *Runner) send(ctx context.Context, i *instance, s *outgoing) error {
	meta := commands.Meta{
		Tenant: i.tenant, ID: CommandID(i.category, i.id, s.Key), Metadata: r.metadata(i.memory, s.causation),
	}
	if r.options.Void != nil {
		// What began the instance may have become void, now or a moment ago, and what stands in its place is not its to move.
		meta.RestsOn = []eventstore.Dot{i.memory.began}
	}
	receipt, err := r.bus.Dispatch(ctx, meta, s.Commands...)
	now := instant(r.options.Now())
	record := inputRecord{Key: s.Key}
	var in Input
	switch outcome, code, reason := judge(err); outcome {
	case success:
		record.Kind, record.Position = kindSucceeded, receipt.Position.String()
		in = Succeeded{Key: s.Key, Receipt: lasting(receipt), At: now}
	case refusal:
		record.Kind, record.Code, record.Reason = kindRefused, code, reason
		in = Refused{Key: s.Key, Code: code, Reason: reason, At: now}
	case retry:
		r.failed(s, err)
		return nil
	default:
		return broken(fmt.Errorf("send %q: %w", s.Key, err))
	}
	p, err := i.memory.react(in, record, now)
	if err != nil {
		return broken(err)
	}
	p.cause = meta.ID
	i.unrecorded = &p
	return nil
}

// failed plans the next try of a send.
func (r *Runner) failed(s *outgoing, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.message.RetryCount++
	s.message.LastError = err.Error()
	s.notBefore = r.options.Now().Add(r.options.Backoff(s.message.RetryCount))
	r.lastFault = err.Error()
}
