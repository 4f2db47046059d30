package saga

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
)

// instanceKey names an instance of a runner's saga.
type instanceKey struct{ tenant, id string }

// instance is an open instance in memory.
//
// A worker runs an instance alone. What only that worker touches stands first; what intake, timers and views touch too
// is guarded by Runner.mu.
type instance struct {
	instanceKey
	// category is that of its stream and part of its ids, name is what Triggered.Instance says. All three are zero until it is
	// known under which name the instance acts.
	category, name string
	stream         eventstore.StreamID

	// memory is the fold of the stream's steps; nil until it is loaded.
	memory *memory
	// assumed: the memory is that of an instance without steps, which was taken for granted and not looked up.
	assumed bool
	// unrecorded is a step that was reacted to but is not in the log yet. The memory has seen it.
	unrecorded *planned
	// blocked: nothing is tried before this time, for the store did not answer. failures counts in a row.
	blocked  time.Time
	failures int
	// reloads counts how often the memory was dropped since the last step was recorded.
	reloads int
	// unreviewed: what other sites have done to the streams of its triggers has not been looked at since it was loaded.
	unreviewed bool

	// Guarded by Runner.mu.
	phase    phase
	inbox    []*arrival
	messages []*Message
	timers   map[string]*alarm
	wake     *alarm
	recorded bool  // has steps in the log
	listed   bool  // a checkpoint says that it is open
	moved    bool  // a step was recorded since it was opened
	fault    error // why it is parked
	// tried, unless it is nil, is told once what came of trying a parked instance again.
	tried chan<- error
	// told is how many triggers of the inbox checkpoints list as waiting; gone is how many they list that have been dealt
	// with since the last.
	told, gone int
	reported   string // what the log was last told of a collector
}

// phase is what an instance is doing.
type phase uint8

const (
	resting phase = iota // waits for triggers and timers
	queued               // waits for a worker
	running              // a worker has it
	waiting              // will be tried again at wake
	parked               // waits for Retry
)

// busy reports whether an instance of that phase will do something by itself.
func (p phase) busy() bool { return p == queued || p == running || p == waiting }

// arrival is an input that has not been reacted to: a trigger, or a timer that is due.
type arrival struct {
	in inputRecord
	// event is the trigger; nil when it has to be read, as is all that waits for a parked instance.
	event *eventstore.Recorded
	// mark is settled when the trigger is dealt with; nil for timers and for triggers that a checkpoint remembered.
	mark *mark
	told bool // a checkpoint lists it as waiting. INVARIANT: of the triggers in an inbox the first ones are told of.
}

// foreign reports whether the arrival is an event of another site than the given one.
func (a *arrival) foreign(site string) bool {
	return a.in.Dot != dotText{} && a.in.Dot.Log.Site != site
}

// shift takes the first arrival from the inbox. REQUIRES: Runner.mu is held.
func (i *instance) shift() {
	if a := i.inbox[0]; a.told {
		a.told = false
		i.told--
		i.gone++
	}
	i.inbox[0] = nil
	i.inbox = i.inbox[1:]
}

// memory is what an instance knows of itself.
type memory struct {
	reactor reactor
	version uint64 // steps that count
	height  uint64 // events of the stream
	began   eventstore.Dot
	// beside are the events of the site's steps that do not count.
	beside map[uuid.UUID]bool
	// seen are the triggers that were reacted to, void the events that it was told are void, and passed what it has ignored of
	// what other sites did.
	seen         map[seenKey]uint64
	void, passed map[eventstore.Dot]bool
	streams      []eventstore.StreamID // of its triggers
	used         map[string]bool
	sends        []*outgoing // not answered, in order
	// messages are all sends, as the outbox shows them.
	messages []*Message
	timers   map[string]time.Time
	done     bool
	outcome  string
	// metadata is what commands are sent with: correlation of the first trigger, trace context of the last.
	metadata eventstore.Metadata
}

// outgoing is a send that has no recorded outcome.
type outgoing struct {
	Send
	causation string
	message   *Message
	notBefore time.Time
}

// seenKey names the events of a stream that were born in one log. They are seen in the order of their seqs.
type seenKey struct {
	stream string
	log    eventstore.LogID
}

func newMemory(r reactor) *memory {
	return &memory{
		reactor: r, seen: map[seenKey]uint64{}, void: map[eventstore.Dot]bool{}, passed: map[eventstore.Dot]bool{},
		beside: map[uuid.UUID]bool{}, used: map[string]bool{}, timers: map[string]time.Time{},
	}
}

// knows reports whether the arrival needs no reaction any more.
func (m *memory) knows(a *arrival) bool {
	if m.done {
		return true
	}
	if a.in.Kind == kindTriggered {
		return a.in.Dot.Seq <= m.seen[a.in.seenKey()] || m.void[a.in.Dot.Dot] || m.passed[a.in.Dot.Dot]
	}
	due, set := m.timers[a.in.Timer]
	return !set || !due.Equal(*a.in.Due)
}

// react brings the state forward by an input and returns the step to record. Once an instance is done only the outcomes of
// its last sends are recorded, and nobody reacts to them, but what is void can have it begin again. After an error the memory
// is of no use.
func (m *memory) react(in Input, record inputRecord, at time.Time) (planned, error) {
	if m.done && record.Kind != kindVoided {
		return plan(record, at, nil, m.used)
	}
	actions, err := m.reactor.react(in)
	if err != nil {
		return planned{}, err
	}
	p, err := plan(record, at, actions, m.used)
	if err != nil {
		return planned{}, fmt.Errorf("actions after %T: %w", in, err)
	}
	return p, nil
}

// follow takes over where a trigger says it comes from.
func (m *memory) follow(trigger *eventstore.Recorded) {
	if m.metadata.Correlation == "" {
		m.metadata.Correlation = trigger.Correlation
		if m.metadata.Correlation == "" {
			m.metadata.Correlation = trigger.Event.ID.String()
		}
	}
	m.metadata.TraceParent, m.metadata.TraceState = trigger.TraceParent, trigger.TraceState
}

// apply takes note that a step is in the log; causation is the step's event id.
func (m *memory) apply(p *planned, name string, of *instance, causation string) {
	m.version++
	switch in := &p.record.In; in.Kind {
	case kindTriggered:
		m.triggered(in)
	case kindVoided:
		m.void[in.Dot.Dot] = true
		m.done, m.outcome = false, ""
	case kindFired:
		delete(m.timers, in.Timer)
	default:
		m.answered(in)
	}
	for _, name := range p.record.Cancel {
		delete(m.timers, name)
	}
	for _, t := range p.record.Set {
		m.timers[t.Name] = t.Due
	}
	for _, s := range p.sends {
		m.used[s.Key] = true
		message := newMessage(name, of, s, p.record.At)
		m.messages = append(m.messages, message)
		m.sends = append(m.sends, &outgoing{Send: s, causation: causation, message: message})
	}
	if p.record.Complete != nil {
		m.done, m.outcome = true, *p.record.Complete
		clear(m.timers)
	}
}

func (m *memory) triggered(in *inputRecord) {
	if m.version == 1 {
		m.began = in.Dot.Dot
	}
	key := in.seenKey()
	m.seen[key] = max(m.seen[key], in.Dot.Seq)
	if stream, err := eventstore.ParseStreamID(in.Stream); err == nil && !slices.Contains(m.streams, stream) {
		m.streams = append(m.streams, stream)
	}
}

func (m *memory) answered(in *inputRecord) {
	for i, s := range m.sends {
		if s.Key == in.Key {
			s.message.Status = StatusSent
			if in.Kind == kindRefused {
				s.message.Status, s.message.LastError = StatusFailed, in.Code+": "+in.Reason
			}
			m.sends = append(m.sends[:i:i], m.sends[i+1:]...)
			return
		}
	}
}

// over reports whether nothing is left to do, now or later.
func (m *memory) over() bool { return m.done && len(m.sends) == 0 }

// decodeStep reads the payload of a step event.
func decodeStep(r *eventstore.Recorded, saga string) (*stepRecord, error) {
	if r.Type != stepType(saga) || r.Encoding != eventstore.JSON {
		return nil, fmt.Errorf("event %s in a saga's stream, should be %s", r.Type, stepType(saga))
	}
	var s stepRecord
	if err := json.Unmarshal(r.Payload, &s); err != nil {
		return nil, fmt.Errorf("decode step: %w", err)
	}
	if s.In.Kind == kindFired && s.In.Due == nil {
		return nil, fmt.Errorf("decode step: timer %q fired without a due time", s.In.Timer)
	}
	return &s, nil
}
