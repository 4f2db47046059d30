package inventory

import (
	"fmt"
	"strconv"

	"github.com/tributary-es/tributary/commands/escrow"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// State is the stock of one code, in units, as one of the sites sees it that sell it.
type State struct {
	// OnHand are the units that are there, at all sites, reserved ones included; Reserved those of them that are promised.
	OnHand, Reserved int64

	// site is who looks, and books say which units are whose.
	site         string
	books        escrow.Books
	reservations map[reservationKey]Reservation
	counted      map[reference]int64
}

// reservationKey names a reservation, which two sites may have made at once: each holds units of its own then.
type reservationKey struct{ name, site string }

// Reservation is what became of a Try.
type Reservation struct {
	Outcome Outcome
	// Quantity is in units; 0 for a reservation that was cancelled before it was tried.
	Quantity int64
	// Site made it.
	Site string
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

// Available returns the units that can be reserved at the site that looks.
func (s State) Available() int64 { return s.books.Available(s.site) }

// Books say which units are whose.
func (s State) Books() escrow.Books { return s.books }

// Reservation returns what became of a reservation. Where several sites made it, what is open comes before what is settled,
// and that before what was cancelled; of equal ones, that of the site which looks comes first.
func (s State) Reservation(name string) Reservation {
	best := s.reservations[reservationKey{name, s.site}]
	for _, row := range s.books.Rows() {
		if r := s.reservations[reservationKey{name, row.Site}]; r.Outcome != Unknown && (best.Outcome == Unknown || r.Outcome < best.Outcome) {
			best = r
		}
	}
	return best
}

// documentReference names the line of a document.
func documentReference(id string, line uint32) reference {
	return reference{documentLine, id + "/" + strconv.FormatUint(uint64(line), 10)}
}

func zero() State {
	return State{reservations: make(map[reservationKey]Reservation), counted: make(map[reference]int64)}
}

// at turns the state to a site.
func at(s State, site string) State {
	s.site = site
	return s
}

// evolve changes s in place where it can: its maps and books are its own. The units are those of the site that s is turned to.
func evolve(s State, e Event) State {
	if ref, units, ok := countedBy(e); ok {
		s.counted[ref] = units
	}
	switch e := e.(type) {
	case *commercev1.InventoryReceived:
		s.receive(e.GetQuantity())
	case *commercev1.InventoryReturned:
		s.receive(e.GetQuantity())
	case *commercev1.InventoryAdjusted:
		s.receive(e.GetDelta())
	case *commercev1.InventoryReserved:
		s.Reserved += e.GetQuantity()
		s.books.Hold(s.site, e.GetQuantity())
		s.note(e.GetReservation(), Open, e.GetQuantity())
	case *commercev1.InventoryConfirmed:
		s.OnHand -= e.GetQuantity()
		s.Reserved -= e.GetQuantity()
		s.books.Take(s.site, e.GetQuantity())
		s.note(e.GetReservation(), Confirmed, e.GetQuantity())
	case *commercev1.InventoryReleased:
		s.Reserved -= e.GetQuantity()
		s.books.Release(s.site, e.GetQuantity())
		s.note(e.GetReservation(), Cancelled, e.GetQuantity())
	case *commercev1.InventoryBarred:
		s.books.Receive(s.site, 0)
		s.note(e.GetReservation(), Cancelled, 0)
	case *commercev1.InventoryRightsMoved:
		s.books.Move(s.site, e.GetTo(), e.GetQuantity())
	}
	return s
}

func (s *State) receive(units int64) {
	s.OnHand += units
	s.books.Receive(s.site, units)
}

func (s *State) note(reservation string, o Outcome, units int64) {
	s.reservations[reservationKey{reservation, s.site}] = Reservation{o, units, s.site}
}

// countedBy returns what an event counts that counts once, if it does.
func countedBy(e Event) (ref reference, units int64, ok bool) {
	switch e := e.(type) {
	case *commercev1.InventoryReceived:
		return reference{delivery, e.GetReference()}, e.GetQuantity(), e.GetReference() != ""
	case *commercev1.InventoryReturned:
		return reference{returned, e.GetReference()}, e.GetQuantity(), true
	case *commercev1.InventoryAdjusted:
		if d := e.GetDocument(); d != nil {
			return documentReference(d.GetId(), d.GetLine()), e.GetDelta(), true
		}
	}
	return ref, 0, false
}

// review finds what two sites did at once that was meant to be done once. It counts at both: their customers may have the
// units already.
func review(s State, e Event) string {
	if ref, _, ok := countedBy(e); ok {
		if _, before := s.counted[ref]; before {
			return fmt.Sprintf("%s was counted at another site too: correct the stock of one of them by hand", ref.name)
		}
	}
	if r, ok := e.(*commercev1.InventoryReserved); ok {
		for _, row := range s.books.Rows() {
			other := s.reservations[reservationKey{r.GetReservation(), row.Site}]
			if row.Site != s.site && (other.Outcome == Open || other.Outcome == Confirmed) {
				return fmt.Sprintf("%s has reserved %d units at %s too: cancel one of both", r.GetReservation(), other.Quantity, row.Site)
			}
		}
	}
	return ""
}
