package checkout_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var update = flag.Bool("update", false, "add new events to testdata/wire.txt")

const ms = 1291191960000

func pounds(number string) *commercev1.Money { return gbp(number).Proto() }

// written is one of every event, with every field set.
func written() []proto.Message {
	lines := []*commercev1.Line{
		{Number: 1, StockCode: "85123A", Description: "WHITE HANGING HEART", Quantity: 6, UnitPrice: "2.55", AtMs: ms + 60_000},
		{Number: 2, StockCode: "PADS", Description: "PADS £", Quantity: 1, UnitPrice: "0.001"},
	}
	document := &commercev1.Document{
		Id: "A563186", Line: 1, CustomerId: "17850", Country: "France", Quantity: -2, UnitPrice: pounds("-75.125"),
	}
	return []proto.Message{
		&commercev1.OrderCreated{Id: "536365", CustomerId: "17850", Country: "France", Currency: "GBP", Lines: lines, Total: pounds("15.301"), AtMs: ms, VoucherCode: "V-1", Discount: pounds("5"), Delivery: &commercev1.Contact{Name: "Grace Hopper", Email: "grace@example.org", Street: "1 Navy Yard", City: "22202 Arlington", Phone: "555"}},
		&commercev1.OrderConfirmed{CustomerId: "17850", AtMs: ms},
		&commercev1.OrderShipped{CustomerId: "17850", AtMs: ms},
		&commercev1.OrderCancelled{
			From: "confirmed", Reason: "changed my mind", AtMs: ms, CustomerId: "17850", Country: "France", Currency: "GBP",
			Lines: lines, Total: pounds("15.301"), PlacedAtMs: ms - 60_000, VoucherCode: "V-1",
		},
		&commercev1.InventoryReceived{Quantity: 100, Reference: "D1", AtMs: ms},
		&commercev1.InventoryReserved{Reservation: "536365", Quantity: 6, AtMs: ms},
		&commercev1.InventoryConfirmed{Reservation: "536365", Quantity: 6, AtMs: ms},
		&commercev1.InventoryReleased{Reservation: "536365", Quantity: 6, AtMs: ms},
		&commercev1.InventoryBarred{Reservation: "536365", AtMs: ms},
		&commercev1.InventoryAdjusted{Delta: -10, Reason: "lost", AtMs: ms, Document: document},
		&commercev1.InventoryReturned{Reference: "C536379", Quantity: 1, AtMs: ms},
		&commercev1.InventoryRightsMoved{To: "sh", Quantity: 40, AtMs: ms},
		&commercev1.PaymentAuthorized{OrderId: "536365", CustomerId: "17850", Amount: pounds("15.301"), Method: "card", AtMs: ms},
		&commercev1.PaymentCaptured{CustomerId: "17850", Amount: pounds("15.301"), AtMs: ms},
		&commercev1.PaymentVoided{CustomerId: "17850", Amount: pounds("15.301"), Reason: "order cancelled", AtMs: ms},
		&commercev1.PaymentRefunded{CustomerId: "17850", Amount: pounds("27.5"), Reason: "broken", Reference: "R1", Unreferenced: true, AtMs: ms},
		&commercev1.PaymentAdjusted{Amount: pounds("150.25"), Reason: "Adjust bad debt", AtMs: ms, Document: document, StockCode: "B"},
		&commercev1.ReturnReceived{Id: "C536379", CustomerId: "17850", Country: "France", Currency: "GBP", Lines: lines, Total: pounds("15.301"), AtMs: ms},
		&commercev1.ReturnCompleted{CustomerId: "17850", AtMs: ms},
		&commercev1.VoucherCreated{Code: "V-1", Value: pounds("5"), AtMs: ms},
		&commercev1.VoucherWithdrawn{Code: "V-1", Reason: "expired", AtMs: ms},
		&commercev1.CreditLimitSet{CustomerId: "17850", Limit: pounds("500"), AtMs: ms},
		&commercev1.CreditLimitLifted{CustomerId: "17850", AtMs: ms},
		&commercev1.CartLineAdded{Line: "l3", StockCode: "85123A", Quantity: 6, Replaces: []string{"l1", "l2"}, AtMs: ms},
		&commercev1.CartLinesRemoved{Lines: []string{"l3", "l4"}, AtMs: ms},
		&commercev1.ProfileChanged{Language: proto.String("fr"), Currency: proto.String("EUR"), Newsletter: proto.Bool(true), AtMs: ms},
	}
}

// TestEventsOnTheWire holds every event to what testdata/wire.txt says of it: its name, its bytes, its JSON. Events that
// were recorded must be readable for ever, so a difference is a mistake, unless it only adds: a field, or an event (C2).
func TestEventsOnTheWire(t *testing.T) {
	var known []string
	for _, c := range codecs {
		known = append(known, c.Types()...)
	}
	var text strings.Builder
	for _, e := range written() {
		requireEveryField(t, e)
		name := ""
		for _, c := range codecs {
			if encoded, err := c.Encode(e); err == nil {
				name = encoded.Type
				fmt.Fprintf(&text, "%s, schema version %d, %d bytes\n%s\n%s\n\n",
					name, encoded.SchemaVersion, len(encoded.Payload), hex.EncodeToString(encoded.Payload), compactJSON(t, e))
			}
		}
		if name == "" {
			t.Errorf("no codec knows %T", e)
		}
		known = slices.DeleteFunc(known, func(k string) bool { return k == name })
	}
	if len(known) > 0 {
		t.Errorf("these events are not in the list of this test: %v", known)
	}
	const file = "testdata/wire.txt"
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("events are written otherwise than before; events that are recorded already would be read wrongly. If you "+
			"have only added fields or events, run go test ./commerce/checkout -update (-before +now):\n%s", diff)
	}
}

// requireEveryField sees to it that the list says something about every field.
func requireEveryField(t *testing.T, m proto.Message) {
	t.Helper()
	r := m.ProtoReflect()
	for i := range r.Descriptor().Fields().Len() {
		if f := r.Descriptor().Fields().Get(i); !r.Has(f) {
			t.Errorf("%s: field %s is not set in the list of this test", r.Descriptor().Name(), f.Name())
		}
	}
}

func compactJSON(t *testing.T, m proto.Message) string {
	t.Helper()
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	// protojson varies its spaces on purpose.
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}
