package returns

import (
	"fmt"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/money"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the streams of returns; a stream's id is the return's.
const Category = "return"

// Codes of refusals.
const (
	CodeExists            = "return.exists"
	CodeNotFound          = "return.not_found"
	CodeInvalidTransition = "return.invalid_transition"
)

// Status is how far a return has come. It is a value: compare it with ==.
type Status string

// The statuses. The zero value is a return that does not exist.
const (
	None      Status = ""
	Received  Status = "received"
	Completed Status = "completed"
)

// CanTransitionTo reports whether a return of status s may become one of status next.
func (s Status) CanTransitionTo(next Status) bool {
	return s == None && next == Received || s == Received && next == Completed
}

// State is what a return has come to.
type State struct {
	Status     Status
	CustomerID string
}

// Aggregate returns the aggregate of the return.
func Aggregate() commands.Aggregate[State, Command, Event] {
	return commands.Aggregate[State, Command, Event]{
		Category: Category,
		ID:       Command.returnID,
		Validate: validate,
		Decide:   decide,
		Evolve:   evolve,
		Codec:    Codec(),
	}
}

// Register adds the return and its commands to a bus.
func Register(b *commands.Bus) error {
	return commands.Register[State, Command, Event](b, Aggregate(), Receive{}, Complete{})
}

func decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Receive:
		if !s.Status.CanTransitionTo(Received) {
			return nil, commands.Reject(CodeExists, fmt.Sprintf("there is a return %s, it is %s", c.ID, s.Status))
		}
		return receive(c)
	case Complete:
		switch {
		case s.Status == None:
			return nil, commands.Reject(CodeNotFound, fmt.Sprintf("there is no return %s", c.ID))
		case !s.Status.CanTransitionTo(Completed):
			return nil, commands.Reject(CodeInvalidTransition, fmt.Sprintf(
				"return %s is %s and cannot become %s", c.ID, s.Status, Completed))
		}
		return []Event{&commercev1.ReturnCompleted{CustomerId: s.CustomerID, AtMs: c.At.UnixMilli()}}, nil
	}
	return nil, fmt.Errorf("return: no such command: %T", c)
}

func receive(c Receive) ([]Event, error) {
	sum, err := total(c.Lines)
	if err != nil {
		return nil, fmt.Errorf("return %s: %w", c.ID, err)
	}
	received := &commercev1.ReturnReceived{
		Id:         c.ID,
		CustomerId: c.CustomerID,
		Country:    c.Country,
		Currency:   c.Currency,
		Lines:      make([]*commercev1.Line, len(c.Lines)),
		Total:      sum.Proto(),
		AtMs:       c.At.UnixMilli(),
	}
	for i, l := range c.Lines {
		received.Lines[i] = &commercev1.Line{
			Number:      uint32(l.Number),
			StockCode:   l.StockCode,
			Description: l.Description,
			Quantity:    l.Quantity,
			UnitPrice:   l.UnitPrice.String(),
			AtMs:        lineTime(l.At, c.At),
		}
	}
	return []Event{received}, nil
}

// lineTime is the time of a line as events carry it, 0 when it is the document's.
func lineTime(line, document time.Time) int64 {
	if line.IsZero() || line.UnixMilli() == document.UnixMilli() {
		return 0
	}
	return line.UnixMilli()
}

// total is the exact sum of quantity × unit price.
func total(lines []Line) (money.Amount, error) {
	var sum money.Amount
	for _, l := range lines {
		amount, err := l.UnitPrice.Mul(l.Quantity)
		if err != nil {
			return money.Amount{}, err
		}
		if sum, err = sum.Add(amount); err != nil {
			return money.Amount{}, err
		}
	}
	return sum, nil
}

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case *commercev1.ReturnReceived:
		return State{Status: Received, CustomerID: e.GetCustomerId()}
	case *commercev1.ReturnCompleted:
		s.Status = Completed
	}
	return s
}
