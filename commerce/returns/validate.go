package returns

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

// Limits of a command. Together they keep the events of the largest return below the log's limit for one event.
const (
	MaxLines    = 5_000
	MaxQuantity = 1_000_000_000
	// MaxTextBytes is for customer references, countries and descriptions.
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
	case Receive:
		f.receive(c)
	case Complete:
		f.moment(c.At)
	}
	return errors.Join(f.list...)
}

func (f *faults) receive(c Receive) {
	f.text("customer id", c.CustomerID)
	f.required("country", c.Country)
	f.moment(c.At)
	if _, err := money.Zero(c.Currency); err != nil {
		f.add("%w", err)
	}
	if n := len(c.Lines); n == 0 || n > MaxLines {
		f.add("a return has 1 to %d lines, not %d", MaxLines, n)
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
		if _, err := total(c.Lines); err != nil {
			f.add("total: %w", err)
		}
	}
}

func (f *faults) line(l Line, currency string) {
	if l.Number > math.MaxInt32 {
		f.add("line %d: the number is too large", l.Number)
	}
	// The code names a stream of its own, which must be possible when the goods come back.
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
		f.add("line %d: unit price in %q, the return is in %q", l.Number, l.UnitPrice.Currency(), currency)
	}
	if !l.At.IsZero() {
		f.moment(l.At)
	}
	if l.UnitPrice.Sign() < 0 {
		f.add("line %d: unit price %s is negative", l.Number, l.UnitPrice)
	}
}
