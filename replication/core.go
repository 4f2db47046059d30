package replication

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Core is one site's part in the replication of all. It is for one goroutine.
type Core struct {
	cfg   Config
	store Storage
	own   eventstore.LogID
	logs  []*track // of every other log, in the order of LogID.Compare
	peers []*peer  // in the order of their names

	origin   originLog
	clock    clockGuard
	vigil    vigil
	leases   leases
	nextBeat time.Duration
	nextPull uint64 // ID
}

// New returns the core of a site whose store is open. own is the store's log.
func New(c Config, own eventstore.LogID, s Storage, now Instant) *Core {
	core := &Core{cfg: c.withDefaults(), store: s, own: own, leases: leases{tenures: tenures{}}}
	core.origin = originLog{since: now.Mono, patience: patience{seen: now.Mono}, confirmed: len(c.Peers) == 0 || c.Begun, known: own.Incarnation}
	core.clock = clockGuard{began: now.Mono, compared: len(c.Peers) == 0 || c.ClockWait < 0, origin: now.Wall.Add(-now.Mono)}
	core.nextBeat = now.Mono
	core.others(now, c.Peers)
	core.vigil.begin(now, core.peers)
	core.vigil.spoke = now.Mono
	for _, h := range s.Heads() {
		if h.Log != own {
			core.track(h.Log).held = h
		}
	}
	return core
}

// Step takes what happened and returns what is to be done about it. random is for choices that may fall either way.
func (c *Core) Step(now Instant, random *rand.Rand, in Input) Effects {
	var out Effects
	c.wake(now)
	c.clock.shift(now, c.peers)
	c.origin.pass(now, &c.cfg)
	switch in := in.(type) {
	case Arrived:
		c.arrived(in.Events, &out)
	case Heartbeat:
		c.heard(now, &in, &out)
	case Pulled:
		c.pulled(now, &in, &out)
	case Received:
		c.received(in.Head, &out)
	case Refused:
		c.refused(now, &in, &out)
	case Mirrored:
		c.origin.add(c.own, in.Dot)
	case TopicAnswers:
		c.origin.silent, c.origin.empty = 0, in.Empty
	case Topic:
		c.topicRead(in.Heads, &out)
	case TopicHas:
		c.topicHas(&in, &out)
	case Others:
		c.others(now, in.Sites)
	case OnRecord:
		c.onRecord(in.Events, &out)
	case Members:
		c.leases.members, c.leases.auto, c.leases.takes = slices.Sorted(slices.Values(in.Sites)), in.Auto, in.Takes
	case Tick:
	}
	c.clock.judge(now, c, &out)
	c.beginLife(now, random, &out)
	if out.Life != 0 {
		return out
	}
	// What one log gets may be what another waits for, but only once it is durable: one round is enough.
	for _, t := range c.logs {
		c.advance(now, t, &out)
	}
	for _, t := range c.logs {
		c.seek(now, random, t, &out)
		t.behind(now)
	}
	c.settle(now)
	c.standIn(now, &out)
	c.beat(now, random, &out)
	out.Wake = c.due(now)
	return out
}

// others has the core go on with the sites that are named: what it knows of those that are no longer goes.
func (c *Core) others(now Instant, names []string) {
	c.peers = slices.DeleteFunc(c.peers, func(p *peer) bool { return !slices.Contains(names, p.name) })
	for _, name := range names {
		if c.peer(name) == nil {
			c.peers = append(c.peers, &peer{name: name, heard: now.Mono, heads: map[eventstore.LogID]eventstore.LogHead{}})
		}
	}
	slices.SortFunc(c.peers, func(a, b *peer) int { return strings.Compare(a.name, b.name) })
}

// beat speaks of the site when it is time.
func (c *Core) beat(now Instant, random *rand.Rand, out *Effects) {
	if now.Mono < c.nextBeat {
		return
	}
	c.nextBeat = now.Mono + c.cfg.Heartbeat
	heads := slices.Clone(c.store.Heads())
	c.clock.floor = latestOf(heads)
	for i := range heads {
		if h := &heads[i]; c.origin.mayLeave(c.own, h.Log) < h.Seq {
			most := c.origin.mayLeave(c.own, h.Log)
			*h = eventstore.LogHead{Log: h.Log}
			if chain, held := c.store.ChainAt(h.Log, most); held { // else nothing can be said of it
				h.Seq, h.Chain = most, chain
			}
		}
	}
	for _, end := range c.origin.ends {
		i, found := slices.BinarySearchFunc(heads, end, func(a, b eventstore.LogHead) int { return a.Log.Compare(b.Log) })
		switch {
		case !found:
			heads = slices.Insert(heads, i, end)
		case heads[i].Seq < end.Seq:
			heads[i] = end
		}
	}
	out.Beat = &Heartbeat{Site: c.cfg.Site, Log: c.own, Heads: heads, Wall: now.Wall, Jump: now.Jump, Sent: c.vigil.says(now, random), Grants: c.grants(), Read: c.origin.topic, Direct: true}
	for _, p := range c.peers {
		if p.ever {
			out.Beat.Echoes = append(out.Beat.Echoes, Echo{p.name, p.sent, now.Mono - p.said})
		}
	}
}

// latestOf returns the time of the last event of all logs.
func latestOf(heads []eventstore.LogHead) time.Time {
	var latest hlc.Timestamp
	for _, h := range heads {
		latest = max(latest, h.HLC)
	}
	return latest.Time()
}

// due returns when something is due that only time brings.
func (c *Core) due(now Instant) time.Duration {
	at := c.nextBeat
	for _, t := range c.logs {
		if due, waits := t.due(now, &c.cfg); waits {
			at = min(at, due)
		}
	}
	return max(at, now.Mono)
}

// track returns what is known of a log, which begins with nothing held.
func (c *Core) track(log eventstore.LogID) *track {
	i, found := slices.BinarySearchFunc(c.logs, log, func(t *track, log eventstore.LogID) int { return t.log.Compare(log) })
	if !found {
		c.logs = slices.Insert(c.logs, i, newTrack(log))
	}
	return c.logs[i]
}

// holds reports whether an event is durable here.
func (c *Core) holds(d eventstore.Dot) bool {
	if d.Log != c.own {
		return d.Seq <= c.track(d.Log).held.Seq
	}
	if d.Seq > c.origin.durable {
		c.origin.durable = c.ownHead().Seq
	}
	return d.Seq <= c.origin.durable
}

func (c *Core) ownHead() eventstore.LogHead {
	for _, h := range c.store.Heads() {
		if h.Log == c.own {
			return h
		}
	}
	return eventstore.LogHead{Log: c.own, Chain: eventstore.ChainStart(c.own)}
}

// peer is another site.
type peer struct {
	name string
	// heard is when it last spoke for itself, ever whether it has: before that, heard is since when it could have.
	heard time.Duration
	ever  bool
	// heads is how far it holds each log, as far as it has said.
	heads map[eventstore.LogID]eventstore.LogHead
	clock otherClock
	// sent is Heartbeat.Sent of the last one, which came at said; answered and claims are what it had when it answered (vigil).
	sent     uint64
	said     time.Duration
	answered bool
	claims   []eventstore.LogHead
	// log is the site's own, in its present life; read says that heads has all that its topic does, of its earlier lives too; knows that it
	// has answered something that was said since this site has started, first what it had when it first did.
	log   eventstore.LogID
	read  bool
	knows bool
	first []eventstore.LogHead
	// hears is when it last heard other sites, as it says; grants that it acknowledges this site's leases; lease is when the last heartbeat
	// was sent that it has acknowledged, if leased; kept is how far it held each log when it last did.
	hears  map[string]time.Duration
	grants bool
	leased bool
	lease  time.Duration
	kept   map[eventstore.LogID]uint64
	twins  twins
}

func (c *Core) peer(name string) *peer {
	for _, p := range c.peers {
		if p.name == name {
			return p
		}
	}
	return nil
}

// overtaken reports whether a heartbeat was sent before one that has come, by the same process: one that stood still takes what lay in its
// sockets in any order, and messages take different ways. What it says is not so any more: a wait for what the site has had since would end.
// Another process counts from another moment, by which it is told apart.
func (p *peer) overtaken(in *Heartbeat, c *Config) bool {
	return in.Sent < p.sent && p.sent-in.Sent < uint64(2*c.Down)
}

// heard takes what a site says of itself.
func (c *Core) heard(now Instant, in *Heartbeat, out *Effects) {
	p := c.peer(in.Site)
	if p == nil {
		return // of this site itself, from its own topic, or of one that nobody has named
	}
	if in.Partial {
		c.heardMore(now, p, in)
		return
	}
	if in.Direct && p.overtaken(in, &c.cfg) {
		return
	}
	if in.Direct {
		p.heard, p.ever = now.Mono, true
		c.read(now, p, in)
		p.turn(now, p.log, in.Log, out)
		p.sent, p.said, p.log, p.read = in.Sent, now.Mono, in.Log, in.Read
		if _, _, ok := c.echoed(now, in); ok && !p.knows {
			p.knows, p.first = true, in.Heads
		}
		c.answers(now, p, in, out)
		c.granted(now, p, in)
		p.hears = map[string]time.Duration{}
		for _, e := range in.Echoes {
			p.hears[e.Site] = now.Mono - e.After
		}
		clear(p.heads) // a site that was put back to an earlier state has less than it once had
	}
	for _, h := range in.Heads {
		if last, ok := p.heads[h.Log]; !ok || last.Seq <= h.Seq {
			p.heads[h.Log] = h
		}
		c.origin.life(c.own, h.Log)
		if h.Log == c.own {
			c.compareOwn(h, in.Site, out)
			continue
		}
		if in.Direct {
			c.doubled(now, h, in.Site, out)
			c.leases.hears(in.Site, h)
		}
		t := c.track(h.Log)
		t.found(h.Seq)
		c.compare(t, h, in.Site, out)
	}
	if in.Direct {
		c.mourn(out)
	}
}

// heardMore takes what a site holds beyond what it said before. It counts once the site has said all that it holds, which was
// compared with what is held here; what it has added is compared when it next says all.
func (c *Core) heardMore(now Instant, p *peer, in *Heartbeat) {
	if !p.ever {
		return
	}
	p.heard = now.Mono
	c.granted(now, p, in)
	for _, h := range in.Heads {
		if p.heads[h.Log].Seq < h.Seq {
			p.heads[h.Log] = h
		}
		c.origin.life(c.own, h.Log)
		if h.Log != c.own {
			c.track(h.Log).found(h.Seq)
			c.leases.hears(in.Site, h)
		}
	}
}

// alarm says something that people should know.
func (e *Effects) alarm(kind AlarmKind, log eventstore.LogID, site, format string, args ...any) {
	e.Alarms = append(e.Alarms, Alarm{Kind: kind, Log: log, Site: site, Text: fmt.Sprintf(format, args...)})
}
