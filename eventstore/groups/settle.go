package groups

import (
	"fmt"
	"time"
)

// maxReason bounds the reason of a parked event, in bytes.
const maxReason = 500

// fullPause is how long an event waits that ought to be parked when too many are.
const fullPause = 5 * time.Second

// resolve does something with an event that a member has, after it was taken from the member.
func (g *group) resolve(d *Delivery, do func(*item)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	it := d.item
	if it.member != d.member || it.token != d.token {
		return fmt.Errorf("event at %s: %w", d.Event.Position, ErrLeaseLost)
	}
	g.takeBack(it)
	do(it)
	g.dispatch()
	return nil
}

// finish settles the first event of its lane.
func (g *group) finish(it *item) {
	l := it.lane
	l.pop()
	if it.replay {
		l.parked.version = it.event.Version + 1
		g.checkpoint.parkedChanged = true
		g.moved()
	} else {
		g.settled(it)
		g.trim()
	}
	g.goOn(l)
}

// settled notes that an event of the window is settled.
func (g *group) settled(it *item) {
	g.bytes -= len(it.event.Payload)
	*it = item{lsn: it.lsn, settled: true}
	g.moved()
}

// moved notes that there is more for a checkpoint to say.
func (g *group) moved() {
	g.checkpoint.settled++
	if g.checkpoint.settled == 1 || g.checkpoint.settled >= g.owner.options.CheckpointEvents {
		g.nudge()
	}
}

// goOn sees to a lane whose first event is settled.
func (g *group) goOn(l *lane) {
	switch {
	case len(l.queue) > 0:
		g.offer(l)
	case l.parked != nil:
		if l.parked.retry {
			g.refill(l)
		}
	default:
		delete(g.lanes, l.key)
	}
}

// fail takes an event that failed back into its lane, or parks it when it has failed too often.
func (g *group) fail(it *item, after time.Duration, reason string) {
	it.reason = reason
	if it.tries >= g.settings.MaxTries {
		g.park(it, reason)
		return
	}
	g.delay(it, after)
}

// delay has an event wait before it is handed out again.
func (g *group) delay(it *item, after time.Duration) {
	if after <= 0 {
		g.offer(it.lane)
		return
	}
	it.delayed, it.deadline = true, time.Now().Add(after)
	g.watch(it)
}

// park sets an event aside. What waits behind it in its stream is read again when its time comes.
func (g *group) park(it *item, reason string) {
	l := it.lane
	if reason = clip(reason); it.replay {
		p := l.parked
		p.position, p.version, p.reason, p.tries, p.at, p.retry = it.lsn, it.event.Version, reason, it.tries, time.Now(), false
		p.typ = it.event.Type
		l.queue = nil
		g.checkpoint.parkedChanged = true
		g.moved()
		return
	}
	if len(g.parked) >= g.owner.options.MaxParked {
		g.problem = fmt.Sprintf("%d events are parked, the limit: events that fail are tried on and on; retry or skip some", len(g.parked))
		g.delay(it, fullPause)
		return
	}
	p := &parked{
		position: it.lsn, version: it.event.Version, typ: it.event.Type,
		reason: reason, tries: it.tries, at: time.Now(), until: it.lsn,
	}
	key := l.key
	g.checkpoint.parkedChanged = true
	if g.settings.PassOver {
		key.lsn = it.lsn
		g.lanes[key] = &lane{key: key, parked: p}
		g.parked[key] = p
		g.finish(it)
		return
	}
	g.parked[key] = p
	l.parked = p
	for _, behind := range l.queue {
		p.until = behind.lsn
		g.settled(behind)
	}
	l.queue = nil
	g.trim()
}

// clip bounds a reason, and keeps it valid UTF-8.
func clip(reason string) string {
	n := 0
	for i, r := range reason {
		if i >= maxReason {
			break
		}
		n = i + len(string(r))
	}
	return reason[:min(n, len(reason))]
}

// expire takes back what is held beyond its lease, and has what was delayed go on. It returns when to look again; zero is
// never.
func (g *group) expire(now time.Time) time.Time {
	for len(g.deadlines) > 0 {
		d := g.deadlines[0]
		if d.at.After(now) {
			return d.at
		}
		g.deadlines.drop()
		it := d.item
		switch {
		case it.token != d.token:
		case it.delayed:
			it.delayed = false
			g.offer(it.lane)
		case it.deadline.After(now): // was extended
			g.watch(it)
		default:
			reason := fmt.Sprintf("not settled within its lease of %s by member %s", g.settings.Lease, it.member.name)
			g.takeBack(it)
			g.fail(it, 0, reason)
		}
	}
	return time.Time{}
}
