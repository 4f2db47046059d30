package redisview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// lot is what is known of the parked and skipped events of a model, as long as nobody has edited them.
type lot struct {
	projections.Lot
	generation int64
	edits      string
	skips      int64
}

// parkedRecord is a parked event as Redis holds it, and, without the frame, a skipped one.
type parkedRecord struct {
	Stream string `json:"stream"`
	Type   string `json:"type"`
	Reason string `json:"reason,omitempty"`
	// Frame is the event in the canonical encoding of package eventstore, in base64.
	Frame []byte `json:"frame,omitempty"`
}

// parkedEvent is a parked event read back.
type parkedEvent struct {
	projections.Parked
	event eventstore.Recorded
}

// lot returns what is parked and skipped in the model of a transaction. REQUIRES: v.mu is held.
func (v *View) lot(ctx context.Context, tx *transaction, h *head) (*lot, error) {
	l := v.lots[tx.cursor]
	if l != nil && l.generation == h.generation && l.edits == h.edits && l.skips == tx.skips {
		return l, nil
	}
	parked, skipped, err := v.readLot(ctx, h.generation)
	if err != nil {
		return nil, err
	}
	l = &lot{generation: h.generation, edits: h.edits, skips: tx.skips}
	l.Skipped = skipped
	l.Waiting = make(map[eventstore.StreamID]bool)
	for i := range parked {
		l.Waiting[parked[i].Stream] = true
	}
	v.lots[tx.cursor] = l
	return l, nil
}

// readLot reads the parked events of a generation, in the order of the log, and the positions that are skipped.
func (v *View) readLot(ctx context.Context, generation int64) ([]parkedEvent, map[eventstore.Position]bool, error) {
	pipe := v.client.reads.Pipeline()
	all := pipe.HGetAll(ctx, v.names.parked(generation))
	skips := pipe.HKeys(ctx, v.names.skipped)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, nil, v.client.unavailable("read parked events", err)
	}
	skipped := make(map[eventstore.Position]bool, len(skips.Val()))
	for _, text := range skips.Val() {
		at, err := eventstore.ParsePosition(text)
		if err != nil {
			return nil, nil, fmt.Errorf("skipped event of %s: %w", v.Name(), err)
		}
		skipped[at] = true
	}
	parked := make([]parkedEvent, 0, len(all.Val()))
	for text, value := range all.Val() {
		p, err := v.unpark(text, value)
		if err != nil {
			return nil, nil, fmt.Errorf("parked event of %s at %s: %w", v.Name(), text, err)
		}
		parked = append(parked, p)
	}
	slices.SortFunc(parked, func(a, b parkedEvent) int { return a.Position.Compare(b.Position) })
	return parked, skipped, nil
}

// park adds parked events to a transaction.
func (v *View) park(ctx context.Context, pipe redis.Pipeliner, generation int64, parked []projections.ParkedEvent) error {
	for i := range parked {
		p := &parked[i]
		value, err := json.Marshal(parkedRecord{
			Stream: p.Stream.String(), Type: p.Type, Reason: p.Reason,
			Frame: eventstore.AppendFrame(nil, p.Event, eventstore.AppendContent(nil, p.Event)),
		})
		if err != nil {
			return fmt.Errorf("park event at %s: %w", p.Position, err)
		}
		pipe.HSet(ctx, v.names.parked(generation), p.Position.String(), value)
	}
	return nil
}

func (v *View) unpark(position, value string) (parkedEvent, error) {
	var r parkedRecord
	if err := json.Unmarshal([]byte(value), &r); err != nil {
		return parkedEvent{}, err
	}
	at, err := eventstore.ParsePosition(position)
	if err != nil {
		return parkedEvent{}, err
	}
	e, _, err := eventstore.DecodeFrame(r.Frame)
	if err != nil {
		return parkedEvent{}, err
	}
	e.Position = at
	return parkedEvent{event: e, Parked: projections.Parked{
		Projection: v.Name(), Stream: e.Stream, Position: at, Type: e.Type, Reason: r.Reason,
	}}, nil
}

// Parked is part of projections.Parking.
func (v *View) Parked(ctx context.Context) ([]projections.Parked, error) {
	h, err := v.head(ctx, v.names.cursor)
	if errors.Is(err, projections.ErrNoCursor) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	events, _, err := v.readLot(ctx, h.generation)
	if err != nil {
		return nil, err
	}
	out := make([]projections.Parked, len(events))
	for i := range events {
		out[i] = events[i].Parked
	}
	return out, nil
}

// Skipped returns the positions that are skipped, in order.
func (v *View) Skipped(ctx context.Context) ([]eventstore.Position, error) {
	_, skipped, err := v.readLot(ctx, 0)
	if err != nil {
		return nil, err
	}
	out := make([]eventstore.Position, 0, len(skipped))
	for at := range skipped {
		out = append(out, at)
	}
	slices.SortFunc(out, eventstore.Position.Compare)
	return out, nil
}

// Retry is part of projections.Parking.
func (v *View) Retry(ctx context.Context, stream eventstore.StreamID) (applied int, err error) {
	return v.edit(ctx, func(all []parkedEvent) (events, skip []parkedEvent, err error) {
		for _, p := range all {
			if stream.IsZero() || p.Stream == stream {
				events = append(events, p)
			}
		}
		return events, nil, nil
	})
}

// Skip is part of projections.Parking.
func (v *View) Skip(ctx context.Context, at eventstore.Position) error {
	_, err := v.edit(ctx, func(all []parkedEvent) (events, skip []parkedEvent, err error) {
		i := slices.IndexFunc(all, func(p parkedEvent) bool { return p.Position == at })
		if i < 0 {
			return nil, nil, fmt.Errorf("parked event at %s: %w", at, projections.ErrNotFound)
		}
		for _, p := range all {
			if p.Stream == all[i].Stream {
				events = append(events, p)
			}
		}
		return events, all[i : i+1], nil
	})
	return err
}

// edit applies some of the live model's parked events again and skips others, in one transaction that leaves the cursor
// where it is. choose picks from all of them; what is to be skipped is among the events too, for those behind it may count otherwise.
func (v *View) edit(ctx context.Context, choose func(all []parkedEvent) (events, skip []parkedEvent, err error)) (applied int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for range attempts {
		applied, err = v.tryEdit(ctx, choose)
		if !errors.Is(err, errChanged) {
			return applied, err
		}
	}
	return 0, fmt.Errorf("%w: it was touched %d times", projections.ErrCursorMoved, attempts)
}

func (v *View) tryEdit(ctx context.Context, choose func(all []parkedEvent) (events, skip []parkedEvent, err error)) (applied int, err error) {
	tx, h, err := v.watch(ctx, v.names.cursor)
	defer tx.end()
	if err != nil {
		return 0, err
	}
	all, skipped, err := v.readLot(ctx, h.generation)
	if err != nil {
		return 0, err
	}
	chosen, skip, err := choose(all)
	if err != nil || len(chosen)+len(skip) == 0 {
		return 0, err
	}
	for i := range skip {
		skipped[skip[i].Position] = true
	}
	events := make([]eventstore.Recorded, len(chosen))
	for i := range chosen {
		events[i] = chosen[i].event
		if !skipped[chosen[i].Position] {
			applied++
		}
	}
	v.recorder.Clear()
	batch := projections.Lot{Skipped: skipped}
	parked, err := projections.Fold[projections.Keys](ctx, &v.projection, &v.recorder, &v.recorder, &batch, events)
	if err != nil {
		return 0, err
	}
	keys, err := v.recorder.Reduce()
	if err != nil {
		return 0, err
	}
	edits, _ := strconv.ParseUint(h.edits, 10, 64) // what is no number starts again
	h.edits = strconv.FormatUint(edits+1, 10)
	err = tx.commit(ctx, &h, false, keys, func(pipe redis.Pipeliner) error {
		for i := range chosen {
			pipe.HDel(ctx, v.names.parked(h.generation), chosen[i].Position.String())
		}
		for i := range skip {
			pipe.HDel(ctx, v.names.parked(h.generation), skip[i].Position.String())
			value, err := json.Marshal(parkedRecord{Stream: skip[i].Stream.String(), Type: skip[i].Type, Reason: skip[i].Reason})
			if err != nil {
				return fmt.Errorf("skip event at %s: %w", skip[i].Position, err)
			}
			pipe.HSet(ctx, v.names.skipped, skip[i].Position.String(), value)
		}
		return v.park(ctx, pipe, h.generation, parked)
	})
	if err != nil {
		return 0, v.damage(ctx, writer{cursor: v.names.cursor}, &h, err)
	}
	for i := range parked {
		if !skipped[parked[i].Position] {
			applied--
		}
	}
	return applied, nil
}
