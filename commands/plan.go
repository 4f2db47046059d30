package commands

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tributary-es/tributary/eventstore"
)

// plan is a message sorted by what its commands are decided on: what stays the same over all attempts to decide it, and what
// the present attempt has decided.
type plan struct {
	message *Message
	// work has one entry for each stream of an aggregate, in the order in which the commands name them.
	work     []*work
	byStream map[eventstore.StreamID]*work
	// scopes has one entry for each query.
	scopes []*scope
	// steps has one entry for each command, in order.
	steps []step

	// held are the locks of the attempt. refresh says that states over queries are read up to standpoint. several says that other
	// sites, too, have recorded what stands before it, and stands that both are known.
	held            []eventstore.StreamID
	refresh         bool
	standpoint      eventstore.Position
	several, stands bool
	// decided are all events of the attempt, kept when there are scopes, and loose those of deciders that go to streams which
	// no aggregate of the message works on.
	decided []eventstore.Recorded
	loose   []eventstore.StreamAppend
}

// step is a command, with what it is decided on: a stream or a query.
type step struct {
	cmd   any
	work  *work
	scope *scope
}

// work is what an attempt does to one stream.
type work struct {
	stream    eventstore.StreamID
	aggregate aggregate

	*folded
	// fresh: the state was brought up to what is durable in this attempt, not just found in the cache.
	fresh bool
	// decided are the events of this attempt, and applied how many of them are folded into the state already, because a
	// later command of the message needed to see them.
	decided []eventstore.Event
	applied int
}

// plan finds what each command is decided on, and validates the commands, joining all faults.
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
		var s step
		var err error
		if r, ok := b.commands[reflect.TypeOf(cmd)]; ok {
			s, err = p.step(cmd, r)
		} else if settle, ok := cmd.(Settle); ok {
			s, err = b.settling(p, settle)
		} else {
			return nil, fmt.Errorf("command %d, %T: %w", i+1, cmd, ErrUnknownCommand)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%T: %w", cmd, err))
			continue
		}
		p.steps[i] = s
	}
	if m.Expect != eventstore.Any && len(faults) == 0 && p.first() == nil {
		faults = append(faults, errors.New("none of the commands is for a stream, which could be expected to be at a version"))
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

// step validates a command and finds what it is decided on.
func (p *plan) step(cmd any, r registered) (step, error) {
	if r.aggregate != nil {
		stream := eventstore.StreamID{Tenant: p.message.Tenant, Category: r.category, ID: r.aggregate.streamID(cmd)}
		if err := errors.Join(stream.Validate(), r.aggregate.validate(cmd)); err != nil {
			return step{}, err
		}
		return step{cmd: cmd, work: p.workOn(stream, r.aggregate)}, nil
	}
	if err := r.scopes.validate(cmd); err != nil {
		return step{}, err
	}
	query := r.scopes.query(cmd)
	if len(query) == 0 {
		return step{}, errors.New("its query is empty and would match every event")
	}
	if err := query.Validate(); err != nil {
		return step{}, err
	}
	return step{cmd: cmd, scope: p.scopeOn(query, r.scopes)}, nil
}

func (p *plan) workOn(stream eventstore.StreamID, a aggregate) *work {
	if w := p.byStream[stream]; w != nil {
		return w
	}
	w := &work{stream: stream, aggregate: a}
	p.work = append(p.work, w)
	p.byStream[stream] = w
	return w
}

func (p *plan) scopeOn(q eventstore.Query, d scoper) *scope {
	key := scopeKey(p.message.Tenant, d.name(), q)
	for _, s := range p.scopes {
		if s.key == key {
			return s
		}
	}
	s := &scope{decider: d, query: q, key: key}
	p.scopes = append(p.scopes, s)
	return s
}

// first returns the work on the first stream that a command is for, nil when all commands are deciders'.
func (p *plan) first() *work {
	if len(p.work) == 0 {
		return nil
	}
	return p.work[0]
}

// reset forgets the attempt before.
func (p *plan) reset(refresh bool) {
	for _, w := range p.work {
		w.folded, w.fresh, w.decided, w.applied = nil, false, nil, 0
	}
	for _, s := range p.scopes {
		s.narrow, s.wide, s.released = nil, nil, false
	}
	p.held, p.refresh, p.decided, p.loose = nil, refresh, nil, nil
	p.standpoint, p.several, p.stands = eventstore.Position{}, false, false
}

// keys returns what an attempt locks.
func (p *plan) keys() []eventstore.StreamID {
	out := make([]eventstore.StreamID, 0, len(p.work)+len(p.scopes))
	for _, w := range p.work {
		out = append(out, w.stream)
	}
	for _, s := range p.scopes {
		out = append(out, s.key)
	}
	return out
}

// note keeps an event that was decided, for the scopes.
func (p *plan) note(stream eventstore.StreamID, e *eventstore.Event) {
	if len(p.scopes) > 0 {
		p.decided = append(p.decided, eventstore.Recorded{Stream: stream, Event: *e})
	}
}

// addLoose adds what a decider decided for a stream to the work on it, if there is one, or else to what is loose.
func (p *plan) addLoose(d decision) {
	if w := p.byStream[d.stream]; w != nil {
		w.decided = append(w.decided, d.event)
		return
	}
	for i := range p.loose {
		if p.loose[i].Stream == d.stream {
			p.loose[i].Events = append(p.loose[i].Events, d.event)
			return
		}
	}
	p.loose = append(p.loose, eventstore.StreamAppend{Stream: d.stream, Events: []eventstore.Event{d.event}})
}

// request returns the append request for what was decided; own is where the store's log stands.
func (p *plan) request(own eventstore.LogState) eventstore.Request {
	m := p.message
	r := eventstore.Request{
		Tenant: m.Tenant, ID: m.ID, Hash: m.Hash, Condition: p.condition(), Durability: m.Durability, Metadata: m.Metadata,
	}
	for _, w := range p.work {
		if len(w.decided) == 0 {
			continue
		}
		r.Appends = append(r.Appends, eventstore.StreamAppend{
			Stream: w.stream, Expect: eventstore.Exactly(w.version), Events: w.decided, Context: w.contextAt(own),
		})
	}
	r.Appends = append(r.Appends, p.loose...)
	return r
}

// committed records that what was decided for the streams is in the log, the first event of the request at a position.
func (p *plan) committed(first eventstore.Position) {
	last := eventstore.Position{Incarnation: first.Incarnation, LSN: first.LSN - 1}
	for _, w := range p.work { // in the order of the request
		if len(w.decided) > 0 {
			last.LSN += uint64(len(w.decided))
			w.committed(last)
			if settles(&w.decided[0]) {
				w.folded = nil // another branch may count now
			}
		}
	}
}

// withFirst puts the first stream that a command is for at the head of a receipt that does not name it.
func (p *plan) withFirst(r eventstore.Receipt, version uint64) eventstore.Receipt {
	first := eventstore.StreamReceipt{Stream: p.first().stream, Last: version}
	r.Streams = append([]eventstore.StreamReceipt{first}, r.Streams...)
	return r
}

// names reports whether the receipt names the first stream that a command is for, if there is one.
func (p *plan) names(r *eventstore.Receipt) bool {
	first := p.first()
	return first == nil || len(r.Streams) > 0 && r.Streams[0].Stream == first.stream
}
