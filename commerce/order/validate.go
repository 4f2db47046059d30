package order

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/tributary-es/tributary/commerce/calendar"

	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/eventstore"
)

// Limits of a command. Together they keep the events of the largest order below the log's limit for one event.
const (
	MaxLines    = 5_000
	MaxQuantity = 1_000_000_000
	// MaxTextBytes is for customer references, countries, descriptions and reasons.
	MaxTextBytes = 500
)

// maxFaults ends the list of what is wrong with a command.
const maxFaults = 20

// faults collects what is wrong with a command.
type faults struct{ list []error }

func (f *faults) add(format string, args ...any) {
	f.list = append(f.list, fmt.Errorf(format, args...))
}

func (f *faults) full() bool { return len(f.list) >= maxFaults }

func (f *faults) text(name, value string) {
	if fault := textFault(value); fault != "" {
		f.add("%s %s", name, fault)
	}
}

func textFault(value string) string {
	switch {
	case len(value) > MaxTextBytes:
		return fmt.Sprintf("has %d bytes, the limit is %d", len(value), MaxTextBytes)
	case !utf8.ValidString(value):
		return "is not valid UTF-8"
	}
	return ""
}

func (f *faults) required(name, value string) {
	if value == "" {
		f.add("%s is empty", name)
	}
	f.text(name, value)
}

func (f *faults) moment(at time.Time) {
	if !calendar.Holds(at) {
		f.add("time is missing or outside the " + calendar.Years)
	}
}

// validate checks what can be checked of a command alone. The bus has checked the id, which names the stream.
func validate(c Command) error {
	var f faults
	switch c := c.(type) {
	case Place:
		f.place(c)
	case Confirm:
		f.moment(c.At)
	case Ship:
		f.moment(c.At)
	case Cancel:
		f.required("reason", c.Reason)
		f.moment(c.At)
	}
	return errors.Join(f.list...)
}

func (f *faults) place(c Place) {
	f.text("customer id", c.CustomerID)
	f.required("country", c.Country)
	f.moment(c.At)
	if _, err := money.Zero(c.Currency); err != nil {
		f.add("%w", err)
	}
	f.delivery(c)
	if n := len(c.Lines); n == 0 || n > MaxLines {
		f.add("an order has 1 to %d lines, not %d", MaxLines, n)
		return
	}
	before := 0
	for _, l := range c.Lines {
		if f.full() {
			f.add("there may be more faults from line %d on", l.Number)
			return
		}
		if l.Number <= before {
			f.add("line %d comes after line %d: numbers are positive and ascend", l.Number, before)
		}
		before = l.Number
		f.line(l, c.Currency)
	}
	if len(f.list) == 0 {
		sum, err := total(c.Lines)
		if err != nil {
			f.add("total: %w", err)
			return
		}
		f.discount(c, sum)
	}
}

func (f *faults) discount(c Place, total money.Amount) {
	if c.VoucherCode == "" {
		if c.Discount != (money.Amount{}) {
			f.add("a discount needs a voucher")
		}
		return
	}
	// As of a stock code: the voucher names a stream of its own.
	if err := eventstore.Stream("voucher", c.VoucherCode).Validate(); err != nil {
		f.add("voucher: %w", err)
	}
	if over, err := c.Discount.Cmp(total); err != nil || over > 0 || c.Discount.Sign() < 0 {
		f.add("discount %s %s is not 0 to the total of %s %s", c.Discount, c.Discount.Currency(), total, c.Currency)
	}
}

// delivery checks whom the goods are delivered to. What is wrong is named and not repeated.
func (f *faults) delivery(c Place) {
	if c.Delivery == nil {
		return
	}
	if c.CustomerID == "" {
		f.add("a delivery needs a customer id, by which it can be erased")
	}
	if *c.Delivery == (Contact{}) {
		f.add("delivery is empty")
	}
	for _, text := range [...]struct{ name, value string }{
		{"name", c.Delivery.Name}, {"email", c.Delivery.Email}, {"street", c.Delivery.Street}, {"city", c.Delivery.City}, {"phone", c.Delivery.Phone},
	} {
		f.text("delivery "+text.name, text.value)
	}
}

func (f *faults) line(l Line, currency string) {
	if l.Number > math.MaxInt32 {
		f.add("line %d: the number is too large", l.Number)
	}
	// The code names a stream of its own, which must be possible when the order is there.
	if err := eventstore.Stream("inventory", l.StockCode).Validate(); err != nil {
		f.add("line %d: stock code: %w", l.Number, err)
	}
	if fault := textFault(l.Description); fault != "" {
		f.add("line %d: description %s", l.Number, fault)
	}
	if l.Quantity < 1 || l.Quantity > MaxQuantity {
		f.add("line %d: quantity %d is not 1 to %d", l.Number, l.Quantity, MaxQuantity)
	}
	if l.UnitPrice.Currency() != currency {
		f.add("line %d: unit price in %q, the order is in %q", l.Number, l.UnitPrice.Currency(), currency)
	}
	if !l.At.IsZero() {
		f.moment(l.At)
	}
	if l.UnitPrice.Sign() < 0 {
		f.add("line %d: unit price %s is negative", l.Number, l.UnitPrice)
	}
}

// total is the exact sum of quantity × unit price.
func total(lines []Line) (money.Amount, error) {
	var sum money.Amount
	for _, l := range lines {
		amount, err := l.UnitPrice.Mul(l.Quantity)
		if err != nil {
			return money.Amount{}, err
		}
		if sum, err = sum.Add(amount); err != nil {
			return money.Amount{}, err
		}
	}
	return sum, nil
}
