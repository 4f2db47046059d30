package inventory

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands/escrow"
	statev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/state/v1"
)

func encodeState(s State) ([]byte, error) {
	m := &statev1.Inventory{
		OnHand: s.OnHand, Reserved: s.Reserved,
		Reservations: make([]*statev1.Reservation, 0, len(s.reservations)),
		Counted:      make([]*statev1.Counted, 0, len(s.counted)),
	}
	for key, r := range s.reservations {
		m.Reservations = append(m.Reservations, &statev1.Reservation{Name: key.name, Outcome: uint32(r.Outcome), Quantity: r.Quantity, Site: key.site})
	}
	for ref, units := range s.counted {
		m.Counted = append(m.Counted, &statev1.Counted{Kind: uint32(ref.kind), Name: ref.name, Units: units})
	}
	for _, row := range s.books.Rows() {
		site := &statev1.SiteStock{Site: row.Site, Received: row.Received, Held: row.Held, Used: row.Used}
		for _, sent := range row.Sent {
			site.Sent = append(site.Sent, &statev1.SentRights{To: sent.To, Units: sent.Units})
		}
		m.Sites = append(m.Sites, site)
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
		reservations: make(map[reservationKey]Reservation, len(m.GetReservations())),
		counted:      make(map[reference]int64, len(m.GetCounted())),
	}
	for _, r := range m.GetReservations() {
		s.reservations[reservationKey{r.GetName(), r.GetSite()}] = Reservation{Outcome(r.GetOutcome()), r.GetQuantity(), r.GetSite()}
	}
	for _, c := range m.GetCounted() {
		s.counted[reference{referenceKind(c.GetKind()), c.GetName()}] = c.GetUnits()
	}
	rows := make([]escrow.Row, len(m.GetSites()))
	for i, site := range m.GetSites() {
		rows[i] = escrow.Row{Site: site.GetSite(), Received: site.GetReceived(), Held: site.GetHeld(), Used: site.GetUsed()}
		for _, sent := range site.GetSent() {
			rows[i].Sent = append(rows[i].Sent, escrow.Sent{To: sent.GetTo(), Units: sent.GetUnits()})
		}
	}
	s.books = escrow.Of(rows)
	return s, nil
}
