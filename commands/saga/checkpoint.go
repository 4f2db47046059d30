package saga

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// CheckpointType is the type of events in which a saga says where it stands: of its stream those from the last full one on
// count.
const CheckpointType = "saga.checkpoint.v1"

// checkpointRecord is the payload of a checkpoint event: how far triggers are dealt with, and which instances are open.
// A full checkpoint lists them all, over several events (parts, from 1) where they are many, each in a request of its own:
// it counts only when all its parts are there. Any other tells what changed since the one before, in one event.
type checkpointRecord struct {
	Position string           `json:"position"`
	Part     int              `json:"full_part,omitempty"`
	Parts    int              `json:"full_parts,omitempty"` // of this full checkpoint; 0: they came in one request
	Open     []instanceRecord `json:"open,omitempty"`
	Closed   []instanceRecord `json:"closed,omitempty"`
}

type instanceRecord struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
	// Waiting are triggers that a parked instance has yet to see, though Position is beyond them. With More they come
	// after those listed before, of which the first Gone are dealt with; without, they are all.
	Waiting []inputRecord `json:"waiting,omitempty"`
	More    bool          `json:"more,omitempty"`
	Gone    int           `json:"gone,omitempty"`
}

func (i *instanceRecord) key() instanceKey { return instanceKey{i.Tenant, i.ID} }

// frame is more than what a record takes as JSON beside its strings.
const frame = 128

// size returns a bound of the bytes that an instance takes in a checkpoint without what waits for it.
func (i *instanceRecord) size() int { return frame + quoted(i.Tenant) + quoted(i.ID) }

// size returns a bound of the bytes that a trigger takes in a checkpoint.
func (in *inputRecord) size() int {
	return frame + quoted(in.Stream) + quoted(in.Type) + quoted(in.Dot.String())
}

// quoted returns a bound of the bytes that a string takes as JSON.
func quoted(s string) (bytes int) {
	for _, c := range []byte(s) {
		switch {
		case c < ' ', c >= 0x7f, c == '"', c == '\\', c == '<', c == '>', c == '&':
			bytes += len(`\u0000`)
		default:
			bytes++
		}
	}
	return bytes
}

// size returns a bound of the bytes that a checkpoint takes, and how many instances and triggers it lists.
func (c *checkpointRecord) size() (bytes, listed int) {
	bytes = frame + quoted(c.Position)
	for _, list := range [][]instanceRecord{c.Open, c.Closed} {
		listed += len(list)
		for i := range list {
			bytes += list[i].size()
			listed += len(list[i].Waiting)
			for w := range list[i].Waiting {
				bytes += list[i].Waiting[w].size()
			}
		}
	}
	return bytes, listed
}

// partSize is how many instances one checkpoint event lists.
const partSize = 2_000

// maxChanges is how many instances a checkpoint event tells the changes of; beyond it a full checkpoint is written.
const maxChanges = 4 * partSize

// rescan is how far the log may grow without a trigger before a checkpoint spares the next start reading it.
const rescan = 20_000

// checkpointState is what the next checkpoint has to say. Guarded by Runner.mu.
type checkpointState struct {
	dirty    map[instanceKey]bool // instances opened, closed or changed since the last
	triggers int                  // dealt with since the last
	position eventstore.Position  // of the last
	version  uint64               // of the checkpoints' stream
	full     bool                 // the next must be full
	unsure   bool                 // the last may not be in the log, so that there is a next in any case
	listed   int                  // instances and waiting triggers in checkpoints since the last full one
	whole    int                  // of them in the last full one
}

// checkpointStream is where the checkpoints of this site stand: two sites that wrote to one stream would be in each other's way.
func (r *Runner) checkpointStream() eventstore.StreamID {
	return eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: "$saga", ID: r.definition.name + "@" + r.site}
}

// formerStream is where they stood as long as a log knew of one site only. It is read until there are others.
func (r *Runner) formerStream() eventstore.StreamID {
	return eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: "$saga", ID: r.definition.name}
}

// runCheckpoints writes checkpoints until ctx ends.
func (r *Runner) runCheckpoints(ctx context.Context) {
	ticker := time.NewTicker(r.options.CheckpointEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.due:
		case <-ticker.C:
		}
		bounded, cancel := context.WithTimeout(ctx, r.options.Timeout)
		if err := r.writeCheckpoint(bounded); err != nil && ctx.Err() == nil {
			r.options.Log.WarnContext(ctx, "saga checkpoint not written; the next start will read more of the log",
				"saga", r.definition.name, "error", err)
		}
		cancel()
	}
}

// lastCheckpoint writes a checkpoint when Run ends. A store that is gone by then is no fault: the checkpoint before holds.
func (r *Runner) lastCheckpoint(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.options.Grace)
	defer cancel()
	if err := r.writeCheckpoint(ctx); err != nil && eventstore.ClassOf(err) == eventstore.Broken {
		return err
	}
	return nil
}

// writeCheckpoint appends a checkpoint when there is something new to say. Only one goroutine does so at a time.
func (r *Runner) writeCheckpoint(ctx context.Context) error {
	records, position, version := r.checkpointRecords()
	if len(records) == 0 {
		return nil
	}
	now := version
	var err error
	for i := range records {
		if err = r.appendCheckpoint(ctx, &records[i], now); err != nil {
			break
		}
		now++
	}
	if err != nil {
		// Whether it stands there or not, a full one is right after it.
		if v, versionErr := r.store.Version(ctx, r.checkpointStream()); versionErr == nil {
			now = v
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checkpoint.version = now
	if err != nil {
		r.checkpoint.full, r.checkpoint.unsure = true, true
		return fmt.Errorf("append checkpoint: %w", err)
	}
	r.checkpoint.position = position
	return nil
}

func (r *Runner) appendCheckpoint(ctx context.Context, c *checkpointRecord, after uint64) error {
	payload, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = r.store.Append(ctx, eventstore.Request{
		Appends: []eventstore.StreamAppend{{
			Stream: r.checkpointStream(), Expect: eventstore.Exactly(after),
			Events: []eventstore.Event{{
				Type: CheckpointType, Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: payload,
			}},
		}},
		Metadata: eventstore.Metadata{Actor: "saga/" + r.definition.name},
	})
	return err
}

// checkpointRecords returns what a checkpoint has to say now, nothing when there is nothing new, and takes it as said.
func (r *Runner) checkpointRecords() (records []checkpointRecord, position eventstore.Position, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.checkpoint
	if !r.subscribed {
		return nil, position, c.version
	}
	position = r.settledTo()
	unread := position.LSN - min(c.position.LSN, position.LSN)
	if c.triggers == 0 && len(c.dirty) == 0 && !c.unsure && unread < rescan {
		return nil, position, c.version
	}
	dirty := c.dirty
	// A full one now and then keeps a start from reading many; it costs no more than the changes since the one before.
	full := c.full || c.listed+len(dirty) > max(len(r.instances), c.whole, 1_000) || len(dirty) > maxChanges
	c.dirty, c.triggers, c.full, c.unsure = map[instanceKey]bool{}, 0, false, false
	if !full {
		changes := r.tell(position, maps.Keys(dirty), false)
		if bytes, listed := changes.size(); bytes <= r.partBytes {
			c.listed += listed
			return []checkpointRecord{changes}, position, c.version
		}
	}
	whole := r.tell(position, maps.Keys(r.instances), true)
	_, c.whole = whole.size()
	c.listed = 0
	return whole.parts(r.partBytes), position, c.version
}

// tell returns what a checkpoint says of instances, and takes it as said. REQUIRES: mu is held.
func (r *Runner) tell(position eventstore.Position, keys iter.Seq[instanceKey], full bool) checkpointRecord {
	out := checkpointRecord{Position: position.String()}
	for _, key := range slices.SortedFunc(keys, compareKeys) {
		if i := r.instances[key]; i == nil {
			out.Closed = append(out.Closed, instanceRecord{Tenant: key.tenant, ID: key.id})
		} else if one := i.tell(full); i.recorded || one.More || len(one.Waiting) > 0 {
			out.Open = append(out.Open, one)
			i.listed = true
		}
	}
	return out
}

// tell returns what a checkpoint says of an open instance, and takes it as said: all that waits for it, or what has changed.
// REQUIRES: Runner.mu is held.
func (i *instance) tell(full bool) instanceRecord {
	out := instanceRecord{Tenant: i.tenant, ID: i.id}
	first := 0
	if full || i.told == 0 {
		i.told = 0
	} else {
		out.More, out.Gone = true, i.gone
		for first = len(i.inbox); !i.inbox[first-1].told; first-- {
		}
	}
	for _, a := range i.inbox[first:] {
		if a.in.Kind == kindTriggered && a.mark == nil {
			out.Waiting = append(out.Waiting, a.in)
			a.told = true
			i.told++
		}
	}
	i.gone = 0
	return out
}

// parts splits a full checkpoint, and what waits for an instance where need be, so that each part's payload is within a
// limit.
func (c checkpointRecord) parts(limit int) []checkpointRecord {
	var out []checkpointRecord
	room := 0
	next := func() {
		out = append(out, checkpointRecord{Position: c.Position, Part: len(out) + 1})
		room = limit - frame - quoted(c.Position)
	}
	next()
	// add lists an instance where there is room for it and for some bytes with it.
	add := func(i instanceRecord, with int) *instanceRecord {
		if n := len(out[len(out)-1].Open); n == partSize || n > 0 && i.size()+with > room {
			next()
		}
		last := &out[len(out)-1]
		last.Open = append(last.Open, i)
		room -= i.size()
		return &last.Open[len(last.Open)-1]
	}
	for _, i := range c.Open {
		to := add(instanceRecord{Tenant: i.Tenant, ID: i.ID}, 0)
		for _, in := range i.Waiting {
			if in.size() > room {
				to = add(instanceRecord{Tenant: i.Tenant, ID: i.ID, More: true}, in.size())
			}
			to.Waiting = append(to.Waiting, in)
			room -= in.size()
		}
	}
	for i := range out {
		out[i].Parts = len(out)
	}
	return out
}

func compareKeys(a, b instanceKey) int {
	return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.id, b.id))
}

// resume opens the instances of the last checkpoint and returns the position to read triggers from.
func (r *Runner) resume(ctx context.Context) (from eventstore.Position, err error) {
	state, err := r.store.Log(ctx)
	if err != nil {
		return from, fmt.Errorf("read checkpoint: %w", err)
	}
	stream := r.checkpointStream()
	version, err := r.store.Version(ctx, stream)
	if err != nil {
		return from, fmt.Errorf("read checkpoint: %w", err)
	}
	if version == 0 {
		stream = r.formerStream()
	}
	var records []checkpointRecord
	missing := 0 // the part that has to come next, where a full checkpoint has begun
	for event, err := range r.store.ReadBackwards(ctx, stream, 0) {
		if err != nil {
			return from, fmt.Errorf("read checkpoint: %w", err)
		}
		if event.Dot.Log.Site != state.ID.Site || event.Dot.Log.Shard != state.ID.Shard {
			continue // another site's saga of the same name, with positions of its own
		}
		var c checkpointRecord
		if err := json.Unmarshal(event.Payload, &c); err != nil || event.Type != CheckpointType {
			return from, fmt.Errorf("checkpoint at version %d: %w", event.Version, errors.Join(eventstore.ErrCorrupt, err))
		}
		if c.Part < c.Parts && c.Part != missing {
			continue // the last parts were never written
		}
		missing = c.Part - 1
		records = append(records, c)
		if c.Part == 1 {
			break
		}
	}
	open := map[instanceKey]instanceRecord{}
	for _, c := range slices.Backward(records) {
		for _, i := range c.Open {
			if i.More {
				before := open[i.key()].Waiting
				i.Waiting = append(before[min(i.Gone, len(before)):], i.Waiting...)
			}
			open[i.key()] = i
		}
		for _, i := range c.Closed {
			delete(open, i.key())
		}
	}
	if len(records) > 0 {
		if from, err = eventstore.ParsePosition(records[0].Position); err != nil {
			return from, fmt.Errorf("checkpoint at version %d: %w", version, err)
		}
	}
	r.restore(open, from, version)
	return from, nil
}

// restore gives a worker to every instance that a checkpoint names.
func (r *Runner) restore(open map[instanceKey]instanceRecord, from eventstore.Position, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checkpoint.position, r.checkpoint.version = from, version
	r.checkpoint.full = !from.IsZero() || version > 0 // the checkpoints of another life may be mixed with those of this one
	for _, key := range slices.SortedFunc(maps.Keys(open), compareKeys) {
		i := r.open(key)
		i.recorded, i.listed = true, true
		for _, in := range open[key].Waiting {
			i.inbox = append(i.inbox, &arrival{in: in})
		}
		r.rouse(i)
	}
}
