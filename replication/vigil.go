package replication

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// vigil tells whether other sites may have taken this one for gone without its knowing: its process stood still for a while, or has
// just started. Then they may have taken cells that it was the home of, and what it writes of those is void.
//
// INVARIANT: from when the site has not spoken for as long as makes others take it for gone, less a heartbeat, it is not at home, until each
// other site has answered something that it has said since, and what that site had then is here, and known to its fence; or has not
// answered for Config.Down.
//
// What lay in the sockets of a process that stood still was sent before: to be heard is not enough, to be answered is.
type vigil struct {
	base  uint64        // of Heartbeat.Sent, drawn at random: what was said before a start is not taken for what is said now; 0: not drawn
	spoke time.Duration // when the site last spoke, by Instant.Mono
	keeps bool
	since time.Duration // since when it keeps the vigil
	known intake        // what was here at its end
}

// intake tells when what a site held at the moment when something became so is known to its fence, and of takeovers to its core: both read
// the log, a little behind what has become durable.
type intake struct {
	so    bool
	place uint64 // Storage.Durable in that moment
}

// note takes whether it is so.
func (i *intake) note(so bool, s Storage) {
	if so && !i.so {
		i.place = s.Durable()
	}
	i.so = so
}

// done reports whether it is so, and what was held then is known.
func (i *intake) done(s Storage) bool { return i.so && s.TakenIn() >= i.place }

// begin begins a vigil: nobody has answered yet.
func (v *vigil) begin(now Instant, peers []*peer) {
	v.keeps, v.since = true, now.Mono
	for _, p := range peers {
		p.answered, p.claims = false, nil
	}
}

// lease is for how long after the site has spoken nobody can take it for gone.
func (c *Config) lease() time.Duration { return max(c.Suspect-c.Heartbeat, c.Suspect/2) }

// wake begins a vigil when the site has not been stepped for so long that others may take it for gone.
func (c *Core) wake(now Instant) {
	if now.Mono >= c.vigil.spoke+c.cfg.lease() {
		c.vigil.begin(now, c.peers)
		if !c.clock.compared {
			c.clock.began = now.Mono // while it stood still it heard nobody, whoever spoke
		}
	}
}

// says stamps what the site says with the moment, so that an answer can be told from what was said before.
func (v *vigil) says(now Instant, random *rand.Rand) uint64 {
	if v.base == 0 {
		v.base = 1 + random.Uint64()>>1
	}
	v.spoke = now.Mono
	return v.base + uint64(now.Mono)
}

// Echo is what a site heard last of another one.
type Echo struct {
	Site string
	// Sent is Heartbeat.Sent of that, After how long ago it came.
	Sent  uint64
	After time.Duration
}

// echoed returns when this site said what another one has answered; ok is false when it has answered nothing.
func (c *Core) echoed(now Instant, in *Heartbeat) (at time.Duration, echo Echo, ok bool) {
	for _, e := range in.Echoes {
		if v := &c.vigil; e.Site == c.cfg.Site && v.base != 0 && e.Sent >= v.base && e.Sent-v.base <= uint64(now.Mono) {
			return time.Duration(e.Sent - v.base), e, true
		}
	}
	return 0, Echo{}, false
}

// answers takes what a site says in answer to something said here.
func (c *Core) answers(now Instant, p *peer, in *Heartbeat, out *Effects) {
	if at, _, ok := c.echoed(now, in); ok && c.vigil.keeps && !p.answered && at >= c.vigil.since {
		p.answered, p.claims, out.Met = true, in.Heads, true
	}
}

// settle ends the vigil when all have answered, and what they had is here.
func (c *Core) settle(now Instant) {
	if c.vigil.keeps && len(c.awaited(now)) == 0 {
		c.vigil.keeps = false
	}
	if c.cfg.Leases {
		c.vigil.known.note(!c.vigil.keeps, c.store)
		c.leases.whole.note(c.Whole() == nil, c.store)
		c.leases.voter.note(c.leases.members != nil && c.hasAll(now), c.store)
	}
}

// awaited says what the vigil waits for.
func (c *Core) awaited(now Instant) (missing []string) {
	for _, p := range c.peers {
		if !p.answered {
			if now.Mono-c.vigil.since < c.cfg.Down {
				missing = append(missing, "site "+p.name+" has not answered since")
			}
			continue
		}
		for _, h := range p.claims {
			if now.Mono-p.heard >= c.cfg.Down {
				continue
			}
			if why := c.whatIsMissing(now, p.name, h); why != "" {
				missing = append(missing, why)
			}
		}
	}
	return missing
}

// AtHome returns until when, by Instant.Mono, the site knows of all that others could have done while they took it for gone; then it may
// write what is written at one site alone. Else it returns what it waits for.
func (c *Core) AtHome(now Instant) (until time.Duration, err error) {
	if c.vigil.keeps {
		return 0, fmt.Errorf("%w: it has just started, or stood still for more than %s, and others may have taken what is written here: %s", ErrAway, c.cfg.lease(), strings.Join(c.awaited(now), ", "))
	}
	until = c.vigil.spoke + c.cfg.lease()
	if !c.cfg.Leases {
		return until, nil
	}
	if !c.vigil.known.done(c.store) {
		return 0, fmt.Errorf("%w: what it has received of others meanwhile is being taken in", ErrAway)
	}
	leased, err := c.lease(now)
	return min(until, leased), err
}
