package pebblestore

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// indexComparer orders the index's keys by their bytes, and tells Pebble that all runs of a stream or term have a prefix in
// common: filters hold that instead of every key, and tables write it once. An index that was made with another comparer
// is made anew.
var indexComparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "tributary.index.4"
	c.Split = splitIndexKey
	return &c
}()

// splitIndexKey returns the length of a key's prefix: of a run's, up to the end of its stream's name or its term's digest;
// of others, all.
func splitIndexKey(key []byte) int {
	if len(key) > termPrefixBytes && key[0] == termPrefix {
		return termPrefixBytes
	}
	if len(key) == 0 || key[0] != runPrefix {
		return len(key)
	}
	end := 1
	for range 3 { // tenant, category, id
		i := bytes.IndexByte(key[end:], 0)
		if i < 0 {
			return len(key)
		}
		end += i + 1
	}
	return end
}
