package replication

import (
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Kind says what an event is in conflict about.
type Kind string

// The kinds of conflicts that the events of one stream tell of.
const (
	// Concurrent: several sites wrote the stream, none knowing of the others.
	Concurrent Kind = "concurrent"
	// DuplicateCommand: a command was done at two sites, as one was asked again when the other had not answered.
	DuplicateCommand Kind = "duplicate_command"
)

// Conflict says of an event that others of its stream, before it in canonical order, were not known when it was decided. It
// is a function of the stream's events alone: sites that hold the same events have the same conflicts.
type Conflict struct {
	Event  eventstore.Dot
	Stream eventstore.StreamID
	HLC    hlc.Timestamp
	Kind   Kind
	// With has those others, in the order of their logs.
	With []Span
}

// Span is a run of one stream's events within one log: the first and the last of them, with all of the stream between.
type Span struct {
	Log      eventstore.LogID
	From, To uint64
}

// Conflicts returns the conflicts among the events of one stream, which are given in canonical order.
func Conflicts(events []*eventstore.Recorded) []Conflict {
	var conflicts []Conflict
	var s StreamConflicts
	for _, f := range events {
		s.Add(f)
		if c, ok := s.Of(f); ok {
			conflicts = append(conflicts, c)
		}
	}
	return conflicts
}

// StreamConflicts says of events of one stream what they are in conflict with, as more of them come. The zero value has none.
type StreamConflicts struct {
	logs []streamLog // in order
	// commands has the events of each command, in the order in which they were added.
	commands map[string][]*eventstore.Recorded
}

// Add adds an event. REQUIRES: those of its log that stand before it were added. It is kept, and not changed.
func (s *StreamConflicts) Add(e *eventstore.Recorded) {
	at, found := slices.BinarySearchFunc(s.logs, e.Dot.Log, func(l streamLog, id eventstore.LogID) int { return l.log.Compare(id) })
	if !found {
		s.logs = slices.Insert(s.logs, at, streamLog{log: e.Dot.Log})
	}
	s.logs[at].events = append(s.logs[at].events, e)
	if e.CommandID != "" {
		if s.commands == nil {
			s.commands = map[string][]*eventstore.Recorded{}
		}
		s.commands[e.CommandID] = append(s.commands[e.CommandID], e)
	}
}

// Of returns the conflict of an event with those of the events added that stand before it in canonical order; not ok when it knew
// all of them. It takes a time that grows with the logarithm of the stream.
func (s *StreamConflicts) Of(f *eventstore.Recorded) (Conflict, bool) {
	var with []Span
	for i := range s.logs {
		l := &s.logs[i]
		if l.log == f.Dot.Log {
			continue
		}
		before, _ := slices.BinarySearchFunc(l.events, f, (*eventstore.Recorded).CompareCanonical)
		unknown, _ := slices.BinarySearchFunc(l.events[:before], f, func(e, f *eventstore.Recorded) int {
			if f.Knew(e) {
				return -1
			}
			return 1
		})
		if unknown < before {
			with = append(with, Span{l.log, l.events[unknown].Dot.Seq, l.events[before-1].Dot.Seq})
		}
	}
	if len(with) == 0 {
		return Conflict{}, false
	}
	kind := Concurrent
	if f.CommandID != "" && slices.ContainsFunc(s.commands[f.CommandID], func(e *eventstore.Recorded) bool {
		return e.CompareCanonical(f) < 0 && !f.Knew(e)
	}) {
		kind = DuplicateCommand
	}
	return Conflict{f.Dot, f.Stream, f.HLC, kind, with}, true
}

// streamLog has the events of a stream that were born in one log, in order.
type streamLog struct {
	log    eventstore.LogID
	events []*eventstore.Recorded
}
