package replication

import (
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// What is known to exist may have been lost everywhere: with a disk that was put back to an earlier state, before it had come to another
// site, and from the topic of its site. Who waits for it would wait for ever. Only events of a life that is over can be gone; those of a
// present one are on the disk of their site, or it begins another life.

// TopicHas answers a Reread of the site's own topic: of Log, which is held up to After, it has whole batches up to Through that can be read,
// one behind the other; the next one is enough to look for. Empty says that nothing is in it, or it is not there. It is not given while the
// topic cannot be read.
type TopicHas struct {
	Log            eventstore.LogID
	After, Through uint64
	Empty          bool
}

func (TopicHas) input() {}

// gone reports whether nobody has an event of another site's earlier life, or of one of this site's: all other sites have answered what this
// one has said since it started, none has it, and the site that it is of has read its topic.
func (c *Core) gone(d eventstore.Dot) bool {
	if d.Log.Site == c.own.Site {
		if d.Log == c.own {
			return false
		}
		t := c.track(d.Log)
		return t.lost != 0 && d.Seq >= t.lost
	}
	owner := c.peer(d.Log.Site)
	return owner != nil && owner.read && owner.log.Incarnation > d.Log.Incarnation && c.nobodyHas(d)
}

// nobodyHas reports whether all other sites have answered in this life of the log, and none says that it has an event.
func (c *Core) nobodyHas(d eventstore.Dot) bool {
	for _, p := range c.peers {
		if !p.knows || p.heads[d.Log].Seq >= d.Seq {
			return false
		}
	}
	return true
}

// mayCome reports whether somebody has an event of another site, or may find that it has: a site that has not read its topic yet does not
// know all that there is of it.
func (c *Core) mayCome(now Instant, d eventstore.Dot) bool {
	for _, p := range c.peers {
		if p.heads[d.Log].Seq >= d.Seq || p.name == d.Log.Site && !p.read && now.Mono-p.heard < c.cfg.Down {
			return true
		}
	}
	return false
}

// mourn has nobody wait any more for events that are gone.
func (c *Core) mourn(out *Effects) {
	for _, t := range c.logs {
		next := eventstore.Dot{Log: t.log, Seq: t.held.Seq + 1}
		switch {
		case t.known < next.Seq || t.broken != "" || t.writing:
		case t.log.Site != c.own.Site:
			if c.gone(next) {
				t.known, t.missing = t.held.Seq, false
			}
		case c.origin.topic && t.whole(next.Seq) && c.orphaned(t, next.Seq):
			c.lament(t, "what it was decided with is nowhere", out)
		}
	}
}

// orphaned reports whether a batch was decided with something that is gone.
func (c *Core) orphaned(t *track, seq uint64) bool {
	for i := range uint64(max(t.waiting[seq].Batch.Count, 1)) {
		for _, d := range t.waiting[seq+i].Dep {
			if d.Log != t.log && !c.holds(d) && c.gone(d) {
				return true
			}
		}
	}
	return false
}

// topicHas takes whether what comes next of an earlier life of the site's own log is left in its topic. What is neither there nor at any other
// site is gone. How the topic ends, and begins, does not tell: in between it may lack what was never in it again, or cannot be read.
func (c *Core) topicHas(in *TopicHas, out *Effects) {
	t := c.track(in.Log)
	next := eventstore.Dot{Log: t.log, Seq: t.held.Seq + 1}
	switch {
	case in.Empty: // it was made anew, and is about to be filled
	case !c.origin.topic || t.log.Site != c.own.Site || in.After != t.held.Seq:
	case t.known < next.Seq || t.broken != "" || t.writing || t.whole(next.Seq):
	default:
		there := in.Through >= next.Seq
		if !there && c.nobodyHas(next) {
			c.lament(t, "neither its topic nor any other site has them", out)
		}
	}
}

// lament notes that the rest of an earlier life of the site's own log is gone.
func (c *Core) lament(t *track, why string, out *Effects) {
	out.alarm(AlarmLost, t.log, c.cfg.Site, "the events of %s from seq %d to %d are lost for good: %s", t.log, t.held.Seq+1, t.known, why)
	t.lost, t.known, t.missing = t.held.Seq+1, t.held.Seq, false
	clear(t.waiting)
	for i := range c.origin.ends {
		if h := &c.origin.ends[i]; h.Log == t.log {
			*h = t.held
		}
	}
}

// found has what was taken for gone be waited for again, for somebody has it.
func (t *track) found(seq uint64) {
	if t.lost != 0 && seq >= t.lost {
		t.lost = 0
	}
	t.known = max(t.known, seq)
}

// whatIsMissing says what a site has of a log that is not here and may still come; nothing when all is here.
func (c *Core) whatIsMissing(now Instant, site string, h eventstore.LogHead) string {
	if h.Log == c.own {
		return ""
	}
	if t := c.track(h.Log); t.held.Seq < h.Seq && t.broken == "" && c.mayCome(now, eventstore.Dot{Log: h.Log, Seq: t.held.Seq + 1}) {
		return fmt.Sprintf("of %s %d events are here, and site %s has %d", h.Log, t.held.Seq, site, h.Seq)
	}
	return ""
}
