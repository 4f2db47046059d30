package saga

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

const checkpointType = "saga.checkpoint.v1"

// checkpointRecord is the payload of a checkpoint event: how far triggers are dealt with, and which instances are open.
// A full checkpoint lists them all, over several events (parts, from 1) where they are many, each in a request of its own:
// it counts only when all its parts are there. Any other tells what changed since the one before.
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
	// Waiting are triggers that a parked instance has yet to see, though Position is beyond them.
	Waiting []inputRecord `json:"waiting,omitempty"`
}

func (i *instanceRecord) key() instanceKey { return instanceKey{i.Tenant, i.ID} }

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
	listed   int                  // instances in checkpoints since the last full one
}

func (r *Runner) checkpointStream() eventstore.StreamID {
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
				Type: checkpointType, Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: payload,
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
	c.listed += len(c.dirty)
	// A full one now and then keeps a start from reading many; it costs no more than the changes since the one before.
	full := c.full || c.listed > max(len(r.instances), 1_000) || len(c.dirty) > maxChanges
	keys := c.dirty
	if full {
		keys = make(map[instanceKey]bool, len(r.instances))
		for key := range r.instances {
			keys[key] = true
		}
		c.listed = 0
	}
	whole := checkpointRecord{Position: position.String()}
	for _, key := range slices.SortedFunc(maps.Keys(keys), compareKeys) {
		if i := r.instances[key]; i == nil {
			whole.Closed = append(whole.Closed, instanceRecord{Tenant: key.tenant, ID: key.id})
		} else if one := i.remembered(); i.recorded || len(one.Waiting) > 0 {
			whole.Open = append(whole.Open, one)
			i.listed = true
		}
	}
	c.dirty, c.triggers, c.full, c.unsure = map[instanceKey]bool{}, 0, false, false
	if !full {
		return []checkpointRecord{whole}, position, c.version
	}
	return whole.parts(), position, c.version
}

// parts splits a full checkpoint.
func (c checkpointRecord) parts() []checkpointRecord {
	out := []checkpointRecord{{Position: c.Position, Part: 1}}
	for open := range slices.Chunk(c.Open, partSize) {
		if last := &out[len(out)-1]; len(last.Open) == 0 {
			last.Open = open
			continue
		}
		out = append(out, checkpointRecord{Position: c.Position, Part: len(out) + 1, Open: open})
	}
	for i := range out {
		out[i].Parts = len(out)
	}
	return out
}

// remembered returns what a checkpoint says of an open instance. REQUIRES: Runner.mu is held.
func (i *instance) remembered() instanceRecord {
	out := instanceRecord{Tenant: i.tenant, ID: i.id}
	for _, a := range i.inbox {
		if a.in.Kind == kindTriggered && a.mark == nil {
			out.Waiting = append(out.Waiting, a.in)
		}
	}
	return out
}

func compareKeys(a, b instanceKey) int {
	return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.id, b.id))
}

// resume opens the instances of the last checkpoint and returns the position to read triggers from.
func (r *Runner) resume(ctx context.Context) (from eventstore.Position, err error) {
	var records []checkpointRecord
	var version uint64
	missing := 0 // the part that has to come next, where a full checkpoint has begun
	for event, err := range r.store.ReadBackwards(ctx, r.checkpointStream(), 0) {
		if err != nil {
			return from, fmt.Errorf("read checkpoint: %w", err)
		}
		version = max(version, event.Version)
		var c checkpointRecord
		if err := json.Unmarshal(event.Payload, &c); err != nil || event.Type != checkpointType {
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
	r.checkpoint.full = version > 0 // the checkpoints of another life may be mixed with those of this one
	for _, key := range slices.SortedFunc(maps.Keys(open), compareKeys) {
		i := r.open(key)
		i.recorded, i.listed = true, true
		for _, in := range open[key].Waiting {
			i.inbox = append(i.inbox, &arrival{in: in})
		}
		r.rouse(i)
	}
}
