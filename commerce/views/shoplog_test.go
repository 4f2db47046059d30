package views_test

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// shopLog returns a log that holds what the aggregates record when retail files are imported and every order is carried
// through, without the sagas' own events.
func shopLog(t testing.TB, files ...string) *memstore.Store {
	t.Helper()
	set, err := retail.Read(t.Context(), files...)
	if err != nil {
		t.Fatal(err)
	}
	w := &shopWriter{t: t, log: memstore.New(memstore.Options{})}
	for item := range set.Plan().Items() {
		switch i := item.(type) {
		case retail.OpeningStock:
			w.add(inventory.Category, i.StockCode, inventory.ReceivedV1, &commercev1.InventoryReceived{Quantity: i.Units, Reference: i.Key(), AtMs: 1_290_000_000_000})
		case retail.Order:
			w.order(i)
		case retail.Return:
			w.returned(i)
		case retail.StockAdjustment:
			l := i.Line
			w.add(inventory.Category, l.StockCode, inventory.AdjustedV1, &commercev1.InventoryAdjusted{
				Delta: i.Change, Reason: l.Description, AtMs: l.At.UnixMilli(), Document: document(l),
			})
		case retail.PaymentAdjustment:
			l := i.Line
			w.add(payment.Category, l.Invoice, payment.AdjustedV1, &commercev1.PaymentAdjusted{
				Amount: l.Amount.Proto(), Reason: l.Description, AtMs: l.At.UnixMilli(), Document: document(l), StockCode: l.StockCode,
			})
		}
		w.flush()
	}
	return w.log
}

// shopWriter appends events, those of one item together.
type shopWriter struct {
	t       testing.TB
	log     *memstore.Store
	pending []eventstore.StreamAppend
}

func (w *shopWriter) add(category, id, typ string, m proto.Message) {
	payload, err := proto.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	stream := eventstore.Stream(category, id)
	event := eventstore.Event{Type: typ, Payload: payload}
	if i := slices.IndexFunc(w.pending, func(a eventstore.StreamAppend) bool { return a.Stream == stream }); i >= 0 {
		w.pending[i].Events = append(w.pending[i].Events, event)
		return
	}
	w.pending = append(w.pending, eventstore.StreamAppend{Stream: stream, Events: []eventstore.Event{event}})
}

func (w *shopWriter) flush() {
	w.t.Helper()
	if len(w.pending) == 0 {
		return
	}
	if _, err := w.log.Append(context.Background(), eventstore.Request{Appends: w.pending}); err != nil {
		w.t.Fatal(err)
	}
	w.pending = nil
}

func (w *shopWriter) order(o retail.Order) {
	at := o.At.UnixMilli()
	w.add(order.Category, o.Invoice, order.CreatedV1, &commercev1.OrderCreated{
		Id: o.Invoice, CustomerId: o.Customer, Country: o.Country, Currency: retail.Currency, Lines: lines(o.Lines, 1, at),
		Total: o.Total.Proto(), AtMs: at,
	})
	w.flush()
	codes, units := unitsOf(o.Lines)
	for _, code := range codes {
		w.add(inventory.Category, code, inventory.ReservedV1, &commercev1.InventoryReserved{Reservation: o.Invoice, Quantity: units[code], AtMs: at})
	}
	w.add(payment.Category, o.Invoice, payment.AuthorizedV1, &commercev1.PaymentAuthorized{
		OrderId: o.Invoice, CustomerId: o.Customer, Amount: o.Total.Proto(), Method: "card", AtMs: at,
	})
	w.add(order.Category, o.Invoice, order.ConfirmedV1, &commercev1.OrderConfirmed{CustomerId: o.Customer, AtMs: at})
	w.flush()
	for _, code := range codes {
		w.add(inventory.Category, code, inventory.ConfirmedV1, &commercev1.InventoryConfirmed{Reservation: o.Invoice, Quantity: units[code], AtMs: at})
	}
	w.add(payment.Category, o.Invoice, payment.CapturedV1, &commercev1.PaymentCaptured{CustomerId: o.Customer, Amount: o.Total.Proto(), AtMs: at})
	w.add(order.Category, o.Invoice, order.ShippedV1, &commercev1.OrderShipped{CustomerId: o.Customer, AtMs: at})
}

// cancel cancels an order that was created with these lines and was not shipped.
func (w *shopWriter) cancel(o retail.Order) {
	at := o.At.UnixMilli()
	w.add(order.Category, o.Invoice, order.CancelledV1, &commercev1.OrderCancelled{
		From: string(order.Created), Reason: "out of stock", AtMs: at + 86_400_000, CustomerId: o.Customer, Country: o.Country,
		Currency: retail.Currency, Lines: lines(o.Lines, 1, at), Total: o.Total.Proto(), PlacedAtMs: at,
	})
}

func (w *shopWriter) returned(r retail.Return) {
	at := r.At.UnixMilli()
	w.add(returns.Category, r.Invoice, returns.ReceivedV1, &commercev1.ReturnReceived{
		Id: r.Invoice, CustomerId: r.Customer, Country: r.Country, Currency: retail.Currency, Lines: lines(r.Lines, -1, at),
		Total: r.Refund.Proto(), AtMs: at,
	})
	codes, units := unitsOf(r.Lines)
	for _, code := range codes {
		w.add(inventory.Category, code, inventory.ReturnedV1, &commercev1.InventoryReturned{Reference: r.Invoice, Quantity: -units[code], AtMs: at})
	}
	w.add(payment.Category, r.Invoice, payment.RefundedV1, &commercev1.PaymentRefunded{
		CustomerId: r.Customer, Amount: r.Refund.Proto(), Reason: "return", Unreferenced: true, AtMs: at,
	})
	w.add(returns.Category, r.Invoice, returns.CompletedV1, &commercev1.ReturnCompleted{CustomerId: r.Customer, AtMs: at})
}

// unitsOf sums the units of each code, in order of appearance.
func unitsOf(lines []retail.Line) (codes []string, units map[string]int64) {
	units = make(map[string]int64)
	for _, l := range lines {
		if _, ok := units[l.StockCode]; !ok {
			codes = append(codes, l.StockCode)
		}
		units[l.StockCode] += l.Quantity
	}
	return codes, units
}

func lines(in []retail.Line, sign, documentMs int64) []*commercev1.Line {
	out := make([]*commercev1.Line, len(in))
	for i, l := range in {
		out[i] = &commercev1.Line{
			Number: uint32(l.Ordinal), StockCode: l.StockCode, Description: l.Description, Quantity: sign * l.Quantity,
			UnitPrice: l.UnitPrice.String(),
		}
		if ms := l.At.UnixMilli(); ms != documentMs {
			out[i].AtMs = ms
		}
	}
	return out
}

func document(l retail.Line) *commercev1.Document {
	price := l.UnitPrice
	if price.Currency() == "" {
		price = money.MustParse("0", retail.Currency)
	}
	return &commercev1.Document{
		Id: l.Invoice, Line: uint32(l.Ordinal), CustomerId: l.Customer, Country: l.Country, Quantity: l.Quantity, UnitPrice: price.Proto(),
	}
}
