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
	// OutcomeVoid: the order does not count, since another was placed under its id at another site.
	OutcomeVoid = "void"
)

// Defaults of Options.
const (
	DefaultTimeout = 15 * time.Minute
	DefaultMethod  = "card"
)

// The names of the timers: that of the time-out, and of when to look again whether the order is written here.
const (
	timer     = "timeout"
	homeTimer = "home"
)

// An order that is written at another site now is asked about again after firstHomePause, doubled each time up to
// lastHomePause: its cell may have come back.
const (
	firstHomePause = time.Minute
	lastHomePause  = time.Hour
)

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

// Saga returns the saga that takes orders from placed to shipped or cancelled. Its instances have the ids of the orders.
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
		return c.triggered(s, in)
	case saga.Voided:
		return c.voided(s, in.Event)
	case saga.Succeeded:
		return c.succeeded(s, in.Key)
	case saga.Refused:
		return c.refused(s, in)
	case saga.Fired:
		return c.fired(s, in.Timer)
	}
	return s, nil, fmt.Errorf("unexpected input %T", in)
}

func (c *checkout) triggered(s State, in saga.Triggered) (State, []saga.Action, error) {
	r := in.Event
	if s.own(r) || s.lost || (s.id == "") != (r.Type == order.CreatedV1) {
		return s, []saga.Action{saga.Ignore{}}, nil
	}
	e, err := c.codec.Decode(r)
	if err != nil {
		return s, nil, err
	}
	switch e := e.(type) {
	case *commercev1.OrderCreated:
		return c.begin(e, in)
	case *commercev1.OrderConfirmed:
		return c.moved(s, order.Confirmed, e.GetAtMs())
	case *commercev1.OrderShipped:
		return c.moved(s, order.Shipped, e.GetAtMs())
	case *commercev1.OrderCancelled:
		return c.moved(s, order.Cancelled, e.GetAtMs())
	}
	return s, nil, fmt.Errorf("unexpected trigger %s", r.Type)
}

// own reports whether an event came from a message of this checkout, whose outcome is an input anyway.
func (s *State) own(r *eventstore.Recorded) bool {
	return saga.Sent(r.CommandID, Name) && r.Dot.Log.Site == s.began.Log.Site
}

func (c *checkout) begin(e *commercev1.OrderCreated, in saga.Triggered) (State, []saga.Action, error) {
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
		name:     in.Instance,
		began:    in.Event.Dot,
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
	s.puzzled, s.overruled = false, false
	return c.next(s)
}

// voided takes in that an event does not count which happened to the order here, because of what another site did.
func (c *checkout) voided(s State, r *eventstore.Recorded) (State, []saga.Action, error) {
	switch {
	case r.Dot == s.began:
		s.lost, s.puzzled = true, false
		return c.next(s)
	case s.lost || r.Type != order.ShippedV1 && r.Type != order.CancelledV1:
		return s, []saga.Action{saga.Ignore{}}, nil
	}
	// How the order ended at the other site is the next that is heard.
	s.status, s.overruled, s.puzzled = order.Confirmed, true, true
	return s, nil, nil
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
		s.taken, s.reserved, s.authorized = true, false, false
		s.ended(order.Shipped)
	case undo, release:
		s.reserved, s.authorized = false, false
		s.ended(order.Cancelled)
	case reclaim:
		s.taken = false
	}
	s, more, err := c.next(s)
	return s, append(actions, more...), err
}

func (c *checkout) refused(s State, in saga.Refused) (State, []saga.Action, error) {
	if err := s.answered(in.Key); err != nil {
		return s, nil, err
	}
	switch {
	case in.Code == commands.CodeVoid:
		s.puzzled = !s.lost
	case in.Code == saga.CodeNotHome:
		return c.away(s)
	case s.sent == settle || s.sent == release || s.sent == reclaim || s.sent == undo && in.Code != order.CodeInvalidTransition:
		return s, nil, fmt.Errorf("%s of order %s was refused: %s: %s", in.Key, s.id, in.Code, in.Reason)
	case s.sent != reserve && in.Code == order.CodeInvalidTransition:
		// Somebody else moved the order. The event that says how may have come already, or is on its way.
		s.puzzled = s.status == s.believed && !s.lost
	default:
		s.refusal = clipped(in.Reason)
	}
	return c.next(s)
}

// away waits until the order has come back, or the site that writes it now has moved it. Goods and money are this site's
// to move, whatever becomes of the order.
func (c *checkout) away(s State) (State, []saga.Action, error) {
	pause := min(firstHomePause<<min(s.aways, 6), lastHomePause)
	s.aways++
	s.puzzled = !s.lost && s.status == s.believed
	s, actions, err := c.next(s)
	if s.puzzled {
		actions = append(actions, saga.SetTimer{Name: homeTimer, After: pause})
	}
	return s, actions, err
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

func (c *checkout) fired(s State, name string) (State, []saga.Action, error) {
	if name == homeTimer {
		s.puzzled = s.overruled
	} else {
		s.late = true
	}
	return c.next(s)
}
