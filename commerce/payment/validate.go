package payment

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/tributary-es/tributary/commerce/calendar"

	"github.com/tributary-es/tributary/commerce/money"
)

// MaxTextBytes is the limit of references, methods, countries and reasons.
const MaxTextBytes = 500

// faults collects what is wrong with a command.
type faults struct{ list []error }

func (f *faults) add(format string, args ...any) {
	f.list = append(f.list, fmt.Errorf(format, args...))
}

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

func (f *faults) positive(a money.Amount) {
	if a.Sign() <= 0 {
		f.add("amount %s is not positive", in(a))
	}
}

// validate checks what can be checked of a command alone. The bus has checked the id, which names the stream.
func validate(c Command) error {
	var f faults
	switch c := c.(type) {
	case Authorize:
		f.authorize(c)
	case Capture:
		f.moment(c.At)
	case Void:
		f.required("reason", c.Reason)
		f.moment(c.At)
	case Refund:
		f.positive(c.Amount)
		f.required("reason", c.Reason)
		f.text("reference", c.Reference)
		f.moment(c.At)
	case RefundUnreferenced:
		f.text("customer id", c.CustomerID)
		f.positive(c.Amount)
		f.required("reason", c.Reason)
		f.moment(c.At)
	case Adjust:
		f.adjust(c)
	}
	return errors.Join(f.list...)
}

func (f *faults) authorize(c Authorize) {
	f.required("order id", c.OrderID)
	f.text("customer id", c.CustomerID)
	f.required("method", c.Method)
	f.moment(c.At)
	switch {
	case c.Amount.Currency() == "":
		f.add("amount has no currency")
	case c.Amount.Sign() < 0:
		f.add("amount %s is negative", in(c.Amount))
	}
	if c.Limit.Sign() < 0 {
		f.add("limit %s is negative", in(c.Limit))
	}
}

func (f *faults) adjust(c Adjust) {
	f.moment(c.At)
	if c.Amount.Currency() == "" {
		f.add("amount has no currency")
	}
	d := c.Document
	if d == nil {
		if c.Amount.IsZero() {
			f.add("an adjustment by 0 changes nothing")
		}
		f.required("reason", c.Reason)
		return
	}
	f.text("reason", c.Reason)
	f.required("document id", d.ID)
	f.text("document stock code", d.StockCode)
	f.text("document customer id", d.CustomerID)
	f.text("document country", d.Country)
	if d.Line < 1 || d.Line > math.MaxInt32 {
		f.add("document line %d is not positive, or too large", d.Line)
	}
	if product, err := d.UnitPrice.Mul(d.Quantity); err != nil || product != c.Amount {
		f.add("amount %s is not %d × %s, as the document says", in(c.Amount), d.Quantity, in(d.UnitPrice))
	}
}
