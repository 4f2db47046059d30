package customer

import (
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/commerce/calendar"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/eventstore"
)

// Command is one of SetCreditLimit, LiftCreditLimit, CheckCredit and Look.
type Command interface {
	// customerID returns the reference of the customer that the command is for.
	customerID() string
}

// SetCreditLimit limits what the open orders of a customer may be worth together. It replaces the limit before it, also one in
// another currency. Orders that are open already stay so.
type SetCreditLimit struct {
	CustomerID string
	// Limit is not negative.
	Limit money.Amount
	At    time.Time
}

// LiftCreditLimit ends the limit. Without one it changes nothing.
type LiftCreditLimit struct {
	CustomerID string
	At         time.Time
}

// CheckCredit refuses an order for which the customer's limit does not suffice. It belongs into one message with the order, in
// front of it.
type CheckCredit struct {
	CustomerID string
	// Amount is what is to be paid for the order.
	Amount money.Amount
}

// Look names a customer to be read, see commands.LoadFor; it is not given to a bus.
type Look struct{ CustomerID string }

func (c SetCreditLimit) customerID() string  { return c.CustomerID }
func (c LiftCreditLimit) customerID() string { return c.CustomerID }
func (c CheckCredit) customerID() string     { return c.CustomerID }
func (c Look) customerID() string            { return c.CustomerID }

func validate(c Command) error {
	var faults []error
	at := func(t time.Time) {
		faults = append(faults, stream(c.customerID()).Validate())
		if !calendar.Holds(t) {
			faults = append(faults, errors.New("time is missing or outside the "+calendar.Years))
		}
	}
	switch c := c.(type) {
	case SetCreditLimit:
		if c.Limit.Sign() < 0 || c.Limit.Currency() == "" {
			faults = append(faults, fmt.Errorf("limit %s is not an amount of money from 0 on", c.Limit))
		}
		at(c.At)
	case LiftCreditLimit:
		at(c.At)
	}
	return errors.Join(faults...)
}

// stream is where what is decided of a customer stands.
func stream(id string) eventstore.StreamID { return eventstore.Stream(Category, id) }
