package pebblestore

import (
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// An entry that is replaced counts once: a stream that grows does not drive out what was kept beside it.
func TestReplacedPlacesCountOnce(t *testing.T) {
	c := newPlaceCache(placeParts * 2 * 64 * bytesOf(make([]uint64, 100)))
	k := headKeyOf(eventstore.Stream("order", "1"))
	for n := 1; n <= 100; n++ {
		c.put(k, make([]uint64, n))
	}
	if got, want := c.part(k).bytes, bytesOf(make([]uint64, 100)); got != want {
		t.Errorf("one entry of 100 places counts for %d bytes, want %d", got, want)
	}
	if c.get(k, 1, 100) == nil {
		t.Error("the entry is not there any more")
	}
}
