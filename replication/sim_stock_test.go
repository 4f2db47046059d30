package replication_test

import (
	"fmt"

	"github.com/tributary-es/tributary/commands/escrow"
	"github.com/tributary-es/tributary/eventstore"
)

// Stock is held in escrow: every unit that may be sold is a right of one site, which promises, sells and hands on its rights by
// itself, so that all sites together never sell what is not there.

// books folds the events of a stock stream. A payload is the site, the units, and the site that rights are moved to.
func books(events []*eventstore.Recorded) (b escrow.Books) {
	for _, e := range events {
		site, units := siteName(int(e.Payload[0])), int64(e.Payload[1])
		switch e.Type {
		case "stock.received.v1":
			b.Receive(site, units)
		case "stock.held.v1":
			b.Hold(site, units)
		case "stock.sold.v1":
			b.Take(site, units)
		case "stock.released.v1":
			b.Release(site, units)
		case "stock.rights-moved.v1":
			b.Move(site, siteName(int(e.Payload[2])), units)
		}
	}
	return b
}

// decideStock decides with the rights of the site alone.
func (s *site) decideStock(c *command, d *decision) {
	read := s.read(c.stream)
	b := books(read)
	me, units := byte(s.index), byte(c.amount)
	var e eventstore.Event
	switch c.kind {
	case receiveStock:
		e = event("stock.received.v1", me, units*2)
	case holdStock:
		d.rejected = b.Available(s.name) < int64(c.amount) || s.core.Whole() != nil
		e = event("stock.held.v1", me, units)
	case moveRights:
		d.rejected = b.Available(s.name) < int64(c.amount) || s.core.Whole() != nil
		e = event("stock.rights-moved.v1", me, units, byte(s.w.other(s).index))
	case releaseStock:
		d.rejected = b.Row(s.name).Held < int64(c.amount) || s.core.Whole() != nil
		e = event("stock.released.v1", me, units)
	case sellStock:
		d.rejected = b.Row(s.name).Held < int64(c.amount) || s.core.Whole() != nil
		e = event("stock.sold.v1", me, units)
	}
	d.request.Appends = []eventstore.StreamAppend{{
		Stream: c.stream, Expect: eventstore.Exactly(uint64(len(read))), Events: []eventstore.Event{e},
	}}
}

// stocked checks what all events of a stock stream that there are, anywhere, make together. It keeps its own account.
func (o *oracle) stocked(s *site, b *birth) {
	total := 0
	may := make([]int, len(o.w.sites)) // what each site may still promise
	for _, t := range o.logs {
		for _, other := range t.births {
			if other.stream != b.stream {
				continue
			}
			p := other.event.Payload
			switch units := int(p[1]); other.event.Type {
			case "stock.received.v1":
				total += units
				may[p[0]] += units
			case "stock.held.v1":
				total -= units
				may[p[0]] -= units
			case "stock.released.v1":
				total += units
				may[p[0]] += units
			case "stock.rights-moved.v1":
				may[p[0]] -= units
				may[p[2]] += units
			}
		}
	}
	if total < 0 {
		o.violated("I7", "with %s at %s %d units of %s are promised that were not received", b.dot, s.name, -total, b.stream)
	}
	for i, n := range may {
		if n < 0 {
			o.violated("I7", "with %s at %s site %s has used %d rights on %s more than it had", b.dot, s.name, siteName(i), -n, b.stream)
		}
	}
}

func describe(b escrow.Books) string { return fmt.Sprint(b.Rows()) }
