package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// termLast returns the place of the last event of a term, 0 when the index has none.
func (x *index) termLast(digest termDigest) (lsn uint64, err error) {
	if err := x.hold(); err != nil {
		return 0, err
	}
	defer x.letGo()
	var buf [termPrefixBytes]byte
	it, found, err := x.seek(appendTermPrefix(buf[:0], digest))
	if err != nil || !found {
		return 0, err
	}
	defer it.Close()
	lsns, err := parseTermEntry(it, nil)
	if err != nil {
		return 0, err
	}
	return lsns[len(lsns)-1], nil
}

// termFloor returns the last place of a term at or before an lsn, 0 when the index has none.
func (x *index) termFloor(digest termDigest, lsn uint64) (uint64, error) {
	if err := x.hold(); err != nil {
		return 0, err
	}
	defer x.letGo()
	c := &termCursor{index: x, digest: digest}
	defer c.close()
	return c.floor(lsn)
}

// tenants returns the tenants that have events in the index.
func (x *index) tenants() (all []string, err error) {
	if err := x.hold(); err != nil {
		return nil, err
	}
	defer x.letGo()
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tenantPrefix}, UpperBound: []byte{tenantPrefix + 1}})
	if err != nil {
		return nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	for valid := it.First(); valid; valid = it.Next() {
		all = append(all, string(it.Key()[1:]))
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	return all, nil
}

// parseTermEntry returns the places of the run that the iterator stands at, in dst's memory.
func parseTermEntry(it *pebble.Iterator, dst []uint64) (lsns []uint64, err error) {
	key := it.Key()
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	lsns, ok := parseRun(dst[:0], value)
	if !ok || len(lsns) == 0 || len(key) != termPrefixBytes+8 || ^binary.BigEndian.Uint64(key[termPrefixBytes:]) != lsns[0] {
		return nil, fmt.Errorf("read index: %w: value of key %q is %x", eventstore.ErrCorrupt, key, value)
	}
	return lsns, nil
}

// termCursor finds the places of one term: those in memory, and those in the index. It is used by one goroutine, which holds
// the index until it closes the cursor.
type termCursor struct {
	index  *index
	digest termDigest
	recent [2][]uint64 // as of the cursor's beginning; the index has all that is not in them
	it     *pebble.Iterator
	run    []uint64 // of the index, that was read last
}

func newTermCursor(s *Store, of term) *termCursor {
	// Memory is looked at before the index, since entries move from there to the index.
	return &termCursor{index: s.index, digest: of.digest(), recent: s.recent.termPlaces(of)}
}

func (c *termCursor) close() {
	if c.it != nil {
		_ = c.it.Close() // its error is that of the last move, which was returned there
		c.it = nil
	}
}

// floor returns the last place at or before an lsn, 0 when there is none.
func (c *termCursor) floor(lsn uint64) (uint64, error) {
	for _, list := range [...][]uint64{c.recent[1], c.recent[0]} {
		if len(list) > 0 && list[0] <= lsn {
			return list[floorOf(list, lsn)], nil
		}
	}
	if n := len(c.run); n > 0 && c.run[0] <= lsn && lsn <= c.run[n-1] {
		return c.run[floorOf(c.run, lsn)], nil
	}
	// The run that begins last at or before lsn has it.
	found, err := c.seek(lsn)
	if err != nil || !found {
		return 0, err
	}
	return c.run[floorOf(c.run, lsn)], nil
}

// ceil returns the first place at or after an lsn, 0 when there is none.
func (c *termCursor) ceil(lsn uint64) (uint64, error) {
	if n := len(c.run); n > 0 && c.run[0] <= lsn && lsn <= c.run[n-1] {
		return c.run[ceilOf(c.run, lsn)], nil
	}
	found, err := c.seek(lsn)
	if err != nil {
		return 0, err
	}
	if !found || c.run[len(c.run)-1] < lsn {
		// It is the beginning of the run after that one, which stands before it.
		var valid bool
		if found {
			valid = c.it.Prev()
		} else {
			valid = c.it.Last()
		}
		if c.run, err = c.here(valid); err != nil {
			return 0, err
		}
	}
	if len(c.run) > 0 {
		return c.run[ceilOf(c.run, lsn)], nil
	}
	for _, list := range c.recent {
		if n := len(list); n > 0 && list[n-1] >= lsn {
			return list[ceilOf(list, lsn)], nil
		}
	}
	return 0, nil
}

// seek reads the run that begins last at or before an lsn.
func (c *termCursor) seek(lsn uint64) (found bool, err error) {
	if c.it == nil {
		lower := appendTermPrefix(nil, c.digest)
		upper := binary.BigEndian.AppendUint64(slices.Clone(lower), ^uint64(0)) // that of lsn 0, which no event has
		if c.it, err = c.index.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper}); err != nil {
			return false, fmt.Errorf("read index: %w", corrupted(err))
		}
	}
	c.run, err = c.here(c.it.SeekGE(appendTermKey(nil, c.digest, lsn)))
	return len(c.run) > 0, err
}

// here reads the run that the iterator stands at; nil when it stands at none.
func (c *termCursor) here(valid bool) ([]uint64, error) {
	if !valid {
		if err := c.it.Error(); err != nil {
			return nil, fmt.Errorf("read index: %w", corrupted(err))
		}
		return nil, nil
	}
	return parseTermEntry(c.it, c.run)
}

// floorOf returns the index of the last element that is at most x. REQUIRES: list[0] <= x.
func floorOf(list []uint64, x uint64) int {
	i, found := slices.BinarySearch(list, x)
	if !found {
		i--
	}
	return i
}

// ceilOf returns the index of the first element that is at least x. REQUIRES: there is one.
func ceilOf(list []uint64, x uint64) int {
	i, _ := slices.BinarySearch(list, x)
	return i
}
