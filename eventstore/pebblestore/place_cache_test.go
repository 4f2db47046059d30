package pebblestore

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

func TestPlaceCacheIsBoundedAndKeepsWhatWasReadLast(t *testing.T) {
	const limit = placeParts * 2 * 10 * (placeEntryBytes + 8*20)
	c := newPlaceCache(limit)
	key := func(i int) headKey { return headKeyOf(eventstore.Stream("order", fmt.Sprint(i))) }
	for i := range 5000 {
		lsns := make([]uint64, 20)
		for v := range lsns {
			lsns[v] = uint64(i + 100*v)
		}
		if got := c.get(key(i), 1, 1); got != nil {
			t.Fatalf("stream %d is here before it was read: %d", i, got)
		}
		c.put(key(i), lsns[:10])
		if got := c.get(key(i), 1, 11); got != nil {
			t.Fatalf("more of stream %d is here than was read: %d", i, got)
		}
		c.put(key(i), lsns)
		c.put(key(i), lsns[:5]) // a reader that is late
		if got := c.get(key(i), 3, 20); !slices.Equal(got, lsns[2:]) {
			t.Fatalf("places of stream %d from version 3 on: %d, want %d", i, got, lsns[2:])
		}
		size := 0
		for j := range c.parts {
			for _, m := range []map[headKey][]uint64{c.parts[j].young, c.parts[j].old} {
				for _, lsns := range m {
					size += placeEntryBytes + 8*len(lsns)
				}
			}
		}
		if size > limit {
			t.Fatalf("%d bytes after %d streams, want %d at most", size, i+1, limit)
		}
	}
}
