package inventory

import (
	"strconv"

	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// State is the stock of one code, in units.
type State struct {
	// OnHand are the units that are there, reserved ones included; Reserved those of them that are promised.
	OnHand, Reserved int64

	reservations map[string]Reservation
	counted      map[reference]int64
}

// Reservation is what became of a Try.
type Reservation struct {
	Outcome Outcome
	// Quantity is in units; 0 for a reservation that was cancelled before it was tried.
	Quantity int64
}

// Outcome says how far a reservation has come.
type Outcome uint8

// The outcomes. The zero value is a reservation that was never heard of.
const (
	Unknown Outcome = iota
	Open
	Confirmed
	Cancelled
)

// reference is what counts once, by the kind of event that counted it.
type reference struct {
	kind referenceKind
	name string
}

type referenceKind uint8

const (
	delivery referenceKind = iota
	returned
	documentLine
)

// Available returns the units that can be reserved.
func (s State) Available() int64 { return s.OnHand - s.Reserved }

// Reservation returns what became of a reservation.
func (s State) Reservation(name string) Reservation { return s.reservations[name] }

// documentReference names the line of a document.
func documentReference(id string, line uint32) reference {
	return reference{documentLine, id + "/" + strconv.FormatUint(uint64(line), 10)}
}

func zero() State {
	return State{reservations: make(map[string]Reservation), counted: make(map[reference]int64)}
}

// evolve changes s in place where it can: its maps are its own.
func evolve(s State, e Event) State {
	switch e := e.(type) {
	case *commercev1.InventoryReceived:
		s.OnHand += e.GetQuantity()
		if e.GetReference() != "" {
			s.counted[reference{delivery, e.GetReference()}] = e.GetQuantity()
		}
	case *commercev1.InventoryReturned:
		s.OnHand += e.GetQuantity()
		s.counted[reference{returned, e.GetReference()}] = e.GetQuantity()
	case *commercev1.InventoryAdjusted:
		s.OnHand += e.GetDelta()
		if d := e.GetDocument(); d != nil {
			s.counted[documentReference(d.GetId(), d.GetLine())] = e.GetDelta()
		}
	case *commercev1.InventoryReserved:
		s.Reserved += e.GetQuantity()
		s.reservations[e.GetReservation()] = Reservation{Open, e.GetQuantity()}
	case *commercev1.InventoryConfirmed:
		s.OnHand -= e.GetQuantity()
		s.Reserved -= e.GetQuantity()
		s.reservations[e.GetReservation()] = Reservation{Confirmed, e.GetQuantity()}
	case *commercev1.InventoryReleased:
		s.Reserved -= e.GetQuantity()
		s.reservations[e.GetReservation()] = Reservation{Cancelled, e.GetQuantity()}
	case *commercev1.InventoryBarred:
		s.reservations[e.GetReservation()] = Reservation{Outcome: Cancelled}
	}
	return s
}
