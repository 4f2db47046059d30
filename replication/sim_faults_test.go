package replication_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/replication"
)

// plan is how large a history is, and what of all that can go wrong does so in it.
type plan struct {
	sites, clients int
	config         replication.Config // of every core
	late           bool               // one site begins when the others have worked for a while
	duration       time.Duration
	think          time.Duration // of a client between two commands, at most
	linkDelay      time.Duration // of a record in the topic until it is read, at most
	mirrorDelay    time.Duration // of a durable event until it is in the topic, at most

	between time.Duration // two faults, on average
	kinds   []fault
	forks   bool // a disk and a topic forget the same

	// Probabilities: of a message, of an answer to a client, of a receipt, of a record.
	dropped, duplicated, slowMessages            float64
	answerLost, storeBusy                        float64
	linkFaults                                   bool
	recordsDropped, recordsDuplicated, reordered float64

	// vaults: some streams are written at one site alone, auto: sites take over from each other; moves and isolations are how long it is
	// between two of them, on average.
	vaults, auto      bool
	forgetful         bool // and sites forget what they have agreed to, or what they had of others
	moves, isolations time.Duration
}

// fault is a kind of what goes wrong.
type fault int

// The kinds of faults. Those from messageDropped on are counted, and not drawn.
const (
	partition fault = iota
	oneWay
	flapping
	topicCut
	ownTopicCut
	crash
	restore
	rollback
	clockJump
	clockDrift
	retention
	topicRecreated
	topicTailLost
	slowMirror
	stalledDisk
	linkFromStart
	linkTooFar
	stoppedProcess
	wrongStart
	twoForget
	isolated
	copiesForgotten
	votesForgotten
	takersCutOff
	messageDropped
	messageDuplicated
	recordDropped
	recordDuplicated
	recordsReordered
	receiptRefused
	livesBegun
	takenForGone
	jumpsFollowed
	cellsMoved
	takeoversDone
	takeoversEnded
	takesRefused
	numberFaults
)

var faultNames = [numberFaults]string{
	"partitions", "one-way cuts", "flapping cuts", "topics out of reach", "own topics out of reach", "crashes", "restores", "rollbacks",
	"clock jumps", "clock drifts", "retentions", "topics made anew", "topic tails lost", "slow mirrors", "stalled disks",
	"links from the start", "links too far", "processes that stood still", "starts with a wrong clock", "disks and topics that forget the same", "sites cut off from all others", "copies forgotten", "agreements forgotten",
	"takers cut off", "messages dropped", "messages twice", "records dropped", "records twice",
	"runs of records out of order", "receipts refused by a busy store", "lives begun", "sites taken for gone that went on", "jumps that others agreed with",
	"cells moved", "sites taken over from", "takeovers given up", "cells on their way that were not taken",
}

// drawPlan draws what a history is to be like.
func drawPlan(random *rand.Rand) plan {
	p := plan{
		sites: 2 + random.IntN(3), clients: 3 + random.IntN(4), duration: time.Duration(3+random.IntN(6)) * time.Second,
		think: time.Duration(30+random.IntN(150)) * time.Millisecond, linkDelay: 15 * time.Millisecond, mirrorDelay: 10 * time.Millisecond,
		between: time.Duration(150+random.IntN(900)) * time.Millisecond,
	}
	p.config.TopicPatience, p.config.ClockWait = 3*time.Second, 1500*time.Millisecond
	if random.IntN(3) == 0 {
		p.config.MaxWaiting, p.config.MaxReceive, p.config.MaxPull = 25+random.IntN(40), 1+random.IntN(10), 1+random.IntN(10)
	}
	p.late = random.IntN(4) == 0
	sometimes := func(p float64) float64 {
		if random.IntN(2) == 0 {
			return 0
		}
		return p * random.Float64()
	}
	p.dropped, p.duplicated, p.slowMessages, p.answerLost = sometimes(0.2), sometimes(0.3), sometimes(0.2), sometimes(0.2)
	if p.linkFaults = random.IntN(3) > 0; p.linkFaults {
		p.recordsDropped, p.recordsDuplicated, p.reordered = sometimes(0.1), sometimes(0.6), sometimes(0.6)
	}
	p.storeBusy = sometimes(0.3)
	if random.IntN(4) == 0 {
		p.linkDelay *= 20
	}
	// A topic that forgets and a disk that forgets at one site are one fault more than a site can find by itself: what only
	// the two had is known to nobody then. A history has the one or the other.
	forgets := [2]bool{}
	forgets[random.IntN(2)] = true
	// In some they do all the same, at the same place: a log forks, and all that can be wanted is that it is noticed.
	if p.forks = random.IntN(12) == 0; p.forks {
		p.duration = 8 * time.Second // for it takes its time
	}
	for kind := range twoForget {
		if kind == rollback && !forgets[0] || (kind == topicTailLost || kind == topicRecreated) && !forgets[1] {
			continue
		}
		if random.IntN(2) == 0 {
			p.kinds = append(p.kinds, kind)
		}
	}
	if slices.Contains(p.kinds, rollback) {
		p.duration += 4 * time.Second // for who was put back is to do something again
		// Where nobody's clock is wrong a start waits for nobody's word on it. What that says would tell of what was lost, too, and hide
		// who forgets to look.
		if !slices.ContainsFunc(p.kinds, func(k fault) bool { return k == clockJump || k == clockDrift || k == wrongStart }) {
			p.config.ClockWait = -1
		}
	}
	return p
}

// topicsForget reports whether topics lose what they had: no disk does then without saying so.
func (p *plan) topicsForget() bool {
	return slices.Contains(p.kinds, topicTailLost) || slices.Contains(p.kinds, topicRecreated)
}

// faults has things go wrong, and counts them.
type faults struct {
	counts [numberFaults]int
	w      *world
}

func (f *faults) count(kind fault) { f.counts[kind]++ }

func (f *faults) begin(w *world) {
	f.w = w
	for _, s := range w.sites {
		w.after(w.upTo(w.plan.duration), s.backup)
		w.after(w.upTo(w.plan.duration), s.backup)
	}
	if w.plan.forks {
		w.after(w.between(500*time.Millisecond, 2*time.Second), func() { f.happen(twoForget) })
	}
	f.next()
}

// next has a fault come in a while.
func (f *faults) next() {
	if len(f.w.plan.kinds) == 0 {
		return
	}
	f.w.after(time.Duration(f.w.rand.ExpFloat64()*float64(f.w.plan.between)), func() {
		if f.w.calm {
			return
		}
		f.happen(f.w.plan.kinds[f.w.rand.IntN(len(f.w.plan.kinds))])
		f.next()
	})
}

// happen lets a fault happen now, and end in a while.
func (f *faults) happen(kind fault) {
	w := f.w
	s := w.sites[w.rand.IntN(len(w.sites))]
	if !s.up || s.stopped {
		return
	}
	f.count(kind)
	w.note(noteFault, uint64(kind), uint64(s.index))
	w.tracef("%s: %s", s.name, faultNames[kind])
	t := s.topic
	switch kind {
	case partition, oneWay, flapping, topicCut, ownTopicCut:
		f.cut(kind, s, w.other(s))
	case crash:
		s.crash()
		s.startIn(w.between(50*time.Millisecond, 3*time.Second))
	case restore, rollback:
		if w.chance(0.5) { // to what there was a moment ago, as a disk does that has not kept what it said it had
			s.backup()
			if w.chance(0.5) {
				f.slowMirror(6 * time.Second)
			}
			f.end(w.between(100*time.Millisecond, 2500*time.Millisecond), func() {
				if s.up {
					f.putBack(s, s.backups[len(s.backups)-1], kind == restore)
				}
			})
		} else {
			// Later backups are of a history that is given up: dots may be given again that nobody has seen but they.
			s.backups = s.backups[:1+w.rand.IntN(len(s.backups))]
			f.putBack(s, s.backups[len(s.backups)-1], kind == restore)
		}
	case twoForget:
		s.backup()
		f.end(w.between(400*time.Millisecond, 1500*time.Millisecond), func() {
			if s.up {
				f.putBack(s, s.backups[len(s.backups)-1], false)
				s.topic.forgetBehind(s.log.DurableHeads())
				f.deafen(s, s.downTo-w.now+w.between(time.Second, 3*time.Second))
			}
		})
	case clockJump:
		s.clock.set(w.now, w.skew(), s.clock.rate)
		f.end(w.between(time.Second, 6*time.Second), func() { s.clock.set(w.now, w.now, s.clock.rate) })
	case clockDrift:
		s.clock.set(w.now, s.clock.wallAt(w.now), 1+(w.rand.Float64()-0.5)/10)
		f.end(w.between(time.Second, 6*time.Second), func() { s.clock.set(w.now, w.now, 1) })
	case retention:
		s.topic.forget(w.rand.IntN(len(t.records) + 1))
		w.oracle.excuse()
	case topicRecreated:
		*t = topic{}
		w.oracle.excuse()
	case topicTailLost:
		t.records = t.records[:len(t.records)-w.rand.IntN(min(len(t.records), 30)+1)]
		w.oracle.excuse()
	case slowMirror:
		f.slowMirror(w.between(200*time.Millisecond, 2*time.Second))
	case stalledDisk:
		s.stalled = true
		f.end(w.between(time.Second, 3*time.Second), func() { s.stalled = false })
	case stoppedProcess:
		if d := w.between(200*time.Millisecond, 6*time.Second); w.chance(0.5) {
			s.stops = d // in the middle of a command
		} else {
			s.stop(d)
		}
	case wrongStart:
		f.startWrong(s)
	case linkFromStart:
		s.links[w.other(s).index].offset = 0
	case linkTooFar:
		s.links[w.other(s).index].offset += 1 + w.rand.IntN(100)
	}
}

// end has a fault end in a while; calm ends those that are left.
func (f *faults) end(d time.Duration, do func()) {
	f.w.after(d, func() {
		if !f.w.calm {
			do()
		}
	})
}

// slowMirror has all mirrors take up to d for a while.
func (f *faults) slowMirror(d time.Duration) {
	f.w.plan.mirrorDelay = d
	f.end(f.w.between(time.Second, 3*time.Second), func() { f.w.plan.mirrorDelay = 10 * time.Millisecond })
}

// cut keeps a site from another, or from a topic, for a while.
func (f *faults) cut(kind fault, s, o *site) {
	var d time.Duration
	if kind != flapping {
		d = f.w.between(100*time.Millisecond, 5*time.Second)
	}
	f.cutFor(kind, s, o, d)
}

// cutFor is cut, for so long; one that flaps does it in its own time.
func (f *faults) cutFor(kind fault, s, o *site, d time.Duration) {
	w := f.w
	set := func(cut bool) {
		switch kind {
		case partition, flapping:
			for _, pair := range [][2]int{{s.index, o.index}, {o.index, s.index}} {
				w.network.sites[pair[0]][pair[1]] = cut
				w.network.topics[pair[0]][pair[1]] = cut
			}
		case oneWay:
			w.network.sites[s.index][o.index] = cut
		case topicCut:
			w.network.topics[s.index][o.index] = cut
		case ownTopicCut:
			w.network.topics[s.index][s.index] = cut
		}
	}
	set(true)
	if kind != flapping {
		f.end(d, func() { set(false) })
		return
	}
	at := time.Duration(0)
	for i := range 2 * (1 + w.rand.IntN(8)) {
		at += w.between(10*time.Millisecond, 500*time.Millisecond)
		f.end(at, func() { set(i%2 == 1) })
	}
}

// deafen keeps a site from hearing others for a while.
func (f *faults) deafen(s *site, d time.Duration) {
	set := func(deaf bool) {
		for _, o := range f.w.sites {
			f.w.network.sites[o.index][s.index] = deaf && o != s
			f.w.network.topics[s.index][o.index] = deaf && o != s
		}
	}
	set(true)
	f.end(d, func() { set(false) })
}

// backup keeps a copy of what is durable.
func (s *site) backup() {
	if !s.up || s.w.calm {
		return
	}
	s.backups = append(s.backups, s.log.Copy(hlc.New(func() time.Time { return epoch })))
}

// putBack has a site go on from an old backup: restored as one restores a backup, which begins another life; or without a
// word, as when a folder or a virtual machine is put back. That takes longer than any message is under way.
func (f *faults) putBack(s *site, backup *memstore.Log, noticed bool) {
	w := f.w
	s.crash()
	s.log = backup.Copy(s.newClock())
	s.view.crashed, s.heads = nil, nil
	if noticed {
		known := uint32(0)
		for _, t := range w.oracle.logs {
			if t.id.Site == s.name {
				known = max(known, t.id.Incarnation)
			}
		}
		s.life(max(known, s.log.ID().Incarnation) + 1)
		s.log.Live(max(known, s.log.ID().Incarnation) + 1)
	}
	w.putBack = true
	w.oracle.putBack(s)
	w.oracle.forgets(s)
	s.startIn(w.between(2*longestFlight, 4*time.Second))
	if !noticed && w.chance(0.4) { // and then nobody tells it at once what it has lost
		f.deafen(s, s.downTo-w.now+w.between(300*time.Millisecond, 2*time.Second))
	}
}

// startIn has a site that is down start in a while.
func (s *site) startIn(d time.Duration) {
	s.downTo = s.w.now + d
	s.w.after(d, func() {
		s.w.tracef("%s starts", s.name)
		s.start()
	})
}

// skew draws how wrong a clock is: from a tenth of a second to an hour, either way.
func (w *world) skew() time.Duration {
	wrong := time.Duration(math.Pow(10, w.rand.Float64()*4.55-1) * float64(time.Second))
	if w.rand.IntN(2) == 0 {
		wrong = -wrong
	}
	return w.now + wrong
}

func (c *clock) wallAt(now time.Duration) time.Duration { return c.at(now).Wall.Sub(epoch) }

// forget drops the oldest records.
func (t *topic) forget(n int) {
	t.first += n
	t.records = t.records[n:]
}

// forgetBehind drops the newest records, from the first event on that heads do not have.
func (t *topic) forgetBehind(heads []eventstore.LogHead) {
	for i := range t.records {
		e := &t.records[i].event
		if t.records[i].beat == nil && !slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log == e.Dot.Log && e.Dot.Seq <= h.Seq }) {
			t.records = t.records[:i]
			return
		}
	}
}

// beCalm ends all that goes wrong. Clocks are set right; where events were given a time that is still to come, it is waited
// for, as everybody else has to.
func (w *world) beCalm() {
	w.calm = true
	w.tracef("calm")
	w.network.mend()
	w.plan.mirrorDelay, w.plan.linkDelay, w.plan.slowMessages, w.plan.answerLost = 10*time.Millisecond, 15*time.Millisecond, 0, 0
	for _, s := range w.sites {
		s.stalled = false
		s.clock.set(w.now, w.now, 1)
		s.goOn()
	}
	for _, s := range w.sites {
		w.runUntil(max(w.now, s.downTo))
	}
	if w.ring != nil { // sites record by themselves, so each has to know first what time it is
		w.runUntil(w.now + mostHeld)
	}
	var latest hlc.Timestamp
	for _, s := range w.sites {
		latest = max(latest, s.hlc.Now())
	}
	for _, t := range w.oracle.logs {
		for _, b := range t.births {
			latest = max(latest, b.hlc)
		}
	}
	if ahead := latest.Time().Sub(epoch) - w.now; ahead > 0 {
		w.tracef("%s pass", ahead)
		w.now += ahead
	}
}
