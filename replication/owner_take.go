package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// ErrTaken: a cell that was to be taken from a shard is not of that any more.
var ErrTaken = fmt.Errorf("%w: the cell has changed hands", eventstore.ErrNotHome)

// Take makes this shard the home of a cell that nobody has given it, because the one that has it, or is about to get it, is gone for
// good as far as anybody can tell; ErrTaken when that is another one than from by now. What it has written of the cell that is not
// here yet, and all that it may go on to write, stands against what is written here from now on, and loses where both have written one
// stream: it is for an operator, or somebody else who knows that it does not write.
//
// A cell that is sealed is not its home's any more, but that of the shard that it is sealed for, which may have opened it: then that has to
// be gone. While heard says of the one that has to be gone that it is heard, the cell is not taken: ErrMoving where it is on its way,
// else eventstore.ErrInvalid; nil: nobody is heard. While this site has agreed to a takeover of the cell, it is eventstore.ErrUnavailable.
func (o *Owner) Take(ctx context.Context, cell uint16, from Shard, reason string, heard Hears) error {
	left, err := o.TakeAll(ctx, []uint16{cell}, from, reason, heard)
	if err != nil {
		return err
	}
	return left[cell]
}

// Hears reports whether a site is heard.
type Hears = func(ctx context.Context, site string) (bool, error)

// TakeAll is Take for several cells at once: one synced write has all that can be taken. left says of each other one why it is not:
// ErrTaken or ErrMoving. With an error nothing is taken.
func (o *Owner) TakeAll(ctx context.Context, cells []uint16, from Shard, reason string, heard Hears) (left map[uint16]error, err error) {
	if reason == "" {
		return nil, fmt.Errorf("%w: say why the cell is taken", eventstore.ErrInvalid)
	}
	for _, cell := range cells {
		if cell >= eventstore.Cells {
			return nil, fmt.Errorf("%w: cell %d; there are %d, from 0 on", eventstore.ErrInvalid, cell, eventstore.Cells)
		}
	}
	o.moves.Lock()
	defer o.moves.Unlock()
	for {
		left = map[uint16]error{}
		var r eventstore.Request
		for _, cell := range cells {
			a, err := o.taking(ctx, cell, from, reason, heard)
			switch {
			case errors.Is(err, ErrTaken), errors.Is(err, ErrMoving):
				left[cell] = err
			case err != nil:
				return nil, err
			default:
				r.Appends = append(r.Appends, a)
			}
		}
		if len(r.Appends) == 0 {
			return left, nil
		}
		if _, err := o.store.Append(ctx, r); err != nil {
			if errors.Is(err, eventstore.ErrConflict) {
				continue // something of a cell has just come from another site
			}
			return nil, fmt.Errorf("take cells of %s: %w", from, err)
		}
		for _, cell := range cells {
			if err := o.look(ctx, cell); err != nil {
				return nil, err
			}
		}
		return left, nil
	}
}

// taking returns what makes this shard a cell's home. REQUIRES: moves.
func (o *Owner) taking(ctx context.Context, cell uint16, from Shard, reason string, heard Hears) (a eventstore.StreamAppend, err error) {
	c, version, err := o.read(ctx, cell)
	if err != nil {
		return a, err
	}
	if c.Home != from && (!c.Sealed || c.Next != from) {
		o.fence.set(c)
		return a, fmt.Errorf("%w: cell %d belonged to %s, and somebody else has taken or moved it just now: it belongs to %s; see who has which (cells list) before you go on",
			ErrTaken, cell, from, c.Home)
	}
	e, err := c.take(o.fence.self, reason)
	if err != nil {
		return a, err
	}
	if err := o.mayTake(ctx, c, heard); err != nil {
		return a, err
	}
	return eventstore.StreamAppend{Stream: CellStream(cell), Expect: eventstore.Exactly(version), Events: []eventstore.Event{e}}, nil
}

// mayTake returns nil when nobody who is there may write a cell, or take it. It is asked of the cell as the log has it: who may may have
// changed since somebody has looked at the fence. REQUIRES: moves.
func (o *Owner) mayTake(ctx context.Context, c Cell, heard Hears) error {
	writer := c.Home
	if c.Sealed {
		writer = c.Next
	}
	if taker := o.agreed(c); taker != "" {
		return fmt.Errorf("%w: cell %d is about to be taken over by site %s; if that is gone for good, too, have it leave (sites leave)", eventstore.ErrUnavailable, c.Number, taker)
	}
	if heard == nil || writer == o.fence.self {
		return nil
	}
	switch there, err := heard(ctx, writer.Region); {
	case err != nil:
		return err
	case there:
		return c.refuse()
	}
	return nil
}
