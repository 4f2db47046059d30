package checkout_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/cart"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/customer"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/profile"
	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/commerce/voucher"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// command is what an item of the plan asks of the shop.
func command(item retail.Item) any {
	switch i := item.(type) {
	case retail.OpeningStock:
		return inventory.Receive{Code: i.StockCode, Quantity: i.Units, Reference: i.Key(), At: at}
	case retail.Order:
		c := order.Place{ID: i.Invoice, CustomerID: i.Customer, Country: i.Country, Currency: retail.Currency, At: i.At}
		for _, l := range i.Lines {
			c.Lines = append(c.Lines, order.Line{
				Number: l.Ordinal, StockCode: l.StockCode, Description: l.Description,
				Quantity: l.Quantity, UnitPrice: l.UnitPrice, At: l.At,
			})
		}
		return c
	case retail.Return:
		c := returns.Receive{ID: i.Invoice, CustomerID: i.Customer, Country: i.Country, Currency: retail.Currency, At: i.At}
		for _, l := range i.Lines {
			c.Lines = append(c.Lines, returns.Line{
				Number: l.Ordinal, StockCode: l.StockCode, Description: l.Description,
				Quantity: -l.Quantity, UnitPrice: l.UnitPrice, At: l.At,
			})
		}
		return c
	case retail.StockAdjustment:
		l := i.Line
		return inventory.Adjust{Code: l.StockCode, Delta: i.Change, Reason: l.Description, At: l.At, Document: &inventory.Document{
			ID: l.Invoice, Line: l.Ordinal, CustomerID: l.Customer, Country: l.Country, Quantity: l.Quantity, UnitPrice: l.UnitPrice,
		}}
	case retail.PaymentAdjustment:
		l := i.Line
		return payment.Adjust{ID: l.Invoice, Amount: l.Amount, Reason: l.Description, At: l.At, Document: &payment.Document{
			ID: l.Invoice, Line: l.Ordinal, StockCode: l.StockCode, CustomerID: l.Customer, Country: l.Country,
			Quantity: l.Quantity, UnitPrice: l.UnitPrice,
		}}
	}
	return item
}

// TestRealOrders takes the samples of real invoices through the shop, twice. Every order is shipped, every return is
// completed, nothing is refused, and what the events say of money and stock is what the files say.
func TestRealOrders(t *testing.T) {
	files, err := filepath.Glob("../../testdata/retail/*.csv*")
	if err != nil || len(files) != 3 {
		t.Fatalf("samples %v, %v", files, err)
	}
	set, err := retail.Read(t.Context(), files...)
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, checkout.Options{})
	orders, stopOrders := start(t, s, checkout.Saga(checkout.Options{}), s.bus)
	defer stopOrders()
	back, stopReturns := start(t, s, checkout.ReturnSaga(), s.bus)
	defer stopReturns()

	var want totals
	for round := range 2 {
		for item := range set.Plan().Items() {
			if _, err := s.bus.Dispatch(context.Background(), commands.Meta{ID: item.Key()}, command(item)); err != nil {
				t.Fatalf("round %d, %s: %v", round+1, item.Key(), err)
			}
			if round == 0 {
				want.expect(t, item)
			}
		}
		idle(t, s, orders)
		idle(t, s, back)
		if got := s.totals(t); got != want {
			t.Errorf("round %d: the events say\n%+v, the files say\n%+v", round+1, got, want)
		}
	}
	if orders.Open()+back.Open() != 0 || len(orders.Parked())+len(back.Parked()) != 0 {
		t.Errorf("open %d and %d, parked %v and %v", orders.Open(), back.Open(), orders.Parked(), back.Parked())
	}
}

// totals is what a month of business comes to.
type totals struct {
	lines, shipped, completed int
	onHand                    int64
	net                       money.Amount
}

func (n *totals) add(t testing.TB, price money.Amount, quantity int64) {
	t.Helper()
	amount, err := price.Mul(quantity)
	if err == nil {
		n.net, err = n.net.Add(amount)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// expect adds what the plan says of an item.
func (n *totals) expect(t testing.TB, item retail.Item) {
	n.lines += item.LineCount()
	var lines []retail.Line
	switch i := item.(type) {
	case retail.Order:
		n.shipped++
		lines = i.Lines
	case retail.Return:
		n.completed++
		lines = i.Lines
		for _, l := range lines {
			n.onHand -= l.Quantity
		}
	case retail.StockAdjustment:
		lines = []retail.Line{i.Line}
		n.onHand += max(i.Change, 0)
	case retail.PaymentAdjustment:
		lines = []retail.Line{i.Line}
	}
	for _, l := range lines {
		n.add(t, l.UnitPrice, l.Quantity)
	}
}

// totals adds up the events of the log.
func (s *stage) totals(t testing.TB) (n totals) {
	var fault error
	price := func(number, currency string) money.Amount {
		a, err := money.Parse(number, currency)
		fault = errors.Join(fault, err)
		return a
	}
	for r, err := range s.store.ReadAll(context.Background(), s.start, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch e := s.decode(t, &r).(type) {
		case *commercev1.OrderCreated:
			n.lines += len(e.GetLines())
			for _, l := range e.GetLines() {
				n.add(t, price(l.GetUnitPrice(), e.GetCurrency()), l.GetQuantity())
			}
		case *commercev1.OrderShipped:
			n.shipped++
		case *commercev1.OrderCancelled:
			t.Errorf("order %s was cancelled: %s", r.Stream.ID, e.GetReason())
		case *commercev1.InventoryReceived:
			n.onHand += e.GetQuantity()
		case *commercev1.InventoryConfirmed:
			n.onHand -= e.GetQuantity()
		case *commercev1.InventoryReturned:
			n.onHand += e.GetQuantity()
		case *commercev1.InventoryAdjusted:
			n.onHand += e.GetDelta()
			n.lines++
			n.add(t, price(e.GetDocument().GetUnitPrice().GetAmount(), "GBP"), e.GetDocument().GetQuantity())
		case *commercev1.PaymentAdjusted:
			n.lines++
			n.add(t, price(e.GetAmount().GetAmount(), "GBP"), 1)
		case *commercev1.ReturnReceived:
			n.lines += len(e.GetLines())
			for _, l := range e.GetLines() {
				n.add(t, price(l.GetUnitPrice(), e.GetCurrency()), -l.GetQuantity())
			}
		case *commercev1.ReturnCompleted:
			n.completed++
		}
	}
	if fault != nil {
		t.Fatal(fault)
	}
	return n
}

// decode returns the event of an aggregate, nil for others.
func (s *stage) decode(t testing.TB, r *eventstore.Recorded) any {
	t.Helper()
	codec := codecs[r.Stream.Category]
	if codec == nil {
		return nil
	}
	e, err := codec.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var codecs = map[string]commands.Codec[order.Event]{
	order.Category: order.Codec(), inventory.Category: inventory.Codec(), payment.Category: payment.Codec(), voucher.Category: voucher.Codec(), customer.Category: customer.Codec(), returns.Category: returns.Codec(),
	cart.Category: cart.Codec(), profile.Category: profile.Codec(),
}
