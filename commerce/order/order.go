package order

import (
	"fmt"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/tag"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the order's streams; a stream's id is the order's.
const Category = "order"

// Codes of refusals.
const (
	CodeExists            = "order.exists"
	CodeNotFound          = "order.not_found"
	CodeInvalidTransition = "order.invalid_transition"
)

// State is what an order has come to.
type State struct {
	Status     Status
	CustomerID string
	// Placed is what the order said, kept as long as it can be cancelled, which repeats it; nil before and after.
	Placed *Placed
}

// Placed is what an order said when it was created.
type Placed struct {
	Country, Currency string
	Lines             []PlacedLine
	// Total is a decimal number in Currency.
	Total       string
	VoucherCode string
	// AtMs is in milliseconds since 1970 UTC.
	AtMs int64
}

// PlacedLine is a line as it was recorded.
type PlacedLine struct {
	Number                 uint32
	StockCode, Description string
	Quantity               int64
	// UnitPrice is a decimal number in the order's currency.
	UnitPrice string
	// AtMs is 0 when the line was written when the order was.
	AtMs int64
}

// Aggregate returns the aggregate of the order.
func Aggregate() commands.Aggregate[State, Command, Event] {
	return commands.Aggregate[State, Command, Event]{
		Category: Category,
		ID:       Command.orderID,
		Validate: validate,
		Decide:   decide,
		Evolve:   evolve,
		Codec:    Codec(),
		Tags:     tags,
		Resolver: commands.Domain[State, Event]{Holds: holds, Begins: begins},
	}
}

// holds says why an event cannot stand behind others of which the site that decided it did not know, if it cannot. Where two
// sites moved an order at once, the first move counts, and the other as far as the order may still make it.
func holds(s State, e Event) string {
	next := becomes(e)
	if next == Created && s.Status != None {
		return "an order with this id was there already, placed at another site"
	}
	if !s.Status.CanTransitionTo(next) {
		return fmt.Sprintf("the order was %s at another site meanwhile, and cannot become %s", s.Status, next)
	}
	if o, ok := e.(interface{ GetCustomerId() string }); ok && s.Status != None && o.GetCustomerId() != s.CustomerID {
		return "another customer's order was created with this id at another site meanwhile"
	}
	return ""
}

// begins tells the order from what happened to it: of two with one id, placed at two sites, what happened to the one is not
// taken for the other's.
func begins(e Event) bool {
	_, ok := e.(*commercev1.OrderCreated)
	return ok
}

// becomes returns the status that an event gives the order.
func becomes(e Event) Status {
	switch e.(type) {
	case *commercev1.OrderCreated:
		return Created
	case *commercev1.OrderConfirmed:
		return Confirmed
	case *commercev1.OrderShipped:
		return Shipped
	case *commercev1.OrderCancelled:
		return Cancelled
	}
	return None
}

// tags are what rules over several orders are decided on: whose it is, and the voucher that it uses.
func tags(e Event) []string {
	var out []string
	if o, ok := e.(interface{ GetCustomerId() string }); ok && o.GetCustomerId() != "" {
		out = append(out, tag.Customer(o.GetCustomerId()))
	}
	if o, ok := e.(interface{ GetVoucherCode() string }); ok && o.GetVoucherCode() != "" {
		out = append(out, tag.Voucher(o.GetVoucherCode()))
	}
	return out
}

// Register adds the order and its commands to a bus.
func Register(b *commands.Bus) error {
	return commands.Register[State, Command, Event](b, Aggregate(), Place{}, Confirm{}, Ship{}, Cancel{})
}

func decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Place:
		if s.Status != None {
			return nil, commands.Reject(CodeExists, fmt.Sprintf("there is an order %s, it is %s", c.ID, s.Status))
		}
		return place(c)
	case Confirm:
		if err := s.transition(c.ID, Confirmed); err != nil {
			return nil, err
		}
		return []Event{&commercev1.OrderConfirmed{CustomerId: s.CustomerID, AtMs: c.At.UnixMilli()}}, nil
	case Ship:
		if err := s.transition(c.ID, Shipped); err != nil {
			return nil, err
		}
		return []Event{&commercev1.OrderShipped{CustomerId: s.CustomerID, AtMs: c.At.UnixMilli()}}, nil
	case Cancel:
		if err := s.transition(c.ID, Cancelled); err != nil {
			return nil, err
		}
		return []Event{cancelled(s, c)}, nil
	}
	return nil, fmt.Errorf("order: no such command: %T", c)
}

// transition refuses what CanTransitionTo does not allow.
func (s State) transition(id string, next Status) error {
	switch {
	case s.Status == None:
		return commands.Reject(CodeNotFound, fmt.Sprintf("there is no order %s", id))
	case !s.Status.CanTransitionTo(next):
		return commands.Reject(CodeInvalidTransition, fmt.Sprintf("order %s is %s and cannot become %s", id, s.Status, next))
	}
	return nil
}

func place(c Place) ([]Event, error) {
	sum, err := total(c.Lines)
	if err != nil {
		return nil, fmt.Errorf("order %s: %w", c.ID, err)
	}
	lines := newLines(len(c.Lines))
	for i := range c.Lines {
		from, to := &c.Lines[i], lines[i]
		to.Number = uint32(from.Number)
		to.StockCode = from.StockCode
		to.Description = from.Description
		to.Quantity = from.Quantity
		to.UnitPrice = from.UnitPrice.String()
		to.AtMs = lineTime(from.At, c.At)
	}
	return []Event{&commercev1.OrderCreated{
		Id:          c.ID,
		CustomerId:  c.CustomerID,
		Country:     c.Country,
		Currency:    c.Currency,
		Lines:       lines,
		Total:       sum.Proto(),
		AtMs:        c.At.UnixMilli(),
		VoucherCode: c.VoucherCode,
		Discount:    c.Discount.Proto(),
		Delivery:    c.Delivery.proto(),
	}}, nil
}

// proto returns the contact as events carry it. States do not keep it: no decision needs it.
func (c *Contact) proto() *commercev1.Contact {
	if c == nil {
		return nil
	}
	return &commercev1.Contact{Name: c.Name, Email: c.Email, Street: c.Street, City: c.City, Phone: c.Phone}
}

// lineTime is the time of a line as events carry it, 0 when it is the document's.
func lineTime(line, document time.Time) int64 {
	if line.IsZero() || line.UnixMilli() == document.UnixMilli() {
		return 0
	}
	return line.UnixMilli()
}

func cancelled(s State, c Cancel) *commercev1.OrderCancelled {
	lines := newLines(len(s.Placed.Lines))
	for i := range s.Placed.Lines {
		from, to := &s.Placed.Lines[i], lines[i]
		to.Number = from.Number
		to.StockCode = from.StockCode
		to.Description = from.Description
		to.Quantity = from.Quantity
		to.UnitPrice = from.UnitPrice
		to.AtMs = from.AtMs
	}
	return &commercev1.OrderCancelled{
		From:       string(s.Status),
		Reason:     c.Reason,
		AtMs:       c.At.UnixMilli(),
		CustomerId: s.CustomerID,
		Country:    s.Placed.Country,
		Currency:   s.Placed.Currency,
		Lines:      lines,
		Total:      &commercev1.Money{Currency: s.Placed.Currency, Amount: s.Placed.Total},
		PlacedAtMs: s.Placed.AtMs,

		VoucherCode: s.Placed.VoucherCode,
	}
}

// newLines returns n empty lines that lie side by side: one allocation instead of thousands.
func newLines(n int) []*commercev1.Line {
	memory := make([]commercev1.Line, n)
	lines := make([]*commercev1.Line, n)
	for i := range memory {
		lines[i] = &memory[i]
	}
	return lines
}

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case *commercev1.OrderCreated:
		return State{Status: Created, CustomerID: e.GetCustomerId(), Placed: placed(e)}
	case *commercev1.OrderConfirmed:
		s.Status = Confirmed
	case *commercev1.OrderShipped:
		s.Status, s.Placed = Shipped, nil
	case *commercev1.OrderCancelled:
		s.Status, s.Placed = Cancelled, nil
	}
	return s
}

func placed(e *commercev1.OrderCreated) *Placed {
	p := &Placed{
		Country:  e.GetCountry(),
		Currency: e.GetCurrency(),
		Lines:    make([]PlacedLine, len(e.GetLines())),
		Total:    e.GetTotal().GetAmount(),
		AtMs:     e.GetAtMs(),

		VoucherCode: e.GetVoucherCode(),
	}
	for i, l := range e.GetLines() {
		p.Lines[i] = PlacedLine{l.GetNumber(), l.GetStockCode(), l.GetDescription(), l.GetQuantity(), l.GetUnitPrice(), l.GetAtMs()}
	}
	return p
}
