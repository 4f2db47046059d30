package views

import (
	"fmt"

	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// The tables of schemas/clickhouse/shop that the projection writes.
const (
	linesTable     = "order_lines"
	changesTable   = "order_changes"
	paymentsTable  = "payments"
	movementsTable = "stock_movements"
)

// Rows returns the projection into tables.
func Rows() projections.Projection[projections.Rows] {
	return projections.Projection[projections.Rows]{
		Name: Name, Version: rowsVersion, Apply: applyRows, Rebase: rebase,
		Categories: []string{order.Category, inventory.Category, payment.Category, returns.Category},
		Types: []string{
			order.CreatedV1, order.ConfirmedV1, order.ShippedV1, order.CancelledV1,
			inventory.ReceivedV1, inventory.ReservedV1, inventory.ConfirmedV1, inventory.ReleasedV1, inventory.AdjustedV1, inventory.ReturnedV1,
			payment.AuthorizedV1, payment.CapturedV1, payment.VoidedV1, payment.RefundedV1, payment.AdjustedV1,
			returns.ReceivedV1,
		},
	}
}

func applyRows(w projections.Rows, e *eventstore.Recorded) error {
	switch e.Stream.Category {
	case order.Category:
		return orderRows(w, e)
	case inventory.Category:
		return stockRows(w, e)
	case payment.Category:
		return paymentRows(w, e)
	}
	return returnRows(w, e)
}

// document is what the lines of a paper have in common.
type document struct {
	kind, id, customer, country, currency string
	atMs                                  int64
	// units is 1 or -1: what a unit of a line counts in its quantity.
	units int64
	// cancelled: lines that stand there already are taken back.
	cancelled bool
}

// opening says of which countable things a line is the first: of its order or return, and of its product there.
type opening struct{ document, product bool }

// line is one line of a document.
type line struct {
	number                 uint32
	stockCode, description string
	quantity               int64
	unitPrice              string
	atMs                   int64
}

// insert adds a row for a line. It refuses what the table could not sum up.
func (d *document) insert(w projections.Rows, l line, opens opening) error {
	price, err := money.Parse(l.unitPrice, d.currency)
	if err != nil {
		return fmt.Errorf("line %d: unit price: %w", l.number, err)
	}
	if _, err := price.Mul(l.quantity); err != nil {
		return fmt.Errorf("line %d: %w", l.number, err)
	}
	if l.atMs == 0 {
		l.atMs = d.atMs
	}
	at, err := moment(l.atMs)
	if err != nil {
		return fmt.Errorf("line %d: %w", l.number, err)
	}
	add := w.Insert
	if d.cancelled {
		add = w.Retract
	}
	add(linesTable, d.kind, d.id, l.number, l.stockCode, l.description, l.quantity*d.units, price.String(), d.currency,
		d.customer, d.country, at, opens.document, opens.product)
	return nil
}

func (d *document) insertAll(w projections.Rows, lines []*commercev1.Line) error {
	seen := make(map[string]bool, len(lines))
	for i, l := range lines {
		code := l.GetStockCode()
		err := d.insert(w, line{l.GetNumber(), code, l.GetDescription(), l.GetQuantity(), l.GetUnitPrice(), l.GetAtMs()}, opening{i == 0, !seen[code]})
		seen[code] = true
		if err != nil {
			return err
		}
	}
	return nil
}

// change is a row of order_changes.
type change struct {
	status                      order.Status
	customer, country, currency string
	total                       *commercev1.Money
	lines                       int
	reason                      string
	atMs                        int64
}

func (c *change) insert(w projections.Rows, e *eventstore.Recorded) error {
	at, err := moment(c.atMs)
	if err != nil {
		return err
	}
	total, _, err := amountOf(c.total)
	if err != nil {
		return fmt.Errorf("total: %w", err)
	}
	w.Insert(changesTable, e.Stream.ID, e.Version, string(c.status), c.customer, c.country, c.currency, total, c.lines, c.reason, at)
	return nil
}

func orderRows(w projections.Rows, e *eventstore.Recorded) error {
	switch e.Type {
	case order.CreatedV1:
		var o commercev1.OrderCreated
		if err := decode(e, &o); err != nil {
			return err
		}
		c := change{
			status: order.Created, customer: o.GetCustomerId(), country: o.GetCountry(), currency: o.GetCurrency(),
			total: o.GetTotal(), lines: len(o.GetLines()), atMs: o.GetAtMs(),
		}
		if err := c.insert(w, e); err != nil {
			return err
		}
		d := document{"order", e.Stream.ID, o.GetCustomerId(), o.GetCountry(), o.GetCurrency(), o.GetAtMs(), 1, false}
		return d.insertAll(w, o.GetLines())
	case order.CancelledV1:
		var o commercev1.OrderCancelled
		if err := decode(e, &o); err != nil {
			return err
		}
		c := change{
			status: order.Cancelled, customer: o.GetCustomerId(), country: o.GetCountry(), currency: o.GetCurrency(),
			total: o.GetTotal(), lines: len(o.GetLines()), reason: o.GetReason(), atMs: o.GetAtMs(),
		}
		if err := c.insert(w, e); err != nil {
			return err
		}
		d := document{"order", e.Stream.ID, o.GetCustomerId(), o.GetCountry(), o.GetCurrency(), o.GetPlacedAtMs(), 1, true}
		return d.insertAll(w, o.GetLines())
	case order.ConfirmedV1:
		var o commercev1.OrderConfirmed
		if err := decode(e, &o); err != nil {
			return err
		}
		c := change{status: order.Confirmed, customer: o.GetCustomerId(), atMs: o.GetAtMs()}
		return c.insert(w, e)
	}
	var o commercev1.OrderShipped
	if err := decode(e, &o); err != nil {
		return err
	}
	c := change{status: order.Shipped, customer: o.GetCustomerId(), atMs: o.GetAtMs()}
	return c.insert(w, e)
}

func returnRows(w projections.Rows, e *eventstore.Recorded) error {
	var r commercev1.ReturnReceived
	if err := decode(e, &r); err != nil {
		return err
	}
	d := document{"return", e.Stream.ID, r.GetCustomerId(), r.GetCountry(), r.GetCurrency(), r.GetAtMs(), -1, false}
	return d.insertAll(w, r.GetLines())
}

func stockRows(w projections.Rows, e *eventstore.Recorded) error {
	m, err := movementOf(e)
	if err != nil {
		return err
	}
	at, err := moment(m.atMs)
	if err != nil {
		return err
	}
	w.Insert(movementsTable, e.Stream.ID, m.kind, m.onHand, m.reserved, m.reference, at)
	if m.adjusted == nil {
		return nil
	}
	return paperRow(w, "adjustment", m.adjusted.GetDocument(), e.Stream.ID, m.adjusted.GetReason(), m.atMs)
}

// paperRow adds the line of a paper that something was adjusted from, if it was.
func paperRow(w projections.Rows, kind string, paper *commercev1.Document, stockCode, description string, atMs int64) error {
	if paper == nil {
		return nil
	}
	price, currency, err := amountOf(paper.GetUnitPrice())
	if err != nil {
		return fmt.Errorf("document: unit price: %w", err)
	}
	if currency == "" {
		currency = noCurrency
	}
	d := document{kind, paper.GetId(), paper.GetCustomerId(), paper.GetCountry(), currency, atMs, 1, false}
	return d.insert(w, line{paper.GetLine(), stockCode, description, paper.GetQuantity(), price, atMs}, opening{})
}

// noCurrency is the ISO 4217 code for a price that names no currency.
const noCurrency = "XXX"

func paymentRows(w projections.Rows, e *eventstore.Recorded) error {
	var kind, orderID, customer, method, reason string
	var amount *commercev1.Money
	var atMs int64
	var adjusted *commercev1.PaymentAdjusted
	switch e.Type {
	case payment.AuthorizedV1:
		var p commercev1.PaymentAuthorized
		if err := decode(e, &p); err != nil {
			return err
		}
		kind, orderID, customer, method = "authorized", p.GetOrderId(), p.GetCustomerId(), p.GetMethod()
		amount, atMs = p.GetAmount(), p.GetAtMs()
	case payment.CapturedV1:
		var p commercev1.PaymentCaptured
		if err := decode(e, &p); err != nil {
			return err
		}
		kind, customer, amount, atMs = "captured", p.GetCustomerId(), p.GetAmount(), p.GetAtMs()
	case payment.VoidedV1:
		var p commercev1.PaymentVoided
		if err := decode(e, &p); err != nil {
			return err
		}
		kind, customer, amount, reason, atMs = "voided", p.GetCustomerId(), p.GetAmount(), p.GetReason(), p.GetAtMs()
	case payment.RefundedV1:
		var p commercev1.PaymentRefunded
		if err := decode(e, &p); err != nil {
			return err
		}
		kind, customer, amount, reason, atMs = "refunded", p.GetCustomerId(), p.GetAmount(), p.GetReason(), p.GetAtMs()
	default:
		adjusted = &commercev1.PaymentAdjusted{}
		if err := decode(e, adjusted); err != nil {
			return err
		}
		kind, customer, amount = "adjusted", adjusted.GetDocument().GetCustomerId(), adjusted.GetAmount()
		reason, atMs = adjusted.GetReason(), adjusted.GetAtMs()
	}
	at, err := moment(atMs)
	if err != nil {
		return err
	}
	number, currency, err := amountOf(amount)
	if err != nil {
		return fmt.Errorf("amount: %w", err)
	}
	w.Insert(paymentsTable, e.Stream.ID, e.Version, kind, orderID, customer, number, currency, method, reason, at)
	if adjusted == nil {
		return nil
	}
	return paperRow(w, "payment", adjusted.GetDocument(), adjusted.GetStockCode(), adjusted.GetReason(), atMs)
}
