package replication_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/replication"
)

// site is one of the sites: clocks, a log that a crash can cut, the core under test, a topic of its own, and a link to that of
// every other site.
type site struct {
	w     *world
	index int
	name  string

	up     bool
	boot   int   // counts crashes and starts: what was begun in an earlier one is not done any more
	clock  clock // of the machine
	steady *hlc.Steady
	hlc    *hlc.Clock // of the log
	log    *memstore.Log
	core   *replication.Core
	// said is what it has heard of others' clocks since its core has begun, by their indexes; hears are those that it last heard, if any.
	said [][]said
	// answered says that some site has answered since, moved by index which have moved.
	answered bool
	moved    []bool
	hears    []int
	// keeper is nil where nothing is written at one site alone.
	keeper *keeper

	topic  *topic
	mirror mirror
	links  []*link // by the index of the site whose topic it reads; the own one, for earlier lives, is read at the start and when the core asks for it

	syncing bool
	stalled bool // the disk takes its time
	begun   bool // the log has begun the life that it is in since it was opened
	stopped bool // the process does not run; what is to happen in it lies in late
	late    []lateWork
	stops   time.Duration    // for how long the process is to stand still when it decides on a command; 0: it is not to
	gone    []absence        // since it went on, what others had done while they may have taken it for gone
	peering []eventstore.Dot // of vaults, born here in any life, which no other site is known to have
	waiting []promise        // for the log to be durable, in the order of place
	heads   []replicaHead    // kept until more is durable
	ticking time.Duration    // when the core is stepped next, unless something comes before
	backups []*memstore.Log
	downTo  time.Duration // when it starts again, while it is down

	// What the oracle knows of it.
	view view
	says string // of its clock, to who reads along
}

type replicaHead = eventstore.LogHead

// promise is something that is said once the log is durable up to a place.
type promise struct {
	place uint64
	keep  func()
}

// clock is a site's time of day and its monotonic clock: both may run fast or slow, and the time of day may be wrong.
type clock struct {
	since time.Duration // of the world's
	mono  time.Duration // then
	wall  time.Duration // then, after epoch
	rate  float64
}

func (c *clock) at(now time.Duration) replication.Instant {
	passed := time.Duration(float64(now-c.since) * c.rate)
	return replication.Instant{Mono: c.mono + passed, Wall: epoch.Add(c.wall + passed)}
}

// set has the clock go on from now with its time of day moved, at another rate.
func (c *clock) set(now, wall time.Duration, rate float64) {
	c.mono, c.wall, c.since, c.rate = c.at(now).Mono, wall, now, rate
}

// until returns how long it is in the world's time until the monotonic clock shows mono.
func (c *clock) until(now, mono time.Duration) time.Duration {
	return time.Duration(float64(mono-c.at(now).Mono)/c.rate) + time.Microsecond
}

// found makes a site that has never been there before.
func (s *site) found() {
	s.topic = &topic{}
	s.clock = clock{rate: 1}
	s.log = memstore.NewLog(memstore.Options{
		LogID: eventstore.LogID{Site: s.name, Incarnation: 1, Shard: 1}, Clock: s.newClock(), NewID: s.newID, Fence: s.check,
	})
	s.backups = append(s.backups, s.log.Copy(hlc.New(func() time.Time { return epoch }))) // a disk that is new
	s.links = make([]*link, len(s.w.sites))
	for i, owner := range s.w.sites {
		s.links[i] = &link{to: s, owner: owner}
	}
}

func (s *site) newID() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], s.w.rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], s.w.rand.Uint64())
	return id
}

// within has something done when some time has passed, if the site has not crashed by then.
func (s *site) within(d time.Duration, do func()) {
	boot := s.boot
	s.w.after(d, func() {
		s.runs(func() {
			if s.up && s.boot == boot {
				do()
			}
		})
	})
}

// decided has what a command has led to recorded when some time has passed, if the site has not crashed by then.
func (s *site) decided(d time.Duration, do func()) {
	boot := s.boot
	s.w.after(d, func() {
		s.runsWork(lateWork{decided: true, do: func() {
			if s.up && s.boot == boot {
				do()
			}
		}})
	})
	if s.stops > 0 {
		s.stop(s.stops)
	}
}

// start opens the site over what its disk has.
func (s *site) start() {
	s.boot++
	s.up = true
	s.log = s.log.Copy(s.newClock())
	s.mirror, s.waiting, s.syncing, s.heads = mirror{}, nil, false, nil
	s.stopped, s.stops, s.late, s.gone, s.peering = false, 0, nil, nil, nil
	s.begun = false
	s.w.oracle.opened(s)
	s.beginCore()
}

// beginCore has a core, links and mirror go on from what is durable.
func (s *site) beginCore() {
	var peers []string
	for _, p := range s.w.sites {
		if p != s {
			peers = append(peers, p.name)
		}
	}
	s.ticking = 0
	s.said, s.hears, s.answered = make([][]said, len(s.w.sites)), nil, false
	s.moved = make([]bool, len(s.w.sites))
	c := s.w.plan.config
	c.Site, c.Peers = s.name, peers
	s.core = replication.New(c, s.log.ID(), storage{s}, s.instant())
	s.step(replication.Tick{})
	s.beginKeeper()
	for _, l := range s.links {
		l.begin()
	}
	s.readOwnTopic()
}

// readOwnTopic tells the core and the mirror what the site has published, as soon as that can be read.
func (s *site) readOwnTopic() {
	s.within(s.w.between(5*time.Millisecond, 300*time.Millisecond), func() {
		if s.w.network.topics[s.index][s.index] {
			s.readOwnTopic()
			return
		}
		s.compareTopic()
		heads := s.topic.heads()
		// A topic without events tells that nothing was ever published only where nothing ever was in it, or nothing could be; else the
		// others have to be heard, where the log has none either.
		events := slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Seq > 0 })
		switch own := s.view.own(s.w, s.name); {
		case events, s.begun, own == 0 && s.topic.end() == 0:
			s.step(replication.Topic{Heads: heads})
		case own == 0:
			s.whenAllHeard(func() { s.step(replication.Topic{Heads: heads}) })
		}
		s.wakeMirror()
	})
}

// whenAllHeard has something done when every other site has been heard since the core began.
func (s *site) whenAllHeard(do func()) {
	core := s.core
	s.within(10*time.Millisecond, func() {
		switch {
		case s.core != core || core == nil:
		case slices.ContainsFunc(core.Status(s.instant()).Peers, func(p replication.PeerStatus) bool { return p.Heard < 0 }):
			s.whenAllHeard(do)
		default:
			do()
		}
	})
}

// crash ends the site. Of what was not durable a part may be on disk all the same.
func (s *site) crash() {
	s.up = false
	s.boot++
	s.core = nil
	s.endKeeper()
	unsynced := int(s.log.Accepted().LSN - s.log.Durable().LSN)
	kept := 0
	if unsynced > 0 {
		kept = s.w.rand.IntN(unsynced + 1)
	}
	s.log.Crash(kept)
	s.w.note(noteCrash, uint64(s.index), s.log.Durable().LSN)
	s.w.tracef("%s crashes, %d of %d unsynced events are on disk", s.name, kept, unsynced)
	s.w.oracle.durable(s)
	s.w.oracle.crashed(s)
}

// step gives something to the core, and does what comes of it.
func (s *site) step(in replication.Input) {
	if s.core == nil {
		return
	}
	now := s.instant()
	effects := s.core.Step(now, s.w.rand, in)
	s.listen(now)
	s.w.note(noteStep, uint64(s.index), uint64(len(effects.Receive)), uint64(len(effects.Pulls)), uint64(effects.Wake))
	s.traceStep(in, &effects)
	for _, a := range effects.Alarms {
		s.w.oracle.alarm(s, a)
	}
	s.w.oracle.early(s, effects.Receive)
	if effects.Follow != 0 {
		s.follow(effects.Follow)
	}
	for _, r := range effects.Receive {
		s.receive(r)
	}
	for _, p := range effects.Pulls {
		s.pull(p)
	}
	for _, r := range effects.Rereads {
		s.reread(r)
	}
	if s.keeper != nil {
		s.keeper.enter(effects.Entries)
	}
	if effects.Beat != nil {
		s.beat(*effects.Beat)
	}
	if effects.Life != 0 {
		s.live(effects.Life)
		return
	}
	if beat, ok := in.(replication.Heartbeat); ok && beat.Direct {
		s.w.oracle.peered(s)
		s.w.oracle.acknowledge(s)
	}
	if effects.Wake <= now.Mono {
		s.w.oracle.violated("the core", "%s wants to be stepped again at once, after %T", s.name, in)
	}
	s.wakeAt(effects.Wake)
}

// wakeAt has the core stepped when its monotonic clock shows that time.
func (s *site) wakeAt(mono time.Duration) {
	at := s.w.now + max(s.clock.until(s.w.now, mono), 0)
	if s.ticking > s.w.now && s.ticking <= at {
		return
	}
	s.ticking = at
	core := s.core
	s.within(at-s.w.now, func() {
		if s.ticking == at && s.core == core {
			s.ticking = 0
			s.step(replication.Tick{})
		}
	})
}

func (s *site) beat(b replication.Heartbeat) {
	b.Direct = false
	s.beatToTopic(b)
	b.Direct = true
	for _, p := range s.w.sites {
		if p != s {
			wrong := b.Wall.Sub(epoch) - s.w.now
			s.w.send(s, p, func() {
				p.hear(s, wrong)
				p.step(b)
			})
		}
	}
}

// pull asks another site for events. The answer comes, or does not.
func (s *site) pull(p replication.Pull) {
	for _, from := range s.w.sites {
		if from.name == p.Site {
			s.w.send(s, from, func() {
				answer := from.answer(p)
				from.within(from.w.between(100*time.Microsecond, 5*time.Millisecond), func() {
					from.w.send(from, s, func() { s.step(answer) })
				})
			})
		}
	}
}

var errNotHeld = errors.New("the log is not held that far")

// answer gives the events that a pull asks for, as far as they are durable here.
func (s *site) answer(p replication.Pull) replication.Pulled {
	chain, held := storage{s}.ChainAt(p.Log, p.After)
	if !held {
		return replication.Pulled{Pull: p, Err: errNotHeld}
	}
	events := s.log.OfLog(p.Log, p.After, 1<<16)
	if own := s.log.ID(); p.Log == own || p.Log.Site == s.name && s.mirror.published[own].Seq == 0 { // of which nothing leaves the site except what is in its topic
		published := s.mirror.published[p.Log].Seq
		events = events[:min(uint64(len(events)), max(published, p.After)-p.After)]
	}
	for i := range events {
		if events[i].Dot.Seq >= p.Through && events[i].EndsBatch() {
			events = events[:i+1]
			break
		}
	}
	return replication.Pulled{Pull: p, Chain: chain, Events: wholeBatches(events, 1+s.w.rand.IntN(200))}
}

// receive has the store take in what the core asks for.
func (s *site) receive(r replication.Receive) {
	s.within(s.storeDelay(), func() {
		if !s.w.calm && s.w.chance(s.w.plan.storeBusy) {
			s.w.faults.count(receiptRefused)
			s.step(replication.Refused{Log: r.Log, Err: eventstore.ErrUnavailable})
			return
		}
		at, err := s.log.Receive(r.Events)
		if err != nil {
			s.w.tracef("%s: the store refuses %s: %v", s.name, r.Log, err)
			s.step(replication.Refused{Log: r.Log, Err: err})
			return
		}
		s.whenDurable(at.LSN, func() {
			s.step(replication.Received{Head: s.headOf(r.Log)})
		})
	})
}

func (s *site) headOf(log eventstore.LogID) eventstore.LogHead {
	for _, h := range (storage{s}).Heads() {
		if h.Log == log {
			return h
		}
	}
	return eventstore.LogHead{Log: log, Chain: eventstore.ChainStart(log)}
}

// whenDurable has something said when the log is durable up to a place.
func (s *site) whenDurable(place uint64, keep func()) {
	if place <= s.log.Durable().LSN {
		keep()
		return
	}
	s.waiting = append(s.waiting, promise{place, keep})
	if !s.syncing {
		s.syncing = true
		s.within(s.storeDelay(), s.sync)
	}
}

func (s *site) storeDelay() time.Duration {
	if s.stalled {
		return s.w.between(100*time.Millisecond, time.Second)
	}
	return s.w.between(50*time.Microsecond, 4*time.Millisecond)
}

func (s *site) sync() {
	s.syncing = false
	s.log.Sync()
	s.isDurable()
}

// isDurable says what was to be said when the log is durable.
func (s *site) isDurable() {
	s.heads = nil
	s.w.note(noteDurable, uint64(s.index), s.log.Durable().LSN)
	s.w.oracle.durable(s)
	s.wakeMirror()
	kept, boot := s.waiting, s.boot
	s.waiting = nil
	for _, p := range kept {
		if s.boot == boot {
			p.keep()
		}
	}
	if s.boot == boot && s.keeper != nil {
		s.keeper.goOn()
	}
}

// live begins another life of the log, and a core that goes on from there.
func (s *site) live(incarnation uint32) {
	s.w.faults.count(livesBegun)
	s.core = nil
	s.endKeeper()
	s.within(s.storeDelay(), func() {
		s.w.tracef("%s begins life %d", s.name, incarnation)
		s.life(incarnation)
		s.log.Sync()
		s.w.oracle.durable(s)
		s.log.Live(incarnation)
		s.isDurable()
		s.begun = true
		s.beginCore()
	})
}

// life notes that the site's log is about to begin another life, whose number nobody may have had.
func (s *site) life(incarnation uint32) {
	for _, t := range s.w.oracle.logs {
		if t.id.Site == s.name && t.id.Incarnation >= incarnation && len(t.births) > 0 {
			s.w.oracle.violated("I14", "%s begins life %d, and there was %s", s.name, incarnation, t.id)
		}
	}
}

// storage is what the core asks of a site's store.
type storage struct{ s *site }

func (v storage) Heads() []eventstore.LogHead {
	if v.s.heads == nil {
		v.s.heads = v.s.log.DurableHeads()
	}
	return v.s.heads
}

func (v storage) Durable() uint64 { return v.s.log.Durable().LSN }

func (v storage) TakenIn() uint64 {
	if v.s.keeper == nil {
		return 0
	}
	return v.s.keeper.fence.TakenIn()
}

func (v storage) ChainAt(log eventstore.LogID, seq uint64) (chain eventstore.Hash, held bool) {
	if seq == 0 {
		return eventstore.ChainStart(log), true
	}
	events := v.s.log.OfLog(log, seq-1, 1)
	if len(events) == 0 {
		return chain, false
	}
	return events[0].Chain, true
}
