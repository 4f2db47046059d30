package views

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Name is the name of both projections.
const Name = "shop"

const (
	keysVersion = 3
	rowsVersion = 2
)

// The keys that stand alone.
const (
	orderCountsKey = "order-counts"
	stockCodesKey  = "stock-codes"
	stockTotalsKey = "stock-totals"
)

// deliveredField of an order says that the event had a delivery, which is kept apart from the order, under its customer.
const deliveredField = "delivery"

func personalKey(customer string) string { return "personal:" + customer }

// Shared tells of a key of the model in Redis whether all sites that hold the same events have it: whom goods are delivered to can be
// read where the order was placed.
func Shared(key string, v projections.Value) (projections.Value, bool) {
	return v, !strings.HasPrefix(key, personalKey(""))
}

func orderKey(id string) string                { return "order:" + id }
func customerOrdersKey(customer string) string { return "customer-orders:" + customer }
func stockKey(code string) string              { return "stock:" + code }

// Keys returns the projection into keys and values.
func Keys() projections.Projection[projections.Keys] {
	return projections.Projection[projections.Keys]{
		Name: Name, Version: keysVersion, Apply: applyKeys, Rebase: rebase,
		Categories: []string{order.Category, inventory.Category},
		// Of a stock code, all is added up.
		Unordered: []string{inventory.Category},
		Types: []string{
			order.CreatedV1, order.ConfirmedV1, order.ShippedV1, order.CancelledV1, eventstore.SubjectErased,
			inventory.ReceivedV1, inventory.ReservedV1, inventory.ConfirmedV1, inventory.ReleasedV1, inventory.AdjustedV1, inventory.ReturnedV1,
		},
	}
}

func applyKeys(w projections.Keys, e *eventstore.Recorded) error {
	switch {
	case e.Type == eventstore.SubjectErased:
		w.Delete(personalKey(e.Stream.ID))
		return nil
	case e.Stream.Category == inventory.Category:
		return applyStock(w, e)
	}
	key := orderKey(e.Stream.ID)
	w.HashSet(key, "version", strconv.FormatUint(e.Version, 10))
	switch e.Type {
	case order.CreatedV1:
		return applyCreated(w, e, key)
	case order.ConfirmedV1:
		moveOrder(w, key, order.Created, order.Confirmed)
	case order.ShippedV1:
		moveOrder(w, key, order.Confirmed, order.Shipped)
	case order.CancelledV1:
		var c commercev1.OrderCancelled
		if err := decode(e, &c); err != nil {
			return err
		}
		moveOrder(w, key, order.Status(c.GetFrom()), order.Cancelled)
	}
	return nil
}

func applyCreated(w projections.Keys, e *eventstore.Recorded, key string) error {
	var c commercev1.OrderCreated
	if err := decode(e, &c); err != nil {
		return err
	}
	lines, err := linesJSON(c.GetLines())
	if err != nil {
		return err
	}
	w.HashSet(key, "id", e.Stream.ID)
	w.HashSet(key, "customer_id", c.GetCustomerId())
	w.HashSet(key, "status", string(order.Created))
	w.HashSet(key, "country", c.GetCountry())
	w.HashSet(key, "currency", c.GetCurrency())
	w.HashSet(key, "total", c.GetTotal().GetAmount())
	w.HashSet(key, "placed_at", time.UnixMilli(c.GetAtMs()).UTC().Format(time.RFC3339Nano))
	w.HashSet(key, "line_count", strconv.Itoa(len(c.GetLines())))
	w.HashSet(key, "lines", lines)
	if c.GetVoucherCode() != "" {
		w.HashSet(key, "voucher_code", c.GetVoucherCode())
		w.HashSet(key, "discount", c.GetDiscount().GetAmount())
	}
	if err := applyDelivery(w, e, &c, key); err != nil {
		return err
	}
	w.HashAdd(orderCountsKey, string(order.Created), 1)
	if c.GetCustomerId() != "" {
		w.SortedAdd(customerOrdersKey(c.GetCustomerId()), e.Stream.ID, float64(c.GetAtMs()))
	}
	return nil
}

// applyDelivery keeps whom an order is delivered to under its customer, where one deletion erases it. The order says only
// that there was one: an erased event leaves the same model as one whose subject is erased later.
func applyDelivery(w projections.Keys, e *eventstore.Recorded, c *commercev1.OrderCreated, key string) error {
	if !e.Erased && c.GetDelivery() == nil {
		return nil
	}
	w.HashSet(key, deliveredField, "given")
	if e.Erased {
		return nil
	}
	d := c.GetDelivery()
	text, err := json.Marshal(jsonContact{d.GetName(), d.GetEmail(), d.GetStreet(), d.GetCity(), d.GetPhone()})
	if err != nil {
		return fmt.Errorf("write delivery: %w", err)
	}
	w.HashSet(personalKey(c.GetCustomerId()), e.Stream.ID, string(text))
	return nil
}

// jsonContact is a field of a customer's personal data.
type jsonContact struct {
	Name   string `json:"name,omitempty"`
	Email  string `json:"email,omitempty"`
	Street string `json:"street,omitempty"`
	City   string `json:"city,omitempty"`
	Phone  string `json:"phone,omitempty"`
}

func moveOrder(w projections.Keys, key string, from, to order.Status) {
	w.HashSet(key, "status", string(to))
	w.HashAdd(orderCountsKey, string(from), -1)
	w.HashAdd(orderCountsKey, string(to), 1)
}

// jsonLine is a line of an order in the field lines.
type jsonLine struct {
	Number      uint32 `json:"number"`
	StockCode   string `json:"stock_code"`
	Description string `json:"description,omitempty"`
	Quantity    int64  `json:"quantity"`
	UnitPrice   string `json:"unit_price"`
}

func linesJSON(lines []*commercev1.Line) (string, error) {
	out := make([]jsonLine, len(lines))
	for i, l := range lines {
		out[i] = jsonLine{l.GetNumber(), l.GetStockCode(), l.GetDescription(), l.GetQuantity(), l.GetUnitPrice()}
	}
	text, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("write lines: %w", err)
	}
	return string(text), nil
}

func applyStock(w projections.Keys, e *eventstore.Recorded) error {
	m, err := movementOf(e)
	if err != nil {
		return err
	}
	key := stockKey(e.Stream.ID)
	w.HashSet(key, "stock_code", e.Stream.ID)
	w.HashAdd(key, "on_hand", m.onHand)
	w.HashAdd(key, "reserved", m.reserved)
	w.HashAdd(stockTotalsKey, "on_hand", m.onHand)
	w.HashAdd(stockTotalsKey, "reserved", m.reserved)
	w.SortedAdd(stockCodesKey, e.Stream.ID, 0)
	return nil
}
