package groups

import (
	"container/heap"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// item is an event that the group has read and that is not settled, or is but stands above the cursor.
type item struct {
	lsn     uint64              // in the window
	event   eventstore.Recorded // zero once it is settled
	lane    *lane
	settled bool
	// replay: it was read once more, for the lane's parked event or those behind it. The window does not hold it.
	replay bool
	tries  int
	// member has it, until deadline, under token; nil when it is with none.
	member   *Member
	token    uint64
	deadline time.Time
	// delayed: it waits until deadline before it is handed out again.
	delayed bool
	reason  string // of the last failure
}

// laneKey names a lane: a stream, or an event that was passed over and is handed out by itself.
type laneKey struct {
	stream eventstore.StreamID
	lsn    uint64
}

// lane holds the events of one stream in order; only the first is ever handed out.
type lane struct {
	key    laneKey
	queue  []*item
	queued bool // it is among the ready ones
	parked *parked
}

// parked stands for an event that was set aside and, unless it was passed over, for all of its stream behind it. Those are
// not in memory: the log has them.
type parked struct {
	position uint64 // lsn of the event that was parked last
	version  uint64 // first of the stream that is not settled
	typ      string
	reason   string
	tries    int
	at       time.Time
	// until is the lsn of the last event that it stands for.
	until uint64
	// retry: what it stands for is being handed out again.
	retry bool
	// reading: the keeper reads the next of it.
	reading bool
}

// ready reports whether the lane's first event can be handed out.
func (l *lane) ready() bool {
	return len(l.queue) > 0 && l.queue[0].member == nil && !l.queue[0].delayed
}

// pop takes the first event off the lane.
func (l *lane) pop() {
	l.queue[0] = nil
	l.queue = l.queue[1:]
}

// deadline is a moment at which the group has to look at an item.
type deadline struct {
	at    time.Time
	item  *item
	token uint64
}

// deadlines is a heap by time.
type deadlines []deadline

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }

// Push implements heap.Interface.
func (d *deadlines) Push(x any) { *d = append(*d, x.(deadline)) }

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = deadline{}
	*d = old[:len(old)-1]
	return last
}

// drop takes the first deadline off.
func (d *deadlines) drop() { heap.Pop(d) }
