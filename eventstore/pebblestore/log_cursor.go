package pebblestore

import (
	"fmt"
	"math"

	"github.com/tributary-es/tributary/eventstore"
)

// logCursor reads the log block by block, for those who read much of it: from the files of the tables, and what is in none
// of them, or archived, through a blockReader. It is the one place that knows where the log's blocks are found. It is used
// by one goroutine at a time; the caller holds the databases.
type logCursor struct {
	store  *Store
	tables tableCursor
}

func (s *Store) logCursor() *logCursor {
	return &logCursor{store: s, tables: tableCursor{list: s.tableList}}
}

// read appends to dst the block that holds an event, and those that follow it and none of whose events are behind another
// one, until they take size bytes. Blocks are in memory of their own, which never changes. REQUIRES: both events are in the
// log.
func (c *logCursor) read(dst []block, lsn, to uint64, size int) ([]block, error) {
	for begin := len(dst); ; {
		before := len(dst)
		err := errNoTable
		if lsn > c.store.archived.Load().end() {
			dst, err = c.tables.read(dst, lsn)
		}
		if err != nil {
			dst, err = c.readPebble(dst, lsn, to, size)
		}
		if err != nil {
			return dst, err
		}
		if dst[before].first > lsn || before > begin && dst[before].first != lsn {
			return dst[:before], fmt.Errorf("log at lsn %d: %w: no block begins there", lsn, eventstore.ErrCorrupt)
		}
		for i := range dst[before:] {
			size -= len(dst[before+i].data)
		}
		lsn = dst[len(dst)-1].last() + 1
		if size <= 0 || lsn > to {
			return dst, nil
		}
	}
}

// tail is that of a tableCursor: what the last blocks of a page are says where the page after it begins, so that whoever reads
// that one need not wait until this one has been read. The blocks between are read with between.
func (c *logCursor) tail(dst []block, lsn uint64, size int) (_ []block, behind tablePlace, ok bool) {
	if lsn <= c.store.archived.Load().end() {
		return dst, behind, false
	}
	return c.tables.tail(dst, lsn, size)
}

// between appends to dst the blocks from an event to the one before a tail.
func (c *logCursor) between(dst []block, lsn uint64, tail *block) ([]block, error) {
	dst, err := c.read(dst, lsn, tail.first-1, math.MaxInt)
	if err == nil && dst[len(dst)-1].last()+1 != tail.first {
		err = fmt.Errorf("log at lsn %d: %w: no block ends before it", tail.first, eventstore.ErrCorrupt)
	}
	return dst, err
}

// readPebble is read through a blockReader.
func (c *logCursor) readPebble(dst []block, lsn, to uint64, size int) ([]block, error) {
	r, err := c.store.blockReader()
	if err != nil {
		return dst, err
	}
	defer r.close()
	if err := r.seek(lsn); err != nil {
		return dst, err
	}
	for {
		dst = append(dst, r.cur.clone())
		size -= len(r.cur.data)
		next := r.cur.last() + 1
		if size <= 0 || next > to {
			return dst, nil
		}
		found, err := r.next()
		if err != nil {
			return dst, err
		}
		if !found || r.cur.first != next {
			return dst, fmt.Errorf("log at lsn %d: %w: no block begins there", next, eventstore.ErrCorrupt)
		}
	}
}

// clone returns the block in memory of its own.
func (b *block) clone() block {
	c := *b
	memory := make([]byte, 0, len(b.data)+len(b.ends))
	memory = append(append(memory, b.data...), b.ends...)
	c.data, c.ends = memory[:len(b.data):len(b.data)], memory[len(b.data):]
	return c
}
