package replication

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// track is what the core knows of one log of another site, or of an earlier life of its own.
type track struct {
	log  eventstore.LogID
	held eventstore.LogHead // what the store has, durably
	// known is the highest seq that anybody has spoken of.
	known uint64
	// lost, when not 0, is from which seq on the log is gone, for good as far as is known.
	lost uint64
	// waiting holds events after held by seq: what came before others that are missing, or before what it depends on.
	waiting map[uint64]*eventstore.Recorded
	// claims are heads that sites have named beyond held, to be compared when it comes there.
	claims []claim

	// writing says that the store has been given events and has not answered.
	writing bool
	// retry is before when the store is not asked again, after it has refused.
	retry time.Duration
	// skewed says that the next event is from the future, until when its time has come by this site's clock.
	skewed bool
	until  time.Duration

	// mark is a seq that was known to exist at marked, and is not held yet; 0: all that is known is held.
	mark   uint64
	marked time.Duration

	// missing says that the event after held is not here, since when it is not.
	missing bool
	since   time.Duration
	// pull is the ID of the pull under way, 0 when there is none, and when it is given up; asked is who was asked last, unless
	// he gave something, and vain says that he did not.
	pull   uint64
	asked  string
	vain   bool
	giveUp time.Duration
	// flows says that pulls have brought something, and that there is more.
	flows bool
	// again is before when the topic is not read again.
	again time.Duration

	// broken says why the log is not received any further.
	broken string
}

// behind notes since when, at least, something is known that is not held.
func (t *track) behind(now Instant) {
	switch {
	case t.known <= t.held.Seq:
		t.mark = 0
	case t.held.Seq >= t.mark: // what was waited for is here
		t.mark, t.marked = t.known, now.Mono
	}
}

// claim is what a site has of a log.
type claim struct {
	site string
	head eventstore.LogHead
}

func newTrack(log eventstore.LogID) *track {
	return &track{
		log: log, held: eventstore.LogHead{Log: log, Chain: eventstore.ChainStart(log)},
		waiting: map[uint64]*eventstore.Recorded{},
	}
}

// arrived takes events that a link brought.
func (c *Core) arrived(events []eventstore.Recorded, out *Effects) {
	for i := range events {
		e := &events[i]
		log := e.Dot.Log
		c.origin.life(c.own, log)
		if log == c.own {
			if e.Dot.Seq > c.ownHead().Seq {
				c.lose(out, log.Site, "event "+e.Dot.String()+" has come back, which is not here")
			}
			continue
		}
		c.track(log).keep(e, c.cfg.MaxWaiting)
	}
}

// keep keeps an event until its turn. What is held already, and what is too far ahead, is not kept.
func (t *track) keep(e *eventstore.Recorded, most int) {
	seq := e.Dot.Seq
	if t.lost != 0 && seq >= t.lost {
		return
	}
	t.known = max(t.known, seq)
	if seq <= t.held.Seq || seq > t.held.Seq+uint64(most) || t.broken != "" {
		return
	}
	if _, have := t.waiting[seq]; !have {
		t.waiting[seq] = e
	}
}

// advance gives the store what its turn has come for.
func (c *Core) advance(now Instant, t *track, out *Effects) {
	if t.writing || t.broken != "" || now.Mono < t.retry {
		return
	}
	// Of much that waits little may be ready, step by step: a log may depend on another one event by event. So room is made for what is.
	ready := 0
	t.skewed = false
	for ready < c.cfg.MaxReceive {
		first := t.held.Seq + uint64(ready) + 1
		if !t.whole(first) {
			break
		}
		count := uint64(max(t.waiting[first].Batch.Count, 1))
		if !c.ready(now, t, first, count, out) {
			break
		}
		ready += int(count)
	}
	if ready == 0 {
		return
	}
	run := make([]eventstore.Recorded, ready)
	for i := range run {
		run[i] = *t.waiting[t.held.Seq+uint64(i)+1]
	}
	t.writing = true
	out.Receive = append(out.Receive, Receive{t.log, run})
}

// whole reports whether the events of the batch that begins at a seq are all here.
func (t *track) whole(seq uint64) bool {
	first := t.waiting[seq]
	if first == nil {
		return false
	}
	for i := uint64(1); i < uint64(first.Batch.Count); i++ {
		if t.waiting[seq+i] == nil {
			return false
		}
	}
	return true
}

// ready reports whether the batch of so many events that begins at a seq, all of which are here, may be received now: what it was
// decided with is here, and it is not from the future.
func (c *Core) ready(now Instant, t *track, first, count uint64, out *Effects) bool {
	ready := true
	for i := range count {
		e := t.waiting[first+i]
		for _, d := range e.Dep {
			if d.Log == t.log || c.holds(d) {
				continue
			}
			ready = false
			c.origin.life(c.own, d.Log)
			if d.Log == c.own {
				c.lose(out, t.log.Site, "event "+e.Dot.String()+" was decided with "+d.String()+", which is not here")
				continue
			}
			if other := c.track(d.Log); !c.gone(d) {
				other.known = max(other.known, d.Seq)
			}
		}
		if early := e.Time().Sub(c.clock.latest(now)) - c.cfg.MaxSkew; early > 0 {
			if !t.skewed && t.until < now.Mono {
				out.alarm(AlarmSkew, t.log, t.log.Site, "event %s is of %s, and here it is %s: its log waits for %s", e.Dot, e.Time(), now.Wall.UTC(), early)
			}
			t.skewed, t.until = true, now.Mono+early
			return false
		}
	}
	return ready
}

// received takes that the store has what it was given.
func (c *Core) received(head eventstore.LogHead, out *Effects) {
	t := c.track(head.Log)
	t.writing = false
	if head.Seq <= t.held.Seq {
		return
	}
	for seq := t.held.Seq + 1; seq <= head.Seq; seq++ {
		delete(t.waiting, seq)
	}
	t.held, t.missing = head, false
	t.known = max(t.known, head.Seq)
	claims := t.claims
	t.claims = nil
	for _, cl := range claims {
		c.compare(t, cl.head, cl.site, out)
	}
}

// refused takes that the store has not taken what it was given.
func (c *Core) refused(now Instant, in *Refused, out *Effects) {
	t := c.track(in.Log)
	t.writing = false
	var fork *eventstore.ForkError
	switch {
	case errors.As(in.Err, &fork):
		c.breakOff(t, AlarmFork, t.log.Site, in.Err.Error(), out)
	case eventstore.ClassOf(in.Err) == eventstore.Transient:
		t.retry = now.Mono + c.cfg.GapTimer
	case errors.Is(in.Err, eventstore.ErrReadOnly):
		t.retry = now.Mono + c.cfg.PullTimeout
	default:
		// What came cannot be so; it may be better from elsewhere.
		out.alarm(AlarmUnordered, t.log, t.log.Site, "what came of %s is not taken: %v", t.log, in.Err)
		clear(t.waiting)
		t.retry = now.Mono + c.cfg.GapTimer
	}
}

// compare compares a log with what a site says that it has of it. What it has beyond is compared when it is here.
func (c *Core) compare(t *track, theirs eventstore.LogHead, site string, out *Effects) {
	if theirs.Seq == 0 || t.broken != "" {
		return
	}
	if theirs.Seq > t.held.Seq {
		i := slices.IndexFunc(t.claims, func(cl claim) bool { return cl.site == site })
		if i < 0 {
			t.claims = append(t.claims, claim{site, theirs})
		} else if t.claims[i].head.Seq < theirs.Seq && !t.close(t.claims[i].head.Seq) {
			t.claims[i].head = theirs
		}
		return
	}
	ours := t.held.Chain
	if theirs.Seq < t.held.Seq {
		var held bool
		if ours, held = c.store.ChainAt(t.log, theirs.Seq); !held {
			return // it cannot be compared
		}
	}
	if ours != theirs.Chain {
		c.breakOff(t, AlarmFork, site, "at seq "+eventstore.Dot{Log: t.log, Seq: theirs.Seq}.String()+" "+site+" has other events than this site", out)
	}
}

// close reports whether a seq is about to be reached: a claim there is kept, lest it be put off for ever.
func (t *track) close(seq uint64) bool { return seq <= t.held.Seq+uint64(len(t.waiting)) }

// breakOff stops receiving a log.
func (c *Core) breakOff(t *track, kind AlarmKind, site, why string, out *Effects) {
	if t.broken != "" {
		return
	}
	t.broken = why
	clear(t.waiting)
	t.claims, t.pull = nil, 0
	out.Broken = append(out.Broken, t.log)
	out.alarm(kind, t.log, site, "%s", why)
}

// pulled takes the answer to a pull.
func (c *Core) pulled(now Instant, in *Pulled, out *Effects) {
	t := c.track(in.Log)
	if t.pull == in.ID {
		t.pull, t.since = 0, now.Mono
	}
	if in.Err != nil || len(in.Events) == 0 {
		t.vain, t.flows = true, false // whoever has said that he has it has it no more
		return
	}
	t.vain, t.asked = false, ""
	if t.broken != "" {
		return
	}
	if in.After <= t.held.Seq {
		c.compare(t, eventstore.LogHead{Log: t.log, Seq: in.After, Chain: in.Chain}, in.Site, out)
	}
	for i := range in.Events {
		if in.Events[i].Dot.Log == t.log {
			t.keep(&in.Events[i], c.cfg.MaxWaiting)
		}
	}
	t.flows = true
}

// seek asks for what is missing of a log, when it has had the time to come by itself.
func (c *Core) seek(now Instant, random *rand.Rand, t *track, out *Effects) {
	if t.broken != "" || t.writing {
		return
	}
	next := t.held.Seq + 1
	if t.whole(next) || t.known < next {
		t.missing = false
		t.flows = t.flows && t.known >= next
		return
	}
	if !t.missing {
		t.missing, t.since = true, now.Mono
		if t.flows { // what is missing behind what was pulled need not wait for the timer
			t.since -= c.cfg.GapTimer
		}
	}
	if t.pull != 0 && now.Mono < t.giveUp || now.Mono-t.since < c.cfg.GapTimer {
		return
	}
	site := c.holder(random, t, next)
	t.vain = t.vain || t.pull != 0 || site == ""
	if t.vain && now.Mono >= t.again {
		t.again = now.Mono + c.cfg.PullTimeout
		out.Rereads = append(out.Rereads, Reread{t.log, t.held.Seq})
	}
	if site == "" {
		t.since = now.Mono // somebody will say that he has it, or it is in the topic still
		return
	}
	c.nextPull++
	t.pull, t.asked, t.giveUp = c.nextPull, site, now.Mono+c.cfg.PullTimeout
	out.Pulls = append(out.Pulls, Pull{
		ID: t.pull, Site: site, Log: t.log, After: t.held.Seq, Through: min(t.known, t.held.Seq+uint64(c.cfg.MaxPull)),
	})
}

// holder chooses whom to ask for an event: somebody who says that he has it, and was not the last one asked in vain if there
// is another.
func (c *Core) holder(random *rand.Rand, t *track, seq uint64) string {
	var all, others []string
	for _, p := range c.peers {
		if p.heads[t.log].Seq < seq {
			continue
		}
		all = append(all, p.name)
		if p.name != t.asked {
			others = append(others, p.name)
		}
	}
	if len(others) > 0 {
		all = others
	}
	if len(all) == 0 {
		return ""
	}
	return all[random.IntN(len(all))]
}

// due returns when the log needs a step that only time brings.
func (t *track) due(now Instant, c *Config) (at time.Duration, waits bool) {
	switch {
	case t.broken != "" || t.writing:
		return 0, false
	case t.missing && t.pull != 0:
		return max(t.giveUp, t.since+c.GapTimer), true
	case t.missing:
		return t.since + c.GapTimer, true
	case len(t.waiting) > 0 && t.retry > now.Mono:
		return t.retry, true
	case t.skewed:
		return t.until, true
	}
	return 0, false
}
