package inventory

import (
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Event is one of the messages that Codec knows: *commercev1.InventoryReceived, InventoryReserved and so on.
type Event = proto.Message

// The wire names of the events. They never change.
const (
	ReceivedV1  = "inventory.received.v1"
	ReservedV1  = "inventory.reserved.v1"
	ConfirmedV1 = "inventory.confirmed.v1"
	ReleasedV1  = "inventory.released.v1"
	BarredV1    = "inventory.barred.v1"
	AdjustedV1  = "inventory.adjusted.v1"
	ReturnedV1  = "inventory.returned.v1"
	MovedV1     = "inventory.rights_moved.v1"
)

// Codec returns the codec of the inventory's events. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{
	ReceivedV1:  &commercev1.InventoryReceived{},
	ReservedV1:  &commercev1.InventoryReserved{},
	ConfirmedV1: &commercev1.InventoryConfirmed{},
	ReleasedV1:  &commercev1.InventoryReleased{},
	BarredV1:    &commercev1.InventoryBarred{},
	AdjustedV1:  &commercev1.InventoryAdjusted{},
	ReturnedV1:  &commercev1.InventoryReturned{},
	MovedV1:     &commercev1.InventoryRightsMoved{},
})

// proto returns the document as events carry it, nil for none.
func (d *Document) proto() *commercev1.Document {
	if d == nil {
		return nil
	}
	return &commercev1.Document{
		Id:         d.ID,
		Line:       uint32(d.Line),
		CustomerId: d.CustomerID,
		Country:    d.Country,
		Quantity:   d.Quantity,
		UnitPrice:  d.UnitPrice.Proto(),
	}
}
