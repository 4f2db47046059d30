package inventory

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/tributary-es/tributary/commerce/calendar"
	"github.com/tributary-es/tributary/eventstore"
)

// Limits of a command.
const (
	// MaxQuantity is for one receipt or adjustment.
	MaxQuantity = 1_000_000_000_000
	// MaxTry is for one reservation or return: the largest order, whose lines may all have the same code.
	MaxTry = 5_000 * 1_000_000_000
	// MaxTextBytes is for references, reservations, countries and reasons.
	MaxTextBytes = 500
)

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

func (f *faults) units(n, most int64) {
	if n < 1 || n > most {
		f.add("quantity %d is not 1 to %d", n, most)
	}
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
		f.units(c.Quantity, MaxQuantity)
		f.text("reference", c.Reference)
		f.moment(c.At)
	case Try:
		f.required("reservation", c.Reservation)
		f.units(c.Quantity, MaxTry)
		f.moment(c.At)
	case Confirm:
		f.required("reservation", c.Reservation)
		f.moment(c.At)
	case Cancel:
		f.required("reservation", c.Reservation)
		f.moment(c.At)
	case Adjust:
		f.adjust(c)
	case MoveRights:
		f.units(c.Quantity, MaxQuantity)
		if err := eventstore.ValidateSite(c.To); err != nil {
			f.add("%w", err)
		}
		f.moment(c.At)
	case Rebalance:
		for site, demand := range c.Demand {
			if err := eventstore.ValidateSite(site); err != nil {
				f.add("%w", err)
			}
			if !(demand >= 0) || math.IsInf(demand, 0) { // NaN is not
				f.add("demand at site %s is %v, it must be 0 or more", site, demand)
			}
		}
		f.moment(c.At)
	case ReturnGoods:
		f.required("reference", c.Reference)
		f.units(c.Quantity, MaxTry)
		f.moment(c.At)
	}
	return errors.Join(f.list...)
}

func (f *faults) adjust(c Adjust) {
	if c.Delta < -MaxQuantity || c.Delta > MaxQuantity {
		f.add("adjustment by %d, the limit is %d either way", c.Delta, MaxQuantity)
	}
	f.moment(c.At)
	d := c.Document
	if d == nil {
		if c.Delta == 0 {
			f.add("an adjustment by 0 changes nothing")
		}
		f.required("reason", c.Reason)
		return
	}
	f.text("reason", c.Reason)
	f.required("document id", d.ID)
	f.text("document customer id", d.CustomerID)
	f.text("document country", d.Country)
	if d.Line < 1 || d.Line > math.MaxInt32 {
		f.add("document line %d is not positive, or too large", d.Line)
	}
}
