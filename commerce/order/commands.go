package order

import (
	"time"

	"github.com/tributary-es/tributary/commerce/money"
)

// Command is one of Place, Confirm, Ship and Cancel.
type Command interface {
	// orderID returns the id of the order that the command is for.
	orderID() string
}

// Place creates an order. It is refused with order.exists when there is one with this id.
type Place struct {
	// ID is the order's, unique in its tenant; the caller makes it.
	ID string
	// CustomerID is a reference, empty for a guest.
	CustomerID string
	// Country is where the order goes.
	Country string
	// Currency is that of all unit prices.
	Currency string
	// Lines are 1 to MaxLines.
	Lines []Line
	// VoucherCode is that of a voucher, empty for none. Whether it may be redeemed is decided by package voucher, in the
	// same message. Discount is what is paid less for it, 0 up to the sum of the lines.
	VoucherCode string
	Discount    money.Amount
	At          time.Time
	// Delivery is whom the goods are delivered to, nil when the order does not say. It needs a CustomerID, by which it can be
	// erased.
	Delivery *Contact
}

// Total returns the sum of quantity × unit price over the lines. It fails where Place is refused as invalid.
func (c Place) Total() (money.Amount, error) { return total(c.Lines) }

// Contact is a person, as goods are delivered to them: personal data. Each text is at most MaxTextBytes, one at least is
// not empty.
type Contact struct{ Name, Email, Street, City, Phone string }

// Line is one line of an order. The same stock code may stand on several.
type Line struct {
	// Number tells the lines of an order apart; numbers are positive, ascend, and may leave gaps.
	Number int
	// StockCode is taken as it is written; case matters.
	StockCode   string
	Description string
	// Quantity is in units, 1 to MaxQuantity.
	Quantity int64
	// UnitPrice is not negative.
	UnitPrice money.Amount
	// At is when the line was written; zero when that is when the document was.
	At time.Time
}

// Confirm says that goods and money are secured.
type Confirm struct {
	ID string
	At time.Time
}

// Ship says that the goods have left.
type Ship struct {
	ID string
	At time.Time
}

// Cancel gives the order up.
type Cancel struct {
	ID string
	// Reason is for people.
	Reason string
	At     time.Time
}

func (c Place) orderID() string   { return c.ID }
func (c Confirm) orderID() string { return c.ID }
func (c Ship) orderID() string    { return c.ID }
func (c Cancel) orderID() string  { return c.ID }
