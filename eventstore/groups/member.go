package groups

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Member is one consumer of a group. Its methods, and those of its deliveries, may be used by several goroutines.
type Member struct {
	group    *group
	name     string
	capacity int

	// Guarded by group.mu.
	held map[*item]struct{}
	left error // why it has left
	done chan struct{}
}

// MaxCapacity bounds the capacity of a member.
const MaxCapacity = 10_000

// Delivery is an event that a member has, until it settles it or its lease ends.
type Delivery struct {
	Event eventstore.Recorded
	// Tries is how often the event was handed out since the groups were opened, this time included.
	Tries int
	// Deadline is when the lease ends, unless it is extended.
	Deadline time.Time

	member *Member
	item   *item
	token  uint64
}

// hasRoom reports whether the member can take another event. REQUIRES: group.mu is held.
func (m *Member) hasRoom() bool { return len(m.held) < m.capacity }

// Name returns the member's name.
func (m *Member) Name() string { return m.name }

// Lease returns how long the member has for an event.
func (m *Member) Lease() time.Duration { return m.group.settings.Lease }

// Done is closed when the member has left, for whatever reason; Err then says why.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err returns why the member has left; nil as long as it has not.
func (m *Member) Err() error {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	return m.left
}

// Next waits until there is an event for the member and it has less than its capacity. It ends with ctx's error, or with
// why the member has left: ErrLeft, ErrReplaced, eventstore.ErrNotFound when the group was deleted, eventstore.ErrClosed.
func (m *Member) Next(ctx context.Context) (*Delivery, error) {
	g := m.group
	w := &waiter{member: m, given: make(chan *Delivery, 1)}
	g.mu.Lock()
	if m.left != nil {
		defer g.mu.Unlock()
		return nil, m.left
	}
	if err := ctx.Err(); err != nil {
		defer g.mu.Unlock()
		return nil, err
	}
	g.waiters = append(g.waiters, w)
	g.dispatch()
	g.mu.Unlock()

	select {
	case d := <-w.given:
		return d, nil
	case <-ctx.Done():
	case <-m.done:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiters, w); i >= 0 {
		g.waiters = slices.Delete(g.waiters, i, i+1)
	}
	select {
	case d := <-w.given:
		if d.item.member == m && d.item.token == d.token {
			g.unsent(d)
		}
	default:
	}
	if m.left != nil {
		return nil, m.left
	}
	return nil, ctx.Err()
}

// unsent takes back what the member was given and did not see. REQUIRES: mu is held.
func (g *group) unsent(d *Delivery) {
	g.takeBack(d.item)
	d.item.tries--
	g.offer(d.item.lane)
	g.dispatch()
}

// Touch extends the leases of all that the member has: a sign of life.
func (m *Member) Touch() {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	until := time.Now().Add(m.group.settings.Lease)
	for it := range m.held {
		it.deadline = until
	}
}

// Flush writes a checkpoint if there is anything new: when it returns nil, what was settled before the call is not handed
// out again, whatever happens.
func (m *Member) Flush(ctx context.Context) error { return m.group.save(ctx) }

// Leave ends the member, and what it has not settled goes to others. It does not count as a try. It is safe to call twice.
func (m *Member) Leave() { m.quit(ErrLeft, "") }

// Lose is Leave for a member that was lost in the middle of its work: the try counts, so that an event that kills every
// consumer is parked in the end. reason says how it was lost.
func (m *Member) Lose(reason string) { m.quit(ErrLeft, reason) }

func (m *Member) quit(why error, lost string) {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.left == nil {
		m.giveUp(why, lost)
		g.dispatch()
	}
}

// giveUp gives back all that the member has and ends it; lost says why that counts as a try, if it does. REQUIRES: group.mu
// is held.
func (m *Member) giveUp(why error, lost string) {
	g := m.group
	for _, it := range m.holds() {
		g.takeBack(it)
		if lost == "" {
			it.tries--
			g.offer(it.lane)
		} else {
			g.fail(it, 0, lost)
		}
	}
	m.leave(why)
	if len(g.members) == 0 {
		g.emptyAt = time.Now()
		g.nudge()
	}
}

// holds returns what the member has, in the order of the log.
func (m *Member) holds() []*item {
	out := make([]*item, 0, len(m.held))
	for it := range m.held {
		out = append(out, it)
	}
	slices.SortFunc(out, func(a, b *item) int { return cmp.Compare(a.event.Position.LSN, b.event.Position.LSN) })
	return out
}

// leave ends the member. REQUIRES: group.mu is held, and it has nothing.
func (m *Member) leave(why error) {
	if m.left != nil {
		return
	}
	m.left = fmt.Errorf("member %s of group %s: %w", m.name, m.group.name, why)
	close(m.done)
	if m.group.members[m.name] == m {
		delete(m.group.members, m.name)
	}
	m.group.waiters = slices.DeleteFunc(m.group.waiters, func(w *waiter) bool { return w.member == m })
}

// Held reports whether the event is still the member's: not settled, and not taken back.
func (d *Delivery) Held() bool {
	g := d.member.group
	g.mu.Lock()
	defer g.mu.Unlock()
	return d.item.member == d.member && d.item.token == d.token
}

// Ack settles the event: the member has done what is to be done with it. It is durable with the next checkpoint. The error
// matches ErrLeaseLost when the event is not the member's any more; it is then handed out again.
func (d *Delivery) Ack() error {
	return d.member.group.resolve(d, d.member.group.finish)
}

// Nack gives the event back, to be handed out again after a while. The reason is shown should it be parked, which it is
// after its last try. Later events of its stream wait. Errors are those of Ack.
func (d *Delivery) Nack(after time.Duration, reason string) error {
	g := d.member.group
	return g.resolve(d, func(it *item) { g.fail(it, min(after, maxLease), reason) })
}

// Park sets the event aside at once, for an operator to look at. Errors are those of Ack.
func (d *Delivery) Park(reason string) error {
	g := d.member.group
	return g.resolve(d, func(it *item) { g.park(it, reason) })
}

// Extend has the lease begin anew. Errors are those of Ack.
func (d *Delivery) Extend() error {
	g := d.member.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if d.item.member != d.member || d.item.token != d.token {
		return fmt.Errorf("event at %s: %w", d.Event.Position, ErrLeaseLost)
	}
	d.item.deadline = time.Now().Add(g.settings.Lease)
	return nil
}
