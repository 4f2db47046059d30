package payment

import (
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Event is one of the messages that Codec knows: *commercev1.PaymentAuthorized, PaymentCaptured and so on.
type Event = proto.Message

// The wire names of the events. They never change.
const (
	AuthorizedV1 = "payment.authorized.v1"
	CapturedV1   = "payment.captured.v1"
	VoidedV1     = "payment.voided.v1"
	RefundedV1   = "payment.refunded.v1"
	AdjustedV1   = "payment.adjusted.v1"
)

// Codec returns the codec of the payment's events. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{
	AuthorizedV1: &commercev1.PaymentAuthorized{},
	CapturedV1:   &commercev1.PaymentCaptured{},
	VoidedV1:     &commercev1.PaymentVoided{},
	RefundedV1:   &commercev1.PaymentRefunded{},
	AdjustedV1:   &commercev1.PaymentAdjusted{},
})

func (d *Document) proto() *commercev1.Document {
	return &commercev1.Document{
		Id:         d.ID,
		Line:       uint32(d.Line),
		CustomerId: d.CustomerID,
		Country:    d.Country,
		Quantity:   d.Quantity,
		UnitPrice:  d.UnitPrice.Proto(),
	}
}
