package replication

import (
	"context"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Enter implements Recorder.
//
// INVARIANT: cells that a site has sealed for this one are not opened from when this one has agreed to a takeover of that site until it has come
// to an end: what this one has opened before it agreed stands before that in its log, so that the taker knows it.
func (o *Owner) Enter(ctx context.Context, e Entry) error {
	o.moves.Lock()
	defer o.moves.Unlock()
	r, err := e.request(o.fence.self)
	if err != nil {
		return err
	}
	taken := map[uint16]bool{}
	switch e.kind {
	case TakeoverAgreed:
		o.mu.Lock()
		o.tenures.of(e.site).agreed[agreement{o.fence.self.Region, e.note.Taker}] = vote{takeoverNote: e.note} // it binds before it is known to be durable
		o.mu.Unlock()
	case TakeoverDone:
		appends, err := o.takeOver(ctx, e.site, e.note.Reason)
		if err != nil {
			return err
		}
		for i := range appends {
			cell, _ := cellOf(&eventstore.Recorded{Stream: appends[i].Stream})
			taken[cell] = true
		}
		r.Appends = append(appends, r.Appends...) // who has received the last has received all
	}
	receipt, err := o.store.Append(ctx, r)
	if err != nil {
		return fmt.Errorf("put on record %s: %w", e.String(), err)
	}
	for cell := range taken {
		if err := o.look(ctx, cell); err != nil {
			return err
		}
	}
	if e.kind == TakeoverDone && !receipt.Duplicate {
		o.log.Warn("the cells of a site that is gone were taken over", "site", e.site, "cells", len(taken), "reason", e.note.Reason)
	}
	return nil
}

// takeOver returns what makes this shard the home of all cells of a site, and of those that were sealed for it: it may have opened those
// without anybody's knowing, so that their epoch rises by one more.
func (o *Owner) takeOver(ctx context.Context, site, reason string) (appends []eventstore.StreamAppend, err error) {
	for cell := range uint16(eventstore.Cells) {
		known, _ := o.fence.Cell(cell)
		if known.Home.Region != site && (!known.Sealed || known.Next.Region != site) {
			continue
		}
		c, version, err := o.read(ctx, cell)
		if err != nil {
			return nil, err
		}
		coming := c.Sealed && c.Next.Region == site
		if c.Home.Region != site && !coming {
			continue
		}
		p := change{Epoch: c.Epoch + 1, To: o.fence.self.String(), Reason: reason}
		if coming {
			p.Epoch++
		}
		e, err := c.event(CellTaken, p)
		if err != nil {
			return nil, err
		}
		appends = append(appends, eventstore.StreamAppend{Stream: CellStream(cell), Expect: eventstore.Exactly(version), Events: []eventstore.Event{e}})
	}
	return appends, nil
}

// look has the fence know what the log says of a cell. REQUIRES: moves.
func (o *Owner) look(ctx context.Context, cell uint16) error {
	c, _, err := o.read(ctx, cell)
	if err == nil {
		o.fence.set(c)
	}
	return err
}

// agreed returns a site of which this one has agreed that it takes over a cell, from its home or from the site that it is sealed for;
// none: "". What this one recorded of the cell from then on the taker would not know.
func (o *Owner) agreed(c Cell) (taker string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	from := []string{c.Home.Region}
	if c.Sealed {
		from = append(from, c.Next.Region)
	}
	for _, site := range from {
		if made := o.tenures.of(site).agreements(o.fence.self.Region); len(made) > 0 {
			return made[0].taker
		}
	}
	return ""
}

// tell takes in what the log says of takeovers, and passes it on.
func (o *Owner) tell(ctx context.Context, events []eventstore.Recorded) error {
	o.mu.Lock()
	err := o.tenures.read(events)
	o.mu.Unlock()
	if err == nil && o.Told != nil {
		err = o.Told(ctx, events)
	}
	return err
}

// Takeovers returns those that are on record, in the order of time.
func (o *Owner) Takeovers() (out []Takeover) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.tenures {
		out = append(out, t.done...)
	}
	slices.SortFunc(out, func(a, b Takeover) int { return a.At.Compare(b.At) })
	return out
}
