package returns

import (
	"time"

	"github.com/tributary-es/tributary/commerce/money"
)

// Command is one of Receive and Complete.
type Command interface {
	// returnID returns the id of the return that the command is for.
	returnID() string
}

// Receive records a return. It is refused with return.exists when there is one with this id.
type Receive struct {
	// ID is the return's, unique in its tenant; the caller makes it.
	ID string
	// CustomerID is a reference, empty for a guest.
	CustomerID string
	// Country is where the goods come from.
	Country string
	// Currency is that of all unit prices.
	Currency string
	// Lines are 1 to MaxLines.
	Lines []Line
	At    time.Time
}

// Line is one line of a return. The same stock code may stand on several.
type Line struct {
	// Number tells the lines of a return apart; numbers are positive, ascend, and may leave gaps.
	Number int
	// StockCode is taken as it is written; case matters.
	StockCode   string
	Description string
	// Quantity is the units that come back, 1 to MaxQuantity. On paper they are often written negative.
	Quantity int64
	// UnitPrice is what is refunded for a unit, not negative.
	UnitPrice money.Amount
	// At is when the line was written; zero when that is when the document was.
	At time.Time
}

// Complete says that the goods are in stock again and the money is refunded.
type Complete struct {
	ID string
	At time.Time
}

func (c Receive) returnID() string  { return c.ID }
func (c Complete) returnID() string { return c.ID }
