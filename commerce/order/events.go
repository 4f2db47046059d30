package order

import (
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Event is one of the messages that Codec knows: *commercev1.OrderCreated, OrderConfirmed, OrderShipped, OrderCancelled.
type Event = proto.Message

// The wire names of the events. They never change.
const (
	CreatedV1   = "order.created.v1"
	ConfirmedV1 = "order.confirmed.v1"
	ShippedV1   = "order.shipped.v1"
	CancelledV1 = "order.cancelled.v1"
)

// Codec returns the codec of the order's events. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{
	CreatedV1:   &commercev1.OrderCreated{},
	ConfirmedV1: &commercev1.OrderConfirmed{},
	ShippedV1:   &commercev1.OrderShipped{},
	CancelledV1: &commercev1.OrderCancelled{},
})
