package replication

import (
	"fmt"
	"math"
	"time"
)

// LeaseStatus says under which lease a site writes what is homed.
type LeaseStatus struct {
	// Bound: it does so under a lease, and others take over by themselves when it is gone. Else Manual says why they do not.
	Bound  bool
	Manual string
	// Left is how long the lease lasts yet; negative when it is over.
	Left time.Duration
	// Acknowledged are the sites that acknowledge it, of Members, this one among them.
	Acknowledged []string
	Members      int
	// Withheld are the sites whose leases this one does not acknowledge.
	Withheld []Withheld
}

// Withheld is a lease that is not acknowledged, and why.
type Withheld struct{ Site, Why string }

// LeaseStatus returns under which lease the site writes what is homed.
func (c *Core) LeaseStatus(now Instant) LeaseStatus {
	l := &c.leases
	s := LeaseStatus{Bound: c.bound(), Members: len(l.members), Acknowledged: c.acknowledging(now), Left: -1}
	switch until, err := c.lease(now); {
	case !l.told || l.members == nil:
		s.Manual = "it is not known yet what is on record"
	case !s.Bound && len(l.members) < 3:
		s.Manual = fmt.Sprintf("of %d sites none can tell whether another one is gone or cut off", len(l.members))
	case !s.Bound:
		s.Manual = "this site says so (--takeover), or nothing is homed"
	case err == nil && until < math.MaxInt64:
		s.Left = until - now.Mono
	}
	for _, p := range c.peers {
		t, a := l.tenures.of(p.name), l.attempts[p.name]
		switch who := t.agreements(c.cfg.Site); {
		case a != nil && a.agrees != nil:
			s.Withheld = append(s.Withheld, Withheld{p.name, "site " + a.agrees.note.Taker + " is about to take over from it"})
		case len(who) > 0:
			s.Withheld = append(s.Withheld, Withheld{p.name, "site " + who[0].taker + " takes over from it; if that is gone for good, too, have it leave (sites leave)"})
		case t.said.Knows < uint64(len(t.done)):
			s.Withheld = append(s.Withheld, Withheld{p.name, "it has not said yet that it knows that site " + t.done[len(t.done)-1].Taker + " has taken over from it"})
		}
	}
	return s
}
