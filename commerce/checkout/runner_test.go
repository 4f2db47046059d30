package checkout_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
)

// dispatcher stands between a runner and the bus, and may refuse to pass a message on.
type dispatcher struct {
	bus *commands.Bus
	// down, when set, says whether a message cannot be passed on for the moment.
	down func(cmds []any) bool
}

func (d dispatcher) Dispatch(ctx context.Context, meta commands.Meta, cmds ...any) (eventstore.Receipt, error) {
	if d.down != nil && d.down(cmds) {
		return eventstore.Receipt{}, eventstore.ErrUnavailable
	}
	return d.bus.Dispatch(ctx, meta, cmds...)
}

func holds[C any](cmds []any) bool {
	for _, c := range cmds {
		if _, ok := c.(C); ok {
			return true
		}
	}
	return false
}

// start runs a saga until stop is called.
func start[S any](t testing.TB, s *stage, d saga.Definition[S], through saga.Dispatcher) (r *saga.Runner, stop func()) {
	t.Helper()
	r, err := saga.New(s.store, through, d, saga.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// idle waits until the runner has nothing to do and what it did has led to nothing more: its own commands are triggers too.
func idle(t testing.TB, s *stage, r *saga.Runner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for end := (eventstore.Position{}); ; {
		log, err := s.store.Log(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if log.Durable == end {
			return
		}
		end = log.Durable
		if err := r.Idle(ctx, end); err != nil {
			t.Fatalf("wait until %s is idle: %v; last error %q", r.Name(), err, r.LastError())
		}
	}
}

// count counts the events of a stream by type.
func count(t testing.TB, s *stage, into map[string]int, category, id string) {
	t.Helper()
	for r, err := range s.store.Read(context.Background(), eventstore.Stream(category, id), 1) {
		if err != nil {
			t.Fatal(err)
		}
		into[r.Type]++
	}
}

// TestEventsOfAnOrderAndAReturn counts what one order and one return leave in the log: for n distinct codes an order has
// 2n + 5 events and its checkout 4, a return n + 3 events and its saga 2.
func TestEventsOfAnOrderAndAReturn(t *testing.T) {
	s := newStage(t, checkout.Options{})
	orders, stopOrders := start(t, s, checkout.Saga(checkout.Options{}), dispatcher{bus: s.bus})
	defer stopOrders()
	back, stopReturns := start(t, s, checkout.ReturnSaga(), dispatcher{bus: s.bus})
	defer stopReturns()

	placed := order.Place{ID: "536365", CustomerID: "17850", Country: "France", Currency: "GBP", At: at}
	came := returns.Receive{ID: "C536379", Country: "France", Currency: "GBP", At: at}
	for n := range 30 { // 30 lines of 10 codes
		code := fmt.Sprint("code ", n%10)
		if n < 10 {
			if err := s.do(inventory.Receive{Code: code, Quantity: 100, At: at}); err != nil {
				t.Fatal(err)
			}
		}
		placed.Lines = append(placed.Lines, order.Line{Number: n + 1, StockCode: code, Quantity: 1, UnitPrice: gbp("2.55")})
		came.Lines = append(came.Lines, returns.Line{Number: n + 1, StockCode: code, Quantity: 2, UnitPrice: gbp("2.55")})
	}
	for _, c := range []any{placed, came} {
		if err := s.do(c); err != nil {
			t.Fatal(err)
		}
	}
	idle(t, s, orders)
	idle(t, s, back)

	got := map[string]int{}
	for _, stream := range [][2]string{
		{"order", "536365"},
		{"payment", "536365"},
		{"checkout", "536365"},
		{"return", "C536379"},
		{"payment", "C536379"},
		{"returns", "C536379"},
	} {
		count(t, s, got, stream[0], stream[1])
	}
	for n := range 10 {
		count(t, s, got, "inventory", fmt.Sprint("code ", n))
	}
	want := map[string]int{
		"order.created.v1": 1, "order.confirmed.v1": 1, "order.shipped.v1": 1,
		"payment.authorized.v1": 1, "payment.captured.v1": 1, "checkout.step.v1": 4,
		"inventory.received.v1": 10, "inventory.reserved.v1": 10, "inventory.confirmed.v1": 10,
		"return.received.v1": 1, "return.completed.v1": 1, "payment.refunded.v1": 1,
		"inventory.returned.v1": 10, "returns.step.v1": 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if orders.Open()+back.Open() != 0 {
		t.Errorf("%d checkouts and %d returns are open", orders.Open(), back.Open())
	}
	if stock := state(s, inventory.Aggregate(), "code 3"); stock.OnHand != 103 || stock.Reserved != 0 {
		t.Errorf("on hand %d, reserved %d; want 103 and 0", stock.OnHand, stock.Reserved)
	}
	if refunded := state(s, payment.Aggregate(), "C536379").Refunded; refunded != gbp("153") {
		t.Errorf("refunded %s, want 153", refunded)
	}
}

// TestPaymentComesBackAfterTheTimeout has the payment out of reach for an hour.
func TestPaymentComesBackAfterTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, checkout.Options{})
		if err := s.do(inventory.Receive{Code: "A", Quantity: 10, At: at}); err != nil {
			t.Fatal(err)
		}
		back := time.Now().Add(time.Hour)
		r, stop := start(t, s, checkout.Saga(checkout.Options{}), dispatcher{s.bus, func(cmds []any) bool {
			return holds[payment.Authorize](cmds) && time.Now().Before(back)
		}})
		defer stop()
		if err := s.do(order.Place{ID: "1", Country: "France", Currency: "GBP", At: at, Lines: []order.Line{
			{Number: 1, StockCode: "A", Quantity: 4, UnitPrice: gbp("1")},
		}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkout.DefaultTimeout + time.Minute)
		synctest.Wait()
		if stock := state(s, inventory.Aggregate(), "A"); stock.Reserved != 4 {
			t.Errorf("with the payment still asked for, %d are reserved, want 4", stock.Reserved)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		stock, paid, placed := state(s, inventory.Aggregate(), "A"), state(s, payment.Aggregate(), "1"), state(s, order.Aggregate(), "1")
		if stock.OnHand != 10 || stock.Reserved != 0 || paid.Status != payment.Voided || placed.Status != order.Cancelled || r.Open() != 0 {
			t.Errorf("stock %d of %d, payment %q, order %q, %d open", stock.Reserved, stock.OnHand, paid.Status, placed.Status, r.Open())
		}
	})
}

// TestACheckoutGoesOnAfterARestart stops the runner before each of the three messages in turn.
func TestACheckoutGoesOnAfterARestart(t *testing.T) {
	for name, stuck := range map[string]func([]any) bool{
		"reserve": holds[inventory.Try], "pay": holds[payment.Authorize], "ship": holds[order.Ship],
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, checkout.Options{})
			if err := s.do(inventory.Receive{Code: "A", Quantity: 10, At: at}); err != nil {
				t.Fatal(err)
			}
			reached := make(chan struct{}, 1)
			_, stop := start(t, s, checkout.Saga(checkout.Options{}), dispatcher{s.bus, func(cmds []any) bool {
				if stuck(cmds) {
					select {
					case reached <- struct{}{}:
					default:
					}
					return true
				}
				return false
			}})
			if err := s.do(order.Place{ID: "1", Country: "France", Currency: "GBP", At: at, Lines: []order.Line{
				{Number: 1, StockCode: "A", Quantity: 4, UnitPrice: gbp("1")},
			}}); err != nil {
				t.Fatal(err)
			}
			<-reached
			stop()

			r, stop := start(t, s, checkout.Saga(checkout.Options{}), dispatcher{bus: s.bus})
			defer stop()
			idle(t, s, r)
			stock, paid, placed := state(s, inventory.Aggregate(), "A"), state(s, payment.Aggregate(), "1"), state(s, order.Aggregate(), "1")
			if stock.OnHand != 6 || stock.Reserved != 0 || paid.Status != payment.Captured || placed.Status != order.Shipped {
				t.Errorf("stock %d of %d, payment %q, order %q", stock.Reserved, stock.OnHand, paid.Status, placed.Status)
			}
			if r.Open() != 0 || len(r.Parked()) != 0 {
				t.Errorf("%d open, parked %v", r.Open(), r.Parked())
			}
		})
	}
}

// TestTheOutboxSaysWhatToCompensate looks at what an operator sees of a message that does not go out.
func TestTheOutboxSaysWhatToCompensate(t *testing.T) {
	s := newStage(t, checkout.Options{})
	tried := make(chan struct{}, 100)
	r, stop := start(t, s, checkout.Saga(checkout.Options{}), dispatcher{s.bus, func([]any) bool {
		tried <- struct{}{}
		return true
	}})
	defer stop()
	if err := s.do(order.Place{ID: "1", CustomerID: "17850", Country: "France", Currency: "GBP", At: at, Lines: []order.Line{
		{Number: 1, StockCode: "A", Quantity: 4, UnitPrice: gbp("1")},
	}}); err != nil {
		t.Fatal(err)
	}
	<-tried
	<-tried // the second try begins after the first was noted
	found := 0
	for m, err := range r.Outbox(context.Background(), saga.StatusPending) {
		if err != nil {
			t.Fatal(err)
		}
		found++
		if m.Topic != "order.created" || m.Note["order_id"] != "1" || m.Note["customer_id"] != "17850" || m.RetryCount < 1 ||
			!strings.Contains(m.LastError, eventstore.ErrUnavailable.Error()) {
			t.Errorf("the outbox shows %+v", m)
		}
	}
	if found != 1 {
		t.Errorf("%d messages are pending, want 1", found)
	}
}

// TestRegister finds all four aggregates on a bus, and that they cannot be there twice.
func TestRegister(t *testing.T) {
	s := newStage(t, checkout.Options{})
	if diff := cmp.Diff([]string{"inventory", "order", "payment", "return"}, s.bus.Categories()); diff != "" {
		t.Errorf("categories (-want +got):\n%s", diff)
	}
	if err := checkout.Register(s.bus); err == nil {
		t.Error("the shop was registered twice")
	}
	var rejection *commands.Rejection
	if err := s.do(order.Ship{ID: "1", At: at}); !errors.As(err, &rejection) || rejection.Code != order.CodeNotFound {
		t.Errorf("shipping an order that does not exist: %v", err)
	}
}
