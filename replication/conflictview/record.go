package conflictview

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// Record is a conflict, and what came of it. It is stored as JSON.
type Record struct {
	// ID is the dot of the event that was decided without the knowledge of others before it.
	ID       string `json:"id"`
	Stream   string `json:"stream"`
	Category string `json:"category"`
	Type     string `json:"type"` // of the event
	// HLC is the event's, AtMs its wall-clock part in Unix milliseconds.
	HLC  uint64 `json:"hlc"`
	AtMs int64  `json:"at_ms"`
	Kind string `json:"kind"`
	With []Span `json:"with"`
	// Resolver is the rule of the stream's type, Verdict what it says: merged, winner, voided, needs_review; Reason why.
	Resolver string `json:"resolver"`
	Verdict  string `json:"verdict"`
	Reason   string `json:"reason,omitempty"`
	// Void are the events that do not count because of it, Overwritten the fields of others that the event set unseen.
	Void        []Void        `json:"void,omitempty"`
	Overwritten []Overwritten `json:"overwritten,omitempty"`
	// Base, Branches and Result are digests of what both sides knew, of each side, and of what counts.
	Base     string   `json:"base"`
	Branches []Branch `json:"branches,omitempty"`
	Result   string   `json:"result"`
	// Position is how far this site's log was when the record was written, SeenBy the site.
	Position string `json:"position"`
	SeenBy   string `json:"seen_by"`
}

// Span is a run of the stream's events within one log, by seq.
type Span struct {
	Log  string `json:"log"`
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Void is an event that does not count.
type Void struct {
	Event  string `json:"event"`
	Reason string `json:"reason"`
}

// Overwritten is a field as an event had set it.
type Overwritten struct {
	Event string `json:"event"`
	Field string `json:"field"`
}

// Branch is one side of a conflict.
type Branch struct {
	Log    string `json:"log"`
	Digest string `json:"digest"`
}

// Judge says what becomes of a stream's events; commands.Bus.Judge is one.
type Judge func(category string, events []eventstore.Recorded) (commands.Judgement, error)

// finder finds the conflicts that an event brings about.
type finder struct {
	Options
	seen *seen
}

// of returns the records that an event brings about or may change, as its stream is up to the event. One that knew all before it
// changes none, unless a person says with it what counts: it stands behind them, and has no branch of its own.
func (f *finder) of(e *eventstore.Recorded) ([]Record, error) {
	if eventstore.IsSystemCategory(e.Stream.Category) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(f.Life, f.Timeout)
	defer cancel()
	concurrent, err := f.seen.take(ctx, f.Streams, e)
	if err != nil || !concurrent && e.Kind != eventstore.KindResolution {
		return nil, err
	}
	events, err := f.stream(ctx, e)
	if err != nil {
		return nil, err
	}
	pointers := make([]*eventstore.Recorded, len(events))
	at := 0
	for i := range events {
		pointers[i] = &events[i]
		if events[i].Dot == e.Dot {
			at = i
		}
	}
	conflicts := replication.Conflicts(pointers)
	if len(conflicts) == 0 {
		return nil, nil
	}
	judged, err := f.Judge(e.Stream.Category, events)
	if err != nil {
		return nil, fmt.Errorf("judge stream %s: %w", e.Stream, err)
	}
	var records []Record
	for i := range conflicts {
		c := &conflicts[i]
		place := slices.IndexFunc(events, func(r eventstore.Recorded) bool { return r.Dot == c.Event })
		o := outcome(judged, c.Event)
		if place < at && !o.Resolver.Branchwise() {
			continue // it stands before the event, which changes nothing for it
		}
		records = append(records, f.record(c, &events[place], o, e.Position))
	}
	return records, nil
}

// stream returns the events of e's stream that the log had when it had come to e, in canonical order.
func (f *finder) stream(ctx context.Context, e *eventstore.Recorded) ([]eventstore.Recorded, error) {
	var events []eventstore.Recorded
	for r, err := range f.Streams.Read(ctx, e.Stream, 1) {
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", e.Stream, err)
		}
		if r.Position.LSN <= e.Position.LSN {
			events = append(events, r)
		}
	}
	return events, nil
}

func outcome(j commands.Judgement, event eventstore.Dot) commands.Outcome {
	i := slices.IndexFunc(j.Outcomes, func(o commands.Outcome) bool { return o.Event == event })
	if i < 0 {
		return commands.Outcome{Event: event}
	}
	return j.Outcomes[i]
}

func (f *finder) record(c *replication.Conflict, e *eventstore.Recorded, o commands.Outcome, at eventstore.Position) Record {
	r := Record{
		ID: c.Event.String(), Stream: c.Stream.String(), Category: c.Stream.Category, Type: e.Type,
		HLC: uint64(c.HLC), AtMs: c.HLC.Time().UnixMilli(), Kind: string(c.Kind),
		Resolver: string(o.Resolver), Verdict: string(o.Verdict), Reason: o.Reason,
		Base: hex.EncodeToString(o.Base[:]), Result: hex.EncodeToString(o.Result[:]),
		Position: at.String(), SeenBy: f.Site,
	}
	for _, s := range c.With {
		r.With = append(r.With, Span{s.Log.String(), s.From, s.To})
	}
	for _, v := range o.Void {
		r.Void = append(r.Void, Void{v.Event.String(), v.Reason})
	}
	for _, w := range o.Overwritten {
		r.Overwritten = append(r.Overwritten, Overwritten{w.Event.String(), w.Field})
	}
	for _, b := range o.Branches {
		r.Branches = append(r.Branches, Branch{b.Log.String(), hex.EncodeToString(b.Digest[:])})
	}
	return r
}
