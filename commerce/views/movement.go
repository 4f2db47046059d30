package views

import (
	"fmt"
	"time"

	"github.com/tributary-es/tributary/commerce/calendar"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// movement is what an event of the inventory does to the stock of its code.
type movement struct {
	kind             string
	onHand, reserved int64
	reference        string
	atMs             int64
	// adjusted is the event itself when it is an adjustment.
	adjusted *commercev1.InventoryAdjusted
}

func movementOf(e *eventstore.Recorded) (movement, error) {
	switch e.Type {
	case inventory.ReceivedV1:
		var m commercev1.InventoryReceived
		err := decode(e, &m)
		return movement{kind: "received", onHand: m.GetQuantity(), reference: m.GetReference(), atMs: m.GetAtMs()}, err
	case inventory.ReservedV1:
		var m commercev1.InventoryReserved
		err := decode(e, &m)
		return movement{kind: "reserved", reserved: m.GetQuantity(), reference: m.GetReservation(), atMs: m.GetAtMs()}, err
	case inventory.ConfirmedV1:
		var m commercev1.InventoryConfirmed
		err := decode(e, &m)
		n := m.GetQuantity()
		return movement{kind: "confirmed", onHand: -n, reserved: -n, reference: m.GetReservation(), atMs: m.GetAtMs()}, err
	case inventory.ReleasedV1:
		var m commercev1.InventoryReleased
		err := decode(e, &m)
		return movement{kind: "released", reserved: -m.GetQuantity(), reference: m.GetReservation(), atMs: m.GetAtMs()}, err
	case inventory.ReturnedV1:
		var m commercev1.InventoryReturned
		err := decode(e, &m)
		return movement{kind: "returned", onHand: m.GetQuantity(), reference: m.GetReference(), atMs: m.GetAtMs()}, err
	case inventory.AdjustedV1:
		var m commercev1.InventoryAdjusted
		err := decode(e, &m)
		return movement{kind: "adjusted", onHand: m.GetDelta(), reference: m.GetDocument().GetId(), atMs: m.GetAtMs(), adjusted: &m}, err
	}
	return movement{}, fmt.Errorf("event type %s is not of the inventory", e.Type)
}

// decode reads an event's payload.
func decode(e *eventstore.Recorded, into proto.Message) error {
	if err := proto.Unmarshal(e.Body(), into); err != nil {
		return fmt.Errorf("read %s: %w", e.Type, err)
	}
	return nil
}

// moment turns a time of an event into one of a table.
func moment(ms int64) (time.Time, error) {
	at := time.UnixMilli(ms).UTC()
	if !calendar.Holds(at) {
		return time.Time{}, fmt.Errorf("time %s is not within the %s", at.Format(time.RFC3339), calendar.Years)
	}
	return at, nil
}

// amountOf returns a sum of money as tables hold it; none is "0" in no currency.
func amountOf(m *commercev1.Money) (number, currency string, err error) {
	a, err := money.FromProto(m)
	if err != nil {
		return "", "", err
	}
	return a.String(), a.Currency(), nil
}
