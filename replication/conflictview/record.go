package conflictview

import (
	"context"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections/counting"
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
	// Resolver is the rule of the stream's type, Verdict what it says: merged, winner, voided, needs_review, not_judged; Reason why.
	Resolver string `json:"resolver"`
	Verdict  string `json:"verdict"`
	Reason   string `json:"reason,omitempty"`
	// Void are the events that do not count because of it, Overwritten the fields of others that the event set unseen; the first
	// hundred of each.
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
	known *counting.Known
}

// maxJudged bounds the streams of which it is said what came of their conflicts: judging takes a time and a memory that grow with
// the square of what sites have written at once. maxListed bounds the events that a record names as void, and as overwritten.
const (
	maxJudged = 1000
	maxListed = 100
)

// NotJudged is the verdict on conflicts of which nobody has said what came of them.
const NotJudged commands.Verdict = "not_judged"

// unjudged is the reason of a record of a stream that is too long.
var unjudged = fmt.Sprintf("the stream has more than %d events: what came of the conflict is not on record, the state of the aggregate has it", maxJudged)

// of returns the records that an event brings about or changes, as its stream is up to the event. One that knew all before it
// changes none, unless a person says with it what counts: it stands behind them, and has no branch of its own.
func (f *finder) of(e *eventstore.Recorded) ([]Record, error) {
	if eventstore.IsSystemCategory(e.Stream.Category) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(f.Life, f.Timeout)
	defer cancel()
	concurrent, err := f.known.Concurrent(ctx, e)
	if err != nil || !concurrent && e.Kind != eventstore.KindResolution {
		return nil, err
	}
	events, err := f.stream(ctx, e)
	if err != nil {
		return nil, err
	}
	after, err := f.records(events)
	if err != nil || len(after) == 0 {
		return nil, err
	}
	// What was on record before is what its stream without it gives: so that what is written depends on the log alone.
	at := slices.IndexFunc(events, func(r eventstore.Recorded) bool { return r.Dot == e.Dot })
	before, err := f.records(slices.Delete(events, at, at+1))
	if err != nil {
		return nil, err
	}
	had := make(map[string]*Record, len(before))
	for i := range before {
		had[before[i].ID] = &before[i]
	}
	changed := after[:0]
	for i := range after {
		if r := &after[i]; had[r.ID] == nil || !reflect.DeepEqual(had[r.ID], r) {
			changed = append(changed, *r)
		}
	}
	for i := range changed {
		changed[i].Position, changed[i].SeenBy = e.Position.String(), f.Site
	}
	return changed, nil
}

// records returns the records of a stream, but for when and where they are written.
func (f *finder) records(events []eventstore.Recorded) ([]Record, error) {
	pointers := make([]*eventstore.Recorded, len(events))
	places := make(map[eventstore.Dot]int, len(events))
	for i := range events {
		pointers[i], places[events[i].Dot] = &events[i], i
	}
	conflicts := replication.Conflicts(pointers)
	outcomes := make(map[eventstore.Dot]*commands.Outcome, len(conflicts))
	if len(conflicts) > 0 && len(events) <= maxJudged {
		judged, err := f.Judge(events[0].Stream.Category, events)
		if err != nil {
			return nil, fmt.Errorf("judge stream %s: %w", events[0].Stream, err)
		}
		for i := range judged.Outcomes {
			outcomes[judged.Outcomes[i].Event] = &judged.Outcomes[i]
		}
	}
	records := make([]Record, 0, len(conflicts))
	for i := range conflicts {
		c := &conflicts[i]
		o := outcomes[c.Event]
		if o == nil {
			o = &commands.Outcome{Event: c.Event}
			if len(events) > maxJudged {
				o.Verdict, o.Reason = NotJudged, unjudged
			}
		}
		records = append(records, record(c, &events[places[c.Event]], o))
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

func record(c *replication.Conflict, e *eventstore.Recorded, o *commands.Outcome) Record {
	r := Record{
		ID: c.Event.String(), Stream: c.Stream.String(), Category: c.Stream.Category, Type: e.Type,
		HLC: uint64(c.HLC), AtMs: c.HLC.Time().UnixMilli(), Kind: string(c.Kind),
		Resolver: string(o.Resolver), Verdict: string(o.Verdict), Reason: o.Reason,
		Base: hex.EncodeToString(o.Base[:]), Result: hex.EncodeToString(o.Result[:]),
	}
	for _, s := range c.With {
		r.With = append(r.With, Span{s.Log.String(), s.From, s.To})
	}
	for _, v := range o.Void[:min(len(o.Void), maxListed)] {
		r.Void = append(r.Void, Void{v.Event.String(), v.Reason})
	}
	for _, w := range o.Overwritten[:min(len(o.Overwritten), maxListed)] {
		r.Overwritten = append(r.Overwritten, Overwritten{w.Event.String(), w.Field})
	}
	for _, b := range o.Branches {
		r.Branches = append(r.Branches, Branch{b.Log.String(), hex.EncodeToString(b.Digest[:])})
	}
	return r
}
