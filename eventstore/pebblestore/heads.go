package pebblestore

import (
	"crypto/sha256"

	"github.com/tributary-es/tributary/eventstore"
)

// headCache keeps the versions of streams that were written or asked for lately, so that an append to one of them need
// not look into the index. Two generations bound it: when the young one is full, it takes the place of the old one.
//
// It holds no names, only digests of them: 24 bytes an entry, which the garbage collector need not look into.
type headCache struct {
	young, old map[headKey]uint64
	limit      int // entries of a generation
}

// headKey stands for a stream: half a SHA-256, so that no two are ever the same.
type headKey [16]byte

func headKeyOf(s eventstore.StreamID) headKey {
	var buf [256]byte
	sum := sha256.Sum256(appendStreamName(buf[:0], s))
	return headKey(sum[:16])
}

func newHeadCache(entries int) headCache {
	return headCache{young: map[headKey]uint64{}, old: map[headKey]uint64{}, limit: max(1, entries/2)}
}

func (c *headCache) get(k headKey) (version uint64, known bool) {
	if version, known = c.young[k]; !known {
		version, known = c.old[k]
	}
	return version, known
}

func (c *headCache) put(k headKey, version uint64) {
	if len(c.young) >= c.limit {
		if _, there := c.young[k]; !there {
			c.young, c.old = c.old, c.young
			clear(c.young)
		}
	}
	c.young[k] = version
}
