package views_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// What tables cannot hold is parked with a reason, and never comes so far that a table refuses it.
func TestEventsThatCannotBeApplied(t *testing.T) {
	const at = 1_290_000_000_000
	created := func(change func(*commercev1.OrderCreated)) proto.Message {
		m := &commercev1.OrderCreated{
			Id: "A", Country: "France", Currency: "GBP", Total: &commercev1.Money{Currency: "GBP", Amount: "2"}, AtMs: at,
			Lines: []*commercev1.Line{{Number: 1, StockCode: "cup", Quantity: 1, UnitPrice: "2"}},
		}
		change(m)
		return m
	}
	for name, c := range map[string]struct {
		category, typ string
		message       proto.Message
		payload       []byte
		reason        string
	}{
		"garbage":               {category: order.Category, typ: order.CreatedV1, payload: []byte{0xff, 0xff}, reason: "read order.created.v1"},
		"a year too late":       {category: order.Category, typ: order.CreatedV1, message: created(func(m *commercev1.OrderCreated) { m.AtMs = 1 << 50 }), reason: "years 1900 to 2261"},
		"a line too late":       {category: order.Category, typ: order.CreatedV1, message: created(func(m *commercev1.OrderCreated) { m.Lines[0].AtMs = -1 << 50 }), reason: "line 1: time"},
		"no number":             {category: order.Category, typ: order.CreatedV1, message: created(func(m *commercev1.OrderCreated) { m.Lines[0].UnitPrice = "two" }), reason: "unit price"},
		"too many decimals":     {category: order.Category, typ: order.CreatedV1, message: created(func(m *commercev1.OrderCreated) { m.Lines[0].UnitPrice = "0.1234567891" }), reason: "too many decimals"},
		"too large a line":      {category: order.Category, typ: order.CreatedV1, message: created(func(m *commercev1.OrderCreated) { m.Lines[0].Quantity = 1 << 62 }), reason: "too large"},
		"no total":              {category: order.Category, typ: order.CreatedV1, message: created(func(m *commercev1.OrderCreated) { m.Total.Amount = "" }), reason: "total"},
		"no currency":           {category: payment.Category, typ: payment.CapturedV1, message: &commercev1.PaymentCaptured{AtMs: at, Amount: &commercev1.Money{Amount: "1"}}, reason: "amount"},
		"stock out of time":     {category: inventory.Category, typ: inventory.ReceivedV1, message: &commercev1.InventoryReceived{Quantity: 1, AtMs: 1 << 50}, reason: "years"},
		"a paper without money": {category: inventory.Category, typ: inventory.AdjustedV1, message: &commercev1.InventoryAdjusted{Delta: 1, AtMs: at, Document: &commercev1.Document{Id: "536365", Line: 1, UnitPrice: &commercev1.Money{Amount: "x", Currency: "GBP"}}}, reason: "unit price"},
	} {
		t.Run(name, func(t *testing.T) {
			log := memstore.New(memstore.Options{})
			payload := c.payload
			if c.message != nil {
				var err error
				if payload, err = proto.Marshal(c.message); err != nil {
					t.Fatal(err)
				}
			}
			_, err := log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream(c.category, "A"), Events: []eventstore.Event{{Type: c.typ, Payload: payload}},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			rows := memview.NewRows(views.Rows())
			if err := projections.Replay(t.Context(), log, rows, projections.Cursor{}); err != nil {
				t.Fatal(err)
			}
			parked := rows.Parked()
			if len(parked) != 1 || !strings.Contains(parked[0].Reason, c.reason) {
				t.Errorf("parked: %v, want one with %q", parked, c.reason)
			}
			if tables := rows.Tables(); len(tables) > 0 {
				t.Errorf("%v have rows", tables)
			}
		})
	}
}
