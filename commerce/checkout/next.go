package checkout

import (
	"fmt"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
)

// next decides what to do, from all that is known.
func (c *checkout) next(s State) (State, []saga.Action, error) {
	switch {
	case s.underWay || s.puzzled:
		return s, nil, nil // an answer or an event will say more
	case s.lost || s.status == order.Cancelled:
		switch {
		case s.taken:
			return c.send(s, reclaim)
		case s.reserved || s.authorized:
			return c.send(s, release)
		case s.lost:
			return s, []saga.Action{saga.Complete{Outcome: OutcomeVoid}}, nil
		}
		return s, []saga.Action{saga.Complete{Outcome: OutcomeCancelled}}, nil
	case s.status == order.Shipped && s.taken:
		return s, []saga.Action{saga.Complete{Outcome: OutcomeShipped}}, nil
	case s.status == order.Shipped && s.refusal != "":
		return s, nil, fmt.Errorf("order %s was shipped by somebody else, but its checkout was refused: %s", s.id, s.refusal)
	case s.status != order.Shipped && s.undone() != "":
		return c.send(s, undo)
	case !s.reserved:
		return c.send(s, reserve)
	case !s.authorized:
		return c.send(s, pay)
	case s.status == order.Shipped:
		return c.send(s, settle)
	case c.ManualShip:
		return s, nil, nil
	}
	return c.send(s, ship)
}

// undone says why the order is to be cancelled, empty when it is not.
func (s *State) undone() string {
	switch {
	case s.refusal != "":
		return s.refusal
	case s.late:
		return "the order was not paid in time"
	}
	return ""
}

// send sends a message, built of what its step means for order, stock and money.
func (c *checkout) send(s State, m message) (State, []saga.Action, error) {
	var cmds []any
	var topic string
	switch m {
	case reserve:
		topic = "order.created"
		cmds = s.try()
	case pay:
		topic = "inventory.reserved"
		cmds = append(cmds, payment.Authorize{
			ID: s.name, OrderID: s.id, CustomerID: s.customer,
			Amount: s.total, Method: c.Method, Limit: c.PaymentLimit, At: s.at,
		})
		if s.status == order.Created {
			cmds = append(cmds, order.Confirm{ID: s.id, At: s.at})
		}
	case ship:
		topic = "order.confirmed"
		cmds = append(s.take(), order.Ship{ID: s.id, At: s.at})
	case settle:
		topic = "order.shipped"
		cmds = s.take()
	case undo:
		topic = "order.cancelled"
		if s.late && s.refusal == "" {
			s.at = s.at.Add(c.Timeout)
		}
		cmds = append(s.giveBack(s.undone()), order.Cancel{ID: s.id, Reason: s.undone(), At: s.at})
	case release:
		topic, cmds = s.end(), s.giveBack(s.why())
	case reclaim:
		topic, cmds = s.end(), s.takeBack(s.why())
	}
	s.sent, s.underWay, s.believed = m, true, s.status
	s.sends++
	return s, []saga.Action{saga.Send{
		Key:          s.key(),
		Commands:     cmds,
		Topic:        topic,
		Note:         note("order_id", s.id, s.customer),
		Compensation: m == undo || m == release || m == reclaim,
	}}, nil
}

// try reserves all units of the order.
func (s *State) try() []any {
	cmds := make([]any, 0, len(s.stock))
	for _, u := range s.stock {
		cmds = append(cmds, inventory.Try{Code: u.code, Reservation: s.name, Quantity: u.quantity, At: s.at})
	}
	return cmds
}

// take captures the money and takes the goods out of the stock.
func (s *State) take() []any {
	cmds := make([]any, 0, len(s.stock)+2)
	cmds = append(cmds, payment.Capture{ID: s.name, At: s.at})
	for _, u := range s.stock {
		cmds = append(cmds, inventory.Confirm{Code: u.code, Reservation: s.name, At: s.at})
	}
	return cmds
}

// giveBack frees what is reserved and authorized.
func (s *State) giveBack(reason string) []any {
	cmds := make([]any, 0, len(s.stock)+2)
	if s.authorized {
		cmds = append(cmds, payment.Void{ID: s.name, Reason: reason, At: s.at})
	}
	if s.reserved {
		for _, u := range s.stock {
			cmds = append(cmds, inventory.Cancel{Code: u.code, Reservation: s.name, At: s.at})
		}
	}
	return cmds
}

// takeBack undoes what take did.
func (s *State) takeBack(reason string) []any {
	cmds := make([]any, 0, len(s.stock)+1)
	if s.total.Sign() > 0 {
		cmds = append(cmds, payment.Refund{ID: s.name, Amount: s.total, Reason: reason, Reference: s.name, At: s.at})
	}
	for _, u := range s.stock {
		cmds = append(cmds, inventory.ReturnGoods{Code: u.code, Quantity: u.quantity, Reference: s.name, At: s.at})
	}
	return cmds
}

// end is what the outbox calls the end of an order whose goods and money are given back, and why says it to people.
func (s *State) end() string {
	if s.lost {
		return "order.void"
	}
	return "order.cancelled"
}

func (s *State) why() string {
	if s.lost {
		return "another order with this id was placed at another site"
	}
	return "order cancelled"
}

// note is what the outbox shows: what it is about and whose it is.
func note(name, id, customer string) map[string]string {
	n := map[string]string{name: id}
	if customer != "" {
		n["customer_id"] = customer
	}
	return n
}
