package replication_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// Stock is held in escrow: every unit that may be sold is a right of one site, which sells, gives back and hands on its
// rights by itself, so that all sites together never sell what is not there.

// stock is what follows from the events of a stock stream; their order does not matter.
type stock struct {
	received, sold int
	rights         map[string]int // by site: what it may sell
}

// foldStock folds the events of a stock stream. A payload is the site, the units, and the site that rights are moved to.
func foldStock(events []*eventstore.Recorded) stock {
	s := stock{rights: map[string]int{}}
	for _, e := range events {
		site, units := siteName(int(e.Payload[0])), int(e.Payload[1])
		switch e.Type {
		case "stock.received.v1":
			s.received += units
			s.rights[site] += units
		case "stock.sold.v1":
			s.sold += units
			s.rights[site] -= units
		case "stock.released.v1":
			s.sold -= units
			s.rights[site] += units
		case "stock.rights-moved.v1":
			s.rights[site] -= units
			s.rights[siteName(int(e.Payload[2]))] += units
		}
	}
	return s
}

func (s stock) available(site string) int { return s.rights[site] }

func (s stock) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d received, %d sold", s.received, s.sold)
	for _, site := range slices.Sorted(maps.Keys(s.rights)) {
		fmt.Fprintf(&b, ", %s may sell %d", site, s.rights[site])
	}
	return b.String()
}

// decideStock decides with the rights of the site alone.
func (s *site) decideStock(c *command, d *decision) {
	read := s.read(c.stream)
	stock := foldStock(read)
	me, units := byte(s.index), byte(c.amount)
	var e eventstore.Event
	switch c.kind {
	case receiveStock:
		e = event("stock.received.v1", me, units*2)
	case sellStock:
		d.rejected = stock.available(s.name) < c.amount || !s.knowsItself()
		e = event("stock.sold.v1", me, units)
	case moveRights:
		d.rejected = stock.available(s.name) < c.amount || !s.knowsItself()
		e = event("stock.rights-moved.v1", me, units, byte(s.w.other(s).index))
	case releaseStock:
		mine := 0
		for _, sale := range read {
			if int(sale.Payload[0]) == s.index {
				switch sale.Type {
				case "stock.sold.v1":
					mine += int(sale.Payload[1])
				case "stock.released.v1":
					mine -= int(sale.Payload[1])
				}
			}
		}
		d.rejected = mine < c.amount || !s.knowsItself()
		e = event("stock.released.v1", me, units)
	}
	d.request.Appends = []eventstore.StreamAppend{{
		Stream: c.stream, Expect: eventstore.Exactly(uint64(len(read))), Events: []eventstore.Event{e},
	}}
}

// knowsItself reports whether the site has all that it did in earlier lives of its log, as far as anybody knows: it may have
// used rights there. Before it has heard the others it cannot tell.
func (s *site) knowsItself() bool {
	status := s.core.Status(s.clock.at(s.w.now))
	if s.log.ID().Incarnation == 1 {
		return true
	}
	for _, p := range status.Peers {
		if p.Heard < 0 {
			return false
		}
	}
	for _, l := range status.Logs {
		if l.Log.Site == s.name && l.Held < l.Known {
			return false
		}
	}
	return true
}
