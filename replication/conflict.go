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
	var logs []streamLog // of the events so far
	for _, f := range events {
		var with []Span
		kind := Concurrent
		own := -1
		for i := range logs {
			l := &logs[i]
			if l.log == f.Dot.Log {
				own = i
				continue
			}
			unknown, _ := slices.BinarySearchFunc(l.events, f, func(e, f *eventstore.Recorded) int {
				if f.Knew(e) {
					return -1
				}
				return 1
			})
			others := l.events[unknown:]
			if len(others) == 0 {
				continue
			}
			with = append(with, Span{l.log, others[0].Dot.Seq, others[len(others)-1].Dot.Seq})
			if slices.ContainsFunc(others, func(e *eventstore.Recorded) bool { return f.CommandID != "" && e.CommandID == f.CommandID }) {
				kind = DuplicateCommand
			}
		}
		if len(with) > 0 {
			slices.SortFunc(with, func(a, b Span) int { return a.Log.Compare(b.Log) })
			conflicts = append(conflicts, Conflict{f.Dot, f.Stream, f.HLC, kind, with})
		}
		if own < 0 {
			logs = append(logs, streamLog{log: f.Dot.Log})
			own = len(logs) - 1
		}
		logs[own].events = append(logs[own].events, f)
	}
	return conflicts
}

// streamLog has the events of a stream that were born in one log, in order.
type streamLog struct {
	log    eventstore.LogID
	events []*eventstore.Recorded
}
