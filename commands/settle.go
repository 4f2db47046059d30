package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// Settle is the command of a person who picks one of the branches that a Manual stream was left with. It is registered at
// every bus, and stands in a message of its own. The branches that were not picked stay in the stream and are void.
//
// It is refused with conflict.none when there is nothing to pick, and with conflict.unknown_branch when Keep is the end of no
// branch.
type Settle struct {
	// Category and ID name the stream.
	Category, ID string
	// Keep is the last event of the branch that shall count: one of ConflictedError.Branches.
	Keep eventstore.Dot
	// Note says why, for people.
	Note string
}

// Codes of refusals of Settle.
const (
	CodeNoConflict    = "conflict.none"
	CodeUnknownBranch = "conflict.unknown_branch"
)

// settledV1 is the event that Settle leads to, of KindResolution.
const settledV1 = "conflict.settled.v1"

// settled is its payload.
type settled struct {
	Site        string `json:"site"`
	Incarnation uint32 `json:"incarnation"`
	Shard       uint16 `json:"shard"`
	Seq         uint64 `json:"seq"`
	Note        string `json:"note,omitempty"`
}

// settles reports whether an event says which branch counts. No codec knows it.
func settles(e *eventstore.Event) bool {
	return e.Kind == eventstore.KindResolution && e.Type == settledV1
}

// ConflictedError: the stream has branches that several sites wrote at once, and a person has to pick one with Settle before
// anything else is decided. It is of class Rejected; repeating the command does not help until then.
type ConflictedError struct {
	Stream eventstore.StreamID
	// Branches are the last events of the branches, the one that counts meanwhile first.
	Branches []eventstore.Dot
}

// ErrConflicted: the stream waits for a person to pick a branch. The error is a *ConflictedError.
var ErrConflicted = errors.New("stream is in conflict")

// Is makes errors.Is(err, ErrConflicted) true.
func (e *ConflictedError) Is(target error) bool { return target == ErrConflicted }

// Error names the stream and the branches.
func (e *ConflictedError) Error() string {
	ends := make([]string, len(e.Branches))
	for i, d := range e.Branches {
		ends[i] = d.String()
	}
	return fmt.Sprintf("stream %s is in conflict until somebody picks one of its branches: %s", e.Stream, strings.Join(ends, ", "))
}

// Class returns eventstore.Rejected.
func (e *ConflictedError) Class() eventstore.Class { return eventstore.Rejected }

// decide returns the events that a command leads to.
func (w *work) decide(cmd any) ([]eventstore.Event, error) {
	s, settling := cmd.(Settle)
	switch {
	case settling:
		return w.settle(s)
	case len(w.open) > 0:
		return nil, &ConflictedError{w.stream, w.open}
	}
	return w.state.decide(cmd, w.site)
}

func (w *work) settle(s Settle) ([]eventstore.Event, error) {
	switch {
	case len(w.open) == 0:
		return nil, Reject(CodeNoConflict, fmt.Sprintf("stream %s is not in conflict", w.stream))
	case !slices.Contains(w.open, s.Keep):
		return nil, Reject(CodeUnknownBranch, fmt.Sprintf("%s is not the end of a branch: %s", s.Keep, (&ConflictedError{w.stream, w.open}).Error()))
	}
	keep := s.Keep
	payload, err := json.Marshal(settled{keep.Log.Site, keep.Log.Incarnation, keep.Log.Shard, keep.Seq, s.Note})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", settledV1, err)
	}
	return []eventstore.Event{{Type: settledV1, Kind: eventstore.KindResolution, Encoding: eventstore.JSON, SchemaVersion: 1, Payload: payload}}, nil
}

// settling finds the stream of a Settle.
func (b *Bus) settling(p *plan, s Settle) (step, error) {
	if len(p.message.Commands) > 1 {
		return step{}, errors.New("it stands in a message of its own")
	}
	a := b.categories[s.Category]
	if a == nil {
		return step{}, fmt.Errorf("no aggregate of category %q is registered", s.Category)
	}
	if kind := a.resolver(); kind != ByManual {
		return step{}, fmt.Errorf("conflicts of category %q are resolved by %s", s.Category, kind)
	}
	stream := eventstore.StreamID{Tenant: p.message.Tenant, Category: s.Category, ID: s.ID}
	if err := stream.Validate(); err != nil {
		return step{}, err
	}
	return step{cmd: s, work: p.workOn(stream, a)}, nil
}

// settle finds which branch of a Manual stream counts.
func (b *branch) settle(events []eventstore.Recorded) {
	all := make([]int, len(events))
	for i := range all {
		all[i] = i
	}
	counting, rest := b.settledOf(events, all)
	for _, i := range rest {
		if b.void[i] == "" {
			continue
		}
		b.waiting = append(b.waiting, i)
		if b.open == nil {
			b.open = []eventstore.Dot{events[counting[len(counting)-1]].Dot}
		}
		at := slices.IndexFunc(b.open[1:], func(d eventstore.Dot) bool { return d.Log == events[i].Dot.Log })
		if at < 0 {
			b.open = append(b.open, events[i].Dot)
		} else {
			b.open[1+at] = events[i].Dot
		}
	}
}

// settledOf returns which of the events at the given places count, in the order in which they were made to, and those that
// nobody has settled. Of several choices the last counts: it was made with the knowledge of those before it, or else it is
// itself in conflict.
func (b *branch) settledOf(events []eventstore.Recorded, places []int) (counting, unsettled []int) {
	last := -1
	for _, i := range places {
		if settles(&events[i].Event) {
			last = i
		}
	}
	if last < 0 {
		return b.chain(events, places, nil), places
	}
	choice := &events[last]
	var s settled
	keep := choice
	if err := json.Unmarshal(choice.Payload, &s); err == nil {
		dot := eventstore.Dot{Log: eventstore.LogID{Site: s.Site, Incarnation: s.Incarnation, Shard: s.Shard}, Seq: s.Seq}
		if at := slices.IndexFunc(places, func(i int) bool { return events[i].Dot == dot }); at >= 0 {
			keep = &events[places[at]]
		}
	}
	var kept []int
	for _, i := range places {
		e := &events[i]
		switch {
		case i == last:
		case !choice.Knew(e):
			unsettled = append(unsettled, i)
		case e.Dot == keep.Dot || keep.Knew(e):
			kept = append(kept, i)
		default:
			b.void[i] = fmt.Sprintf("the branch of %s was picked at %s", keep.Dot, choice.Dot.Log.Site)
		}
	}
	counting, _ = b.settledOf(events, kept)
	counting = append(counting, last)
	return b.chain(events, unsettled, counting), unsettled
}
