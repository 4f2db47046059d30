package commands

import (
	"container/list"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// folded is what has been folded of a stream: a state, and where it stands.
//
// INVARIANT: state plus pending is the fold of those events of the stream, in canonical order, that the log held when they
// were version in number. It may be behind the stream, never ahead of what is durable.
type folded struct {
	stream eventstore.StreamID
	state  instance
	// version is how many events are folded, void ones included. Logs take events in and never give one up: a log that
	// holds as many of the stream holds the same ones.
	version uint64
	// last is the place in the log of the last of them in canonical order, by which it is noticed when one has come that
	// stands before it.
	last eventstore.Position
	// context covers the events of each log that were folded, as far as they were read from the log.
	context eventstore.Vector
	// pending are the last events of version, which this process appended and nobody needed the effect of yet. They are
	// folded from their encoded form, so that the state is always one that a reader of the log would come to.
	pending []eventstore.Event
	// site is where the log's own events are born, for states that look at themselves from there; else empty.
	site string
	// branch says that the stream has branches, of which one was folded, and open names the others' ends as long as a person
	// has to pick one.
	branch bool
	open   []eventstore.Dot
	// void are the events that do not count, as far as they were read from the log since the last snapshot.
	void []eventstore.Dot

	footprint
	born
	kept
}

// footprint is the estimated size of a state.
type footprint struct {
	sized   int    // bytes of the state, estimated when so many events were folded as sizedAt says
	sizedAt uint64 // 0: never
}

// Bytes of an entry beside its state: of itself, its key and its places in list and map, and of each event that is not
// folded yet beside its payload.
const (
	entryBytes   = 400
	pendingBytes = 200
)

// measure returns the size of a state. It is estimated anew when a quarter more events are folded than the last time.
func (f *footprint) measure(events uint64, size func() int) int {
	if f.sizedAt == 0 || events-f.sizedAt > f.sizedAt/4 {
		f.sized, f.sizedAt = size(), events
	}
	return f.sized
}

func (f *folded) key() eventstore.StreamID { return f.stream }

func (f *folded) bytes() int {
	n := entryBytes + f.measure(f.version, f.state.size) + len(f.stream.ID)
	for i := range f.pending {
		n += len(f.pending[i].Payload) + pendingBytes
	}
	return n
}

// cached is what the cache keeps: a *folded, or a *gathered under the key of its query.
type cached interface {
	key() eventstore.StreamID
	// bytes estimates the memory that the entry holds.
	bytes() int
	bornIn() uint64
}

// born says in which life of the cache the folding of a state began.
type born struct{ life uint64 }

func (b born) bornIn() uint64 { return b.life }

// stateCache keeps folded states between commands, least recently used out first. A state is taken out to be used and
// put back after: while it is out nobody else finds it.
type stateCache struct {
	maxEntries, maxBytes int

	mu      sync.Mutex // guards all below
	recent  *list.List // of cacheEntry, most recent first
	entries map[eventstore.StreamID]*list.Element
	bytes   int
	// life goes up when everything is dropped: what was begun in an earlier one is not taken back.
	life uint64
}

type cacheEntry struct {
	cached
	accounted int // bytes that the cache counts for it
}

func newStateCache(maxEntries, maxBytes int) *stateCache {
	return &stateCache{
		maxEntries: maxEntries, maxBytes: maxBytes,
		recent: list.New(), entries: map[eventstore.StreamID]*list.Element{},
	}
}

// take removes and returns the state under a key, nil when there is none.
func (c *stateCache) take(key eventstore.StreamID) cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return nil
	}
	return c.remove(e)
}

// put adds a state, and lets go of the least recently used ones beyond the bounds.
func (c *stateCache) put(f cached) {
	size := f.bytes()
	c.mu.Lock()
	defer c.mu.Unlock()
	if size > c.maxBytes || c.maxEntries == 0 || f.bornIn() != c.life {
		return
	}
	if e := c.entries[f.key()]; e != nil {
		c.remove(e)
	}
	c.bytes += size
	c.entries[f.key()] = c.recent.PushFront(cacheEntry{f, size})
	for c.bytes > c.maxBytes || c.recent.Len() > c.maxEntries {
		c.remove(c.recent.Back())
	}
}

// birth is asked for before the first event of a state is read.
func (c *stateCache) birth() born {
	c.mu.Lock()
	defer c.mu.Unlock()
	return born{c.life}
}

// forget drops all states, and those that are taken out just now when they are put back.
func (c *stateCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life++
	c.recent.Init()
	clear(c.entries)
	c.bytes = 0
}

// remove is called with mu held.
func (c *stateCache) remove(e *list.Element) cached {
	f := c.recent.Remove(e).(cacheEntry)
	delete(c.entries, f.key())
	c.bytes -= f.accounted
	return f.cached
}

// held returns how many states the cache holds, and how many bytes they take by its estimate.
func (c *stateCache) held() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len(), c.bytes
}
