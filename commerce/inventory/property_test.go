package inventory_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// draw draws a command over so few names and units that commands often meet.
func draw(t *rapid.T) inventory.Command {
	name := fmt.Sprint(rapid.IntRange(1, 6).Draw(t, "name"))
	units := rapid.Int64Range(1, 9).Draw(t, "units")
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		return receive(units, rapid.SampledFrom([]string{"", name}).Draw(t, "reference"))
	case 1:
		return giveBack(name, units)
	case 2:
		return adjust(units, "found")
	case 3:
		return adjust(-units, "lost")
	case 4:
		return confirm(name)
	case 5:
		return cancel(name)
	default:
		return try(name, units)
	}
}

// ledger is what the events say, summed up in the plainest way.
type ledger struct {
	received, returned, adjusted, confirmed int64
	open                                    map[string]int64
	settled                                 map[string]string
}

func (l *ledger) add(t *rapid.T, e inventory.Event) {
	settle := func(name, how string, units int64) {
		if l.settled[name] != "" || l.open[name] != units {
			t.Fatalf("%s %s with %d units: it was %q, open with %d", name, how, units, l.settled[name], l.open[name])
		}
		delete(l.open, name)
		l.settled[name] = how
	}
	switch e := e.(type) {
	case *commercev1.InventoryReceived:
		l.received += e.Quantity
	case *commercev1.InventoryReturned:
		l.returned += e.Quantity
	case *commercev1.InventoryAdjusted:
		l.adjusted += e.Delta
	case *commercev1.InventoryReserved:
		if _, ok := l.open[e.Reservation]; ok || l.settled[e.Reservation] != "" {
			t.Fatalf("%s was reserved a second time", e.Reservation)
		}
		l.open[e.Reservation] = e.Quantity
	case *commercev1.InventoryConfirmed:
		l.confirmed += e.Quantity
		settle(e.Reservation, "confirmed", e.Quantity)
	case *commercev1.InventoryReleased:
		settle(e.Reservation, "released", e.Quantity)
	case *commercev1.InventoryBarred:
		settle(e.Reservation, "barred", 0)
	default:
		t.Fatalf("unknown event %T", e)
	}
}

// TestWhatAlwaysHolds issues commands at random and keeps the books beside the aggregate.
func TestWhatAlwaysHolds(t *testing.T) {
	a := inventory.Aggregate()
	rapid.Check(t, func(t *rapid.T) {
		state := a.Zero()
		books := ledger{open: map[string]int64{}, settled: map[string]string{}}
		for range rapid.IntRange(1, 60).Draw(t, "commands") {
			c := draw(t)
			if err := a.Validate(c); err != nil {
				t.Fatal(err)
			}
			events, err := a.Decide(state, c)
			var rejection *commands.Rejection
			if err != nil && !errors.As(err, &rejection) {
				t.Fatalf("%T: %v", c, err)
			}
			for _, e := range events {
				books.add(t, e)
				state = a.Evolve(state, e)
			}
			var reserved int64
			for _, units := range books.open {
				reserved += units
			}
			onHand := books.received + books.returned + books.adjusted - books.confirmed
			if state.OnHand != onHand || state.Reserved != reserved {
				t.Fatalf("after %T %+v: on hand %d, reserved %d; the events say %d and %d", c, c, state.OnHand, state.Reserved, onHand, reserved)
			}
			if state.Reserved < 0 || state.OnHand < state.Reserved {
				t.Fatalf("after %T %+v: on hand %d, reserved %d", c, c, state.OnHand, state.Reserved)
			}
			if rejection != nil || !idempotent(c) {
				continue
			}
			if repeated, err := a.Decide(state, c); err != nil || len(repeated) > 0 {
				t.Fatalf("%T %+v, accepted once, then decided %v, %v", c, c, repeated, err)
			}
		}
	})
}

// idempotent reports whether a repeated command must do nothing.
func idempotent(c inventory.Command) bool {
	switch c := c.(type) {
	case inventory.Receive:
		return c.Reference != ""
	case inventory.Adjust:
		return c.Document != nil
	}
	return true
}

// BenchmarkReserveAndConfirm is what one order line costs here, with the events encoded.
func BenchmarkReserveAndConfirm(b *testing.B) {
	a := inventory.Aggregate()
	state := a.Evolve(a.Zero(), received(1<<40, ""))
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		name := fmt.Sprint(500_000 + n)
		for _, c := range []inventory.Command{try(name, 6), confirm(name)} {
			if err := a.Validate(c); err != nil {
				b.Fatal(err)
			}
			events, err := a.Decide(state, c)
			if err != nil {
				b.Fatal(err)
			}
			for _, e := range events {
				if _, err := a.Codec.Encode(e); err != nil {
					b.Fatal(err)
				}
				state = a.Evolve(state, e)
			}
		}
	}
}
