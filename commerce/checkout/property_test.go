package checkout_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
)

var codes = []string{"A", "B", "C"}

// TestNothingIsLeftBehind (C4) lets orders, operators, timers and the saga's messages meet in random order. Whatever
// happened, every order ends up shipped, paid and out of the stock, or cancelled with its goods and money free.
func TestNothingIsLeftBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := checkout.Options{ManualShip: rapid.Bool().Draw(t, "manual ship")}
		if rapid.Bool().Draw(t, "limited") {
			o.PaymentLimit = gbp("12")
		}
		s := newStage(t, o)
		for _, code := range codes {
			if n := rapid.Int64Range(0, 20).Draw(t, "stock of "+code); n > 0 {
				if err := s.do(inventory.Receive{Code: code, Quantity: n, At: at}); err != nil {
					t.Fatal(err)
				}
			}
		}
		orders := rapid.IntRange(1, 3).Draw(t, "orders")
		for n := range orders {
			if err := s.do(drawOrder(t, fmt.Sprint(n+1))); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			s.drawStep(t, fmt.Sprint(rapid.IntRange(1, orders).Draw(t, "order")))
		}
		s.settle()
		for n := range orders {
			s.checkOrder(t, fmt.Sprint(n+1), o)
		}
	})
}

func drawOrder(t *rapid.T, id string) order.Place {
	p := order.Place{ID: id, Country: "France", Currency: "GBP", At: at}
	for n := range rapid.IntRange(1, 4).Draw(t, "lines") {
		p.Lines = append(p.Lines, order.Line{
			Number: n + 1, StockCode: rapid.SampledFrom(codes).Draw(t, "code"),
			Quantity: rapid.Int64Range(1, 6).Draw(t, "quantity"), UnitPrice: gbp("1.125"),
		})
	}
	return p
}

// drawStep does one thing that can happen at any time. What an operator is refused does not matter here.
func (s *stage) drawStep(t *rapid.T, id string) {
	i := s.sagas[0].open[id]
	switch what := rapid.SampledFrom([]string{
		"deliver", "deliver", "carry out", "carry out", "answer", "answer", "fire", "confirm", "ship", "cancel",
	}).Draw(t, "step"); {
	case what == "deliver":
		s.deliver()
	case what == "confirm":
		_ = s.do(order.Confirm{ID: id, At: at})
	case what == "ship":
		_ = s.do(order.Ship{ID: id, At: at})
	case what == "cancel":
		_ = s.do(order.Cancel{ID: id, Reason: "changed my mind", At: at})
	case i == nil:
	case what == "carry out":
		s.carryOut(s.sagas[0], i)
	case what == "answer":
		s.answer(i)
	case what == "fire":
		s.fire(i)
	}
}

func (s *stage) checkOrder(t *rapid.T, id string, o checkout.Options) {
	i := s.sagas[0].open[id]
	if i == nil {
		t.Fatalf("order %s has no checkout", id)
	}
	placed := state(s, order.Aggregate(), id)
	paid := state(s, payment.Aggregate(), id)
	outcomes := map[inventory.Outcome]int{}
	for _, code := range codes {
		stock := state(s, inventory.Aggregate(), code)
		if stock.Reserved < 0 || stock.OnHand < stock.Reserved {
			t.Fatalf("stock %s: on hand %d, reserved %d", code, stock.OnHand, stock.Reserved)
		}
		if r := stock.Reservation(id); r.Outcome != inventory.Unknown {
			outcomes[r.Outcome]++
		}
	}
	is := fmt.Sprintf("%s, payment %q, reservations %v, checkout %q, error %v\n%s", placed.Status, paid.Status, outcomes, i.outcome, i.err, s.taken())
	free := outcomes[inventory.Open] == 0 && outcomes[inventory.Confirmed] == 0 && (paid.Status == payment.None || paid.Status == payment.Voided)
	gone := outcomes[inventory.Open] == 0 && outcomes[inventory.Cancelled] == 0 && outcomes[inventory.Confirmed] > 0
	switch {
	case i.err != nil:
		// Only what an operator shipped without stock or payment needs a person; then nothing may have moved but the order.
		if placed.Status != order.Shipped || outcomes[inventory.Confirmed] > 0 || paid.Status != payment.None {
			t.Fatalf("order %s is parked, and %s", id, is)
		}
	case placed.Status == order.Shipped:
		if i.outcome != checkout.OutcomeShipped || !gone || paid.Status != payment.Captured {
			t.Fatalf("order %s is %s", id, is)
		}
	case placed.Status == order.Cancelled:
		if i.outcome != checkout.OutcomeCancelled || !free {
			t.Fatalf("order %s is %s", id, is)
		}
	default:
		waits := o.ManualShip && placed.Status == order.Confirmed && i.outcome == "" &&
			outcomes[inventory.Open] > 0 && paid.Status == payment.Authorized
		if !waits {
			t.Fatalf("order %s is %s", id, is)
		}
	}
}
