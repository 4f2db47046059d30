package pebblestore

import (
	"context"
	"iter"

	"github.com/tributary-es/tributary/eventstore"
)

// pageLimits says when a page of the log is long enough.
type pageLimits struct {
	events, bytes int  // bytes of memory, about; 0: not limited
	whole         bool // end with a whole batch, even if that is beyond the limits
	chain         bool // fill in Recorded.Chain
	notes         bool // keep the notes of the events
}

// readPage appends to page the log's events from one lsn on, at most to another. Where something cannot be read, it returns
// what stands before that along with the error. REQUIRES: from <= to, and both are in the log.
func (s *Store) readPage(page []eventstore.Recorded, from, to uint64, limits pageLimits) ([]eventstore.Recorded, error) {
	return s.logCursor().page(page, from, to, limits)
}

// pageFor is readPage for those who do not hold the databases yet.
func (s *Store) pageFor(ctx context.Context, page []eventstore.Recorded, from, to uint64, limits pageLimits) ([]eventstore.Recorded, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.readPage(page, from, to, limits)
}

// page is readPage from where the cursor is.
func (c *logCursor) page(page []eventstore.Recorded, from, to uint64, limits pageLimits) ([]eventstore.Recorded, error) {
	if page == nil {
		n := min(int(to-from+1), limits.events)
		if limits.bytes > 0 {
			n = min(n, limits.bytes/recordedBytes+1)
		}
		page = make([]eventstore.Recorded, 0, n)
	}
	d := pageDecoder{incarnation: c.store.id.Incarnation, limits: limits}
	return c.decode(&d, page, from, to)
}

// decode appends to page the events from one lsn to another, until the page is full.
func (c *logCursor) decode(d *pageDecoder, page []eventstore.Recorded, from, to uint64) ([]eventstore.Recorded, error) {
	var blocks []block
	for {
		var err error
		blocks, err = c.read(blocks[:0], from, to, 0)
		for i := range blocks {
			var full bool
			var err error
			if page, full, err = d.block(page, &blocks[i], from, to); full || err != nil {
				return page, err
			}
			from = blocks[i].last() + 1
		}
		if err != nil || from > to {
			return page, err
		}
	}
}

// pageDecoder decodes blocks one after the other, for one page or for many without limits.
type pageDecoder struct {
	incarnation uint32
	limits      pageLimits
	bytes       int
	frames      eventstore.FrameDecoder
	notes       []eventNote // of the page's events, if they are asked for
}

// block appends a block's events to page, from one lsn to another, until the page is full. Those before one that cannot be
// decoded come along with the error.
func (d *pageDecoder) block(page []eventstore.Recorded, b *block, from, to uint64) (_ []eventstore.Recorded, full bool, err error) {
	var chains chains
	if d.limits.chain {
		chains = b.chains()
	}
	for i := range b.count {
		lsn := b.first + uint64(i)
		if lsn > to {
			break
		}
		if lsn < from && !d.limits.chain {
			continue
		}
		frame, err := b.frame(i)
		if err != nil {
			return page, false, err
		}
		page = append(page, eventstore.Recorded{})
		n := len(page) - 1
		e := &page[n]
		if err := b.decodeWith(&d.frames, e, i, frame, d.incarnation); err != nil {
			return page[:n], false, err
		}
		if d.limits.chain {
			if e.Chain, err = chains.next(b, i, e, frame); err != nil {
				return page[:n], false, err
			}
		}
		if lsn < from { // was needed for the chain only
			page = page[:n]
			continue
		}
		if d.limits.notes {
			d.notes = append(d.notes, b.noteOf(i, e))
		}
		d.bytes += recordedBytes + len(frame)
		enough := d.limits.events > 0 && n+1 >= d.limits.events || d.limits.bytes > 0 && d.bytes >= d.limits.bytes
		if enough && (!d.limits.whole || e.EndsBatch()) {
			return page, true, nil
		}
	}
	return page, false, nil
}

// batchesOf cuts a page into the batches that were appended together.
func batchesOf(page []eventstore.Recorded) iter.Seq[[]eventstore.Recorded] {
	return func(yield func([]eventstore.Recorded) bool) {
		start := 0
		for i := range page {
			if page[i].EndsBatch() || i+1 == len(page) {
				if !yield(page[start : i+1]) {
					return
				}
				start = i + 1
			}
		}
	}
}
