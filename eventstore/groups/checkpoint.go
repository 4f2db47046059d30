package groups

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// The events of a group stand in the stream default/$group/<name>. Their payloads are JSON, their kind is system.
const (
	category    = "$group"
	createdType = "group.created.v1"
	// CheckpointType is the type of events in which a group says where it stands: the last one of its stream counts, and the
	// one that it names.
	CheckpointType = "group.checkpoint.v1"
	resetType      = "group.reset.v1"
	deletedType    = "group.deleted.v1"
)

// Types returns the types of all events of groups.
func Types() []string { return []string{createdType, CheckpointType, resetType, deletedType} }

// created is the payload of a createdType event. Cursor is where the group begins, by its settings' Start.
type created struct {
	Settings Settings `json:"settings"`
	Cursor   uint64   `json:"cursor"`
}

// reset is the payload of a resetType event; who asked for it is in the event's metadata. Dropped is how many parked events
// were given up by it.
type reset struct {
	Cursor  uint64 `json:"cursor"`
	From    uint64 `json:"from"`
	Dropped int    `json:"dropped,omitempty"`
}

// checkpoint is the payload of a CheckpointType event. All its numbers are lsns of this log that are below its own place,
// or versions of streams.
type checkpoint struct {
	// Cursor: everything up to it that the filter lets through is settled, or stands behind what is parked.
	Cursor uint64 `json:"cursor"`
	// Settled says what is so beyond the cursor.
	Settled []span `json:"settled,omitempty"`
	// Parked lists what is parked, when that is not what it was in the checkpoint before. Else ParkedIn is the version of
	// the checkpoint that lists it; 0: nothing is parked.
	Parked   []parkedRecord `json:"parked,omitempty"`
	ParkedIn uint64         `json:"parked_in,omitempty"`
}

type parkedRecord struct {
	Stream   string    `json:"stream"`
	Position uint64    `json:"position"`
	Version  uint64    `json:"version"`
	Type     string    `json:"type"`
	Reason   string    `json:"reason"`
	Tries    int       `json:"tries"`
	At       time.Time `json:"at"`
	Retry    bool      `json:"retry,omitempty"`
}

// span is a stretch of the log from one lsn to another, both included.
type span [2]uint64

// spanned reports whether an lsn is in one of the spans, which are in order.
func spanned(spans []span, lsn uint64) bool {
	_, found := slices.BinarySearchFunc(spans, lsn, func(s span, lsn uint64) int {
		switch {
		case s[1] < lsn:
			return -1
		case s[0] > lsn:
			return 1
		}
		return 0
	})
	return found
}

// rescan is how far the log may grow without an event for the group before a checkpoint spares the next start reading it.
const rescan = 20_000

// checkpointState is what the next checkpoint has to say. Guarded by group.mu.
type checkpointState struct {
	settled       int  // events since the last
	parkedChanged bool // since the last
	parkedIn      uint64
	cursor        uint64 // of the last
	version       uint64 // of the group's stream
	unsure        bool   // the stream may be longer than that
	failed        bool   // the last was not written
	at            time.Time
}

// streamAt returns the stream of a group of a site. Another site may have a group of the same name.
func streamAt(name, site string) eventstore.StreamID {
	return eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: category, ID: name + "@" + site}
}

// nameOf returns the name of the group whose stream is given. Groups that were made before streams had the site in them go on
// in theirs; no name has an @.
func nameOf(s eventstore.StreamID) string {
	name, _, _ := strings.Cut(s.ID, "@")
	return name
}

// settledTo returns the cursor and what is settled beyond it. REQUIRES: mu is held.
func (g *group) settledTo() (cursor uint64, beyond []span) {
	cursor = g.readTo
	if len(g.window) > 0 {
		cursor = g.window[0].lsn - 1
	}
	open := false
	for _, it := range g.window {
		switch {
		case !it.settled:
			open = false
		case open:
			beyond[len(beyond)-1][1] = it.lsn
		default:
			beyond = append(beyond, span{it.lsn, it.lsn})
			open = true
		}
	}
	for _, s := range g.above {
		if s[1] > g.readTo {
			beyond = append(beyond, span{max(s[0], g.readTo+1), s[1]})
		}
	}
	return cursor, beyond
}

// unsaved reports whether a checkpoint has anything new to say. REQUIRES: mu is held.
func (g *group) unsaved() bool {
	c := &g.checkpoint
	if c.settled > 0 || c.parkedChanged {
		return true
	}
	cursor, _ := g.settledTo()
	return cursor >= c.cursor+rescan
}

// save writes a checkpoint when there is anything new.
func (g *group) save(ctx context.Context) error {
	g.saving.Lock()
	defer g.saving.Unlock()
	g.mu.Lock()
	if g.gone != nil || !g.unsaved() {
		defer g.mu.Unlock()
		return g.gone
	}
	c := &g.checkpoint
	said := *c
	var record checkpoint
	record.Cursor, record.Settled = g.settledTo()
	if c.parkedChanged {
		record.Parked = g.parkedRecords()
	} else {
		record.ParkedIn = c.parkedIn
	}
	c.settled, c.parkedChanged = 0, false
	c.at = time.Now()
	g.mu.Unlock()

	err := g.write(ctx, CheckpointType, record, "")

	g.mu.Lock()
	defer g.mu.Unlock()
	if c.failed = err != nil; err != nil {
		c.settled += said.settled
		c.parkedChanged = c.parkedChanged || said.parkedChanged
		return fmt.Errorf("checkpoint of group %s: %w", g.name, err)
	}
	c.cursor = record.Cursor
	if said.parkedChanged {
		c.parkedIn = 0
		if len(record.Parked) > 0 {
			c.parkedIn = c.version
		}
	}
	return nil
}

// write appends an event to the group's stream. REQUIRES: saving is held, mu is not.
func (g *group) write(ctx context.Context, typ string, payload any, actor string) error {
	g.mu.Lock()
	version, unsure := g.checkpoint.version, g.checkpoint.unsure
	g.mu.Unlock()
	var err error
	if unsure {
		if version, err = g.owner.store.Version(ctx, g.stream); err != nil {
			return err
		}
	}
	err = appendEvent(ctx, g.owner.store, g.stream, version, typ, payload, actor)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.checkpoint.version, g.checkpoint.unsure = version+1, false
	if err != nil {
		g.checkpoint.version, g.checkpoint.unsure = version, true // it may stand there all the same
	}
	return err
}

func appendEvent(ctx context.Context, store eventstore.Store, stream eventstore.StreamID, version uint64, typ string, payload any, actor string) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = store.Append(ctx, eventstore.Request{
		Appends: []eventstore.StreamAppend{{
			Stream: stream, Expect: eventstore.Exactly(version),
			Events: []eventstore.Event{{Type: typ, Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: body}},
		}},
		Metadata: eventstore.Metadata{Actor: cmp.Or(actor, "group/"+nameOf(stream))},
	})
	return err
}

// parkedRecords returns what is parked, in the order of the log. REQUIRES: mu is held.
func (g *group) parkedRecords() []parkedRecord {
	out := make([]parkedRecord, 0, len(g.parked))
	for _, key := range g.parkedKeys() {
		p := g.parked[key]
		out = append(out, parkedRecord{
			Stream: key.stream.String(), Position: p.position, Version: p.version, Type: p.typ,
			Reason: p.reason, Tries: p.tries, At: p.at.UTC(), Retry: p.retry,
		})
	}
	return out
}

func (g *group) parkedKeys() []laneKey {
	return slices.SortedFunc(maps.Keys(g.parked), func(a, b laneKey) int {
		return cmp.Compare(g.parked[a].position, g.parked[b].position)
	})
}

// load reads where the group stands from the last event of its stream that was written here.
func (g *group) load(ctx context.Context) error {
	for e, err := range g.owner.store.ReadBackwards(ctx, g.stream, 0) {
		if err != nil {
			return fmt.Errorf("read group %s: %w", g.name, err)
		}
		if !g.owner.own(&e) {
			continue
		}
		if err := g.restore(ctx, &e); err != nil {
			return fmt.Errorf("group %s, its event at %s: %w", g.name, e.Position, err)
		}
		return nil
	}
	return notFound(g.name)
}

func (g *group) restore(ctx context.Context, e *eventstore.Recorded) error {
	var c checkpoint
	switch e.Type {
	case createdType, resetType, CheckpointType: // all have a cursor
		if err := json.Unmarshal(e.Payload, &c); err != nil {
			return errors.Join(eventstore.ErrCorrupt, err)
		}
	case deletedType:
		return notFound(g.name)
	default:
		return fmt.Errorf("%w: type %s is not a group's", eventstore.ErrCorrupt, e.Type)
	}
	// An event speaks of what was in the log before it. It does so in lsns, which every life of the log has in common:
	// whatever a restore has cut off was behind this event.
	last := c.Cursor
	for _, s := range c.Settled {
		if s[0] <= last || s[1] < s[0] {
			return fmt.Errorf("%w: settled from %d to %d, beyond %d", eventstore.ErrCorrupt, s[0], s[1], last)
		}
		last = s[1]
	}
	if last >= e.Position.LSN {
		return fmt.Errorf("%w: it speaks of lsn %d", eventstore.ErrCorrupt, last)
	}
	g.readTo, g.above = c.Cursor, c.Settled
	version, err := g.owner.store.Version(ctx, g.stream)
	if err != nil {
		return err
	}
	g.checkpoint = checkpointState{cursor: c.Cursor, version: version, parkedIn: c.ParkedIn, at: time.Now()}
	records := c.Parked
	if len(records) > 0 {
		g.checkpoint.parkedIn = e.Version
	}
	if c.ParkedIn > 0 {
		if records, err = g.parkedAt(ctx, c.ParkedIn); err != nil {
			return err
		}
	}
	return g.restoreParked(records, last)
}

// parkedAt reads what is parked from the checkpoint that lists it. No event written here stands before the place that it was
// given as its version; those of other sites may have come before it since.
func (g *group) parkedAt(ctx context.Context, version uint64) ([]parkedRecord, error) {
	for e, err := range g.owner.store.Read(ctx, g.stream, version) {
		if err != nil {
			return nil, err
		}
		if !g.owner.own(&e) || e.Version < version {
			continue
		}
		if e.Version > version {
			break
		}
		var c checkpoint
		if err := json.Unmarshal(e.Payload, &c); err != nil || e.Type != CheckpointType {
			return nil, errors.Join(fmt.Errorf("%w: version %d lists nothing that is parked", eventstore.ErrCorrupt, version), err)
		}
		return c.Parked, nil
	}
	return nil, fmt.Errorf("%w: version %d is missing", eventstore.ErrCorrupt, version)
}

// restoreParked makes lanes for what is parked. Everything of such a stream up to the last lsn that is settled waits behind
// it; what comes after will be read again.
func (g *group) restoreParked(records []parkedRecord, last uint64) error {
	for _, r := range records {
		s, err := eventstore.ParseStreamID(r.Stream)
		if err != nil {
			return errors.Join(eventstore.ErrCorrupt, err)
		}
		key := laneKey{stream: s}
		p := &parked{
			position: r.Position, version: r.Version, typ: r.Type, reason: r.Reason, tries: r.Tries, at: r.At,
			until: last, retry: r.Retry,
		}
		if g.settings.PassOver {
			key.lsn, p.until = r.Position, r.Position
		}
		g.parked[key] = p
		g.lane(key).parked = p
	}
	return nil
}
