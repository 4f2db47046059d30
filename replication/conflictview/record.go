package conflictview

import (
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

// Span is a run of the stream's events within one log, by seq. To is 0 in a stream that is too long to be judged: all from From on that
// stand before the event.
type Span struct {
	Log  string `json:"log"`
	From uint64 `json:"from"`
	To   uint64 `json:"to,omitempty"`
}

// String returns the span as it stands in ClickHouse: log/from-to, or log/from- without a To.
func (s Span) String() string {
	if s.To == 0 {
		return fmt.Sprintf("%s/%d-", s.Log, s.From)
	}
	return fmt.Sprintf("%s/%d-%d", s.Log, s.From, s.To)
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

// Judging begins to judge a stream event by event, as Judge does it; nil where that cannot be. commands.Bus.Judging is one.
type Judging func(category string) *commands.Judging

// maxJudged bounds the streams of which it is said what came of their conflicts, and maxConflicts their events that are in conflict: judging
// takes a time and a memory that grow with the square of what sites have written at once, and each event that comes late changes the
// records of those behind it. maxListed bounds the events that a record names as void, and as overwritten.
const (
	maxJudged    = 1000
	maxConflicts = 200
	maxListed    = 100
)

// NotJudged is the verdict on conflicts of which nobody has said what came of them.
const NotJudged commands.Verdict = "not_judged"

// unjudged is the reason of a record of a stream that is too long.
var unjudged = fmt.Sprintf("the stream has more than %d events, or more than %d that sites wrote at once: what came of the conflict is not on record, the state of the aggregate has it", maxJudged, maxConflicts)

func record(c *replication.Conflict, e *eventstore.Recorded, o *commands.Outcome) *Record {
	r := &Record{
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

// same reports whether two records of a conflict differ in nothing but when and where they were written.
func (r *Record) same(other *Record) bool {
	return r.ID == other.ID && r.Stream == other.Stream && r.Category == other.Category && r.Type == other.Type && r.HLC == other.HLC &&
		r.AtMs == other.AtMs && r.Kind == other.Kind && slices.Equal(r.With, other.With) && r.Resolver == other.Resolver &&
		r.Verdict == other.Verdict && r.Reason == other.Reason && slices.Equal(r.Void, other.Void) &&
		slices.Equal(r.Overwritten, other.Overwritten) && r.Base == other.Base && slices.Equal(r.Branches, other.Branches) &&
		r.Result == other.Result
}
