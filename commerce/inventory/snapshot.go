package inventory

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	statev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/state/v1"
)

func encodeState(s State) ([]byte, error) {
	m := &statev1.Inventory{
		OnHand: s.OnHand, Reserved: s.Reserved,
		Reservations: make([]*statev1.Reservation, 0, len(s.reservations)),
		Counted:      make([]*statev1.Counted, 0, len(s.counted)),
	}
	for name, r := range s.reservations {
		m.Reservations = append(m.Reservations, &statev1.Reservation{Name: name, Outcome: uint32(r.Outcome), Quantity: r.Quantity})
	}
	for ref, units := range s.counted {
		m.Counted = append(m.Counted, &statev1.Counted{Kind: uint32(ref.kind), Name: ref.name, Units: units})
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode stock: %w", err)
	}
	return b, nil
}

func decodeState(b []byte) (State, error) {
	var m statev1.Inventory
	if err := proto.Unmarshal(b, &m); err != nil {
		return State{}, fmt.Errorf("decode stock: %w", err)
	}
	s := State{
		OnHand: m.GetOnHand(), Reserved: m.GetReserved(),
		reservations: make(map[string]Reservation, len(m.GetReservations())),
		counted:      make(map[reference]int64, len(m.GetCounted())),
	}
	for _, r := range m.GetReservations() {
		s.reservations[r.GetName()] = Reservation{Outcome(r.GetOutcome()), r.GetQuantity()}
	}
	for _, c := range m.GetCounted() {
		s.counted[reference{referenceKind(c.GetKind()), c.GetName()}] = c.GetUnits()
	}
	return s, nil
}
