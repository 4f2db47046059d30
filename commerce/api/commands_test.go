package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/commerce/cart"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/customer"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/profile"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

var now = time.Date(2011, 3, 4, 5, 6, 7, 0, time.UTC)

// call is a context with a call's metadata, given as name, value, name, value.
func call(t *testing.T, pairs ...string) context.Context {
	return metadata.NewIncomingContext(t.Context(), metadata.Pairs(pairs...))
}

// shop is the commands over a bus with a store in memory.
func shop(t *testing.T) (*api.Commands, *memstore.Store) {
	t.Helper()
	store := memstore.New(memstore.Options{})
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	bus := commands.NewBus(store, commands.Options{})
	if err := errors.Join(checkout.Register(bus), customer.Register(bus), cart.Register(bus), profile.Register(bus)); err != nil {
		t.Fatal(err)
	}
	made := 0
	return &api.Commands{Bus: bus, Now: func() time.Time { return now }, NewID: func() string {
		made++
		return fmt.Sprintf("made-%d", made)
	}, Sites: func() []string { return []string{"bj", "sh"} }}, store
}

func anOrder() *commerceapiv1.PlaceOrderRequest {
	return &commerceapiv1.PlaceOrderRequest{
		Id: "A-1", CustomerId: "17850", Country: "France",
		Lines: []*commerceapiv1.OrderLine{{StockCode: "MUG-1", Description: "Mug", Quantity: 2, UnitPrice: "4.25"}},
	}
}

func TestCommandsBecomeEvents(t *testing.T) {
	c, store := shop(t)
	ctx := call(t, "x-correlation-id", "corr", "x-causation-id", "caus", "traceparent", "tp", "tracestate", "ts", "idempotency-key", "k-1")
	r, err := c.PlaceOrder(ctx, anOrder())
	if err != nil {
		t.Fatal(err)
	}
	want := &commerceapiv1.Receipt{Id: "A-1", Stream: "default/order/A-1", Version: 1, Position: r.GetPosition(), Durability: "local", Session: "shard-00@local/1/1"}
	if fmt.Sprint(r) != fmt.Sprint(want) {
		t.Errorf("receipt %v, want %v", r, want)
	}
	for e, err := range store.Read(t.Context(), eventstore.Stream("order", "A-1"), 1) {
		if err != nil {
			t.Fatal(err)
		}
		m := eventstore.Metadata{Correlation: "corr", Causation: "caus", TraceParent: "tp", TraceState: "ts"}
		if e.Metadata != m || e.CommandID != "k-1" {
			t.Errorf("metadata %+v, command %q", e.Metadata, e.CommandID)
		}
	}
	steps := []struct {
		name string
		do   func() (*commerceapiv1.Receipt, error)
		want string
	}{
		{"confirm", func() (*commerceapiv1.Receipt, error) {
			return c.ConfirmOrder(t.Context(), &commerceapiv1.ConfirmOrderRequest{Id: "A-1"})
		}, "A-1 default/order/A-1 2"},
		{"ship", func() (*commerceapiv1.Receipt, error) {
			return c.ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A-1"})
		}, "A-1 default/order/A-1 3"},
		{"receive stock", func() (*commerceapiv1.Receipt, error) {
			return c.ReceiveStock(t.Context(), &commerceapiv1.ReceiveStockRequest{StockCode: "MUG-1", Quantity: 5, Reference: "d-1"})
		}, "MUG-1 default/inventory/MUG-1 1"},
		{"adjust stock", func() (*commerceapiv1.Receipt, error) {
			return c.AdjustStock(t.Context(), &commerceapiv1.AdjustStockRequest{StockCode: "MUG-1", Delta: -1, Reason: "broken"})
		}, "MUG-1 default/inventory/MUG-1 2"},
		{"move stock", func() (*commerceapiv1.Receipt, error) {
			return c.MoveStockRights(t.Context(), &commerceapiv1.MoveStockRightsRequest{StockCode: "MUG-1", ToSite: "sh", Quantity: 2})
		}, "MUG-1 default/inventory/MUG-1 3"},
		{"return", func() (*commerceapiv1.Receipt, error) {
			return c.ReceiveReturn(t.Context(), &commerceapiv1.ReceiveReturnRequest{Id: "C-1", Country: "France", Lines: anOrder().GetLines()})
		}, "C-1 default/return/C-1 1"},
		{"adjust payment", func() (*commerceapiv1.Receipt, error) {
			return c.AdjustPayment(t.Context(), &commerceapiv1.AdjustPaymentRequest{Id: "A563185", Amount: "-11062.06", Reason: "bad debt"})
		}, "A563185 default/payment/A563185 1"},
	}
	for _, s := range steps {
		r, err := s.do()
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if got := fmt.Sprint(r.GetId(), " ", r.GetStream(), " ", r.GetVersion()); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}
}

// Units that are moved to a site which takes no part would be nobody's.
func TestStockIsMovedToSitesThatTakePart(t *testing.T) {
	c, s := spied()
	c.Sites = func() []string { return []string{"bj", "sh"} }
	for _, site := range []string{"hs", "shard-00@sh", ""} {
		_, err := c.MoveStockRights(t.Context(), &commerceapiv1.MoveStockRightsRequest{StockCode: "MUG-1", ToSite: site, Quantity: 1})
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "one of bj, sh, without a shard") || s.cmd != nil {
			t.Errorf("to %q: error %v, command %+v; want it refused, with the sites that there are", site, err, s.cmd)
		}
	}
}

// spy keeps the commands that it is given.
type spy struct {
	meta commands.Meta
	cmd  any
	err  error
}

func (s *spy) Dispatch(_ context.Context, meta commands.Meta, cmds ...any) (eventstore.Receipt, error) {
	s.meta, s.cmd = meta, cmds[len(cmds)-1] // guards stand in front of it
	return eventstore.Receipt{Position: eventstore.Position{Incarnation: 1, LSN: 9}}, s.err
}

func spied() (*api.Commands, *spy) {
	s := &spy{}
	return &api.Commands{Bus: s, Now: func() time.Time { return now }, NewID: func() string { return "made" }}, s
}

// Fields of requests arrive in the fields of commands, and what they leave out has its default.
func TestRequestsBecomeCommands(t *testing.T) {
	at := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	line := &commerceapiv1.OrderLine{StockCode: "B", Description: "d", Quantity: 3, UnitPrice: "2.555", Number: 7, At: timestamppb.New(at)}
	document := &commerceapiv1.Document{Id: "536365", Line: 4, CustomerId: "9", Country: "EIRE", Quantity: -2, UnitPrice: "-0.5", Currency: "EUR"}
	for name, tt := range map[string]struct {
		do   func(*api.Commands) error
		want string
	}{
		"place": {func(c *api.Commands) error {
			_, err := c.PlaceOrder(t.Context(), &commerceapiv1.PlaceOrderRequest{
				CustomerId: "9", Country: "EIRE", Currency: "EUR", PlacedAt: timestamppb.New(at),
				Lines: []*commerceapiv1.OrderLine{{StockCode: "A", Quantity: 1, UnitPrice: "1"}, line},
			})
			return err
		}, fmt.Sprintf("%T {ID:made CustomerID:9 Country:EIRE Currency:EUR Lines:[{Number:1 StockCode:A Description: Quantity:1 UnitPrice:1 At:0001-01-01 00:00:00 +0000 UTC} "+
			"{Number:7 StockCode:B Description:d Quantity:3 UnitPrice:2.555 At:2010-12-01 08:26:00 +0000 UTC}] VoucherCode: Discount:0 At:2010-12-01 08:26:00 +0000 UTC Delivery:<nil>}", order.Place{})},
		"return": {func(c *api.Commands) error {
			_, err := c.ReceiveReturn(t.Context(), &commerceapiv1.ReceiveReturnRequest{Id: "C1", CustomerId: "9", Country: "EIRE", Lines: []*commerceapiv1.OrderLine{line}})
			return err
		}, fmt.Sprintf("%T {ID:C1 CustomerID:9 Country:EIRE Currency:GBP Lines:[{Number:7 StockCode:B Description:d Quantity:3 UnitPrice:2.555 At:2010-12-01 08:26:00 +0000 UTC}] At:2011-03-04 05:06:07 +0000 UTC}", returns.Receive{})},
		"receive": {func(c *api.Commands) error {
			_, err := c.ReceiveStock(t.Context(), &commerceapiv1.ReceiveStockRequest{StockCode: "B", Quantity: 3, Reference: "r", ReceivedAt: timestamppb.New(at)})
			return err
		}, fmt.Sprintf("%T {Code:B Quantity:3 Reference:r At:2010-12-01 08:26:00 +0000 UTC}", inventory.Receive{})},
		"cancel": {func(c *api.Commands) error {
			_, err := c.CancelOrder(t.Context(), &commerceapiv1.CancelOrderRequest{Id: "A", Reason: "no"})
			return err
		}, fmt.Sprintf("%T {ID:A Reason:no At:2011-03-04 05:06:07 +0000 UTC}", order.Cancel{})},
		"refund": {func(c *api.Commands) error {
			_, err := c.RefundPayment(t.Context(), &commerceapiv1.RefundPaymentRequest{Id: "A", Amount: "1.10", Reason: "no"})
			return err
		}, fmt.Sprintf("%T {ID:A Amount:1.1 Reason:no Reference: At:2011-03-04 05:06:07 +0000 UTC}", payment.Refund{})},
	} {
		t.Run(name, func(t *testing.T) {
			c, s := spied()
			if err := tt.do(c); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%T %+v", s.cmd, s.cmd); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	t.Run("documents", func(t *testing.T) {
		c, s := spied()
		if _, err := c.AdjustStock(t.Context(), &commerceapiv1.AdjustStockRequest{StockCode: "B", Delta: -2, Reason: "r", Document: document}); err != nil {
			t.Fatal(err)
		}
		stock := s.cmd.(inventory.Adjust).Document
		if c := stock.UnitPrice.Currency(); c != "EUR" {
			t.Errorf("currency %s", c)
		}
		if got := fmt.Sprintf("%+v", *stock); got != "{ID:536365 Line:4 CustomerID:9 Country:EIRE Quantity:-2 UnitPrice:-0.5}" {
			t.Errorf("stock document %s", got)
		}
		if _, err := c.AdjustPayment(t.Context(), &commerceapiv1.AdjustPaymentRequest{Id: "A", Amount: "-1", StockCode: "B", Document: document}); err != nil {
			t.Fatal(err)
		}
		paid := s.cmd.(payment.Adjust).Document
		if got := fmt.Sprintf("%+v", *paid); got != "{ID:536365 Line:4 StockCode:B CustomerID:9 Country:EIRE Quantity:-2 UnitPrice:-0.5}" {
			t.Errorf("payment document %s", got)
		}
	})
}

func TestMetadataBecomesMeta(t *testing.T) {
	c, s := spied()
	if _, err := c.ShipOrder(call(t, "x-tenant", "default", "if-match", `"3"`, "x-durability", "kafka", "idempotency-key", "k"), &commerceapiv1.ShipOrderRequest{Id: "A"}); err != nil {
		t.Fatal(err)
	}
	if s.meta.Expect != eventstore.Exactly(3) || s.meta.Durability != eventstore.Kafka || s.meta.ID != "k" {
		t.Errorf("meta %+v", s.meta)
	}
	for _, refused := range [][]string{{"x-tenant", "acme"}, {"idempotency-key", "saga/checkout/1/reserve"}} {
		if _, err := c.ShipOrder(call(t, refused...), &commerceapiv1.ShipOrderRequest{Id: "A"}); eventstore.ClassOf(err) != eventstore.Rejected {
			t.Errorf("%v is taken: %v", refused, err)
		}
	}
	hash := s.meta.Hash
	if hash == (eventstore.Hash{}) {
		t.Error("the request has no hash")
	}
	if _, err := c.ShipOrder(call(t, "idempotency-key", "k"), &commerceapiv1.ShipOrderRequest{Id: "B"}); err != nil || s.meta.Hash == hash {
		t.Errorf("%v: another request has the same hash", err)
	}
	if _, err := c.ConfirmOrder(call(t, "idempotency-key", "k"), &commerceapiv1.ConfirmOrderRequest{Id: "A"}); err != nil || s.meta.Hash == hash {
		t.Errorf("%v: another method has the same hash", err)
	}
	for _, pairs := range [][]string{
		{"if-match", "three"}, {"if-match", `W/"3"`}, {"if-match", `"3", "4"`}, {"if-match", `"3"`, "if-match", `"4"`}, {"x-durability", "paper"},
	} {
		s.cmd = nil
		if _, err := c.ShipOrder(call(t, pairs...), &commerceapiv1.ShipOrderRequest{Id: "A"}); !errors.Is(err, eventstore.ErrInvalid) || s.cmd != nil {
			t.Errorf("%v: %v, dispatched %v", pairs, err, s.cmd)
		}
	}
}

// A repeated command returns the receipt of the first, also when the server makes the id of what it creates.
func TestRepeatedCommands(t *testing.T) {
	c, _ := shop(t)
	request := anOrder()
	request.Id = ""
	first, err := c.PlaceOrder(call(t, "idempotency-key", "k"), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.PlaceOrder(call(t, "idempotency-key", "k"), request)
	if err != nil {
		t.Fatal(err)
	}
	if id := first.GetId(); id == "" || strings.HasPrefix(id, "made") || first.GetDuplicate() || !again.GetDuplicate() {
		t.Errorf("first %v, again %v", first, again)
	}
	again.Duplicate = false
	if fmt.Sprint(first) != fmt.Sprint(again) {
		t.Errorf("first %v, again %v", first, again)
	}
	request.Country = "Spain"
	if _, err := c.PlaceOrder(call(t, "idempotency-key", "k"), request); !errors.Is(err, eventstore.ErrIDReused) {
		t.Errorf("another request with the same key: %v", err)
	}
}

func TestExpectedVersions(t *testing.T) {
	c, _ := shop(t)
	if _, err := c.PlaceOrder(call(t, "if-match", `"0"`), anOrder()); err != nil {
		t.Fatal(err)
	}
	_, err := c.ConfirmOrder(call(t, "if-match", `"2"`), &commerceapiv1.ConfirmOrderRequest{Id: "A-1"})
	var conflict *eventstore.ConflictError
	if !errors.As(err, &conflict) || conflict.Conflicts[0].Got != 1 {
		t.Errorf("version 2 of 1: %v", err)
	}
	if _, err := c.ConfirmOrder(call(t, "if-match", `"1"`), &commerceapiv1.ConfirmOrderRequest{Id: "A-1"}); err != nil {
		t.Errorf("version 1 of 1: %v", err)
	}
	if _, err := c.ConfirmOrder(call(t, "if-match", "*"), &commerceapiv1.ConfirmOrderRequest{Id: "none"}); !errors.As(err, &conflict) {
		t.Errorf("* of what is not there: %v", err)
	}
}

func TestRefusalsKeepTheirCode(t *testing.T) {
	c, _ := shop(t)
	_, err := c.ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "none"})
	var rejection *commands.Rejection
	if !errors.As(err, &rejection) || rejection.Code != "order.not_found" {
		t.Errorf("got %v", err)
	}
}

// All that is wrong is said at once, each with the field that it is about, and nothing is recorded.
func TestFaultsNameTheirField(t *testing.T) {
	c, store := shop(t)
	for name, tt := range map[string]struct {
		request *commerceapiv1.PlaceOrderRequest
		want    []string
	}{
		"prices":   {&commerceapiv1.PlaceOrderRequest{Country: "F", Lines: []*commerceapiv1.OrderLine{{StockCode: "A", Quantity: 1, UnitPrice: "much"}, {StockCode: "A", Quantity: 1}}}, []string{"lines[0].unit_price", "lines[1].unit_price is empty"}},
		"the rest": {&commerceapiv1.PlaceOrderRequest{Lines: []*commerceapiv1.OrderLine{{Quantity: 0, UnitPrice: "1"}}}, []string{"country is empty", "line 1: stock code", "line 1: quantity 0"}},
		"both":     {&commerceapiv1.PlaceOrderRequest{Lines: []*commerceapiv1.OrderLine{{Quantity: 0, UnitPrice: "much"}}}, []string{"lines[0].unit_price", "country is empty", "line 1: stock code", "line 1: quantity 0"}},
		"currency": {&commerceapiv1.PlaceOrderRequest{Country: "F", Currency: "pounds", Lines: []*commerceapiv1.OrderLine{{StockCode: "A", Quantity: 1, UnitPrice: "1"}}}, []string{"pounds"}},
		"no lines": {&commerceapiv1.PlaceOrderRequest{Country: "F"}, []string{"1 to 5000 lines"}},
	} {
		_, err := c.PlaceOrder(t.Context(), tt.request)
		if !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not said: %v", name, want, err)
			}
		}
	}
	many := &commerceapiv1.PlaceOrderRequest{Country: "F"}
	for range 5000 {
		many.Lines = append(many.Lines, &commerceapiv1.OrderLine{StockCode: "A", Quantity: 1, UnitPrice: "x"})
	}
	if _, err := c.PlaceOrder(t.Context(), many); err == nil || len(err.Error()) > 10_000 {
		t.Errorf("the faults of 5000 lines take %d bytes", len(err.Error()))
	}
	if state, err := store.Log(t.Context()); err != nil || state.Seq != 0 {
		t.Errorf("%v: %d events were recorded", err, state.Seq)
	}
}

func TestPendingCommandsKeepTheirReceipt(t *testing.T) {
	c, s := spied()
	s.err = fmt.Errorf("append: %w", eventstore.ErrDurabilityTimeout)
	_, err := c.ShipOrder(t.Context(), &commerceapiv1.ShipOrderRequest{Id: "A"})
	var pending *api.PendingError
	if !errors.As(err, &pending) || !errors.Is(err, eventstore.ErrDurabilityTimeout) || pending.Receipt.GetPosition() != "1-9" || pending.Answer() != pending.Receipt {
		t.Errorf("got %v", err)
	}
}
