package pebblestore

import (
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// placeCache keeps where the events of streams that were read lately are, as the index has it: what is in it never
// changes, for a stream only grows. Of each stream it has the events from the first on, and no more than a page of them.
//
// It is in parts, each with a lock of its own and two generations: when the young one is full, it takes the place of the
// old one.
type placeCache struct {
	parts [placeParts]placePart
	limit int // bytes of a generation of a part
}

const (
	placeParts      = 16
	placeEntryBytes = 64 // what an entry takes besides its places
)

type placePart struct {
	mu         sync.Mutex // guards what follows
	young, old map[headKey][]uint64
	bytes      int // of young
}

func newPlaceCache(bytes int) *placeCache {
	c := &placeCache{limit: bytes / placeParts / 2}
	for i := range c.parts {
		c.parts[i].young, c.parts[i].old = map[headKey][]uint64{}, map[headKey][]uint64{}
	}
	return c
}

func (c *placeCache) part(k headKey) *placePart { return &c.parts[k.hash()%placeParts] }

// get returns the places of the stream's events of versions from to to, nil when they are not all here. They must not be
// changed.
func (c *placeCache) get(k headKey, from, to uint64) []uint64 {
	p := c.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	lsns, young := p.young[k]
	if !young {
		lsns = p.old[k]
	}
	if uint64(len(lsns)) < to {
		return nil
	}
	if !young {
		c.putLocked(p, k, lsns)
	}
	return lsns[from-1 : to : to]
}

// put takes the places of a stream's first events, which nobody may change from then on.
func (c *placeCache) put(k headKey, lsns []uint64) {
	p := c.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(lsns) > len(p.young[k]) {
		c.putLocked(p, k, lsns)
	}
}

// bytesOf is what an entry takes.
func bytesOf(lsns []uint64) int { return placeEntryBytes + 8*len(lsns) }

func (c *placeCache) putLocked(p *placePart, k headKey, lsns []uint64) {
	if replaced, ok := p.young[k]; ok {
		p.bytes -= bytesOf(replaced)
	}
	if p.bytes+bytesOf(lsns) > c.limit {
		p.young, p.old = p.old, p.young
		clear(p.young)
		p.bytes = 0
	}
	p.young[k] = lsns
	p.bytes += bytesOf(lsns)
}

// indexedPlaces returns the lsns of the stream's events of versions from to to, which are in the index. They must not be
// changed.
func (s *Store) indexedPlaces(stream eventstore.StreamID, from, to uint64) ([]uint64, error) {
	if from > 1 || to > streamPage {
		return s.index.places(stream, from, to)
	}
	if to == 0 {
		return nil, nil
	}
	k := headKeyOf(stream)
	if lsns := s.places.get(k, from, to); lsns != nil {
		return lsns, nil
	}
	lsns, err := s.index.places(stream, from, to)
	if err == nil {
		s.places.put(k, lsns[:len(lsns):len(lsns)])
	}
	return lsns, err
}
