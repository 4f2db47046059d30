package voucher

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/tributary-es/tributary/commerce/calendar"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/eventstore"
)

// Command is one of Create, Withdraw, Redeem and Look.
type Command interface {
	// voucherCode returns the code of the voucher that the command is for.
	voucherCode() string
}

// Create makes a voucher. It is refused with voucher.exists when there is one with this code.
type Create struct {
	// Code is taken as it is written; case matters.
	Code string
	// Value is positive.
	Value money.Amount
	At    time.Time
}

// Withdraw ends a voucher, redeemed or not. Withdrawn again, it changes nothing.
type Withdraw struct {
	Code string
	// Reason is for people.
	Reason string
	At     time.Time
}

// Redeem refuses an order that may not redeem the voucher. It belongs into one message with the order, in front of it.
type Redeem struct {
	Code    string
	OrderID string
	// Total is the sum of the order's lines, and Discount what it is to cost less for the voucher, see Worth.
	Total, Discount money.Amount
}

// Look names a voucher to be read, see commands.LoadFor; it is not given to a bus.
type Look struct{ Code string }

func (c Create) voucherCode() string   { return c.Code }
func (c Withdraw) voucherCode() string { return c.Code }
func (c Redeem) voucherCode() string   { return c.Code }
func (c Look) voucherCode() string     { return c.Code }

// MaxReasonBytes is the limit of a reason.
const MaxReasonBytes = 500

func validate(c Command) error {
	faults := []error{stream(c.voucherCode()).Validate()}
	at := func(t time.Time) {
		if !calendar.Holds(t) {
			faults = append(faults, errors.New("time is missing or outside the "+calendar.Years))
		}
	}
	switch c := c.(type) {
	case Create:
		if c.Value.Sign() <= 0 {
			faults = append(faults, fmt.Errorf("value %s is not positive", c.Value))
		}
		at(c.At)
	case Withdraw:
		if n := len(c.Reason); n == 0 || n > MaxReasonBytes || !utf8.ValidString(c.Reason) {
			faults = append(faults, fmt.Errorf("a reason is text of 1 to %d bytes", MaxReasonBytes))
		}
		at(c.At)
	}
	return errors.Join(faults...)
}

// stream is where what is decided of a voucher stands.
func stream(code string) eventstore.StreamID { return eventstore.Stream(Category, code) }
