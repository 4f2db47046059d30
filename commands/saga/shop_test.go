package saga_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
)

// The shop of these tests: orders, stock and payments. None of its aggregates is idempotent by itself: a command that is
// carried out twice leaves two events, so that the tests can see it.

type order struct{}

type (
	orderCommand interface{ orderID() string }
	placeOrder   struct {
		ID    string
		Codes string // space-separated stock codes
		Price int
	}
	confirmOrder struct{ ID string }
	cancelOrder  struct{ ID, Why string }
)

func (c placeOrder) orderID() string   { return c.ID }
func (c confirmOrder) orderID() string { return c.ID }
func (c cancelOrder) orderID() string  { return c.ID }

type (
	orderEvent  interface{}
	orderPlaced struct {
		ID, Codes string
		Price     int
	}
	orderConfirmed struct{}
	orderCancelled struct{ Why string }
)

var orders = commands.Aggregate[order, orderCommand, orderEvent]{
	Category: "order",
	ID:       func(c orderCommand) string { return c.orderID() },
	Decide: func(s order, c orderCommand) ([]orderEvent, error) {
		switch c := c.(type) {
		case placeOrder:
			return []orderEvent{orderPlaced(c)}, nil
		case confirmOrder:
			return []orderEvent{orderConfirmed{}}, nil
		case cancelOrder:
			return []orderEvent{orderCancelled{c.Why}}, nil
		}
		return nil, fmt.Errorf("command %T", c)
	},
	Evolve: func(s order, e orderEvent) order { return s },
	Codec: commands.JSONCodec(map[string]orderEvent{
		"order.placed.v1": orderPlaced{}, "order.confirmed.v1": orderConfirmed{}, "order.cancelled.v1": orderCancelled{},
	}),
}

type stockCommand struct {
	Code, Order string
	Units       int // reserved; negative: released
}

type stockMoved struct {
	Order string
	Units int
}

var stock = commands.Aggregate[int, stockCommand, stockMoved]{
	Category: "stock",
	ID:       func(c stockCommand) string { return c.Code },
	Decide: func(taken int, c stockCommand) ([]stockMoved, error) {
		if strings.HasPrefix(c.Code, "none") {
			return nil, commands.Reject("stock.short", "nothing left of "+c.Code)
		}
		return []stockMoved{{c.Order, c.Units}}, nil
	},
	Evolve: func(taken int, e stockMoved) int { return taken + e.Units },
	Codec:  commands.JSONCodec(map[string]stockMoved{"stock.moved.v1": {}}),
}

type charge struct {
	Order string
	Cents int
}

type charged struct{ Cents int }

var payments = commands.Aggregate[int, charge, charged]{
	Category: "payment",
	ID:       func(c charge) string { return c.Order },
	Decide: func(sum int, c charge) ([]charged, error) {
		if c.Cents > 1000 {
			return nil, commands.Reject("payment.declined", "too much")
		}
		return []charged{{c.Cents}}, nil
	},
	Evolve: func(sum int, e charged) int { return sum + e.Cents },
	Codec:  commands.JSONCodec(map[string]charged{"payment.charged.v1": {}}),
}

func newShop(t testing.TB, store eventstore.Store) *commands.Bus {
	t.Helper()
	b := commands.NewBus(store, commands.Options{Middleware: []commands.Middleware{commands.Recovery()}})
	must(t, commands.Register[order, orderCommand, orderEvent](b, orders, placeOrder{}, confirmOrder{}, cancelOrder{}))
	must(t, commands.Register(b, stock))
	must(t, commands.Register(b, payments))
	return b
}

// checkout reserves every code of an order, takes the payment, and confirms; what is refused is undone.
type checkout struct {
	id       string
	codes    []string
	price    int
	reserved []string
	failing  string
	waits    int // answers to compensation that are missing
}

const payLater = 30 * time.Minute

var checkoutSaga = saga.Definition[checkout]{
	Name:     "checkout",
	Triggers: []string{"order.placed.v1"},
	Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
	React:    reactToCheckout,
}

func reactToCheckout(s checkout, in saga.Input) (checkout, []saga.Action, error) {
	switch in := in.(type) {
	case saga.Triggered:
		e, err := orders.Codec.Decode(in.Event)
		if err != nil {
			return s, nil, err
		}
		placed := e.(orderPlaced)
		s.id, s.codes, s.price = placed.ID, strings.Fields(placed.Codes), placed.Price
		return s, []saga.Action{s.reserve()}, nil
	case saga.Succeeded:
		return s.succeeded(in.Key)
	case saga.Refused:
		return s.undo(in.Code)
	case saga.Fired:
		return s, []saga.Action{s.charge()}, nil
	}
	return s, nil, nil
}

func (s checkout) reserve() saga.Action {
	code := s.codes[len(s.reserved)]
	return saga.Send{
		Key: fmt.Sprintf("reserve-%d", len(s.reserved)), Topic: "stock.reserve",
		Note:     map[string]string{"order": s.id, "code": code},
		Commands: []any{stockCommand{code, s.id, 1}},
	}
}

func (s checkout) charge() saga.Action {
	return saga.Send{Key: "charge", Topic: "payment.charge", Commands: []any{charge{s.id, s.price}}}
}

func (s checkout) succeeded(key string) (checkout, []saga.Action, error) {
	switch {
	case s.failing != "":
		if s.waits--; s.waits > 0 {
			return s, nil, nil
		}
		return s, []saga.Action{saga.Complete{Outcome: "cancelled"}}, nil
	case strings.HasPrefix(key, "reserve"):
		s.reserved = append(s.reserved, s.codes[len(s.reserved)])
		switch {
		case len(s.reserved) < len(s.codes):
			return s, []saga.Action{s.reserve()}, nil
		case s.price == 0: // pays later
			return s, []saga.Action{saga.SetTimer{Name: "pay", After: payLater}}, nil
		}
		return s, []saga.Action{s.charge()}, nil
	case key == "charge":
		return s, []saga.Action{saga.Send{Key: "confirm", Topic: "order.confirm", Commands: []any{confirmOrder{s.id}}}}, nil
	}
	return s, []saga.Action{saga.Complete{Outcome: "confirmed"}}, nil
}

func (s checkout) undo(code string) (checkout, []saga.Action, error) {
	s.failing = code
	var actions []saga.Action
	for i, c := range s.reserved {
		actions = append(actions, saga.Send{
			Key: fmt.Sprintf("release-%d", i), Topic: "stock.release", Compensation: true,
			Commands: []any{stockCommand{c, s.id, -1}},
		})
	}
	actions = append(actions, saga.Send{
		Key: "cancel", Topic: "order.cancel", Compensation: true, Commands: []any{cancelOrder{s.id, code}},
	})
	s.waits = len(actions)
	return s, actions, nil
}

// effects counts the shop's events of one order, by kind.
func effects(t testing.TB, store eventstore.Store, id string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for e, err := range store.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{Categories: []string{"order", "stock", "payment"}}) {
		must(t, err)
		switch e.Stream.Category {
		case "stock":
			moved, err := stock.Codec.Decode(&e)
			must(t, err)
			if moved.Order == id {
				out[fmt.Sprintf("%s%+d", e.Stream.ID, moved.Units)]++
			}
		default:
			if e.Stream.ID == id {
				out[e.Type]++
			}
		}
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
