package customer

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/tag"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the customer's streams; a stream's id is the reference.
const Category = "customer"

// Codes of refusals.
const (
	CodeLimitExceeded   = "customer.credit_limit_exceeded"
	CodeCurrencyDiffers = "customer.credit_currency_differs"
)

// Event is one of the messages that Codec knows, or of an order.
type Event = proto.Message

// The wire names of the events. They never change.
const (
	LimitSetV1    = "customer.credit_limit_set.v1"
	LimitLiftedV1 = "customer.credit_limit_lifted.v1"
)

// The events of the customer's limits, and those of orders that open and close them.
var (
	limitTypes = []string{LimitSetV1, LimitLiftedV1}
	orderTypes = []string{"order.created.v1", "order.shipped.v1", "order.cancelled.v1"}
)

// Codec returns the codec of the customer's own events. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{
	LimitSetV1:    &commercev1.CreditLimitSet{},
	LimitLiftedV1: &commercev1.CreditLimitLifted{},
})

// State is what a customer may do. Open orders are known only where there is a limit.
type State struct {
	limited bool
	limit   money.Amount
	// orders are what is to be paid for each open order, and sums those together, by currency.
	orders map[string]money.Amount
	sums   map[string]money.Amount
	// brokenLimit and broken say what is wrong with the limit, until another is set, and with the orders; nil when nothing is.
	brokenLimit, broken error
}

// Limit returns the limit; false when there is none.
func (s State) Limit() (money.Amount, bool) { return s.limit, s.limited }

// Open returns what the open orders in the limit's currency are worth together.
func (s State) Open() (money.Amount, error) {
	open, err := money.Zero(s.limit.Currency())
	if err != nil {
		return open, err
	}
	return open.Add(s.sums[s.limit.Currency()])
}

// Decider returns what decides over customers: on the events of their limits, and where there is a limit on those of their
// orders.
func Decider() commands.Decider[State, Command, Event] {
	return commands.Decider[State, Command, Event]{
		Name:     Category,
		Query:    query,
		Widen:    widen,
		Validate: validate,
		Decide:   decide,
		Evolve:   evolve,
		Codec:    Codec(),
		Stream:   func(c Command, _ Event) eventstore.StreamID { return stream(c.customerID()) },
		Tags: func(e Event) []string {
			return []string{tag.Credit(e.(interface{ GetCustomerId() string }).GetCustomerId())}
		},
	}
}

func query(c Command) eventstore.Query {
	return eventstore.Query{{Types: limitTypes, Tags: []string{tag.Credit(c.customerID())}}}
}

// Register adds the customer and its commands to a bus.
func Register(b *commands.Bus) error {
	return commands.RegisterDecider[State, Command, Event](b, Decider(), SetCreditLimit{}, LiftCreditLimit{}, CheckCredit{})
}

// widen asks for the orders of a customer who has a limit, where they matter.
func widen(s State, c Command) eventstore.Query {
	switch c.(type) {
	case CheckCredit, Look:
		if s.limited {
			return eventstore.Query{{Types: orderTypes, Tags: []string{tag.Customer(c.customerID())}}}
		}
	}
	return nil
}

func decide(s State, c Command) ([]Event, error) {
	if err := errors.Join(s.brokenLimit, s.broken); err != nil {
		return nil, err
	}
	switch c := c.(type) {
	case SetCreditLimit:
		if s.limited && s.limit == c.Limit {
			return nil, nil
		}
		return []Event{&commercev1.CreditLimitSet{CustomerId: c.CustomerID, Limit: c.Limit.Proto(), AtMs: c.At.UnixMilli()}}, nil
	case LiftCreditLimit:
		if !s.limited {
			return nil, nil
		}
		return []Event{&commercev1.CreditLimitLifted{CustomerId: c.CustomerID, AtMs: c.At.UnixMilli()}}, nil
	case CheckCredit:
		return nil, s.check(c)
	}
	return nil, fmt.Errorf("customer: no such command: %T", c)
}

func (s State) check(c CheckCredit) error {
	if !s.limited {
		return nil
	}
	currency := s.limit.Currency()
	if c.Amount.Currency() != currency {
		return &commands.Rejection{
			Code:    CodeCurrencyDiffers,
			Reason:  fmt.Sprintf("the credit of customer %s is limited in %s, the order is in %s", c.CustomerID, currency, c.Amount.Currency()),
			Details: map[string]string{"currency": currency},
		}
	}
	open, err := s.Open()
	if err != nil {
		return err
	}
	sum, err := open.Add(c.Amount)
	if err != nil {
		return err
	}
	if over, err := sum.Cmp(s.limit); err != nil || over <= 0 {
		return err
	}
	return &commands.Rejection{
		Code: CodeLimitExceeded,
		Reason: fmt.Sprintf("customer %s has open orders of %s %s and a limit of %s; this one of %s does not fit",
			c.CustomerID, open, currency, s.limit, c.Amount),
		Details: map[string]string{"currency": currency, "limit": s.limit.String(), "open": open.String(), "amount": c.Amount.String()},
	}
}

// evolve changes s in place where it can: its maps are its own.
func evolve(s State, stream eventstore.StreamID, e Event) State {
	switch e := e.(type) {
	case *commercev1.CreditLimitSet:
		s.limited = true
		s.limit, s.brokenLimit = money.FromProto(e.GetLimit())
	case *commercev1.CreditLimitLifted:
		s.limited, s.limit = false, money.Amount{}
	case *commercev1.OrderCreated:
		total, err1 := money.FromProto(e.GetTotal())
		discount, err2 := money.FromProto(e.GetDiscount())
		due, err3 := total.Sub(discount)
		s.broken = errors.Join(s.broken, err1, err2, err3)
		if s.orders == nil {
			s.orders, s.sums = map[string]money.Amount{}, map[string]money.Amount{}
		}
		s.orders[stream.ID] = due
		s.add(due)
	case *commercev1.OrderShipped, *commercev1.OrderCancelled:
		if due, ok := s.orders[stream.ID]; ok {
			delete(s.orders, stream.ID)
			s.add(due.Neg())
		}
	}
	return s
}

func (s *State) add(due money.Amount) {
	sum, err := s.sums[due.Currency()].Add(due)
	s.broken = errors.Join(s.broken, err)
	s.sums[due.Currency()] = sum
}
