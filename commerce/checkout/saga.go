package checkout

import (
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Name is the name of the saga of orders, and the category of its streams.
const Name = "checkout"

// How the checkout of an order ends.
const (
	OutcomeShipped   = "shipped"
	OutcomeCancelled = "cancelled"
)

// Defaults of Options.
const (
	DefaultTimeout = 15 * time.Minute
	DefaultMethod  = "card"
)

// timer is the name of the one timer.
const timer = "timeout"

// Options tune the checkout. The zero value is good. They are part of how an order is handled: an instance that is open
// while they change may be parked when it is folded again, so let open checkouts end first.
type Options struct {
	// PaymentLimit is the most that a payment may be; zero is no limit. Orders above it, and orders in another currency,
	// are cancelled.
	PaymentLimit money.Amount
	// Method is how orders are paid. Empty means DefaultMethod.
	Method string
	// Timeout is how long goods stay reserved while the payment does not answer. Zero means DefaultTimeout.
	Timeout time.Duration
	// ManualShip leaves it to somebody else to ship orders when they are confirmed; payment is then captured when they
	// do. By default an order is shipped as soon as it is confirmed.
	ManualShip bool
}

// Saga returns the saga that takes orders from placed to shipped or cancelled. Its instances are named like the orders.
func Saga(o Options) saga.Definition[State] {
	if o.Method == "" {
		o.Method = DefaultMethod
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	c := &checkout{Options: o, codec: order.Codec()}
	return saga.Definition[State]{
		Name:     Name,
		Triggers: []string{order.CreatedV1, order.ConfirmedV1, order.ShippedV1, order.CancelledV1},
		Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
		React:    c.react,
	}
}

// checkout is what React needs beside its arguments, and never changes.
type checkout struct {
	Options
	codec commands.Codec[order.Event]
}

func (c *checkout) react(s State, in saga.Input) (State, []saga.Action, error) {
	switch in := in.(type) {
	case saga.Triggered:
		return c.triggered(s, in.Event)
	case saga.Succeeded:
		return c.succeeded(s, in.Key)
	case saga.Refused:
		return c.refused(s, in)
	case saga.Fired:
		return c.fired(s)
	}
	return s, nil, fmt.Errorf("unexpected input %T", in)
}

func (c *checkout) triggered(s State, r *eventstore.Recorded) (State, []saga.Action, error) {
	if own(r) || s.id == "" && r.Type != order.CreatedV1 || s.id != "" && r.Type == order.CreatedV1 {
		return s, []saga.Action{saga.Ignore{}}, nil
	}
	e, err := c.codec.Decode(r)
	if err != nil {
		return s, nil, err
	}
	switch e := e.(type) {
	case *commercev1.OrderCreated:
		return c.begin(e)
	case *commercev1.OrderConfirmed:
		return c.moved(s, order.Confirmed, e.GetAtMs())
	case *commercev1.OrderShipped:
		return c.moved(s, order.Shipped, e.GetAtMs())
	case *commercev1.OrderCancelled:
		return c.moved(s, order.Cancelled, e.GetAtMs())
	}
	return s, nil, fmt.Errorf("unexpected trigger %s", r.Type)
}

// own reports whether an event came from a message of this saga, whose outcome is an input anyway. Message ids of sagas
// begin with their name.
func own(r *eventstore.Recorded) bool { return strings.HasPrefix(r.CommandID, "saga/"+Name+"/") }

func (c *checkout) begin(e *commercev1.OrderCreated) (State, []saga.Action, error) {
	total, err := money.FromProto(e.GetTotal())
	if err != nil {
		return State{}, nil, fmt.Errorf("total of order %s: %w", e.GetId(), err)
	}
	discount, err := money.FromProto(e.GetDiscount())
	if err == nil {
		total, err = total.Sub(discount)
	}
	if err != nil {
		return State{}, nil, fmt.Errorf("discount of order %s: %w", e.GetId(), err)
	}
	s := State{
		id:       e.GetId(),
		customer: e.GetCustomerId(),
		at:       time.UnixMilli(e.GetAtMs()).UTC(),
		total:    total,
		stock:    byCode(e.GetLines()),
		status:   order.Created,
	}
	s, actions, err := c.next(s)
	return s, append(actions, saga.SetTimer{Name: timer, After: c.Timeout}), err
}

// moved takes in what somebody else did with the order.
func (c *checkout) moved(s State, status order.Status, atMs int64) (State, []saga.Action, error) {
	if !s.advance(status) {
		return s, []saga.Action{saga.Ignore{}}, nil
	}
	s.at = time.UnixMilli(atMs).UTC()
	s.puzzled = false
	return c.next(s)
}

func (c *checkout) succeeded(s State, key string) (State, []saga.Action, error) {
	if err := s.answered(key); err != nil {
		return s, nil, err
	}
	var actions []saga.Action
	switch s.sent {
	case reserve:
		s.reserved = true
	case pay:
		s.authorized = true
		s.advance(order.Confirmed)
		actions = append(actions, saga.CancelTimer{Name: timer})
	case ship, settle:
		return s, []saga.Action{saga.Complete{Outcome: OutcomeShipped}}, nil
	case undo, release:
		return s, []saga.Action{saga.Complete{Outcome: OutcomeCancelled}}, nil
	}
	s, more, err := c.next(s)
	return s, append(actions, more...), err
}

func (c *checkout) refused(s State, in saga.Refused) (State, []saga.Action, error) {
	if err := s.answered(in.Key); err != nil {
		return s, nil, err
	}
	switch {
	case s.sent == settle || s.sent == release || s.sent == undo && in.Code != order.CodeInvalidTransition:
		return s, nil, fmt.Errorf("%s of order %s was refused: %s: %s", in.Key, s.id, in.Code, in.Reason)
	case s.sent != reserve && in.Code == order.CodeInvalidTransition:
		// Somebody else moved the order. The event that says how may have come already, or is on its way.
		s.puzzled = s.status == s.believed
	default:
		s.refusal = clipped(in.Reason)
	}
	return c.next(s)
}

// clipped keeps a reason within what order and payment take as one. It is never empty.
func clipped(reason string) string {
	const most = 400
	if len(reason) > most {
		reason = strings.ToValidUTF8(reason[:most], "") + "…"
	}
	if reason == "" {
		return "refused without a reason"
	}
	return reason
}

func (c *checkout) fired(s State) (State, []saga.Action, error) {
	s.late = true
	return c.next(s)
}
