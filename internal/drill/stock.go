package drill

import (
	"fmt"
	"strings"

	"github.com/tributary-es/tributary/commands/escrow"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// units reads events that move units.
var units = inventory.Codec()

// count enters an event of a stock code into its books.
func (c *Census) count(e *apiv1.Event, log string) error {
	_, site, _ := strings.Cut(log, "@")
	site, _, _ = strings.Cut(site, "/")
	b, ok := c.stock[e.GetStreamId()]
	if !ok {
		b = &escrow.Books{}
		c.stock[e.GetStreamId()] = b
	}
	m, err := units.Decode(&eventstore.Recorded{Event: eventstore.Event{Type: e.GetType(), Encoding: eventstore.Protobuf, Payload: e.GetPayload()}})
	if err != nil {
		return fmt.Errorf("event %s: %w", e.GetDot(), err)
	}
	switch m := m.(type) {
	case *commercev1.InventoryReceived:
		b.Receive(site, m.GetQuantity())
	case *commercev1.InventoryReturned:
		b.Receive(site, m.GetQuantity())
	case *commercev1.InventoryAdjusted:
		b.Receive(site, m.GetDelta())
	case *commercev1.InventoryReserved:
		b.Hold(site, m.GetQuantity())
	case *commercev1.InventoryConfirmed:
		b.Take(site, m.GetQuantity())
	case *commercev1.InventoryReleased:
		b.Release(site, m.GetQuantity())
	case *commercev1.InventoryRightsMoved:
		b.Move(site, m.GetTo(), m.GetQuantity())
	case *commercev1.InventoryBarred: // of a name, no units
	default:
		return fmt.Errorf("event %s is a %T, of which it is not known here what it does to units", e.GetDot(), m)
	}
	if err := b.Check(); err != nil {
		c.oversold = append(c.oversold, fmt.Sprintf("stock %s, as site %s has it, at event %s: %v", e.GetStreamId(), c.Site, e.GetDot(), err))
	}
	return nil
}

// Stock says what was sold of what there was.
type Stock struct {
	Codes int `json:"codes"`
	// Stocked are the units that were received, returned and corrected; Sold those that have left, Held those that are promised.
	Stocked int64 `json:"stocked"`
	Sold    int64 `json:"sold"`
	Held    int64 `json:"held"`
	// Oversold counts the events after which more was promised or gone than there was, of a code or of a site's units of it.
	Oversold int      `json:"oversold"`
	Faults   []string `json:"faults,omitempty"`
}

// stockOf adds up what all censuses say; units are those of the first.
func stockOf(held []*Census) (s Stock) {
	for _, b := range held[0].stock {
		received, holds, used := b.Total()
		s.Codes++
		s.Stocked, s.Held, s.Sold = s.Stocked+received, s.Held+holds, s.Sold+used
	}
	for _, c := range held {
		s.Oversold += len(c.oversold)
		s.Faults = append(s.Faults, c.oversold[:min(len(c.oversold), mostNamed)]...)
	}
	return s
}
