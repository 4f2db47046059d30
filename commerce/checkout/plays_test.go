package checkout_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
)

// TestPlays plays the files in testdata/plays. A file is a story; regenerate what comes of it with -rewrite, and read
// the difference. Its verbs:
//
//	stage [manual-ship] [limit=…] [method=…]   begins; without limit every payment is authorized
//	stock            receives units; lines "code units"
//	place ID         places an order; lines "code units price"
//	return ID        receives a return; lines as of place
//	goods-back ID    puts returned units back without the saga; lines "code units"
//	confirm | ship | cancel ID                 what an operator does with an order
//	deliver          hands the next event over
//	carry-out        dispatches the next message; its answer waits
//	answer           hands the answer back
//	fire             lets the timer go off
//	settle           goes on until there is nothing to do
//	show ID          what became of an order or return
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata/plays", func(t *testing.T, path string) {
		var s *stage
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "stage" {
				s = newStage(t, options(d))
				return ""
			}
			s.t = t
			s.perform(d)
			return s.taken()
		})
	})
}

func options(d *datadriven.TestData) checkout.Options {
	o := checkout.Options{ManualShip: d.HasArg("manual-ship")}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "limit":
			o.PaymentLimit = gbp(a.Vals[0])
		case "method":
			o.Method = a.Vals[0]
		}
	}
	return o
}

func (s *stage) perform(d *datadriven.TestData) {
	id := ""
	if len(d.CmdArgs) > 0 {
		id = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "stock":
		for _, f := range fields(s.t, d, 2) {
			s.tell(s.do(inventory.Receive{Code: f[0], Quantity: number(s.t, f[1]), At: at}))
		}
	case "place":
		c := order.Place{ID: id, CustomerID: "17850", Country: "France", Currency: "GBP", At: at}
		for n, f := range fields(s.t, d, 3) {
			c.Lines = append(c.Lines, order.Line{Number: n + 1, StockCode: f[0], Quantity: number(s.t, f[1]), UnitPrice: gbp(f[2])})
		}
		s.tell(s.do(c))
	case "return":
		c := returns.Receive{ID: id, CustomerID: "17850", Country: "France", Currency: "GBP", At: at}
		for n, f := range fields(s.t, d, 3) {
			c.Lines = append(c.Lines, returns.Line{Number: n + 1, StockCode: f[0], Quantity: number(s.t, f[1]), UnitPrice: gbp(f[2])})
		}
		s.tell(s.do(c))
	case "goods-back":
		for _, f := range fields(s.t, d, 2) {
			s.tell(s.do(inventory.ReturnGoods{Code: f[0], Quantity: number(s.t, f[1]), Reference: id, At: at}))
		}
	case "confirm":
		s.tell(s.do(order.Confirm{ID: id, At: at.Add(time.Hour)}))
	case "ship":
		s.tell(s.do(order.Ship{ID: id, At: at.Add(2 * time.Hour)}))
	case "cancel":
		s.tell(s.do(order.Cancel{ID: id, Reason: "changed my mind", At: at.Add(time.Hour)}))
	case "deliver":
		if !s.deliver() {
			s.say("no event")
		}
	case "carry-out", "answer", "fire":
		s.step(d.Cmd)
	case "settle":
		s.settle()
	case "show":
		s.show(id)
	default:
		d.Fatalf(s.t.(*testing.T), "unknown verb %s", d.Cmd)
	}
}

// step takes the step for every instance that can; plays that use it have one.
func (s *stage) step(verb string) {
	s.t.Helper()
	done := false
	s.each(func(p *played, i *instance) {
		switch verb {
		case "carry-out":
			done = s.carryOut(p, i) || done
		case "answer":
			done = s.answer(i) || done
		case "fire":
			done = s.fire(i) || done
		}
	})
	if !done {
		s.say("nothing to %s", verb)
	}
}

func (s *stage) tell(err error) {
	if err != nil {
		s.say("refused: %v", err)
	}
}

// show says what became of an order or a return, wherever it left a trace.
func (s *stage) show(id string) {
	s.t.Helper()
	if o := state(s, order.Aggregate(), id); o.Status != order.None {
		s.say("order %s: %s", id, o.Status)
	}
	if r := state(s, returns.Aggregate(), id); r.Status != returns.None {
		s.say("return %s: %s", id, r.Status)
	}
	p := state(s, payment.Aggregate(), id)
	s.say("payment %s: %q, %s, refunded %s", id, p.Status, p.Amount, p.Refunded)
	for _, code := range []string{"A", "B"} {
		stock := state(s, inventory.Aggregate(), code)
		if r := stock.Reservation(id); r.Outcome != inventory.Unknown {
			s.say("stock %s: on hand %d, reserved %d, for %s %s", code, stock.OnHand, stock.Reserved, id, outcomes[r.Outcome])
		} else {
			s.say("stock %s: on hand %d, reserved %d", code, stock.OnHand, stock.Reserved)
		}
	}
	s.each(func(p *played, i *instance) {
		switch {
		case i.id != id:
		case i.err != nil:
			s.say("%s: parked after %d inputs", p.name, len(i.inputs))
		case i.outcome == "":
			s.say("%s: open after %d inputs", p.name, len(i.inputs))
		default:
			s.say("%s: %s after %d inputs", p.name, i.outcome, len(i.inputs))
		}
	})
}

var outcomes = map[inventory.Outcome]string{
	inventory.Open: "open", inventory.Confirmed: "confirmed", inventory.Cancelled: "cancelled",
}

// fields splits the lines of a verb's input.
func fields(t failer, d *datadriven.TestData, n int) [][]string {
	t.Helper()
	var lines [][]string
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		if len(f) != n {
			t.Fatalf("%s: %q has not %d fields", d.Pos, line, n)
		}
		lines = append(lines, f)
	}
	return lines
}

func number(t failer, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return n
}
