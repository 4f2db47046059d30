package replication

import (
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Lapse is what a site has recorded and one that took its cells did not know when it did. What of that is homed may be void, whoever holds
// it later: it is never acknowledged as being at another site too.
type Lapse struct {
	// Knew is what the taker held, of the site's log among others.
	Knew eventstore.Vector
	// Until is where the site has put on record that its fence knows: what stands behind that was recorded in the knowledge of it. Zero:
	// it has not yet.
	Until eventstore.Dot
}

// Has reports whether an event of the site's log is in the lapse.
func (l *Lapse) Has(d eventstore.Dot) bool {
	return d.Seq > l.Knew.At(d.Log) && (l.Until.Seq == 0 || laterLife(l.Until, d))
}

// lapsed reports whether an event is in any of them.
func lapsed(lapses []Lapse, d eventstore.Dot) bool {
	return slices.ContainsFunc(lapses, func(l Lapse) bool { return l.Has(d) })
}

// Lapses returns those of this site, one for each time that it was taken over from. Before it is known what is on record, in earlier lives
// of its log, too, all that it has recorded may be in one, and is.
func (c *Core) Lapses() []Lapse {
	if c.cfg.Leases && (!c.leases.told || c.forgotten() != nil) {
		return []Lapse{{}}
	}
	return slices.Clone(c.leases.tenures.of(c.cfg.Site).lapses)
}
