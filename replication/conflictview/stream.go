package conflictview

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// stream is the events of a stream up to some place in the log, with the records of its conflicts.
//
// A record is a function of the event that it is of and of those before it in canonical order, where the resolver folds event by
// event: one that comes then changes its own record and those behind it. Where one branch counts, it may change all. A stream of more
// than maxJudged events, or more than maxConflicts of which are in conflict, is not judged, and its records say of each log only from where
// on it was not known: one that comes changes those behind it that did not know it, and had known all of its log before. So a record is
// written once for each log, not once for each event.
type stream struct {
	o         *Options
	id        eventstore.StreamID
	events    []*event // in canonical order
	conflicts replication.StreamConflicts
	records   int  // as many as there are events in conflict
	long      bool // it is not judged
	// bits has one for each log, up to 64 of them.
	bits map[eventstore.LogID]uint64
	// judging has judged the first events; nil where that cannot be done event by event.
	judging *commands.Judging
	judged  int

	// personal: some event holds what may be erased. payloads are the bytes of all.
	personal bool
	payloads int
	weight   int // as the finder holds it
}

// event is one of a stream. It has a record when it is in conflict with others.
type event struct {
	eventstore.Recorded
	record *Record
	// with are the bits of the logs that the record names, in a stream that is not judged.
	with uint64
}

// newStream returns one without events.
func newStream(o *Options, id eventstore.StreamID) *stream {
	s := &stream{o: o, id: id, bits: map[eventstore.LogID]uint64{}}
	if o.Judging != nil {
		s.judging = o.Judging(id.Category)
	}
	return s
}

// place returns the place in the stream that an event has, or would have.
func (s *stream) place(r *eventstore.Recorded) int {
	if n := len(s.events); n == 0 || s.events[n-1].CompareCanonical(r) < 0 {
		return n // as mostly
	}
	at, _ := slices.BinarySearchFunc(s.events, r, func(e *event, r *eventstore.Recorded) int { return e.CompareCanonical(r) })
	return at
}

// insert puts the event that the log has next in its place, and returns that. It is all that an event asks for which knew those before
// it, and is no person's choice: it changes no record. r is the caller's, with all that it refers to.
func (s *stream) insert(r *eventstore.Recorded) int {
	e := &event{Recorded: *r}
	e.Payload, e.Opened = bytes.Clone(r.Payload), bytes.Clone(r.Opened)
	at := s.place(r)
	s.events = slices.Insert(s.events, at, e)
	s.conflicts.Add(&e.Recorded)
	s.personal = s.personal || personal(r)
	s.payloads += len(r.Payload) + len(r.Opened)
	if _, ok := s.bits[e.Dot.Log]; !ok && len(s.bits) < 64 {
		s.bits[e.Dot.Log] = 1 << len(s.bits)
	}
	switch {
	case s.long:
		s.strip(e)
	case len(s.events) > maxJudged:
		s.lengthen()
	}
	return at
}

// lengthen has the stream judged no more.
func (s *stream) lengthen() {
	for _, e := range s.events {
		s.strip(e)
	}
	s.long, s.judging, s.personal = true, nil, false
}

// strip forgets of an event what only judging needs.
func (s *stream) strip(e *event) {
	s.payloads -= len(e.Payload) + len(e.Opened)
	e.Payload, e.Opened, e.Tags, e.Metadata = nil, nil, nil, eventstore.Metadata{}
}

// personal reports whether a part of an event may be erased.
func personal(r *eventstore.Recorded) bool { return r.KeyRef != 0 || r.Opened != nil }

// takes reports whether the event that the log has next can be added as it comes, without being read as the judge needs it.
func (s *stream) takes(r *eventstore.Recorded) bool { return !personal(r) || s.long }

// add adds the event that the log has next, and returns the records that it brings about or changes, in canonical order. After an
// error the stream is of no use.
func (s *stream) add(r *eventstore.Recorded) ([]*Record, error) {
	before := s.long
	at := s.insert(r)
	changed, err := s.update(at, s.long && !before)
	for _, c := range changed {
		c.Position, c.SeenBy = r.Position.String(), s.o.Site
	}
	return changed, err
}

// update writes the records anew that the event at a place has changed, or all, and returns those that differ now.
func (s *stream) update(at int, all bool) (changed []*Record, err error) {
	from := at
	if all {
		from = 0
	}
	if !s.long {
		more := s.unrecorded(from)
		if s.records+more > maxConflicts {
			s.lengthen()
			from, all = 0, true
		} else if s.records+more == 0 {
			return nil, nil
		}
	}
	outcome := func(int) *commands.Outcome { return &commands.Outcome{Verdict: NotJudged, Reason: unjudged} }
	if !s.long {
		if outcome, err = s.judge(&from); err != nil {
			return nil, fmt.Errorf("judge stream %s: %w", s.id, err)
		}
	}
	for i, f := range s.events[from:] {
		if i += from; s.long && !all && i > at && !s.concerns(&s.events[at].Recorded, f) {
			continue
		}
		c, ok := s.conflicts.Of(&f.Recorded)
		if !ok {
			continue
		}
		if s.long {
			for n := range c.With {
				c.With[n].To = 0
				f.with |= s.bits[c.With[n].Log]
			}
		}
		o := outcome(i)
		if o == nil {
			o = &commands.Outcome{}
		}
		r := record(&c, &f.Recorded, o)
		switch {
		case f.record == nil:
			s.records++
		case f.record.same(r):
			continue
		}
		f.record = r
		changed = append(changed, r)
	}
	return changed, nil
}

// concerns reports whether an event that has come to stand before another one may change the record of that, which is not judged: it did
// not know it, and knows already of nothing else of its log that it did not know. Who did one command is said of all such.
func (s *stream) concerns(before *eventstore.Recorded, f *event) bool {
	if f.with&s.bits[before.Dot.Log] != 0 && (f.CommandID == "" || f.CommandID != before.CommandID) {
		return false
	}
	return !f.Knew(before)
}

// unrecorded counts the events from a place on that are in conflict with others, and have no record of it.
func (s *stream) unrecorded(from int) (n int) {
	for _, f := range s.events[from:] {
		if f.record == nil {
			if _, ok := s.conflicts.Of(&f.Recorded); ok {
				n++
			}
		}
	}
	return n
}

// judge judges the stream, of which the records before a place stand, and returns what came of the conflicts of the events from
// there on; the place is the first one, where they do not stand.
func (s *stream) judge(from *int) (outcome func(place int) *commands.Outcome, err error) {
	if s.judging == nil {
		*from = 0
		return s.judgeWhole()
	}
	first := *from
	if first < s.judged {
		s.judging.Restart()
		s.judged = 0
	}
	for ; s.judged < first; s.judged++ {
		if err := s.judging.Skip(&s.events[s.judged].Recorded); err != nil {
			return nil, err
		}
	}
	outcomes := make([]*commands.Outcome, len(s.events)-first)
	for i := range outcomes {
		if outcomes[i], err = s.judging.Next(&s.events[first+i].Recorded); err != nil {
			return nil, err
		}
	}
	s.judged = len(s.events)
	return func(place int) *commands.Outcome { return outcomes[place-first] }, nil
}

// judgeWhole judges the stream at once.
func (s *stream) judgeWhole() (outcome func(place int) *commands.Outcome, err error) {
	events := make([]eventstore.Recorded, len(s.events))
	for i, e := range s.events {
		events[i] = e.Recorded
	}
	judged, err := s.o.Judge(s.id.Category, events)
	if err != nil {
		return nil, err
	}
	outcomes := make(map[eventstore.Dot]*commands.Outcome, len(judged.Outcomes))
	for i := range judged.Outcomes {
		outcomes[judged.Outcomes[i].Event] = &judged.Outcomes[i]
	}
	return func(place int) *commands.Outcome { return outcomes[s.events[place].Dot] }, nil
}
