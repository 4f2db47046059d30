package checkout

import (
	"fmt"
	"strconv"
	"time"

	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/eventstore"
)

// State is how far the checkout of an order has come.
//
// INVARIANT: at most one message is under way. What is done next is decided by next alone, from all that is known, so the
// order in which events and answers come in changes nothing.
type State struct {
	id, customer string
	// name is what reservation and payment are called. began is the event that the order was created by.
	name  string
	began eventstore.Dot
	// at is the business time of what caused the present step.
	at time.Time
	// total is what is to be paid.
	total money.Amount
	stock []units

	// status is how far the order has come, as far as is known here.
	status order.Status
	// reserved and authorized say what would have to be given back, taken that money and goods have changed hands.
	reserved, authorized, taken bool
	// lost: the order does not count, another with its id was placed at another site. overruled: how the order ended here does
	// not count, since another site had ended it before.
	lost, overruled bool

	// sent is the last message and sends how many there were; underWay says that it is not answered yet, and believed is
	// what status was when it was sent.
	sent     message
	sends    int
	underWay bool
	believed order.Status
	// puzzled: a message was refused because of the order's status, and the event that explains it has not come yet.
	puzzled bool

	// aways is how often a message was refused because the order is written at another site.
	aways int

	// refusal says why stock or payment refused, empty when they did not; late that the time ran out.
	refusal string
	late    bool
}

// message names what the saga sends.
type message string

const (
	reserve message = "reserve"
	pay     message = "pay"
	ship    message = "ship"
	settle  message = "settle"
	undo    message = "undo"
	release message = "release"
	reclaim message = "reclaim"
)

// key names the last message within the instance: its number and what it is, such as "2-pay". A message that was refused
// because the order had moved may be sent once more.
func (s *State) key() string { return strconv.Itoa(s.sends) + "-" + string(s.sent) }

// answered checks that an outcome is that of the message under way, and notes that it came.
func (s *State) answered(key string) error {
	if !s.underWay || key != s.key() {
		return fmt.Errorf("order %s: an answer to %q, which is not under way", s.id, key)
	}
	s.underWay = false
	return nil
}

// advance takes in a status of the order, and reports whether it is news. Events and answers that overtook each other are
// not: an order never goes back.
func (s *State) advance(status order.Status) bool {
	if rank(status) <= rank(s.status) {
		return false
	}
	s.status = status
	return true
}

// ended takes in that a message of this checkout has ended the order, unless that does not count.
func (s *State) ended(status order.Status) {
	if !s.overruled {
		s.advance(status)
	}
}

func rank(s order.Status) int {
	switch s {
	case order.Created:
		return 1
	case order.Confirmed:
		return 2
	case order.Shipped, order.Cancelled:
		return 3
	}
	return 0
}
