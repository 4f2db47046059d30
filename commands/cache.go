package commands

import (
	"container/list"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// folded is what has been folded of a stream: a state, and where it stands.
//
// INVARIANT: state plus pending is the fold of the stream's events 1 to version, as they stand in the log. It may be
// behind the stream, never ahead of what is durable.
type folded struct {
	stream  eventstore.StreamID
	state   instance
	version uint64
	// context covers the events of each log that were folded, as far as they were read from the log.
	context eventstore.Vector
	// pending are the last events of version, which this process appended and nobody needed the effect of yet. They are
	// folded from their encoded form, so that the state is always one that a reader of the log would come to.
	pending []eventstore.Event

	sized     int    // bytes of the state, estimated at version sizedAt
	sizedAt   uint64 // 0: never
	accounted int    // bytes that the cache counts for this entry
}

// bytes estimates the memory that the entry holds. States are measured anew when their stream has grown by a quarter.
func (f *folded) bytes() int {
	const fixed = 400 // of the entry itself, its key and its places in list and map
	if f.sizedAt == 0 || f.version-f.sizedAt > f.sizedAt/4 {
		f.sized, f.sizedAt = f.state.size(), f.version
	}
	n := fixed + f.sized + len(f.stream.ID)
	for i := range f.pending {
		n += len(f.pending[i].Payload) + 200
	}
	return n
}

// stateCache keeps folded states between commands, least recently used out first. A state is taken out to be used and
// put back after, by whoever holds the stream's lock: while it is out nobody else finds it.
type stateCache struct {
	maxEntries, maxBytes int

	mu      sync.Mutex // guards all below
	recent  *list.List // of *folded, most recent first
	entries map[eventstore.StreamID]*list.Element
	bytes   int
}

func newStateCache(maxEntries, maxBytes int) *stateCache {
	return &stateCache{
		maxEntries: maxEntries, maxBytes: maxBytes,
		recent: list.New(), entries: map[eventstore.StreamID]*list.Element{},
	}
}

// take removes and returns the state of a stream, nil when there is none.
func (c *stateCache) take(stream eventstore.StreamID) *folded {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[stream]
	if e == nil {
		return nil
	}
	return c.remove(e)
}

// put adds a state, and lets go of the least recently used ones beyond the bounds.
func (c *stateCache) put(f *folded) {
	size := f.bytes()
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.maxBytes || c.maxEntries == 0 {
		return
	}
	if e := c.entries[f.stream]; e != nil {
		c.remove(e)
	}
	f.accounted = size
	c.bytes += size
	c.entries[f.stream] = c.recent.PushFront(f)
	for c.bytes > c.maxBytes || c.recent.Len() > c.maxEntries {
		c.remove(c.recent.Back())
	}
}

// remove is called with mu held.
func (c *stateCache) remove(e *list.Element) *folded {
	f := c.recent.Remove(e).(*folded)
	delete(c.entries, f.stream)
	c.bytes -= f.accounted
	return f
}

// held returns how many states the cache holds, and how many bytes they take by its estimate.
func (c *stateCache) held() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len(), c.bytes
}
