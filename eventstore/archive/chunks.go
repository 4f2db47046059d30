package archive

import (
	"container/list"
	"sync"
)

// chunkBytes is how much of a segment is read at once: what stands around a block is wanted next when a log is read through,
// and a request to an object store costs as much as half a MiB takes.
const chunkBytes = 256 << 10

// chunkKey names a piece of a segment: the n-th chunk of its blocks, or its table.
type chunkKey struct {
	segment string
	n       int64
}

const tableChunk = -1

// chunk is what was read, or is being read.
type chunk struct {
	key   chunkKey
	once  sync.Once
	value any
	err   error
	bytes int64
	place *list.Element
}

// chunks keeps the pieces of segments that were used last. Those who want the same at once read it once.
type chunks struct {
	limit int64

	mu    sync.Mutex // guards what follows
	all   map[chunkKey]*chunk
	order *list.List // the one that was used last stands first
	bytes int64
}

func newChunks(limit int64) *chunks {
	return &chunks{limit: limit, all: map[chunkKey]*chunk{}, order: list.New()}
}

// get returns a piece, which load reads if it is not there. What could not be read is tried again by the next who wants it.
func (c *chunks) get(key chunkKey, load func() (value any, bytes int64, err error)) *chunk {
	c.mu.Lock()
	p := c.all[key]
	if p == nil {
		p = &chunk{key: key}
		p.place = c.order.PushFront(p)
		c.all[key] = p
	} else {
		c.order.MoveToFront(p.place)
	}
	c.mu.Unlock()
	p.once.Do(func() {
		var bytes int64
		p.value, bytes, p.err = load()
		c.mu.Lock()
		defer c.mu.Unlock()
		if p.err != nil {
			c.drop(p)
			return
		}
		if c.all[key] == p { // it was not driven out meanwhile
			p.bytes = bytes
			c.bytes += bytes
		}
		for c.bytes > c.limit && c.order.Len() > 1 {
			c.drop(c.order.Back().Value.(*chunk))
		}
	})
	return p
}

// forget drops the pieces of a segment, which may have been put back since.
func (c *chunks) forget(segment string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, p := range c.all {
		if key.segment == segment {
			c.drop(p)
		}
	}
}

// drop forgets a piece. REQUIRES: mu is held.
func (c *chunks) drop(p *chunk) {
	if c.all[p.key] != p {
		return
	}
	delete(c.all, p.key)
	c.order.Remove(p.place)
	c.bytes -= p.bytes
}
