package voucher

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/tag"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the voucher's streams; a stream's id is the code.
const Category = "voucher"

// Codes of refusals.
const (
	CodeExists          = "voucher.exists"
	CodeNotFound        = "voucher.not_found"
	CodeRedeemed        = "voucher.redeemed"
	CodeWithdrawn       = "voucher.withdrawn"
	CodeCurrencyDiffers = "voucher.currency_differs"
	CodeDiscountDiffers = "voucher.discount_differs"
)

// Event is one of the messages that Codec knows, or of an order.
type Event = proto.Message

// The wire names of the events. They never change.
const (
	CreatedV1   = "voucher.created.v1"
	WithdrawnV1 = "voucher.withdrawn.v1"
)

// types are the events that the decider is over: the voucher's own, and those of orders that redeem it and give it back.
var types = []string{CreatedV1, WithdrawnV1, "order.created.v1", "order.cancelled.v1"}

// Codec returns the codec of the voucher's own events. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{
	CreatedV1:   &commercev1.VoucherCreated{},
	WithdrawnV1: &commercev1.VoucherWithdrawn{},
})

// Status is what has become of a voucher. It is a value: compare it with ==.
type Status string

// The statuses. The zero value is a voucher that does not exist.
const (
	None      Status = ""
	Open      Status = "open"
	Redeemed  Status = "redeemed"
	Withdrawn Status = "withdrawn"
)

// State is a voucher.
type State struct {
	Value money.Amount
	// OrderID is the order that redeemed it; empty for none.
	OrderID   string
	withdrawn bool
	// broken says what is wrong with what was recorded of it, nil when nothing is.
	broken error
}

// Status returns what has become of the voucher.
func (s State) Status() Status {
	switch {
	case s.Value.IsZero():
		return None
	case s.withdrawn:
		return Withdrawn
	case s.OrderID != "":
		return Redeemed
	}
	return Open
}

// Worth returns what an order costs less for a voucher: its value, and at most the order's total. What is left over is
// lost. The two must be in one currency.
func Worth(value, total money.Amount) (money.Amount, error) {
	order, err := value.Cmp(total)
	if err != nil {
		return money.Amount{}, err
	}
	if order > 0 {
		return total, nil
	}
	return value, nil
}

// Decider returns what decides over vouchers: on the voucher's own events, and on those of orders that name it.
func Decider() commands.Decider[State, Command, Event] {
	return commands.Decider[State, Command, Event]{
		Name:     Category,
		Query:    query,
		Validate: validate,
		Decide:   decide,
		Evolve:   evolve,
		Codec:    Codec(),
		Stream:   func(c Command, _ Event) eventstore.StreamID { return stream(c.voucherCode()) },
		Tags:     tags,
	}
}

func query(c Command) eventstore.Query {
	return eventstore.Query{{Types: types, Tags: []string{tag.Voucher(c.voucherCode())}}}
}

// Register adds the voucher and its commands to a bus.
func Register(b *commands.Bus) error {
	return commands.RegisterDecider[State, Command, Event](b, Decider(), Create{}, Withdraw{}, Redeem{})
}

func tags(e Event) []string {
	switch e := e.(type) {
	case *commercev1.VoucherCreated:
		return []string{tag.Voucher(e.GetCode())}
	case *commercev1.VoucherWithdrawn:
		return []string{tag.Voucher(e.GetCode())}
	}
	return nil
}

func decide(s State, c Command) ([]Event, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	if _, create := c.(Create); !create && s.Status() == None {
		return nil, commands.Reject(CodeNotFound, fmt.Sprintf("there is no voucher %s", c.voucherCode()))
	}
	switch c := c.(type) {
	case Create:
		if s.Status() != None {
			return nil, commands.Reject(CodeExists, fmt.Sprintf("there is a voucher %s, it is %s", c.Code, s.Status()))
		}
		return []Event{&commercev1.VoucherCreated{Code: c.Code, Value: c.Value.Proto(), AtMs: c.At.UnixMilli()}}, nil
	case Withdraw:
		if s.withdrawn {
			return nil, nil
		}
		return []Event{&commercev1.VoucherWithdrawn{Code: c.Code, Reason: c.Reason, AtMs: c.At.UnixMilli()}}, nil
	case Redeem:
		return nil, s.redeem(c)
	}
	return nil, fmt.Errorf("voucher: no such command: %T", c)
}

func (s State) redeem(c Redeem) error {
	switch s.Status() {
	case Withdrawn:
		return commands.Reject(CodeWithdrawn, fmt.Sprintf("voucher %s was withdrawn", c.Code))
	case Redeemed:
		return commands.Reject(CodeRedeemed, fmt.Sprintf("voucher %s was redeemed by order %s", c.Code, s.OrderID))
	}
	worth, err := Worth(s.Value, c.Total)
	if err != nil {
		return commands.Reject(CodeCurrencyDiffers, fmt.Sprintf(
			"voucher %s is worth %s, the order is in %s", c.Code, s.Value, c.Total.Currency()))
	}
	if c.Discount != worth {
		return commands.Reject(CodeDiscountDiffers, fmt.Sprintf(
			"voucher %s takes %s off the order, not %s: place it again", c.Code, worth, c.Discount))
	}
	return nil
}

func evolve(s State, stream eventstore.StreamID, e Event) State {
	switch e := e.(type) {
	case *commercev1.VoucherCreated:
		s.Value, s.broken = money.FromProto(e.GetValue())
	case *commercev1.VoucherWithdrawn:
		s.withdrawn = true
	case *commercev1.OrderCreated:
		s.OrderID = stream.ID
	case *commercev1.OrderCancelled:
		if s.OrderID == stream.ID {
			s.OrderID = ""
		}
	}
	return s
}
