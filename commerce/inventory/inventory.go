package inventory

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/escrow"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the inventory's streams; a stream's id is the stock code.
const Category = "inventory"

// Codes of refusals.
const (
	CodeInsufficient         = "inventory.insufficient"
	CodeReservationCancelled = "inventory.reservation_cancelled"
	CodeReservationConfirmed = "inventory.reservation_confirmed"
	CodeReservationDiffers   = "inventory.reservation_differs"
	CodeReservationUnknown   = "inventory.reservation_unknown"
	CodeReservationElsewhere = "inventory.reservation_elsewhere"
	CodeBelowZero            = "inventory.below_zero"
	CodeBelowReserved        = "inventory.below_reserved"
	CodeReferenceDiffers     = "inventory.reference_differs"
	CodeSameSite             = "inventory.same_site"
)

// Aggregate returns the aggregate of the stock of a code.
func Aggregate() commands.Aggregate[State, Command, Event] {
	return commands.Aggregate[State, Command, Event]{
		Category: Category,
		ID:       Command.stockCode,
		Zero:     zero,
		Validate: validate,
		Decide:   decide,
		Evolve:   evolve,
		Codec:    Codec(),
		// A code that is on many orders has thousands of events.
		Snapshots: &commands.Snapshots[State]{Version: 2, Encode: encodeState, Decode: decodeState},
		Resolver:  commands.Escrow[State, Event]{At: at, Review: review},
	}
}

// Register adds the inventory and its commands to a bus.
func Register(b *commands.Bus) error {
	return commands.Register[State, Command, Event](b, Aggregate(), Receive{}, Try{}, Confirm{}, Cancel{}, Adjust{}, ReturnGoods{}, MoveRights{}, Rebalance{})
}

func decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Receive:
		return receive(s, c)
	case Try:
		return try(s, c)
	case Confirm:
		return confirm(s, c)
	case Cancel:
		return cancel(s, c)
	case Adjust:
		return adjust(s, c)
	case ReturnGoods:
		return returnGoods(s, c)
	case MoveRights:
		return moveRights(s, c)
	case Rebalance:
		return rebalance(s, c), nil
	}
	return nil, fmt.Errorf("inventory: no such command: %T", c)
}

func receive(s State, c Receive) ([]Event, error) {
	if c.Reference != "" {
		if done, err := s.repeats(c.Code, reference{delivery, c.Reference}, c.Quantity); done || err != nil {
			return nil, err
		}
	}
	return []Event{&commercev1.InventoryReceived{Quantity: c.Quantity, Reference: c.Reference, AtMs: c.At.UnixMilli()}}, nil
}

func returnGoods(s State, c ReturnGoods) ([]Event, error) {
	if done, err := s.repeats(c.Code, reference{returned, c.Reference}, c.Quantity); done || err != nil {
		return nil, err
	}
	return []Event{&commercev1.InventoryReturned{Reference: c.Reference, Quantity: c.Quantity, AtMs: c.At.UnixMilli()}}, nil
}

func adjust(s State, c Adjust) ([]Event, error) {
	if c.Document != nil {
		ref := documentReference(c.Document.ID, uint32(c.Document.Line))
		if done, err := s.repeats(c.Code, ref, c.Delta); done || err != nil {
			return nil, err
		}
	}
	onHand, held := s.books.Rights(s.site), s.books.Row(s.site).Held
	after := onHand + c.Delta
	switch {
	case after < 0:
		return nil, commands.Reject(CodeBelowZero, fmt.Sprintf(
			"stock %s has %d units on hand%s, %d cannot be taken", c.Code, onHand, s.elsewhere(), -c.Delta))
	case c.Delta < 0 && after < held:
		return nil, commands.Reject(CodeBelowReserved, fmt.Sprintf(
			"stock %s has %d units on hand%s of which %d are reserved, %d cannot be taken: cancel orders first",
			c.Code, onHand, s.elsewhere(), held, -c.Delta))
	}
	return []Event{&commercev1.InventoryAdjusted{
		Delta: c.Delta, Reason: c.Reason, AtMs: c.At.UnixMilli(), Document: c.Document.proto(),
	}}, nil
}

// repeats reports whether a reference was counted before, and refuses it when it was counted with other units.
func (s State) repeats(code string, ref reference, units int64) (bool, error) {
	before, ok := s.counted[ref]
	if ok && before != units {
		return false, commands.Reject(CodeReferenceDiffers, fmt.Sprintf(
			"stock %s: %s was counted with %d units before, now with %d", code, ref.name, before, units))
	}
	return ok, nil
}

// elsewhere tells of what other sites have, for refusals; empty where they have nothing.
func (s State) elsewhere() string {
	if n := s.OnHand - s.books.Rights(s.site); n != 0 {
		return fmt.Sprintf(" at %s, and %d at other sites", s.site, n)
	}
	return ""
}

func moveRights(s State, c MoveRights) ([]Event, error) {
	switch {
	case c.To == s.site:
		return nil, commands.Reject(CodeSameSite, fmt.Sprintf("stock %s: the units are at %s already", c.Code, c.To))
	case c.Quantity > s.Available():
		return nil, s.refuseInsufficient(c.Code, c.Quantity)
	}
	return []Event{&commercev1.InventoryRightsMoved{To: c.To, Quantity: c.Quantity, AtMs: c.At.UnixMilli()}}, nil
}

func rebalance(s State, c Rebalance) []Event {
	planner := escrow.Planner{Among: slices.Collect(maps.Keys(c.Demand))}
	m, ok := planner.Plan(s.site, s.books, c.Demand, time.Time{}, c.At)
	if !ok {
		return nil
	}
	return []Event{&commercev1.InventoryRightsMoved{To: m.To, Quantity: min(m.Units, MaxQuantity), AtMs: c.At.UnixMilli()}}
}

func try(s State, c Try) ([]Event, error) {
	switch r := s.Reservation(c.Reservation); {
	case r.Outcome == Cancelled:
		return nil, refuseCancelled(c.Code, c.Reservation)
	case r.Outcome != Unknown && r.Quantity != c.Quantity:
		return nil, commands.Reject(CodeReservationDiffers, fmt.Sprintf(
			"stock %s: reservation %s is for %d units, not %d", c.Code, c.Reservation, r.Quantity, c.Quantity))
	case r.Outcome != Unknown:
		return nil, nil
	}
	if c.Quantity > s.Available() {
		return nil, s.refuseInsufficient(c.Code, c.Quantity)
	}
	return []Event{&commercev1.InventoryReserved{Reservation: c.Reservation, Quantity: c.Quantity, AtMs: c.At.UnixMilli()}}, nil
}

func (s State) refuseInsufficient(code string, wanted int64) error {
	return commands.Reject(CodeInsufficient, fmt.Sprintf("stock %s has %d units available%s, %d are wanted", code, s.Available(), s.elsewhere(), wanted))
}

func confirm(s State, c Confirm) ([]Event, error) {
	r := s.Reservation(c.Reservation)
	switch r.Outcome {
	case Open:
		if r.Site != s.site {
			return nil, refuseElsewhere(c.Code, c.Reservation, r.Site)
		}
		return []Event{&commercev1.InventoryConfirmed{Reservation: c.Reservation, Quantity: r.Quantity, AtMs: c.At.UnixMilli()}}, nil
	case Confirmed:
		return nil, nil
	case Cancelled:
		return nil, refuseCancelled(c.Code, c.Reservation)
	}
	return nil, commands.Reject(CodeReservationUnknown, fmt.Sprintf("stock %s has no reservation %s", c.Code, c.Reservation))
}

func cancel(s State, c Cancel) ([]Event, error) {
	r := s.Reservation(c.Reservation)
	switch r.Outcome {
	case Open:
		if r.Site != s.site {
			return nil, refuseElsewhere(c.Code, c.Reservation, r.Site)
		}
		return []Event{&commercev1.InventoryReleased{Reservation: c.Reservation, Quantity: r.Quantity, AtMs: c.At.UnixMilli()}}, nil
	case Confirmed:
		return nil, commands.Reject(CodeReservationConfirmed, fmt.Sprintf(
			"stock %s: the units of reservation %s have left: take them back by a return", c.Code, c.Reservation))
	case Cancelled:
		return nil, nil
	}
	return []Event{&commercev1.InventoryBarred{Reservation: c.Reservation, AtMs: c.At.UnixMilli()}}, nil
}

func refuseCancelled(code, reservation string) error {
	return commands.Reject(CodeReservationCancelled, fmt.Sprintf("stock %s: reservation %s was cancelled", code, reservation))
}

func refuseElsewhere(code, reservation, site string) error {
	return commands.Reject(CodeReservationElsewhere, fmt.Sprintf(
		"stock %s: reservation %s was made at %s, whose units it holds, and is settled there", code, reservation, site))
}
