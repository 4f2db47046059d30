package groups

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// group is one group: its state, and the coordinator of its members while it runs.
type group struct {
	owner    *Groups
	name     string
	stream   eventstore.StreamID
	settings Settings
	filter   eventstore.Filter

	saving sync.Mutex // held while a checkpoint is written, before mu

	mu      sync.Mutex // guards what follows
	gone    error      // why the group is no more; nil while it is
	closing bool       // it is not to start any more
	running bool
	// epoch tells one run of the coordinator from the next, so that nothing of the one before gets into it.
	epoch     uint64
	cancel    context.CancelFunc
	room      chan struct{} // tells the reader of this run that the window has shrunk
	nudges    chan struct{} // tells the keeper of this run that there is something to do
	members   map[string]*Member
	emptyAt   time.Time // when the last member left
	waiters   []*waiter
	ready     []*lane
	lanes     map[laneKey]*lane
	parked    map[laneKey]*parked
	refills   []*lane // whose parked events are to be read
	deadlines deadlines
	tokens    uint64
	problem   string // what keeps the group from going on

	// window is what was read from the first event that is not settled on, in the order of the log; bytes is the sum of its
	// payloads. readTo is how far the log was read, and above what was settled beyond that in the life before.
	window []*item
	bytes  int
	readTo uint64
	above  []span
	// tried is how often what was not settled when the run before ended had been handed out, by lsn, until it is read again.
	tried map[uint64]int

	checkpoint checkpointState
}

// waiter is a call of Next that waits.
type waiter struct {
	member *Member
	given  chan *Delivery // of capacity 1
}

func newGroup(owner *Groups, name string, k *known) *group {
	s := k.settings
	chunk := min(owner.options.Window, 256)
	return &group{
		owner: owner, name: name, stream: k.stream, settings: s, filter: s.filter(chunk),
		members: map[string]*Member{}, lanes: map[laneKey]*lane{}, parked: map[laneKey]*parked{}, tried: map[uint64]int{},
	}
}

// start has the coordinator run, if it does not. REQUIRES: mu is held and the group is not gone.
func (g *group) start() {
	if g.running {
		return
	}
	g.running, g.problem = true, ""
	g.epoch++
	epoch := g.epoch
	ctx, cancel := context.WithCancel(g.owner.life)
	g.cancel = cancel
	room, nudges := make(chan struct{}, 1), make(chan struct{}, 1)
	g.room, g.nudges = room, nudges
	for _, key := range g.parkedKeys() {
		if g.parked[key].retry {
			g.refill(g.lanes[key])
		}
	}
	g.owner.work.Go(func() { g.read(ctx, epoch, room) })
	g.owner.work.Go(func() { g.keep(ctx, epoch, nudges) })
}

// stop ends the coordinator and takes everything back; what is settled stays known, and so do the tries of what is
// not. REQUIRES: mu is held.
func (g *group) stop() {
	if g.running {
		g.running = false
		g.epoch++
		g.cancel()
	}
	g.readTo, g.above = g.settledTo()
	for _, m := range g.members {
		clear(m.held)
	}
	for _, it := range g.window {
		it.member, it.token = nil, 0
	}
	for key, l := range g.lanes {
		for _, it := range l.queue {
			it.member, it.token = nil, 0
			if it.tries > 0 {
				g.tried[it.lsn] = it.tries
			}
		}
		l.queue, l.queued = nil, false
		if l.parked == nil {
			delete(g.lanes, key)
		} else {
			l.parked.reading = false
		}
	}
	g.window, g.bytes, g.ready, g.refills, g.deadlines = nil, 0, nil, nil, nil
}

// end stops the group for good, and says why to those who wait. REQUIRES: mu is held.
func (g *group) end(why error) {
	if g.gone != nil {
		return
	}
	g.gone = why
	g.stop()
	for _, m := range g.members {
		m.leave(why)
	}
}

// add takes what was read; false when the coordinator that read it is no more.
func (g *group) add(epoch uint64, chunk *eventstore.Chunk) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.epoch != epoch {
		return false
	}
	for i := range chunk.Events {
		if e := &chunk.Events[i]; !eventstore.IsSystemCategory(e.Stream.Category) {
			g.take(e)
		}
	}
	g.readTo = chunk.Position.LSN
	g.problem = ""
	g.trim()
	g.dispatch()
	return true
}

func (g *group) take(e *eventstore.Recorded) {
	it := &item{lsn: e.Position.LSN}
	g.window = append(g.window, it)
	if spanned(g.above, it.lsn) {
		it.settled = true
		return
	}
	l := g.lane(laneKey{stream: e.Stream})
	if l.parked != nil {
		l.parked.until = it.lsn
		g.settled(it)
		return
	}
	it.event, it.lane, it.tries = *e, l, g.triedBefore(it.lsn)
	g.bytes += len(e.Payload)
	l.queue = append(l.queue, it)
	g.offer(l)
}

// triedBefore returns how often an event that is read again had been handed out in the runs before.
func (g *group) triedBefore(lsn uint64) int {
	n := g.tried[lsn]
	delete(g.tried, lsn)
	return n
}

func (g *group) lane(key laneKey) *lane {
	l := g.lanes[key]
	if l == nil {
		l = &lane{key: key}
		g.lanes[key] = l
	}
	return l
}

// offer puts a lane among the ready ones if its first event can be handed out.
func (g *group) offer(l *lane) {
	if l.ready() && !l.queued {
		l.queued = true
		g.ready = append(g.ready, l)
	}
}

// dispatch hands out what is ready to those who wait and have room.
func (g *group) dispatch() {
	for len(g.ready) > 0 {
		i := slices.IndexFunc(g.waiters, func(w *waiter) bool { return w.member.hasRoom() })
		if i < 0 {
			return
		}
		w := g.waiters[i]
		d := g.next(w.member)
		if d == nil {
			return
		}
		g.waiters = slices.Delete(g.waiters, i, i+1)
		w.given <- d
	}
}

// next hands the first event that is ready to a member; nil when there is none.
func (g *group) next(m *Member) *Delivery {
	for len(g.ready) > 0 {
		l := g.ready[0]
		g.ready[0] = nil
		g.ready = g.ready[1:]
		l.queued = false
		if l.ready() {
			return g.handOut(l.queue[0], m)
		}
	}
	return nil
}

func (g *group) handOut(it *item, m *Member) *Delivery {
	g.tokens++
	it.member, it.token = m, g.tokens
	it.tries++
	it.deadline = time.Now().Add(g.settings.Lease)
	m.held[it] = struct{}{}
	g.watch(it)
	return &Delivery{Event: it.event, Tries: it.tries, Deadline: it.deadline, member: m, item: it, token: it.token}
}

// watch has the keeper look at an item at its deadline.
func (g *group) watch(it *item) {
	first := len(g.deadlines) == 0 || it.deadline.Before(g.deadlines[0].at)
	heap.Push(&g.deadlines, deadline{it.deadline, it, it.token})
	if first {
		g.nudge()
	}
}

// takeBack takes an event from the member that has it.
func (g *group) takeBack(it *item) {
	delete(it.member.held, it)
	g.tokens++
	it.member, it.token = nil, g.tokens
}

// trim drops what is settled from the window's beginning.
func (g *group) trim() {
	n := 0
	for n < len(g.window) && g.window[n].settled {
		g.window[n] = nil
		n++
	}
	if n > 0 {
		g.window = g.window[n:]
		signal(g.room)
	}
}

// nudge has the keeper look. REQUIRES: mu is held.
func (g *group) nudge() { signal(g.nudges) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
