package payment

import (
	"time"

	"github.com/tributary-es/tributary/commerce/money"
)

// MethodDeclined is the method that every Authorize is declined with: for tests and trials of what follows.
const MethodDeclined = "test-declined"

// Command is one of Authorize, Capture, Void, Refund, RefundUnreferenced and Adjust.
type Command interface {
	// paymentID returns the id of the payment that the command is for.
	paymentID() string
}

// Authorize sets an amount aside.
type Authorize struct {
	// ID is the payment's: that of the order.
	ID      string
	OrderID string
	// CustomerID is a reference, empty for a guest.
	CustomerID string
	// Amount is not negative.
	Amount money.Amount
	// Method says how it is paid, in the words of the provider.
	Method string
	// Limit is the most that may be authorized; zero is no limit. Amounts in another currency than the limit's are declined.
	Limit money.Amount
	At    time.Time
}

// Capture takes the authorized amount.
type Capture struct {
	ID string
	At time.Time
}

// Void gives the authorization up, or sees to it that one that is still under way will be refused.
type Void struct {
	ID string
	// Reason is for people.
	Reason string
	At     time.Time
}

// Refund pays back part or all of what was captured.
type Refund struct {
	ID string
	// Amount is positive.
	Amount money.Amount
	// Reason is for people.
	Reason string
	// Reference names what asked for it, and counts once. Empty: every command counts.
	Reference string
	At        time.Time
}

// RefundUnreferenced pays back where no payment was captured, as for a return that names no order. It is the only payment
// of its id.
type RefundUnreferenced struct {
	// ID is the payment's: that of the return.
	ID string
	// CustomerID is a reference, empty for a guest.
	CustomerID string
	// Amount is positive.
	Amount money.Amount
	// Reason is for people.
	Reason string
	At     time.Time
}

// Adjust records money without goods, such as a bad debt.
type Adjust struct {
	ID string
	// Amount is what the shop gains or, when negative, loses.
	Amount money.Amount
	// Reason is for people; it may be empty only with a document.
	Reason string
	// Document is the line of a paper that says so, nil when there is none. It counts once.
	Document *Document
	At       time.Time
}

// Document is the line of a paper, such as an invoice. Events carry it, so that what was written can be shown and summed
// up as it was.
type Document struct {
	ID string
	// Line is its number within the paper, from 1.
	Line int
	// StockCode is what the line names, such as "B".
	StockCode string
	// CustomerID is a reference, empty for none.
	CustomerID string
	Country    string
	// Quantity and UnitPrice are as written, of either sign; their product is the adjustment's amount.
	Quantity  int64
	UnitPrice money.Amount
}

func (c Authorize) paymentID() string          { return c.ID }
func (c Capture) paymentID() string            { return c.ID }
func (c Void) paymentID() string               { return c.ID }
func (c Refund) paymentID() string             { return c.ID }
func (c RefundUnreferenced) paymentID() string { return c.ID }
func (c Adjust) paymentID() string             { return c.ID }
