package memstore

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Log is what a store keeps, without locks and without waiting: what it accepts is in the log at once, and durable when
// Sync has been called. Simulations use it to have crashes that lose what was not synced. It is for one goroutine.
type Log struct {
	id    eventstore.LogID
	clock *hlc.Clock
	newID func() uuid.UUID
	fence eventstore.Fence

	events  []eventstore.Recorded
	durable int // how many of them a crash leaves
	// What follows is made from events.
	streams  map[eventstore.StreamID][]int // places in events, in canonical order
	logs     map[eventstore.LogID][]int    // places of each log's events, by seq-1
	requests map[requestKey]request
}

type requestKey struct{ tenant, id string }

type request struct {
	receipt eventstore.Receipt
	hash    eventstore.Hash
}

// NewLog returns an empty log.
func NewLog(o Options) *Log {
	if o.LogID.Site == "" {
		o.LogID.Site = "local"
	}
	if o.LogID.Incarnation == 0 {
		o.LogID.Incarnation = 1
	}
	if o.Clock == nil {
		o.Clock = hlc.New(nil)
	}
	if o.NewID == nil {
		o.NewID = func() uuid.UUID { return eventstore.NewEventID(o.Clock.Now()) }
	}
	l := &Log{id: o.LogID, clock: o.Clock, newID: o.NewID, fence: o.Fence}
	l.index()
	return l
}

// ID returns the name of the log in its present life.
func (l *Log) ID() eventstore.LogID { return l.id }

// Accepted returns the position of the last event.
func (l *Log) Accepted() eventstore.Position { return l.position(len(l.events)) }

// Durable returns the position of the last event that a crash would leave.
func (l *Log) Durable() eventstore.Position { return l.position(l.durable) }

func (l *Log) position(count int) eventstore.Position {
	return eventstore.Position{Incarnation: l.id.Incarnation, LSN: uint64(count)}
}

// Sync makes everything durable.
func (l *Log) Sync() { l.durable = len(l.events) }

// Crash takes away what was not durable, apart from the first kept events of it: a disk may have written more than it was
// asked for. What is torn of a batch is gone too.
func (l *Log) Crash(kept int) {
	end := min(l.durable+kept, len(l.events))
	for end > l.durable && !l.events[end-1].EndsBatch() {
		end--
	}
	l.events = slices.Clip(l.events[:end])
	l.durable = end
	l.index()
}

// Copy returns a log of its own with what is durable in this one, as a backup has it, over the given clock.
func (l *Log) Copy(clock *hlc.Clock) *Log {
	c := &Log{id: l.id, clock: clock, newID: l.newID, fence: l.fence, events: slices.Clone(l.events[:l.durable]), durable: l.durable}
	c.index()
	return c
}

// Live begins another life of the log: seqs and chain begin anew, and what was born here until now is of a log that is like
// a foreign one. Everything is durable afterwards. REQUIRES: the incarnation is above every one of this site and shard.
func (l *Log) Live(incarnation uint32) {
	l.id.Incarnation = incarnation
	for i := range l.events {
		l.events[i].Position.Incarnation = incarnation
	}
	l.Sync()
	l.index()
}

// index makes everything that is made from the events.
func (l *Log) index() {
	l.streams = map[eventstore.StreamID][]int{}
	l.logs = map[eventstore.LogID][]int{}
	l.requests = map[requestKey]request{}
	first := 0
	for i := range l.events {
		l.enter(i)
		if e := &l.events[i]; e.EndsBatch() {
			l.enterRequest(l.events[first : i+1])
			first = i + 1
		}
	}
}

// enter makes an event known: to its stream, its log and the clock.
func (l *Log) enter(place int) {
	e := &l.events[place]
	l.clock.Observe(e.HLC)
	places := l.streams[e.Stream]
	at, _ := slices.BinarySearchFunc(places, e, func(p int, e *eventstore.Recorded) int { return l.events[p].CompareCanonical(e) })
	e.Revises = at < len(places)
	l.streams[e.Stream] = slices.Insert(places, at, place)
	l.logs[e.Dot.Log] = append(l.logs[e.Dot.Log], place)
}

// enterRequest remembers the request that a batch recorded. Of one that was done at two sites the first that came counts.
func (l *Log) enterRequest(batch []eventstore.Recorded) {
	key := requestKey{batch[0].Stream.Tenant, batch[0].CommandID}
	if _, known := l.requests[key]; key.id != "" && !known {
		l.requests[key] = request{eventstore.ReceiptOf(batch), batch[0].RequestHash}
	}
}

// Accept judges a request against everything in the log, durable or not, and records it or says why not. An answer may be
// given away when the log is durable up to where it was accepted.
func (l *Log) Accept(r eventstore.Request) (eventstore.Receipt, error) {
	if err := r.Normalize(); err != nil {
		return eventstore.Receipt{}, err
	}
	if err := r.Supported(); err != nil {
		return eventstore.Receipt{}, err
	}
	if earlier, ok := l.requests[requestKey{r.Tenant, r.ID}]; ok && r.ID != "" {
		if earlier.hash != r.Hash {
			return eventstore.Receipt{}, fmt.Errorf("request %q: %w", r.ID, eventstore.ErrIDReused)
		}
		return duplicate(earlier.receipt), nil
	}
	batch := r.Records(l.newID)
	if err := l.pass(batch); err != nil {
		return eventstore.Receipt{}, err
	}
	if err := l.check(&r); err != nil {
		return eventstore.Receipt{}, err
	}
	return l.record(batch), nil
}

// pass asks the fence about the streams of a request, and gives its events their epochs.
func (l *Log) pass(batch []eventstore.Recorded) error {
	if l.fence == nil {
		return nil
	}
	for i := range batch {
		epoch, err := l.fence(batch[i].Stream, batch[i].Cell)
		if err != nil {
			return err
		}
		batch[i].Epoch = epoch
	}
	return nil
}

func (l *Log) check(r *eventstore.Request) error {
	var conflict eventstore.ConflictError
	for i := range r.Appends {
		a := &r.Appends[i]
		if got := uint64(len(l.streams[a.Stream])); !a.Expect.Holds(got) {
			conflict.Conflicts = append(conflict.Conflicts, eventstore.StreamConflict{Stream: a.Stream, Want: a.Expect, Got: got})
		}
	}
	if c := r.Condition; c != nil {
		if err := c.After.Check(l.Accepted()); err != nil {
			return err
		}
		for _, e := range slices.Backward(l.events[c.After.LSN:]) {
			if e.Stream.Tenant == r.Tenant && c.Query.Matches(&e) {
				conflict.Condition = &eventstore.ConditionConflict{Condition: *c, Found: e.Position}
				break
			}
		}
	}
	if conflict.Conflicts != nil || conflict.Condition != nil {
		return &conflict
	}
	return nil
}

// record gives the batch its numbers and makes it part of the log.
func (l *Log) record(batch []eventstore.Recorded) eventstore.Receipt {
	head := l.head(l.id, len(l.events))
	b := eventstore.Batch{FirstSeq: head.Seq + 1, Count: uint32(len(batch))}
	dep := eventstore.DepOf(l.id, l.Heads())
	for i := range batch {
		e := &batch[i]
		head.Seq++
		e.Position = l.position(len(l.events) + 1)
		e.Dot = eventstore.Dot{Log: l.id, Seq: head.Seq}
		e.Batch, e.Dep = b, dep
		e.HLC = l.clock.Now()
		e.Version = uint64(len(l.streams[e.Stream])) + 1
		head.Chain = chainAfter(head.Chain, e)
		e.Chain = head.Chain
		l.events = append(l.events, *e)
		l.enter(len(l.events) - 1)
	}
	l.enterRequest(batch)
	return eventstore.ReceiptOf(batch)
}

// Receive records events of another log; see eventstore.Replica.
func (l *Log) Receive(events []eventstore.Recorded) (eventstore.Position, error) {
	if err := eventstore.Foreign(l.id, events); err != nil {
		return eventstore.Position{}, err
	}
	log := events[0].Dot.Log
	head := l.head(log, len(l.events))
	if first := events[0].Dot.Seq; first > head.Seq+1 {
		return eventstore.Position{}, &eventstore.GapError{Log: log, Held: head.Seq, Got: first}
	}
	last := events[len(events)-1].Dot.Seq
	events, err := l.compare(head, events)
	if err != nil {
		return eventstore.Position{}, err
	}
	first := len(l.events)
	for i := range events {
		e := events[i]
		e.Position = l.position(len(l.events) + 1)
		e.Opened, e.Erased = nil, false
		if len(e.Payload) == 0 {
			e.Payload = nil
		}
		head.Chain = chainAfter(head.Chain, &e)
		e.Chain = head.Chain
		l.events = append(l.events, e)
		l.enter(len(l.events) - 1)
		if e.EndsBatch() {
			l.enterRequest(l.events[first:])
			first = len(l.events)
		}
	}
	return l.position(l.logs[log][last-1] + 1), nil
}

// compare passes over the events that are held, and returns the others.
func (l *Log) compare(head eventstore.LogHead, events []eventstore.Recorded) ([]eventstore.Recorded, error) {
	first := events[0].Dot.Seq
	if first > head.Seq {
		return events, nil
	}
	held := l.logs[head.Log][first-1:]
	chain := l.chainAt(head.Log, first-1)
	for i := 0; i < len(held) && i < len(events); i++ {
		if chain = chainAfter(chain, &events[i]); chain != l.events[held[i]].Chain {
			return nil, &eventstore.ForkError{Dot: events[i].Dot, Held: l.events[held[i]].Chain, Got: chain}
		}
	}
	rest := events[min(len(held), len(events)):]
	return rest, eventstore.BeginsBatch(rest)
}

// ChainAt returns the chain of a log after a seq, durable or not, if that much of it is held.
func (l *Log) ChainAt(log eventstore.LogID, seq uint64) (eventstore.Hash, bool) {
	if seq > uint64(len(l.logs[log])) {
		return eventstore.Hash{}, false
	}
	return l.chainAt(log, seq), true
}

// chainAt returns the chain of a log after a seq. REQUIRES: it is held.
func (l *Log) chainAt(log eventstore.LogID, seq uint64) eventstore.Hash {
	if seq == 0 {
		return eventstore.ChainStart(log)
	}
	return l.events[l.logs[log][seq-1]].Chain
}

// head returns how far a log is held among the first count events.
func (l *Log) head(log eventstore.LogID, count int) eventstore.LogHead {
	places := l.logs[log]
	held, _ := slices.BinarySearch(places, count)
	if held == 0 {
		return eventstore.LogHead{Log: log, Chain: eventstore.ChainStart(log)}
	}
	e := &l.events[places[held-1]]
	return eventstore.LogHead{Log: log, Seq: e.Dot.Seq, HLC: e.HLC, Chain: e.Chain}
}

// Heads returns how far each log is held, durable or not, in the order of LogID.Compare, this one among them.
func (l *Log) Heads() []eventstore.LogHead { return l.headsOf(len(l.events)) }

// DurableHeads returns how far each log is held and durable, in the order of LogID.Compare, this one among them.
func (l *Log) DurableHeads() []eventstore.LogHead { return l.headsOf(l.durable) }

func (l *Log) headsOf(count int) []eventstore.LogHead {
	heads := []eventstore.LogHead{l.head(l.id, count)}
	for log := range l.logs {
		if h := l.head(log, count); log != l.id && h.Seq > 0 {
			heads = append(heads, h)
		}
	}
	slices.SortFunc(heads, func(a, b eventstore.LogHead) int { return a.Log.Compare(b.Log) })
	return heads
}

// Events returns what is durable, in order. It is not to be changed.
func (l *Log) Events() []eventstore.Recorded { return l.events[:l.durable:l.durable] }

// Stream returns the events of a stream, durable or not, in canonical order.
func (l *Log) Stream(stream eventstore.StreamID) []*eventstore.Recorded {
	places := l.streams[stream]
	events := make([]*eventstore.Recorded, len(places))
	for i, place := range places {
		events[i] = &l.events[place]
	}
	return events
}

// OfLog returns the durable events of one log after a seq, at most limit of them, in order.
func (l *Log) OfLog(log eventstore.LogID, after uint64, limit int) []eventstore.Recorded {
	places := l.logs[log]
	places = places[min(after, uint64(len(places))):]
	events := make([]eventstore.Recorded, 0, min(limit, len(places)))
	for _, place := range places[:min(limit, len(places))] {
		if place >= l.durable {
			break
		}
		events = append(events, l.events[place])
	}
	return events
}

func chainAfter(chain eventstore.Hash, e *eventstore.Recorded) eventstore.Hash {
	content := eventstore.ContentHash(eventstore.AppendContent(nil, e))
	return eventstore.NextChain(chain, e.Dot.Seq, e.HLC, e.Version, content)
}

func duplicate(r eventstore.Receipt) eventstore.Receipt {
	r.Duplicate = true
	return r
}
