package replication_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// The work: commands of several kinds on few streams, so that sites meet often.

// command is what a client asks for, of any site, with one id however often it asks.
type command struct {
	id     string
	kind   int
	stream eventstore.StreamID
	second eventstore.StreamID // of those that write two
	amount int
	home   bool // it is asked of one site only
}

// The kinds of commands.
const (
	addNote      = iota // blind
	setField            // of a profile: the later one wins, field by field
	count               // blind, and any order gives the same
	moveOrder           // guarded by the stream's version
	receiveStock        // gives the site rights to sell
	holdStock           // promises units by rights of the site
	releaseStock        // gives up what was promised
	sellStock           // sells what was promised
	moveRights          // to another site
	transfer            // two streams, one batch
	claimSeat           // under a condition
	numberCommands
	bookVault // where there are some
)

// draw draws a command.
func (w *world) draw(number, asked int) *command {
	c := &command{id: fmt.Sprintf("c%d-%d", number, asked), kind: w.rand.IntN(numberCommands), amount: 1 + w.rand.IntN(5)}
	if w.plan.vaults && w.chance(0.4) {
		c.kind = bookVault
	}
	some := func(category string, n int) eventstore.StreamID {
		return eventstore.Stream(category, strconv.Itoa(w.rand.IntN(n)))
	}
	switch c.kind {
	case addNote:
		c.stream = some("note", 2)
	case setField:
		c.stream = some("profile", 2)
	case count:
		c.stream = some("counter", 2)
	case moveOrder:
		c.stream = some("order", 6)
	case receiveStock, holdStock, releaseStock, sellStock, moveRights:
		c.stream = some("stock", 2)
		c.home = c.kind == receiveStock
	case transfer:
		c.stream, c.second = some("account", 2), some("wallet", 2)
	case claimSeat:
		c.stream = some("seat", 25)
	case bookVault:
		c.stream = vault(w.rand.IntN(vaults))
	}
	return c
}

// decision is what a site decides of a command.
type decision struct {
	request  eventstore.Request
	folded   map[eventstore.StreamID]counts // what was read of streams, for those that say so
	rejected bool
}

// decide decides on a command from what is durable at a site.
func (s *site) decide(c *command) decision {
	d := decision{request: eventstore.Request{ID: c.id}}
	copy(d.request.Hash[:], "asked "+c.id) // what was asked is the same when it is decided anew
	add := func(stream eventstore.StreamID, expect eventstore.Expect, events ...eventstore.Event) {
		d.request.Appends = append(d.request.Appends, eventstore.StreamAppend{Stream: stream, Expect: expect, Events: events})
	}
	switch c.kind {
	case addNote:
		events := []eventstore.Event{event("note.added.v1", byte(c.amount))}
		if c.amount > 3 {
			events = append(events, event("note.added.v1", byte(s.index)))
		}
		add(c.stream, eventstore.Any, events...)
	case setField:
		read := s.read(c.stream)
		set := event("profile.set.v1", byte(c.amount%3), byte(s.w.rand.IntN(100)))
		if len(read) == 0 { // a context of nothing says nothing: that nothing has come is for the expectation to say
			add(c.stream, eventstore.NoStream, set)
			break
		}
		add(c.stream, eventstore.Any, set)
		context, folded := s.context(read)
		d.request.Appends[0].Context = context
		d.folded = map[eventstore.StreamID]counts{c.stream: folded}
	case bookVault:
		add(c.stream, eventstore.Any, event("vault.booked.v1", byte(c.amount)))
	case count:
		add(c.stream, eventstore.Any, event("counter.added.v1", byte(c.amount)))
	case moveOrder:
		read := s.read(c.stream)
		next, ok := foldOrder(read).next(c.amount)
		d.rejected = !ok
		add(c.stream, eventstore.Exactly(uint64(len(read))), event(next))
	case receiveStock, holdStock, releaseStock, sellStock, moveRights:
		s.decideStock(c, &d)
	case transfer:
		add(c.stream, eventstore.Any, event("account.moved.v1", byte(-c.amount)))
		add(c.second, eventstore.Any, event("account.moved.v1", byte(c.amount)))
	case claimSeat:
		d.rejected = len(s.read(c.stream)) > 0
		claim := event("seat.claimed.v1", byte(s.index))
		claim.Tags = []string{"seat:" + c.stream.ID}
		add(c.stream, eventstore.Any, claim)
		d.request.Condition = &eventstore.Condition{Query: eventstore.Tagged("seat:" + c.stream.ID), After: s.log.Durable()}
		if s.log.Durable().LSN == 0 {
			d.request.Condition.After = eventstore.Position{}
		}
	}
	return d
}

func event(name string, payload ...byte) eventstore.Event {
	return eventstore.Event{Type: name, Encoding: eventstore.JSON, Payload: payload}
}

// read returns what is durable of a stream, in canonical order.
func (s *site) read(stream eventstore.StreamID) []*eventstore.Recorded {
	durable := s.log.Durable().LSN
	return slices.DeleteFunc(s.log.Stream(stream), func(e *eventstore.Recorded) bool { return e.Position.LSN > durable })
}

// context returns what a decider says that it has folded, and the same for the oracle.
func (s *site) context(read []*eventstore.Recorded) (context eventstore.Vector, folded counts) {
	folded = counts{}
	for _, e := range read {
		context = context.With(e.Dot)
		i, _ := s.w.oracle.log(e.Dot.Log)
		folded.set(i, max(folded.at(i), e.Dot.Seq))
	}
	return context, folded
}

// decided checks an event of the work when it is born: what must hold at its own site, and for all there is.
func (o *oracle) decided(s *site, b *birth) {
	switch b.stream.Category {
	case "stock":
		o.stocked(s, b)
	case "seat":
		for i, t := range o.logs {
			for _, other := range t.births {
				if other != b && other.stream == b.stream && other.dot.Seq <= b.known.at(i) {
					o.violated("I12", "%s has recorded %s, and had %s, which its condition excludes", s.name, b.dot, other.dot)
				}
			}
		}
	}
}

// fold gives what follows from the events of a stream, given in canonical order, in the way of its kind.
func fold(events []*eventstore.Recorded) string {
	switch events[0].Stream.Category {
	case "order":
		return foldOrder(events).String()
	case "stock":
		return describe(books(events))
	case "profile":
		var fields [3]byte
		for _, e := range events {
			fields[e.Payload[0]] = e.Payload[1]
		}
		return fmt.Sprint(fields)
	case "counter", "account", "wallet":
		sum := 0
		for _, e := range effective(events) {
			sum += int(int8(e.Payload[0]))
		}
		return strconv.Itoa(sum)
	}
	var all strings.Builder
	for _, e := range effective(events) {
		fmt.Fprintf(&all, "%x ", e.Payload)
	}
	return all.String()
}

// effective leaves out what a command did once more at another site.
func effective(events []*eventstore.Recorded) (effective []*eventstore.Recorded) {
	by := map[string]eventstore.LogID{}
	for _, e := range events {
		if log, done := by[e.CommandID]; done && log != e.Dot.Log {
			continue
		}
		by[e.CommandID] = e.Dot.Log
		effective = append(effective, e)
	}
	return effective
}

// order is the state of an order: a machine in which the events of another site may come to nothing.
type order struct {
	state  string
	voided int
}

var orderSteps = map[string]map[string]bool{
	"":          {"order.created.v1": true},
	"created":   {"order.paid.v1": true, "order.cancelled.v1": true},
	"paid":      {"order.shipped.v1": true, "order.cancelled.v1": true},
	"shipped":   {},
	"cancelled": {"order.created.v1": true},
}

func foldOrder(events []*eventstore.Recorded) (o order) {
	for _, e := range effective(events) {
		if !orderSteps[o.state][e.Type] {
			o.voided++
			continue
		}
		o.state = strings.TrimSuffix(strings.TrimPrefix(e.Type, "order."), ".v1")
	}
	return o
}

// next chooses what an order may become.
func (o order) next(choice int) (name string, ok bool) {
	all := []string{"order.created.v1", "order.paid.v1", "order.shipped.v1", "order.cancelled.v1"}
	for i := range all {
		if name = all[(choice+i)%len(all)]; orderSteps[o.state][name] {
			return name, true
		}
	}
	return "order.created.v1", false
}

func (o order) String() string { return fmt.Sprintf("%s, %d void", o.state, o.voided) }
