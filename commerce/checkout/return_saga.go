package checkout

import (
	"fmt"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// ReturnsName is the name of the saga of returns, and the category of its streams.
const ReturnsName = "returns"

// OutcomeCompleted is how the saga of a return ends, unless it is void.
const OutcomeCompleted = "completed"

// ReturnState is how far a return has come.
type ReturnState struct {
	// began is the event that the return came by, name is what its refund is called; sent says that its one message was sent.
	began eventstore.Dot
	name  string
	sent  bool
	// underWay: a message is not answered yet. settled: goods and money have changed hands. lost: the return does not count.
	underWay, settled, lost bool

	id, customer string
	at           time.Time
	refund       money.Amount
	stock        []units
}

// ReturnSaga returns the saga that puts returned goods back and refunds them. Its instances have the ids of the returns.
func ReturnSaga() saga.Definition[ReturnState] {
	codec := returns.Codec()
	return saga.Definition[ReturnState]{
		Name:     ReturnsName,
		Triggers: []string{returns.ReceivedV1},
		Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
		React: func(s ReturnState, in saga.Input) (ReturnState, []saga.Action, error) {
			switch in := in.(type) {
			case saga.Triggered:
				if s.sent {
					return s, []saga.Action{saga.Ignore{}}, nil
				}
				e, err := codec.Decode(in.Event)
				if err != nil {
					return s, nil, err
				}
				received, ok := e.(*commercev1.ReturnReceived)
				if !ok {
					return s, nil, fmt.Errorf("%s is no return", in.Event.Type)
				}
				if s, err = beginReturn(received, in); err != nil {
					return s, nil, err
				}
				return s, []saga.Action{s.settle()}, nil
			case saga.Voided:
				if in.Event.Dot != s.began {
					return s, []saga.Action{saga.Ignore{}}, nil
				}
				s.lost = true
				return s.whenLost()
			case saga.Succeeded:
				s.underWay = false
				if s.settled = !s.settled; s.lost {
					return s.whenLost()
				}
				return s, []saga.Action{saga.Complete{Outcome: OutcomeCompleted}}, nil
			case saga.Refused:
				if in.Code == commands.CodeVoid {
					s.underWay = false
					return s.whenLost()
				}
				// Nothing of what is sent can be refused, unless stock or payment know this return already, differently, or the
				// goods of one that does not count were sold meanwhile.
				return s, nil, fmt.Errorf("%s was refused: %s: %s", in.Key, in.Code, in.Reason)
			}
			return s, nil, fmt.Errorf("unexpected input %T", in)
		},
	}
}

func beginReturn(e *commercev1.ReturnReceived, in saga.Triggered) (ReturnState, error) {
	refund, err := money.FromProto(e.GetTotal())
	if err != nil {
		return ReturnState{}, fmt.Errorf("total of return %s: %w", e.GetId(), err)
	}
	return ReturnState{
		began: in.Event.Dot, name: in.Instance, sent: true, underWay: true,
		id: e.GetId(), customer: e.GetCustomerId(), at: time.UnixMilli(e.GetAtMs()).UTC(), refund: refund, stock: byCode(e.GetLines()),
	}, nil
}

// settle puts the goods back and refunds them.
func (s *ReturnState) settle() saga.Action {
	cmds := make([]any, 0, len(s.stock)+2)
	for _, u := range s.stock {
		cmds = append(cmds, inventory.ReturnGoods{Code: u.code, Quantity: u.quantity, Reference: s.name, At: s.at})
	}
	if s.refund.Sign() > 0 {
		cmds = append(cmds, payment.RefundUnreferenced{
			ID: s.name, CustomerID: s.customer, Amount: s.refund, Reason: "return " + s.id, At: s.at,
		})
	}
	cmds = append(cmds, returns.Complete{ID: s.id, At: s.at})
	return saga.Send{
		Key:      "settle",
		Commands: cmds,
		Topic:    "return.received",
		Note:     note("return_id", s.id, s.customer),
	}
}

// whenLost goes on with a return that does not count, since another came under its id at another site: what it has moved is
// moved back, once it is known.
func (s ReturnState) whenLost() (ReturnState, []saga.Action, error) {
	switch {
	case s.underWay || !s.lost:
		return s, nil, nil // an answer, or what was void, is on its way
	case !s.settled:
		return s, []saga.Action{saga.Complete{Outcome: OutcomeVoid}}, nil
	}
	const reason = "another return with this id came at another site"
	cmds := make([]any, 0, len(s.stock)+1)
	for _, u := range s.stock {
		cmds = append(cmds, inventory.Adjust{Code: u.code, Delta: -u.quantity, Reason: s.name + ": " + reason, At: s.at})
	}
	if s.refund.Sign() > 0 {
		cmds = append(cmds, payment.Adjust{ID: s.name, Amount: s.refund, Reason: reason, At: s.at})
	}
	s.underWay = true
	return s, []saga.Action{saga.Send{
		Key:          "reverse",
		Commands:     cmds,
		Topic:        "return.void",
		Note:         note("return_id", s.id, s.customer),
		Compensation: true,
	}}, nil
}
