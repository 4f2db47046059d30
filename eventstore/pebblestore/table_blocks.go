package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	tableblock "github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// placedBlock is a block of the log and where it begins in a table's file.
type placedBlock struct {
	block
	offset int64
}

// blocksOfTable yields the blocks of the log that a table's file holds, each valid until the next. It decodes the file
// with Pebble's own code but past its cache, levels and iterators: that takes a tenth of the time. What is compressed or
// damaged is passed over.
func blocksOfTable(file vfs.File, format *pebble.Options) iter.Seq2[placedBlock, error] {
	return func(yield func(placedBlock, error) bool) {
		handles, err := dataBlocks(file, format)
		if err != nil {
			yield(placedBlock{}, fmt.Errorf("read table: %w", corrupted(err)))
			return
		}
		x := tableBlocks{file: file, schema: format.KeySchemas[format.KeySchema]}
		x.rows.InitOnce(x.schema, format.Comparer, nil)
		for i := range handles {
			if !x.blocks(handles[i].Handle, yield) {
				return
			}
		}
	}
}

// dataBlocks returns where a table's data blocks are, in order.
func dataBlocks(file vfs.File, format *pebble.Options) ([]tableblock.HandleWithProperties, error) {
	readable, err := sstable.NewSimpleReadable(unowned{file})
	if err != nil {
		return nil, err
	}
	r, err := sstable.NewReader(context.Background(), readable, format.MakeReaderOptions())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	layout, err := r.Layout()
	if err != nil {
		return nil, err
	}
	return layout.Data, nil
}

// unowned keeps a table's reader from closing the file.
type unowned struct{ vfs.File }

// Close implements io.Closer.
func (unowned) Close() error { return nil }

// tableBlocks decodes the data blocks of a table, one after the other.
type tableBlocks struct {
	file    vfs.File
	schema  *pebble.KeySchema
	buf     []byte
	decoder colblk.DataBlockDecoder
	rows    colblk.DataBlockIter
}

// blocks yields the blocks of the log in a data block. It returns false when the reader has enough, or cannot go on.
func (x *tableBlocks) blocks(h tableblock.Handle, yield func(placedBlock, error) bool) (more bool) {
	size := int(h.Length)
	x.buf = slices.Grow(x.buf[:0], size+tableblock.TrailerLen)[:size+tableblock.TrailerLen]
	if _, err := x.file.ReadAt(x.buf, int64(h.Offset)); err != nil {
		yield(placedBlock{}, fmt.Errorf("read table: %w", err))
		return false
	}
	plain := tableblock.CompressionIndicator(x.buf[size]) == tableblock.NoCompressionIndicator
	if !plain || tableblock.ValidateChecksum(tableblock.ChecksumTypeCRC32c, x.buf, h) != nil {
		return true
	}
	data := x.buf[:size]
	x.decoder.Init(x.schema, data)
	if err := x.rows.Init(&x.decoder, tableblock.NoTransforms); err != nil {
		yield(placedBlock{}, fmt.Errorf("read table: %w", corrupted(err)))
		return false
	}
	passed := 0
	for kv := x.rows.First(); kv != nil; kv = x.rows.Next() {
		value := kv.InPlaceValue()
		lsn, ok := blockKeyLSN(kv.K.UserKey)
		if !ok {
			continue
		}
		b, err := openBlock(lsn, value)
		at := indexOf(data[passed:], value)
		if err != nil || at < 0 {
			continue
		}
		passed += at
		if !yield(placedBlock{b, int64(h.Offset) + int64(passed)}, nil) {
			return false
		}
		passed += len(value)
	}
	return true
}

// indexOf is bytes.Index for long values that differ at their beginning.
func indexOf(b, value []byte) int {
	const beginning = 32
	for from, start := 0, value[:min(beginning, len(value))]; ; from++ {
		i := bytes.Index(b[from:], start)
		if i < 0 {
			return -1
		}
		if from += i; bytes.HasPrefix(b[from:], value) {
			return from
		}
	}
}
