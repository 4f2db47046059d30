package pebblestore

import (
	"hash/maphash"

	"github.com/tributary-es/tributary/eventstore"
)

// headCache keeps what streams came to that were written or asked for lately, so that an append to one of them need
// not look into the index. Two generations bound it: when the young one is full, it takes the place of the old one.
//
// It holds no names, only digests of them: 24 bytes a place, which the garbage collector need not look into.
type headCache struct {
	young, old digestMap[uint64]
	limit      int // entries of a generation
}

// headKey stands for a stream, a request or a term: 128 bits, so that no two are ever the same, and none is zero.
type headKey [2]uint64

// headSeeds make the keys of streams others in each process, so that nobody can make two streams have the same.
var headSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// headKeyOf returns the key of a stream in this process.
func headKeyOf(s eventstore.StreamID) headKey {
	var buf [256]byte
	return headKeyOfName(appendStreamName(buf[:0], s))
}

// headKeyOfName is headKeyOf for a name as it stands in keys of the index.
func headKeyOfName(name []byte) headKey {
	return headKey{maphash.Bytes(headSeeds[0], name), maphash.Bytes(headSeeds[1], name)}
}

// hash returns a part of the key, for filters.
func (k headKey) hash() uint64 { return k[0] }

func newHeadCache(entries int) headCache { return headCache{limit: max(1, entries/2)} }

func (c *headCache) get(k headKey) (version uint64, known bool) {
	if version, known = c.young.get(k); !known {
		version, known = c.old.get(k)
	}
	return version, known
}

func (c *headCache) put(k headKey, version uint64) {
	if c.young.len() >= c.limit {
		if _, there := c.young.get(k); !there {
			c.young, c.old = c.old, c.young
			c.young.clear()
		}
	}
	c.young.put(k, version)
}
