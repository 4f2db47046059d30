package replication

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// How a site's cells come to another one without anybody's asking is on record in a stream of this category for each site, whose ID
// is the site's name.
const TakeoverCategory = "$takeover"

// The types of events in those streams. Their payload is JSON. Each counts as said by the site in whose log it was born.
const (
	// TakeoverBound: the site of the stream says whether it writes what is homed under a lease only, and how many takeovers of itself
	// its fence has taken in.
	TakeoverBound = "tributary.takeover.bound.v1"
	// TakeoverAgreed: a site agrees that one takes over, and acknowledges no lease of the stream's site until that has come to an
	// end. The taker's own proposes it.
	TakeoverAgreed = "tributary.takeover.agreed.v1"
	// TakeoverEnded: the taker gives it up, for good; or a site that has agreed is released, because the taker is no member any more.
	TakeoverEnded = "tributary.takeover.ended.v1"
	// TakeoverDone: the taker has taken the cells, in the same batch.
	TakeoverDone = "tributary.takeover.done.v1"
)

// TakeoverStream returns the stream in which takeovers of a site are on record.
func TakeoverStream(site string) eventstore.StreamID {
	return eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: TakeoverCategory, ID: site}
}

// takeoverNote is the payload of an event of a takeover.
type takeoverNote struct {
	// Leased and Knows are of TakeoverBound.
	Leased bool   `json:"leased,omitempty"`
	Knows  uint64 `json:"knows,omitempty"`
	// Taker and Round name the attempt: a taker counts its own.
	Taker string `json:"taker,omitempty"`
	Round uint64 `json:"round,omitempty"`
	// Among are the members of the roster, as who agrees knows it.
	Among []string `json:"among,omitempty"`
	// Reason is for people.
	Reason string `json:"reason,omitempty"`
}

// Takeover is one that was done.
type Takeover struct {
	// Site is the one whose cells were taken, Taker the one that has taken them.
	Site, Taker string
	// Round is the taker's number of it, Event what says so.
	Round uint64
	Event eventstore.Dot
	// At is when, by the taker's clock, Reason why.
	At     time.Time
	Reason string
}

// tenure is what is on record of a site as the home of its cells. What it comes to does not depend on the order in which logs come.
type tenure struct {
	// said is the site's last TakeoverBound; without one it has never been bound.
	said  takeoverNote
	where eventstore.Dot // of it; zero: never
	// agreed are the last attempts that a site has agreed to, by that site and the taker; ended those that have come to an end, by the taker;
	// released those that a site that had agreed was released from.
	agreed   map[agreement]vote
	ended    map[string]uint64
	released map[agreement]uint64
	done     []Takeover
	lapses   []Lapse // of the site, one for each of done
}

// vote is what a site has agreed to, and the log in which it did.
type vote struct {
	takeoverNote
	in eventstore.LogID
}

// agreement names who has agreed that who takes over.
type agreement struct{ by, taker string }

// tenures are all, by the site's name.
type tenures map[string]*tenure

// of returns what is on record of a site.
func (t tenures) of(site string) *tenure {
	if t[site] == nil {
		t[site] = &tenure{agreed: map[agreement]vote{}, ended: map[string]uint64{}, released: map[agreement]uint64{}}
	}
	return t[site]
}

// read takes in events of takeovers; those that it has taken in before change nothing.
func (t tenures) read(events []eventstore.Recorded) error {
	for i := range events {
		e := &events[i]
		if e.Stream.Category != TakeoverCategory {
			continue
		}
		if err := t.of(e.Stream.ID).fold(e); err != nil {
			return err
		}
	}
	return nil
}

func (t *tenure) fold(e *eventstore.Recorded) error {
	var n takeoverNote
	if err := json.Unmarshal(e.Payload, &n); err != nil {
		return fmt.Errorf("event %s of takeovers of %s: %w: %w", e.Dot, e.Stream.ID, eventstore.ErrCorrupt, err)
	}
	by := e.Dot.Log.Site
	switch e.Type {
	case TakeoverBound:
		if by != e.Stream.ID {
			return nil
		}
		for i := range t.lapses {
			if until := t.lapses[i].Until; uint64(i) < n.Knows && (until.Seq == 0 || laterLife(until, e.Dot)) {
				t.lapses[i].Until = e.Dot
			}
		}
		if laterLife(e.Dot, t.where) {
			t.said, t.where = n, e.Dot
		}
	case TakeoverAgreed:
		who := agreement{by, n.Taker}
		if last := t.agreed[who]; n.Round > last.Round || n.Round == last.Round && e.Dot.Log.Incarnation > last.in.Incarnation {
			t.agreed[who] = vote{n, e.Dot.Log}
		}
	case TakeoverEnded:
		if by == n.Taker {
			t.ended[by] = max(t.ended[by], n.Round)
		} else {
			who := agreement{by, n.Taker}
			t.released[who] = max(t.released[who], n.Round)
		}
	case TakeoverDone:
		if by == n.Taker && !slices.ContainsFunc(t.done, func(o Takeover) bool { return o.Event == e.Dot }) {
			t.ended[by] = max(t.ended[by], n.Round)
			t.done = append(t.done, Takeover{e.Stream.ID, by, n.Round, e.Dot, e.Time(), n.Reason})
			t.lapses = append(t.lapses, Lapse{Knew: slices.Clone(e.Dep)})
		}
	}
	return nil
}

// laterLife reports whether an event of a site stands behind another one of it, whose life may be an earlier one.
func laterLife(d, before eventstore.Dot) bool {
	return cmp.Or(cmp.Compare(d.Log.Incarnation, before.Log.Incarnation), cmp.Compare(d.Seq, before.Seq)) > 0
}

// open reports whether an attempt that somebody has agreed to has not come to an end for it.
func (t *tenure) open(who agreement) bool {
	return t.agreed[who].Round > max(t.ended[who.taker], t.released[who])
}

// binds reports whether a site has agreed to an attempt that has not come to an end.
func (t *tenure) binds(site string) bool { return len(t.agreements(site)) > 0 }

// agreements returns the attempts of a site's agreeing that have not come to an end, in the order of their takers' names.
func (t *tenure) agreements(by string) (out []agreement) {
	for who := range t.agreed {
		if who.by == by && t.open(who) {
			out = append(out, who)
		}
	}
	slices.SortFunc(out, func(a, b agreement) int { return strings.Compare(a.taker, b.taker) })
	return out
}

// proposed returns an attempt that its taker, a member, has proposed, and that has not come to an end; the first by the taker's name. Of one
// that left in the middle of an attempt nothing more comes.
func (t *tenure) proposed(members []string) (n takeoverNote, ok bool) {
	for who, note := range t.agreed {
		if who.by == who.taker && t.open(who) && slices.Contains(members, who.taker) && (!ok || who.taker < n.Taker) {
			n, ok = note.takeoverNote, true
		}
	}
	return n, ok
}

// lacks returns the sites that have not agreed to an attempt: all members but the one whose cells are taken have to, whoever of those
// that have agreed knows them for members. What a site has said in a life that is over, as over tells, does not count: it may have
// forgotten that it did.
func (t *tenure) lacks(site, taker string, round uint64, over func(eventstore.LogID) bool) (missing []string) {
	for who, note := range t.agreed {
		if who.taker != taker || note.Round != round {
			continue
		}
		for _, member := range note.Among {
			given, ok := t.agreed[agreement{member, taker}]
			if member != site && (!ok || given.Round != round || over(given.in)) && !slices.Contains(missing, member) {
				missing = append(missing, member)
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// Entry is something that the core wants on record about a takeover, for Owner.Enter.
type Entry struct {
	site  string // of the stream
	kind  string // the type of the event
	note  takeoverNote
	after eventstore.Dot // of a TakeoverBound: the one before
}

// String says what it is, for people.
func (e *Entry) String() string {
	what := strings.TrimSuffix(strings.TrimPrefix(e.kind, "tributary."), ".v1") + " of " + e.site
	if e.kind == TakeoverBound {
		return what
	}
	return fmt.Sprintf("%s, attempt %d of %s", what, e.note.Round, e.note.Taker)
}

// request returns what is appended; repeated, it has one effect.
func (e *Entry) request(self Shard) (eventstore.Request, error) {
	payload, err := json.Marshal(e.note)
	if err != nil {
		return eventstore.Request{}, fmt.Errorf("encode %s: %w", e, err)
	}
	id := fmt.Sprintf("%s/%s/%s/%s/%d", e.kind, e.site, self, e.note.Taker, e.note.Round)
	if e.kind == TakeoverBound {
		id = fmt.Sprintf("%s/%s/%s/%d/%t/%d", e.kind, self, e.after.Log, e.after.Seq, e.note.Leased, e.note.Knows)
	}
	return eventstore.Request{ID: id, Hash: eventstore.ContentHash([]byte(id)), Appends: []eventstore.StreamAppend{{
		Stream: TakeoverStream(e.site),
		Events: []eventstore.Event{{Type: e.kind, Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: payload}},
	}}}, nil
}
