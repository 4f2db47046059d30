package commands

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tributary-es/tributary/eventstore"
)

// plan is a message sorted by stream: what stays the same over all attempts to decide it.
type plan struct {
	message *Message
	// work has one entry for each stream, in the order in which the commands name them.
	work     []*work
	byStream map[eventstore.StreamID]*work
	// steps has one entry for each command, in order.
	steps []step
}

type step struct {
	cmd  any
	work *work
}

// work is what an attempt does to one stream.
type work struct {
	stream  eventstore.StreamID
	decider decider

	*folded
	// fresh: the state was brought up to what is durable in this attempt, not just found in the cache.
	fresh bool
	// decided are the events of this attempt, and applied how many of them are folded into the state already, because a
	// later command of the message needed to see them.
	decided []eventstore.Event
	applied int
}

// plan finds the aggregate and stream of each command and validates the commands, joining all faults.
func (b *Bus) plan(m *Message) (*plan, error) {
	if m.Tenant == "" {
		m.Tenant = eventstore.DefaultTenant
	}
	if len(m.Commands) == 0 {
		return nil, fmt.Errorf("%w: no commands", eventstore.ErrInvalid)
	}
	p := &plan{message: m, byStream: map[eventstore.StreamID]*work{}, steps: make([]step, len(m.Commands))}
	var faults []error
	for i, cmd := range m.Commands {
		r, ok := b.commands[reflect.TypeOf(cmd)]
		if !ok {
			return nil, fmt.Errorf("command %d, %T: %w", i+1, cmd, ErrUnknownCommand)
		}
		stream := eventstore.StreamID{Tenant: m.Tenant, Category: r.category, ID: r.decider.streamID(cmd)}
		if err := errors.Join(stream.Validate(), r.decider.validate(cmd)); err != nil {
			faults = append(faults, fmt.Errorf("%T: %w", cmd, err))
			continue
		}
		p.steps[i] = step{cmd, p.workOn(stream, r.decider)}
	}
	if err := errors.Join(faults...); err != nil {
		if eventstore.ClassOf(err) == eventstore.Rejected {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", eventstore.ErrInvalid, err)
	}
	if m.ID != "" && m.Hash == (eventstore.Hash{}) {
		hash, err := HashOf(m.Commands...)
		if err != nil {
			return nil, err
		}
		m.Hash = hash
	}
	return p, nil
}

func (p *plan) workOn(stream eventstore.StreamID, d decider) *work {
	if w := p.byStream[stream]; w != nil {
		return w
	}
	w := &work{stream: stream, decider: d}
	p.work = append(p.work, w)
	p.byStream[stream] = w
	return w
}

// reset forgets the attempt before.
func (p *plan) reset() {
	for _, w := range p.work {
		w.folded, w.fresh, w.decided, w.applied = nil, false, nil, 0
	}
}

func (p *plan) streams() []eventstore.StreamID {
	out := make([]eventstore.StreamID, len(p.work))
	for i, w := range p.work {
		out[i] = w.stream
	}
	return out
}

// request returns the append request for what was decided; own is where the store's log stands.
func (p *plan) request(own eventstore.LogState) eventstore.Request {
	m := p.message
	r := eventstore.Request{Tenant: m.Tenant, ID: m.ID, Hash: m.Hash, Durability: m.Durability, Metadata: m.Metadata}
	for _, w := range p.work {
		if len(w.decided) == 0 {
			continue
		}
		r.Appends = append(r.Appends, eventstore.StreamAppend{
			Stream: w.stream, Expect: eventstore.Exactly(w.version), Events: w.decided, Context: w.contextAt(own),
		})
	}
	return r
}

// withFirst puts the first command's stream at the head of a receipt that does not name it.
func (p *plan) withFirst(r eventstore.Receipt, version uint64) eventstore.Receipt {
	first := eventstore.StreamReceipt{Stream: p.work[0].stream, Last: version}
	r.Streams = append([]eventstore.StreamReceipt{first}, r.Streams...)
	return r
}

// names reports whether the receipt names the first command's stream.
func (p *plan) names(r *eventstore.Receipt) bool {
	return len(r.Streams) > 0 && r.Streams[0].Stream == p.work[0].stream
}
