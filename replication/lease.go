package replication

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// leases is the core's part in what is written at one site alone, where there are three sites or more: a home writes under a lease, and
// the cells of a home that is gone are taken over by another site, without anybody's asking.
//
// INVARIANT: a home that is bound writes what is homed only for Config.Lease after it has sent a heartbeat that a majority of the members,
// itself among them, has acknowledged. A site agrees to a takeover of it only when it has not heard it for Config.TakeOver, which is
// longer by more than clocks drift; from then on it acknowledges none of its leases before the takeover has come to an end and, if it was done,
// the home has put on record that its fence knows it. All members but the home have to agree. So when cells are taken their
// home has no lease, and gets none while it takes itself for their home.
//
// What a site has agreed to is an event of its log: it stands there, durable, before anybody hears of it, a site that starts reads it, and who
// has received it has received all that the site held then. So the taker has all that any other site had of the home's log.
type leases struct {
	told     bool // what is on record is known
	members  []string
	auto     bool
	takes    bool
	tenures  tenures
	whole    intake              // since Core.Whole is nil
	voter    intake              // since Core.hasAll
	attempts map[string]*attempt // by the site whose cells are to be taken
	binding  *Entry              // said of this site itself, and not on record yet
	// copies is how far each log was held by another site than its own, as that has said since this site started, whatever it has by now.
	copies map[eventstore.LogID]uint64
}

// hears notes what a site says that it holds.
func (l *leases) hears(site string, h eventstore.LogHead) {
	if site == h.Log.Site {
		return
	}
	if l.copies == nil {
		l.copies = map[eventstore.LogID]uint64{}
	}
	l.copies[h.Log] = max(l.copies[h.Log], h.Seq)
}

// lacksCopies returns a log of a site of which another one had more than is here, when it was heard: the site may have acknowledged that as being
// there. It may have been put back since to where it does not know of it.
func (c *Core) lacksCopies(site string) (log eventstore.LogID, lacks bool) {
	for _, t := range c.logs {
		if t.log.Site == site && c.leases.copies[t.log] > t.held.Seq {
			return t.log, true
		}
	}
	return log, false
}

// attempt is what this site has said in a takeover of another one and does not see on record yet, and what it knows of one of its own.
type attempt struct {
	agrees, ends *Entry
	round        uint64        // its own, proposed since it has started; 0: none
	since, again time.Duration // when that was, and when it may propose another one
}

// OnRecord are events of takeovers that are durable here, each once, in the order of the site's log; the first are all that there were.
type OnRecord struct {
	Events []eventstore.Recorded
	// stepped, when not nil, is closed by the site when the core has them.
	stepped chan struct{}
}

// Members says which sites are on record as taking part, this one among them. Auto: nobody has to ask for a takeover among them, and this
// site writes what is homed under a lease. Takes: this site may be the one that takes over.
type Members struct {
	Sites       []string
	Auto, Takes bool
}

func (OnRecord) input() {}
func (Members) input()  {}

// attemptAt returns what this site does about taking over from another one.
func (l *leases) attemptAt(site string) *attempt {
	if l.attempts == nil {
		l.attempts = map[string]*attempt{}
	}
	if l.attempts[site] == nil {
		l.attempts[site] = &attempt{}
	}
	return l.attempts[site]
}

// onRecord takes in what the log says.
func (c *Core) onRecord(events []eventstore.Recorded, out *Effects) {
	if err := c.leases.tenures.read(events); err != nil {
		out.alarm(AlarmUnordered, c.own, c.cfg.Site, "%v", err)
		return
	}
	c.leases.told = true
}

// grants returns the other sites whose leases this one acknowledges.
func (c *Core) grants() (out []string) {
	l := &c.leases
	if !l.told || c.Writable() != nil || c.forgotten() != nil { // it may have agreed to something that it does not know
		return nil
	}
	for _, p := range c.peers {
		t := l.tenures.of(p.name)
		if a := l.attempts[p.name]; a != nil && a.agrees != nil || t.binds(c.cfg.Site) || t.said.Knows < uint64(len(t.done)) {
			continue
		}
		out = append(out, p.name)
	}
	return out
}

// granted takes from a heartbeat whether its site acknowledges this one's leases, and what it held then: a site that has agreed to a
// takeover does not tell its taker any more what comes after.
func (c *Core) granted(now Instant, p *peer, in *Heartbeat) {
	if !slices.Contains(in.Grants, c.cfg.Site) {
		p.grants = false
		return
	}
	p.grants = true
	if p.kept == nil || !in.Partial {
		p.kept = map[eventstore.LogID]uint64{}
	}
	for _, h := range in.Heads {
		p.kept[h.Log] = max(p.kept[h.Log], h.Seq)
	}
	if at, _, ok := c.echoed(now, in); ok && (!p.leased || at > p.lease) {
		p.leased, p.lease = true, at
	}
}

// bound reports whether this site writes what is homed under a lease only: it is on record, or about to be, and no other member can think
// that it still is once it is not.
func (c *Core) bound() bool {
	t := c.leases.tenures.of(c.cfg.Site)
	switch {
	case c.leases.binding != nil && c.leases.binding.note.Leased:
		return true
	case t.where.Seq == 0:
		return false
	case t.said.Leased:
		return true
	}
	for _, p := range c.peers {
		if slices.Contains(c.leases.members, p.name) && p.heads[t.where.Log].Seq < t.where.Seq {
			return true
		}
	}
	return false
}

// lease returns until when, by Instant.Mono, no other site can agree that this one's cells are taken over; else why that is not known.
func (c *Core) lease(now Instant) (until time.Duration, err error) {
	l := &c.leases
	if !l.told {
		return 0, fmt.Errorf("%w: what is on record of takeovers is being read", ErrAway)
	}
	if err := c.forgotten(); err != nil && len(c.peers) > 1 {
		return 0, fmt.Errorf("%w: what it has agreed to may be forgotten: %w", ErrAway, err)
	}
	if !c.bound() {
		return math.MaxInt64, nil
	}
	if l.members == nil {
		return 0, fmt.Errorf("%w: it is not known yet who takes part", ErrAway)
	}
	t := l.tenures.of(c.cfg.Site)
	if t.said.Knows < uint64(len(t.done)) {
		return 0, fmt.Errorf("%w: its cells were taken over, and that it knows that is not on record yet", ErrAway)
	}
	acknowledged := []time.Duration{}
	for _, p := range c.peers {
		if p.leased && slices.Contains(l.members, p.name) {
			acknowledged = append(acknowledged, p.lease)
		}
	}
	slices.Sort(acknowledged)
	need := len(l.members) / 2 // beside itself
	if need == 0 {
		return math.MaxInt64, nil
	}
	if len(acknowledged) >= need {
		until = acknowledged[len(acknowledged)-need] + c.cfg.Lease
	}
	if now.Mono >= until {
		others := only(l.members, []string{c.cfg.Site})
		silent := only(others, c.acknowledging(now))
		return 0, fmt.Errorf("%w: of the %d other sites, %d do not acknowledge that it is there, and may let another one take over: %s",
			ErrAway, len(others), len(silent), strings.Join(silent, ", "))
	}
	return until, nil
}

// acknowledging returns the members that acknowledge this site's lease at present.
func (c *Core) acknowledging(now Instant) (out []string) {
	for _, p := range c.peers {
		if p.leased && now.Mono < p.lease+c.cfg.Lease && slices.Contains(c.leases.members, p.name) {
			out = append(out, p.name)
		}
	}
	return out
}

// silent reports whether this site has not heard another one for so long that no lease stands of those that it has acknowledged, now or
// before it started.
func (c *Core) silent(now Instant, site string) bool {
	if now.Mono-c.origin.since < c.cfg.TakeOver {
		return false
	}
	p := c.peer(site)
	return p != nil && now.Mono-p.heard >= c.cfg.TakeOver
}

// agrees reports whether this site may agree that another one takes over from a site.
func (c *Core) agrees(now Instant, site, taker string) bool {
	l := &c.leases
	t := l.tenures.of(site)
	if !l.auto || l.tenures.of(c.cfg.Site).where.Log != c.own || len(l.members) < 3 || !slices.Contains(l.members, site) || !slices.Contains(l.members, taker) ||
		!t.said.Leased || t.said.Knows < uint64(len(t.done)) || t.binds(c.cfg.Site) || !c.silent(now, site) {
		return false
	}
	for from, other := range l.tenures { // what the site itself is about to take is not known yet
		a := l.attempts[from]
		if other.open(agreement{c.cfg.Site, site}) || a != nil && a.agrees != nil && a.agrees.note.Taker == site {
			return false
		}
	}
	return true
}

// over reports whether a log is of an earlier life of its site, as far as is known.
func (c *Core) over(log eventstore.LogID) bool {
	if log.Site == c.own.Site {
		return log != c.own
	}
	p := c.peer(log.Site)
	return p != nil && p.log.Incarnation > log.Incarnation
}

// forgotten returns nil when the site knows of its earlier lives what is to be known (Whole), and that of takeovers, too.
func (c *Core) forgotten() error {
	if err := c.Whole(); err != nil || c.own.Incarnation == 1 || c.leases.whole.done(c.store) {
		return err
	}
	return fmt.Errorf("%w: what has come back of earlier lives of %s is being taken in", ErrUnconfirmed, c.own.Site)
}

// mayVote reports whether the site knows in this life all that it may have known in an earlier one. In its first life it has forgotten
// nothing. What it says of its leases in a life stands for that, once.
func (c *Core) mayVote() bool {
	return c.own.Incarnation == 1 || c.leases.tenures.of(c.cfg.Site).where.Log == c.own || c.leases.voter.done(c.store)
}

// hasAll reports whether the site has in this life all that it may have held in an earlier one, and others may have been told that it
// holds: every other member has answered since it started, and what that had then is here.
func (c *Core) hasAll(now Instant) bool {
	for _, p := range c.peers {
		if slices.Contains(c.leases.members, p.name) && !p.knows {
			return false
		}
		for _, h := range p.first {
			if c.whatIsMissing(now, p.name, h) != "" {
				return false
			}
		}
	}
	return true
}

// alone reports whether all other members are heard, and hear a site no more: so that an attempt would not be in vain.
func (c *Core) alone(now Instant, site string) bool {
	for _, member := range c.leases.members {
		if member == c.cfg.Site || member == site {
			continue
		}
		p := c.peer(member)
		if p == nil || !p.ever || now.Mono-p.heard >= c.cfg.Suspect {
			return false
		}
		if heard, ever := p.hears[site]; ever && now.Mono-heard < c.cfg.TakeOver {
			return false
		}
	}
	return true
}

// successor returns the member that is to take over from a site: the next by name.
func (l *leases) successor(site string) string {
	i, _ := slices.BinarySearch(l.members, site)
	return l.members[(i+1)%len(l.members)]
}

// standIn says what is to be on record about takeovers: whether this site goes by leases, that it agrees to what others propose, and what
// comes of what it proposes itself. What is not on record yet is said again with each heartbeat.
func (c *Core) standIn(now Instant, out *Effects) {
	l := &c.leases
	if !l.told || l.members == nil || c.Writable() != nil || c.forgotten() != nil || !c.clock.found && len(c.peers) > 0 {
		return // by a clock that nobody has seen it would say things of the future, at which the others look when that has come
	}
	say := func(e *Entry) *Entry {
		out.Entries = append(out.Entries, *e)
		return e
	}
	again := now.Mono >= c.nextBeat
	own := l.tenures.of(c.cfg.Site)
	if b := l.binding; b != nil && own.where != b.after {
		l.binding = nil
	}
	switch bind := l.auto && len(l.members) > 2; {
	case l.binding != nil && again:
		say(l.binding)
	case l.binding != nil || !c.mayVote():
	case bind && (!own.said.Leased || own.where.Log != c.own) || !bind && own.said.Leased || own.where.Seq > 0 && own.said.Knows < uint64(len(own.done)):
		l.binding = say(&Entry{c.cfg.Site, TakeoverBound, takeoverNote{Leased: bind, Knows: uint64(len(own.done))}, own.where})
	}
	for _, p := range c.peers {
		t, a := l.tenures.of(p.name), l.attemptAt(p.name)
		if a.agrees != nil && t.agreed[agreement{c.cfg.Site, a.agrees.note.Taker}].Round >= a.agrees.note.Round {
			a.agrees = nil
		}
		if a.ends != nil && max(t.ended[a.ends.note.Taker], t.released[agreement{c.cfg.Site, a.ends.note.Taker}]) >= a.ends.note.Round {
			a.ends = nil
		}
		if pending := a.pending(); pending != nil {
			if again {
				say(pending)
			}
			continue
		}
		c.attempt(now, p, t, a)
		if pending := a.pending(); pending != nil {
			say(pending)
		}
	}
}

// pending returns what is not on record yet.
func (a *attempt) pending() *Entry {
	if a.agrees != nil {
		return a.agrees
	}
	return a.ends
}

// attempt decides what to do about taking over from a site.
func (c *Core) attempt(now Instant, p *peer, t *tenure, a *attempt) {
	l, self := &c.leases, c.cfg.Site
	end := func(kind, taker string, round uint64, reason string) {
		a.ends = &Entry{site: p.name, kind: kind, note: takeoverNote{Taker: taker, Round: round, Reason: reason}}
	}
	agree := func(taker string, round uint64) {
		a.agrees = &Entry{site: p.name, kind: TakeoverAgreed, note: takeoverNote{Taker: taker, Round: round, Among: slices.Clone(l.members)}}
	}
	if made := t.agreements(self); len(made) > 0 { // one, unless it has forgotten some in between
		who := made[0]
		round := t.agreed[who].Round
		log, short := c.lacksCopies(p.name)
		switch {
		case who.taker != self && !slices.Contains(l.members, who.taker):
			end(TakeoverEnded, who.taker, round, "site "+who.taker+" is no member any more")
		case who.taker != self: // it is for the taker
		case a.round != round:
			end(TakeoverEnded, self, round, "it has started since")
		case p.ever && now.Mono-p.heard < now.Mono-a.since:
			end(TakeoverEnded, self, round, "it is heard again")
		case len(t.lacks(p.name, self, round, c.over)) == 0 && !short:
			end(TakeoverDone, self, round, fmt.Sprintf("no other site has heard it for %s: %s", c.cfg.TakeOver, strings.Join(only(t.agreed[who].Among, []string{p.name}), ", ")))
		case now.Mono-a.since >= c.cfg.TakeOver:
			why := "another site had more of " + log.String() + " than is here"
			if lacks := t.lacks(p.name, self, round, c.over); len(lacks) > 0 {
				why = "not agreed to by " + strings.Join(lacks, ", ")
			}
			end(TakeoverEnded, self, round, why)
			a.again = now.Mono + c.cfg.TakeOver
		}
		return
	}
	if n, ok := t.proposed(l.members); ok {
		if n.Taker != self && c.agrees(now, p.name, n.Taker) {
			agree(n.Taker, n.Round)
		}
		return
	}
	if len(l.members) > 2 && l.takes && l.successor(p.name) == self && now.Mono >= a.again && c.agrees(now, p.name, self) && c.alone(now, p.name) {
		a.round, a.since = t.agreed[agreement{self, self}].Round+1, now.Mono
		agree(self, a.round)
	}
}
