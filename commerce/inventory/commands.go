package inventory

import (
	"time"

	"github.com/tributary-es/tributary/commerce/money"
)

// Command is one of Receive, Try, Confirm, Cancel, Adjust, ReturnGoods, MoveRights and Rebalance.
type Command interface {
	// stockCode returns the code that the command is for.
	stockCode() string
}

// Receive adds units that came in.
type Receive struct {
	// Code is taken as it is written; case matters.
	Code string
	// Quantity is in units, 1 to MaxQuantity.
	Quantity int64
	// Reference names what brought them, such as a delivery, and counts once. Empty: every command counts.
	Reference string
	At        time.Time
}

// Try reserves units. It is refused with inventory.insufficient when fewer are available at the site that decides.
type Try struct {
	Code string
	// Reservation is the coordinator's name for it.
	Reservation string
	// Quantity is in units, 1 to MaxTry.
	Quantity int64
	At       time.Time
}

// Confirm takes the reserved units out of the stock.
type Confirm struct {
	Code        string
	Reservation string
	At          time.Time
}

// Cancel frees the reserved units, or sees to it that a Try that is still under way will be refused.
type Cancel struct {
	Code        string
	Reservation string
	At          time.Time
}

// Adjust corrects what is on hand. It never takes what is reserved: it is refused with inventory.below_zero or
// inventory.below_reserved.
type Adjust struct {
	Code string
	// Delta is in units, −MaxQuantity to MaxQuantity; 0 only with a document.
	Delta int64
	// Reason is for people; it may be empty only with a document.
	Reason string
	// Document is the line of a paper that says so, nil when there is none. It counts once.
	Document *Document
	At       time.Time
}

// ReturnGoods puts units back that a customer had.
type ReturnGoods struct {
	Code string
	// Quantity is in units, 1 to MaxTry.
	Quantity int64
	// Reference is the id of the return, and counts once.
	Reference string
	At        time.Time
}

// MoveRights gives units of the site that decides to another, which may sell them when it has heard of it. It is refused with
// inventory.insufficient when fewer are available here.
type MoveRights struct {
	Code string
	// To is the name of the site.
	To string
	// Quantity is in units, 1 to MaxQuantity.
	Quantity int64
	At       time.Time
}

// Rebalance gives units of the site that decides to the site that lacks them most, if it has more than its share and the other has
// little of its own (commands/escrow.Planner). It does nothing otherwise.
type Rebalance struct {
	Code string
	// Demand is what each site is asked for, in units a second, 0 or more. Its keys are the sites among which units are shared.
	Demand map[string]float64
	At     time.Time
}

// Document is the line of a paper, such as an invoice. Events carry it, so that what was written can be shown and summed
// up as it was.
type Document struct {
	ID string
	// Line is its number within the paper, from 1.
	Line int
	// CustomerID is a reference, empty for none.
	CustomerID string
	Country    string
	// Quantity and UnitPrice are as written, of either sign.
	Quantity  int64
	UnitPrice money.Amount
}

func (c Receive) stockCode() string     { return c.Code }
func (c Try) stockCode() string         { return c.Code }
func (c Confirm) stockCode() string     { return c.Code }
func (c Cancel) stockCode() string      { return c.Code }
func (c Adjust) stockCode() string      { return c.Code }
func (c ReturnGoods) stockCode() string { return c.Code }
func (c MoveRights) stockCode() string  { return c.Code }
func (c Rebalance) stockCode() string   { return c.Code }
