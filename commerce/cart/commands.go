package cart

import (
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/commerce/calendar"
	"github.com/tributary-es/tributary/eventstore"
)

// Limits of a cart.
const (
	// MaxQuantity is for one line, in units.
	MaxQuantity = 1_000_000
	MaxLines    = 500
)

// Command is one of Add, Set and Empty.
type Command interface {
	// cartID returns the id of the cart that the command is for.
	cartID() string
}

// Add puts units into a cart, beside those that are in it.
type Add struct {
	// ID is the cart's; the caller makes it, and the first command makes the cart.
	ID string
	// Line is the id of the line, which no other line of the cart may ever have; but a command that is done again at another site has the
	// same one there, so that both count as one.
	Line string
	// StockCode is taken as it is written; case matters.
	StockCode string
	// Quantity is in units, 1 to MaxQuantity.
	Quantity int64
	At       time.Time
}

// Set says how many units of a stock code are in a cart.
type Set struct {
	ID string
	// Line is the id of a line that stands for them, as that of Add.
	Line      string
	StockCode string
	// Quantity is in units, 0 to MaxQuantity; 0 takes the stock code out.
	Quantity int64
	At       time.Time
}

// Empty takes everything out.
type Empty struct {
	ID string
	At time.Time
}

func (c Add) cartID() string   { return c.ID }
func (c Set) cartID() string   { return c.ID }
func (c Empty) cartID() string { return c.ID }

// validate checks what can be checked of a command alone. The bus has checked the id, which names the stream.
func validate(c Command) error {
	var faults []error
	line := func(id, code string, quantity, least int64) {
		if id == "" || len(id) > eventstore.MaxStreamIDBytes {
			faults = append(faults, fmt.Errorf("line id has %d bytes, not 1 to %d", len(id), eventstore.MaxStreamIDBytes))
		}
		if err := eventstore.Stream("inventory", code).Validate(); err != nil {
			faults = append(faults, fmt.Errorf("stock code: %w", err))
		}
		if quantity < least || quantity > MaxQuantity {
			faults = append(faults, fmt.Errorf("quantity %d is not %d to %d", quantity, least, MaxQuantity))
		}
	}
	moment := func(at time.Time) {
		if !calendar.Holds(at) {
			faults = append(faults, errors.New("time is missing or outside the "+calendar.Years))
		}
	}
	switch c := c.(type) {
	case Add:
		line(c.Line, c.StockCode, c.Quantity, 1)
		moment(c.At)
	case Set:
		line(c.Line, c.StockCode, c.Quantity, 0)
		moment(c.At)
	case Empty:
		moment(c.At)
	}
	return errors.Join(faults...)
}
