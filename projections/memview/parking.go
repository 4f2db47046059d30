package memview

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/keywrites"
)

// parkingLot holds parked events in the order of the log.
type parkingLot struct {
	events []parkedEvent
}

type parkedEvent struct {
	projections.Parked
	event eventstore.Recorded
}

func (l *parkingLot) waiting() map[eventstore.StreamID]bool {
	w := make(map[eventstore.StreamID]bool)
	for i := range l.events {
		w[l.events[i].Stream] = true
	}
	return w
}

func (l *parkingLot) add(parked []projections.ParkedEvent) {
	for _, p := range parked {
		l.events = append(l.events, parkedEvent{Parked: p.Parked, event: *p.Event})
	}
}

func (l *parkingLot) list() []projections.Parked {
	out := make([]projections.Parked, len(l.events))
	for i := range l.events {
		out[i] = l.events[i].Parked
	}
	return out
}

// take removes and returns the events of a stream; the zero StreamID takes all.
func (l *parkingLot) take(stream eventstore.StreamID) []eventstore.Recorded {
	var taken []eventstore.Recorded
	l.events = slices.DeleteFunc(l.events, func(p parkedEvent) bool {
		if stream.IsZero() || p.Stream == stream {
			taken = append(taken, p.event)
			return true
		}
		return false
	})
	return taken
}

// Parked is part of projections.Parking.
func (k *Keys) Parked(context.Context) ([]projections.Parked, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live == nil {
		return nil, nil
	}
	return k.live.lot.list(), nil
}

// Retry is part of projections.Parking.
func (k *Keys) Retry(ctx context.Context, stream eventstore.StreamID) (applied int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.retry(ctx, stream)
}

// retry folds parked events again. REQUIRES: k.mu is held.
func (k *Keys) retry(ctx context.Context, stream eventstore.StreamID) (applied int, err error) {
	if k.live == nil {
		return 0, projections.ErrNoCursor
	}
	before := slices.Clone(k.live.lot.events)
	events := k.live.lot.take(stream)
	var rec keywrites.Recorder
	lot := projections.Lot{Skipped: k.skipped}
	parked, err := projections.Fold[projections.Keys](ctx, &k.projection, &rec, &rec, &lot, events)
	if err == nil {
		err = k.live.write(&rec)
	}
	if err != nil {
		k.live.lot.events = before
		return 0, err
	}
	k.live.lot.add(parked)
	slices.SortFunc(k.live.lot.events, func(a, b parkedEvent) int {
		return cmp.Or(a.Position.Compare(b.Position), cmp.Compare(a.Type, b.Type))
	})
	for i := range events {
		if !k.skipped[events[i].Position] {
			applied++
		}
	}
	for i := range parked {
		if !k.skipped[parked[i].Position] {
			applied--
		}
	}
	return applied, nil
}

// Skip is part of projections.Parking.
func (k *Keys) Skip(ctx context.Context, at eventstore.Position) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.live != nil {
		for i := range k.live.lot.events {
			if p := &k.live.lot.events[i]; p.Position == at {
				k.skipped[at] = true
				_, err := k.retry(ctx, p.Stream)
				return err
			}
		}
	}
	return fmt.Errorf("parked event at %s: %w", at, projections.ErrNotFound)
}

// Skipped returns the positions that are skipped, in order.
func (k *Keys) Skipped() []eventstore.Position {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]eventstore.Position, 0, len(k.skipped))
	for at := range k.skipped {
		out = append(out, at)
	}
	slices.SortFunc(out, eventstore.Position.Compare)
	return out
}
