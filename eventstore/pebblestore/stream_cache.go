package pebblestore

import (
	"sync"
	"sync/atomic"
)

// streamCache keeps of streams that were read lately where their events are and the events themselves, as frames: what is
// in it never changes, for a stream only grows. Of each stream it has the events from the first on, and no more than a
// page of them. A stream that was not read for a while loses its frames; its entry, which takes a hundredth of them and saves
// a look into the index, goes when entries take more than their share.
//
// It is in parts, each with a lock of its own. Frames are memory that readers share and may keep.
type streamCache struct {
	parts   [streamParts]streamPart
	limit   int           // bytes of a part
	cleared atomic.Uint64 // how often
}

const (
	streamParts      = 16
	streamEntryBytes = 128 // what an entry takes besides its places and frames
	entriesShare     = 8   // entries without their frames take an eighth of the limit at most
)

type streamPart struct {
	mu      sync.Mutex // guards what follows
	at      map[headKey]int
	entries []streamEntry
	hand    int // the next entry that may have to go
	bytes   int
	frames  int // bytes of frames, among bytes
}

type streamEntry struct {
	key    headKey
	lsns   []uint64
	frames []byte // of all lsns, or nil
	used   bool   // since the hand came by
}

func (e *streamEntry) bytes() int { return streamEntryBytes + 8*len(e.lsns) + len(e.frames) }

func newStreamCache(bytes int) *streamCache {
	c := &streamCache{limit: bytes / streamParts}
	for i := range c.parts {
		c.parts[i].at = map[headKey]int{}
	}
	return c
}

func (c *streamCache) part(k headKey) *streamPart { return &c.parts[k.hash()%streamParts] }

// get returns the places of the stream's first events, and their frames one after the other, or nil where only the places
// are here. They must not be changed.
func (c *streamCache) get(k headKey) (lsns []uint64, frames []byte) {
	p := c.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.at[k]
	if !ok {
		return nil, nil
	}
	e := &p.entries[i]
	e.used = true
	return e.lsns, e.frames
}

// put takes the places of a stream's first events and their frames, which nobody may change from then on. Less than what is
// there is not taken, nor is what was read before the cache was cleared: cleared is as it was before the reading.
func (c *streamCache) put(k headKey, lsns []uint64, frames []byte, cleared uint64) {
	next := streamEntry{key: k, lsns: lsns, frames: frames}
	if next.bytes() > c.limit/8 { // it would drive out too many others
		next.frames = nil
	}
	if next.bytes() > c.limit/8 {
		return
	}
	p := c.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	i, there := p.at[k]
	switch {
	case c.cleared.Load() != cleared:
		return
	case !there:
		i = len(p.entries)
		p.at[k] = i
		p.entries = append(p.entries, next)
		if p.hand >= i {
			p.hand = 0 // what is new is looked at last
		}
	case len(lsns) < len(p.entries[i].lsns), len(lsns) == len(p.entries[i].lsns) && next.frames == nil:
		return
	default:
		p.bytes -= p.entries[i].bytes()
		p.frames -= len(p.entries[i].frames)
		p.entries[i] = next
	}
	p.bytes += next.bytes()
	p.frames += len(next.frames)
	for p.bytes > c.limit {
		p.turn(k, p.bytes-p.frames > c.limit/entriesShare)
	}
}

// forget removes a stream.
func (c *streamCache) forget(k headKey) {
	p := c.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, ok := p.at[k]; ok {
		p.remove(i)
	}
}

// clear removes all streams, and those that are just being read.
func (c *streamCache) clear() {
	c.cleared.Add(1)
	for i := range c.parts {
		p := &c.parts[i]
		p.mu.Lock()
		p.at, p.entries, p.hand, p.bytes, p.frames = map[headKey]int{}, nil, 0, 0, 0
		p.mu.Unlock()
	}
}

// turn lets the hand go on by one entry, which loses its frames or, if it has none and entries have to go, all; the stream put
// is what has just come, and stays. REQUIRES: mu is held, and there are other entries.
func (p *streamPart) turn(put headKey, entries bool) {
	if p.hand >= len(p.entries) {
		p.hand = 0
	}
	switch e := &p.entries[p.hand]; {
	case e.key == put:
	case e.used:
		e.used = false
	case e.frames != nil:
		p.bytes -= len(e.frames)
		p.frames -= len(e.frames)
		e.frames = nil
	case !entries: // others have frames
	default:
		p.remove(p.hand) // the last one takes its place, which may just have come: it has a round before it is looked at
	}
	p.hand++
}

func (p *streamPart) remove(i int) {
	p.bytes -= p.entries[i].bytes()
	p.frames -= len(p.entries[i].frames)
	delete(p.at, p.entries[i].key)
	last := len(p.entries) - 1
	if i != last {
		p.entries[i] = p.entries[last]
		p.at[p.entries[i].key] = i
	}
	p.entries[last] = streamEntry{}
	p.entries = p.entries[:last]
}
