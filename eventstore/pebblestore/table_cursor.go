package pebblestore

import (
	"errors"
	"fmt"

	tableblock "github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"

	"github.com/tributary-es/tributary/eventstore"
)

// tableCursor reads the blocks of the log from the files of the database's tables, one data block after the other, each
// into memory of its own or into what was lent: nothing is copied, and Pebble's cache keeps what it has. It is used by one
// goroutine.
type tableCursor struct {
	list *tableList
	lent []byte // memory that the next data blocks are read into, as far as they have room there
	tablePlace

	decoder colblk.DataBlockDecoder
	rows    colblk.DataBlockIter
	ready   bool // decoder and rows are
	found   []block
}

// tablePlace is where a cursor goes on.
type tablePlace struct {
	table logTable // that the next blocks are likely in
	next  int      // its next data block
	lsn   uint64   // of the first event there
}

// errNoTable: the event is not in a table, or not in one that can be read by itself.
var errNoTable = errors.New("no table has the event")

// read appends to dst the block that holds an event, and those that stand behind it in the same data block. What it returns
// an error for is to be read through Pebble, which says what is wrong if anything is.
func (c *tableCursor) read(dst []block, lsn uint64) ([]block, error) {
	if c.lsn != lsn || lsn > c.table.last {
		table, ok := c.list.find(lsn)
		if !ok {
			return dst, errNoTable
		}
		c.table, c.next, c.lsn = table, -1, 0
	}
	err := c.list.with(&c.table, func(f *tableFile) error { return c.readIn(f, lsn) })
	if err != nil {
		c.lsn = 0
		return dst, fmt.Errorf("read table %s: %w", c.table.number, err)
	}
	for i := range c.found {
		if c.found[i].last() >= lsn {
			dst = append(dst, c.found[i])
		}
	}
	c.lsn = c.found[len(c.found)-1].last() + 1
	return dst, nil
}

// tail appends to dst the blocks of the last of the data blocks that have about size bytes from an event on, without those
// before it, and returns the place behind them; the cursor stays where it is. It is not ok where the cursor is elsewhere,
// or there is a single data block, or none that can be read.
func (c *tableCursor) tail(dst []block, lsn uint64, size int) (_ []block, behind tablePlace, ok bool) {
	if c.lsn != lsn || lsn > c.table.last {
		return dst, behind, false
	}
	behind = c.tablePlace
	err := c.list.with(&c.table, func(f *tableFile) error {
		for ; size > 0 && behind.next < len(f.blocks); behind.next++ {
			size -= int(f.blocks[behind.next].Length)
		}
		if behind.next < c.next+2 {
			return errNoTable
		}
		return c.readBlock(f, behind.next-1)
	})
	if err != nil || len(c.found) == 0 {
		return dst, behind, false
	}
	behind.lsn = c.found[len(c.found)-1].last() + 1
	return append(dst, c.found...), behind, true
}

// readIn finds and reads the data block that holds an event.
func (c *tableCursor) readIn(f *tableFile, lsn uint64) error {
	// Between low and high, where the data blocks are whose events are not known yet, events are spread about evenly.
	low, high := 0, len(f.blocks)-1
	before, last := c.table.after, c.table.last
	i := c.next
	for turn := 0; ; turn++ {
		if low > high {
			return errNoTable
		}
		if i < low || i > high {
			i = low + int(float64(high-low)*float64(lsn-before-1)/float64(last-before))
			if turn > 3 { // not so evenly
				i = (low + high) / 2
			}
		}
		if err := c.readBlock(f, i); err != nil {
			return err
		}
		switch n := len(c.found); {
		case n == 0: // what stands before all blocks of the log
			low = i + 1
		case lsn > c.found[n-1].last():
			low, before = i+1, c.found[n-1].last()
		case lsn < c.found[0].first:
			high, last = i-1, c.found[0].first-1
		default:
			c.next = i + 1
			return nil
		}
	}
}

// room returns memory for a data block, which has to begin at a multiple of eight bytes.
func (c *tableCursor) room(n int) []byte {
	whole := (n + 7) &^ 7
	if len(c.lent) < whole {
		return make([]byte, n)
	}
	b := c.lent[:n:n]
	c.lent = c.lent[whole:]
	return b
}

// readBlock sets found to the blocks of the log in a data block.
func (c *tableCursor) readBlock(f *tableFile, i int) error {
	h := f.blocks[i].Handle
	b := c.room(int(h.Length) + tableblock.TrailerLen)
	if _, err := f.file.ReadAt(b, int64(h.Offset)); err != nil {
		return err
	}
	if tableblock.CompressionIndicator(b[h.Length]) != tableblock.NoCompressionIndicator {
		return errNoTable
	}
	if err := tableblock.ValidateChecksum(tableblock.ChecksumTypeCRC32c, b, h); err != nil {
		return err
	}
	if !c.ready {
		c.rows.InitOnce(c.list.format.KeySchemas[c.list.format.KeySchema], c.list.format.Comparer, nil)
		c.ready = true
	}
	c.decoder.Init(c.list.format.KeySchemas[c.list.format.KeySchema], b[:h.Length])
	if err := c.rows.Init(&c.decoder, tableblock.NoTransforms); err != nil {
		return err
	}
	c.found = c.found[:0]
	for kv := c.rows.First(); kv != nil; kv = c.rows.Next() {
		lsn, ok := blockKeyLSN(kv.K.UserKey)
		if !ok {
			continue
		}
		b, err := openBlock(lsn, kv.InPlaceValue())
		if err != nil {
			return err
		}
		if n := len(c.found); n > 0 && b.first != c.found[n-1].last()+1 {
			return fmt.Errorf("%w: lsn %d follows lsn %d", eventstore.ErrCorrupt, b.first, c.found[n-1].last())
		}
		c.found = append(c.found, b)
	}
	return nil
}
