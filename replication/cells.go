package replication

import (
	"encoding/json"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Who may write a cell is on record in a stream of its own, of this category, whose ID is the cell's number. Cells without
// such a stream belong to the shard that the ring gives them to, at epoch 0.
const CellCategory = "$cell"

// The types of events in those streams. Their payload is JSON.
const (
	// CellSealed: the home writes the cell no more; the shard that it names may open it.
	CellSealed = "tributary.cell.sealed.v1"
	// CellOpened: the shard that writes it is the home from now on.
	CellOpened = "tributary.cell.opened.v1"
	// CellTaken: the shard that writes it is the home from now on, without the one before having sealed it: somebody says that
	// it is gone. What it has written and nobody has seen stands against what is written from now on.
	CellTaken = "tributary.cell.taken.v1"
)

// Cell says who may write a cell.
type Cell struct {
	Number uint16
	// Home is the shard that may, under Epoch. Both change together, and Epoch only rises.
	Home  Shard
	Epoch uint32
	// Sealed: nobody may, until Next has opened it.
	Sealed bool
	Next   Shard
	// Taken says why Home took it; empty when it was given.
	Taken string
}

// change is the payload of a cell's event.
type change struct {
	// Epoch is the cell's, before a seal, and after an opening or a taking.
	Epoch uint32 `json:"epoch"`
	// To is the shard that may open a sealed cell, or that has opened or taken it.
	To string `json:"to"`
	// Reason of a taking.
	Reason string `json:"reason,omitempty"`
}

// CellStream returns the stream in which it is on record who owns a cell.
func CellStream(cell uint16) eventstore.StreamID {
	return eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: CellCategory, ID: fmt.Sprintf("%04d", cell)}
}

// FoldCell says who may write a cell, by the events of its stream in canonical order, of which all sites come to the same.
// An event that could not be when its turn came is passed over, so of two shards that take a cell at once one has it.
func FoldCell(ring *Ring, cell uint16, events []eventstore.Recorded) (Cell, error) {
	c := Cell{Number: cell, Home: ring.Of(cell)}
	for i := range events {
		e := &events[i]
		var p change
		if err := json.Unmarshal(e.Payload, &p); err != nil {
			return c, fmt.Errorf("event %s of cell %d: %w: %w", e.Dot, cell, eventstore.ErrCorrupt, err)
		}
		to, err := ParseShard(p.To)
		if err != nil {
			return c, fmt.Errorf("event %s of cell %d: %w: %w", e.Dot, cell, eventstore.ErrCorrupt, err)
		}
		by := Shard{e.Dot.Log.Shard, e.Dot.Log.Site}
		switch e.Type {
		case CellSealed:
			if by.Region == c.Home.Region && p.Epoch == c.Epoch && !c.Sealed {
				c.Sealed, c.Next = true, to
			}
		case CellOpened:
			if c.Sealed && by.Region == c.Next.Region && to == c.Next && p.Epoch == c.Epoch+1 {
				c = Cell{Number: cell, Home: to, Epoch: p.Epoch}
			}
		case CellTaken:
			if by.Region == to.Region && p.Epoch > c.Epoch {
				c = Cell{Number: cell, Home: to, Epoch: p.Epoch, Taken: p.Reason}
			}
		default:
			return c, fmt.Errorf("event %s of cell %d: %w: type %q", e.Dot, cell, eventstore.ErrCorrupt, e.Type)
		}
	}
	return c, nil
}

// ErrMoving: the cell is on its way to another shard already.
var ErrMoving = fmt.Errorf("%w: cell is moving", eventstore.ErrUnavailable)

// seal returns the event by which a shard gives a cell away.
func (c Cell) seal(self, to Shard) (eventstore.Event, error) {
	switch {
	case c.Home != self:
		return eventstore.Event{}, fmt.Errorf("%w: cell %d belongs to %s: ask there", eventstore.ErrNotHome, c.Number, c.Home)
	case c.Sealed && c.Next != to:
		return eventstore.Event{}, fmt.Errorf("%w: cell %d is on its way to %s; ask again when it is there", ErrMoving, c.Number, c.Next)
	}
	return c.event(CellSealed, change{Epoch: c.Epoch, To: to.String()})
}

// open returns the event by which a shard takes over a cell that was sealed for it.
func (c Cell) open(self Shard) (eventstore.Event, error) {
	if !c.Sealed || c.Next != self {
		return eventstore.Event{}, fmt.Errorf("%w: cell %d was not sealed for %s", eventstore.ErrNotHome, c.Number, self)
	}
	return c.event(CellOpened, change{Epoch: c.Epoch + 1, To: self.String()})
}

// take returns the event by which a shard takes a cell that nobody has given it.
//
// INVARIANT: a cell that is sealed may have been opened, and written, without its being known here: who takes it writes under the epoch
// after that.
func (c Cell) take(self Shard, reason string) (eventstore.Event, error) {
	if c.Home == self && !c.Sealed {
		return eventstore.Event{}, fmt.Errorf("%w: cell %d belongs to %s already", eventstore.ErrInvalid, c.Number, self)
	}
	p := change{Epoch: c.Epoch + 1, To: self.String(), Reason: reason}
	if c.Sealed {
		p.Epoch++
	}
	return c.event(CellTaken, p)
}

// refuse returns why a cell may not be taken from the shard that may write it, or that it was sealed for, while that is heard.
func (c Cell) refuse() error {
	if c.Sealed {
		return fmt.Errorf("%w: cell %d is on its way to %s, which is heard and opens it by itself; ask again when it is there", ErrMoving, c.Number, c.Next)
	}
	return fmt.Errorf("%w: cell %d belongs to %s, which is heard: have it moved there (cells move)", eventstore.ErrInvalid, c.Number, c.Home)
}

func (c Cell) event(eventType string, p change) (eventstore.Event, error) {
	payload, err := json.Marshal(p)
	if err != nil {
		return eventstore.Event{}, fmt.Errorf("encode event of cell %d: %w", c.Number, err)
	}
	return eventstore.Event{Type: eventType, Kind: eventstore.KindTransfer, Encoding: eventstore.JSON, Payload: payload}, nil
}
