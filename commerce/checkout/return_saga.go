package checkout

import (
	"fmt"
	"time"

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

// OutcomeCompleted is how the saga of a return ends.
const OutcomeCompleted = "completed"

// ReturnState says whether a return's one message was sent.
type ReturnState struct{ sent bool }

// ReturnSaga returns the saga that puts returned goods back and refunds them. Its instances are named like the returns.
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
				send, err := settleReturn(received)
				return ReturnState{sent: true}, []saga.Action{send}, err
			case saga.Succeeded:
				return s, []saga.Action{saga.Complete{Outcome: OutcomeCompleted}}, nil
			case saga.Refused:
				// Nothing of what is sent can be refused, unless stock or payment know this return already, differently.
				return s, nil, fmt.Errorf("%s was refused: %s: %s", in.Key, in.Code, in.Reason)
			}
			return s, nil, fmt.Errorf("unexpected input %T", in)
		},
	}
}

func settleReturn(e *commercev1.ReturnReceived) (saga.Action, error) {
	at := time.UnixMilli(e.GetAtMs()).UTC()
	refund, err := money.FromProto(e.GetTotal())
	if err != nil {
		return nil, fmt.Errorf("total of return %s: %w", e.GetId(), err)
	}
	stock := byCode(e.GetLines())
	cmds := make([]any, 0, len(stock)+2)
	for _, u := range stock {
		cmds = append(cmds, inventory.ReturnGoods{Code: u.code, Quantity: u.quantity, Reference: e.GetId(), At: at})
	}
	if refund.Sign() > 0 {
		cmds = append(cmds, payment.RefundUnreferenced{
			ID: e.GetId(), CustomerID: e.GetCustomerId(), Amount: refund, Reason: "return " + e.GetId(), At: at,
		})
	}
	cmds = append(cmds, returns.Complete{ID: e.GetId(), At: at})
	return saga.Send{
		Key:      "settle",
		Commands: cmds,
		Topic:    "return.received",
		Note:     note("return_id", e.GetId(), e.GetCustomerId()),
	}, nil
}
