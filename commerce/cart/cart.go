package cart

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the cart's streams; a stream's id is the cart's.
const Category = "cart"

// CodeFull is the code of a refusal: the cart has MaxLines lines.
const CodeFull = "cart.full"

// Event is one of the messages that Codec knows: *commercev1.CartLineAdded, CartLinesRemoved.
type Event = proto.Message

// The wire names of the events. They never change.
const (
	LineAddedV1    = "cart.line_added.v1"
	LinesRemovedV1 = "cart.lines_removed.v1"
)

// Codec returns the codec of the cart's events. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{
	LineAddedV1:    &commercev1.CartLineAdded{},
	LinesRemovedV1: &commercev1.CartLinesRemoved{},
})

// State is what is in a cart.
//
// INVARIANT: a line that was taken out does not come back. A command that was done at two sites adds one line twice: it is there once, and
// who takes it out takes both, in whatever order the events come.
type State struct {
	lines map[string]Line // by their ids
	gone  map[string]bool // ids of lines that were taken out
}

// take takes lines out.
func (s State) take(ids []string) {
	for _, id := range ids {
		delete(s.lines, id)
		s.gone[id] = true
	}
}

// Line is a number of units of a stock code.
type Line struct {
	StockCode string
	Quantity  int64
}

// Lines returns what is in the cart, one line for each stock code, sorted.
func (s State) Lines() []Line {
	units := map[string]int64{}
	for _, l := range s.lines {
		units[l.StockCode] += l.Quantity
	}
	lines := make([]Line, 0, len(units))
	for code, n := range units {
		lines = append(lines, Line{code, n})
	}
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Compare(a.StockCode, b.StockCode) })
	return lines
}

// of returns the ids of the lines of a stock code, sorted.
func (s State) of(code string) (ids []string) {
	for id, l := range s.lines {
		if l.StockCode == code {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Aggregate returns the aggregate of the cart.
func Aggregate() commands.Aggregate[State, Command, Event] {
	return commands.Aggregate[State, Command, Event]{
		Category: Category,
		ID:       Command.cartID,
		Zero:     func() State { return State{lines: map[string]Line{}, gone: map[string]bool{}} },
		Validate: validate,
		Decide:   decide,
		Evolve:   evolve,
		Codec:    Codec(),
		Resolver: commands.CRDT[State, Event]{},
	}
}

// Register adds the cart and its commands to a bus.
func Register(b *commands.Bus) error {
	return commands.Register[State, Command, Event](b, Aggregate(), Add{}, Set{}, Empty{})
}

func decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Add:
		if len(s.lines) >= MaxLines {
			return nil, refuseFull(c.ID)
		}
		return []Event{&commercev1.CartLineAdded{Line: c.Line, StockCode: c.StockCode, Quantity: c.Quantity, AtMs: c.At.UnixMilli()}}, nil
	case Set:
		return set(s, c)
	case Empty:
		if len(s.lines) == 0 {
			return nil, nil
		}
		return []Event{&commercev1.CartLinesRemoved{Lines: slices.Sorted(maps.Keys(s.lines)), AtMs: c.At.UnixMilli()}}, nil
	}
	return nil, fmt.Errorf("cart: no such command: %T", c)
}

func set(s State, c Set) ([]Event, error) {
	before := s.of(c.StockCode)
	switch {
	case c.Quantity == 0 && len(before) == 0:
		return nil, nil
	case c.Quantity == 0:
		return []Event{&commercev1.CartLinesRemoved{Lines: before, AtMs: c.At.UnixMilli()}}, nil
	case len(before) == 1 && s.lines[before[0]].Quantity == c.Quantity:
		return nil, nil
	case len(before) == 0 && len(s.lines) >= MaxLines:
		return nil, refuseFull(c.ID)
	}
	return []Event{&commercev1.CartLineAdded{
		Line: c.Line, StockCode: c.StockCode, Quantity: c.Quantity, Replaces: before, AtMs: c.At.UnixMilli(),
	}}, nil
}

func refuseFull(id string) error {
	return commands.Reject(CodeFull, fmt.Sprintf("cart %s has %d lines: set the units of what is in it instead", id, MaxLines))
}

// evolve changes s in place: its maps are its own.
func evolve(s State, e Event) State {
	switch e := e.(type) {
	case *commercev1.CartLineAdded:
		s.take(e.GetReplaces())
		if !s.gone[e.GetLine()] {
			s.lines[e.GetLine()] = Line{e.GetStockCode(), e.GetQuantity()}
		}
	case *commercev1.CartLinesRemoved:
		s.take(e.GetLines())
	}
	return s
}
