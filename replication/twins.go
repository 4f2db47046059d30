package replication

import (
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// A site that runs twice, from its folder and from a copy of that, cannot fork its log: the copy finds that its topic goes on
// without it, and begins a life of its own. But both call themselves by one name, others answer whichever comes, and what the copy
// acknowledges is in its topic alone. It shows in heartbeats that are now of one life, now of the other; a site that begins another
// life speaks in the earlier one no more.

const (
	// manyTurns is how often a site has to speak in another life than just before: late heartbeats make it a few.
	manyTurns = 8
	// turnsWithin is how long one turn may come after the other.
	turnsWithin = 5 * time.Second
	// doubledAfter is how long after a process has started events of another life are no more of a process before, with clocks that differ.
	doubledAfter = 5 * time.Second
)

// twins is what is known of a peer that may run twice.
type twins struct {
	turned time.Duration // when it spoke in another life last
	turns  int           // one after the other
}

// turn notes in which life the site speaks for itself, before is the one in which it did last.
func (p *peer) turn(now Instant, before, log eventstore.LogID, out *Effects) {
	if before == log || before == (eventstore.LogID{}) {
		return
	}
	t := &p.twins
	if now.Mono-t.turned > turnsWithin {
		t.turns = 0
	}
	t.turned = now.Mono
	if t.turns++; t.turns == manyTurns {
		out.alarm(AlarmTwins, log, p.name, "two processes call themselves site %s, one in life %d of its log, one in life %d: it runs twice, from a copy of its folder. "+
			"Stop the one that should not run; what that has acknowledged may be in its folder alone", p.name, min(before.Incarnation, log.Incarnation), max(before.Incarnation, log.Incarnation))
	}
}

// doubled notes that another site gets events of another life of this site's log that were recorded since this site runs: somebody else goes
// on under its name, such as a process with an empty folder, or with a copy of this one. It is said once for each life. What is older, or was
// there already when this site first heard of it, is its own past, whatever its number, and whatever its clock was.
func (c *Core) doubled(now Instant, theirs eventstore.LogHead, site string, out *Effects) {
	o, log := &c.origin, theirs.Log
	started := now.Wall.Add(o.since - now.Mono)
	if !o.confirmed || log == c.own || log.Site != c.own.Site || log.Shard != c.own.Shard || log.Incarnation == o.doubled {
		return
	}
	first, heard := o.others[log]
	if !heard {
		if o.others == nil {
			o.others = map[eventstore.LogID]uint64{}
		}
		o.others[log] = theirs.Seq
	}
	if !heard || theirs.Seq <= first || theirs.HLC.Time().Before(started.Add(doubledAfter)) {
		return
	}
	o.doubled = log.Incarnation
	out.alarm(AlarmTwins, log, c.cfg.Site, "site %s has events of life %d of this site's log that are younger than this process, which writes life %d: another process calls itself site %s, "+
		"with another folder, and others may acknowledge its lease and not this one's. Stop the one that should not run; what that has acknowledged may be in its folder alone",
		site, log.Incarnation, c.own.Incarnation, c.cfg.Site)
}
