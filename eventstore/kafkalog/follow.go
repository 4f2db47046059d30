package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// readWait is how long a fetch waits for the next record.
const readWait = 500 * time.Millisecond

// follower reads a topic from a cursor on. It is used by one goroutine.
//
// It keeps two places apart: last, the last event that was seen, by which density is checked and repetitions are dropped;
// and cursor, the end of the last whole batch, which is handed out or in chunk.
type follower struct {
	o      Options
	filter eventstore.Filter
	out    chan<- eventstore.Chunk
	logger *slog.Logger
	dec    decoder
	event  eventstore.Recorded // the one at hand
	size   fetchSize

	life    uint32 // incarnation of the positions that are handed out
	cursor  eventstore.Position
	durable eventstore.Position // the farthest that the log is known to be durable

	last  eventstore.Dot        // zero Log: nothing is known of what stands before
	at    eventstore.Position   // of last, in a feed
	batch []eventstore.Recorded // the beginning of a batch that is not whole yet
	chunk eventstore.Chunk      // whole batches that are not handed out yet
}

// session reads over one connection. It calls ready with the first answer.
func (f *follower) session(ctx context.Context, ready func()) error {
	c := connect(&f.o)
	defer c.close()
	f.batch = f.batch[:0]
	offset, err := f.locate(ctx, c)
	if err != nil {
		return err
	}
	for moved := false; ; {
		records, _, err := c.fetch(ctx, offset, f.size.bytes(), readWait)
		f.size.learn(err)
		if err != nil {
			return err
		}
		for i := range records {
			if err := f.take(ctx, records[i]); err != nil {
				return err
			}
			offset = records[i].Offset + 1
		}
		if err := f.flush(ctx); err != nil {
			return err
		}
		// A session that ends at its first record again has not moved.
		if !moved && len(records) > 0 {
			moved = true
			ready()
		}
	}
}

// locate returns the offset from which to read, and sets last to the event that stands before it.
func (f *follower) locate(ctx context.Context, c *connection) (int64, error) {
	start, end, err := c.offsets(ctx)
	if err != nil {
		return 0, err
	}
	f.last, f.at = eventstore.Dot{}, eventstore.Position{}
	if err := f.locateLife(ctx, c, start, end); err != nil {
		return 0, err
	}
	after := f.cursor
	if after.IsZero() {
		if !f.o.Feed || f.life == 0 {
			return start, nil
		}
		after = eventstore.Position{Incarnation: f.life} // behind what earlier lives have left
	}
	// Positions never fall in the topic of one log, whatever the life, so the records up to the cursor end at a place that halving finds.
	low, high := start, end
	for low < high {
		middle := low + (high-low)/2
		at, position, err := f.firstPosition(ctx, c, middle, high)
		switch {
		case err != nil:
			return 0, err
		case at < 0 || position.Compare(after) > 0:
			high = middle
		default:
			low = at + 1
		}
	}
	t, found, err := c.findTail(ctx, start, low, func(int64, Entry) error { return nil })
	if err != nil {
		return 0, err
	}
	if found && (!f.o.Feed || t.log().Incarnation == f.life) {
		f.last, f.at = t.dot(), t.at()
	}
	return low, nil
}

// locateLife finds out in which life of the log the topic is.
func (f *follower) locateLife(ctx context.Context, c *connection, start, end int64) error {
	f.life = max(f.life, f.cursor.Incarnation)
	t, found, err := c.findTail(ctx, start, end, func(int64, Entry) error { return nil })
	if errors.Is(err, eventstore.ErrCorrupt) {
		return nil // reading comes to that record
	}
	if err != nil || !found {
		return err
	}
	if err := f.o.expects(&t); err != nil {
		return err
	}
	return f.enter(t.log().Incarnation, t.offset)
}

// enter goes over to the life that a record is of, if nothing was handed out in an earlier one.
func (f *follower) enter(life uint32, offset int64) error {
	if life <= f.life {
		return nil
	}
	if f.cursor.LSN > 0 || len(f.batch) > 0 {
		return fmt.Errorf("%w: the reader is at %s, the record at offset %d is of incarnation %d", eventstore.ErrWrongIncarnation, f.cursor, offset, life)
	}
	f.life = life
	return nil
}

// present returns a position of the present life for one that was given in an earlier one: lsns go on from life to life, but in a feed,
// where each life begins anew.
func (f *follower) present(p eventstore.Position) eventstore.Position {
	if !f.o.Feed && p.Incarnation < f.life && p.LSN > 0 {
		p.Incarnation = f.life
	}
	return p
}

// own returns the own seq of the present life at an event.
func (f *follower) own(d eventstore.Dot) uint64 {
	if d.Log.Incarnation != f.life {
		return 0
	}
	return d.Seq
}

// firstPosition returns offset and position of the first event or heartbeat between two offsets; offset -1 if there is none.
func (f *follower) firstPosition(ctx context.Context, c *connection, from, to int64) (int64, eventstore.Position, error) {
	for from < to {
		records, _, err := c.fetch(ctx, from, 16<<10, readWait)
		if err != nil {
			return 0, eventstore.Position{}, err
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			if r.Offset >= to {
				return -1, eventstore.Position{}, nil
			}
			from = r.Offset + 1
			entry, err := f.dec.decode(r)
			if errors.Is(err, ErrForeign) {
				continue
			}
			if err != nil {
				return 0, eventstore.Position{}, err
			}
			switch e := entry.(type) {
			case *Event:
				return r.Offset, f.present(e.Position), nil
			case *Heartbeat:
				return r.Offset, f.present(e.Position), nil
			}
		}
	}
	return -1, eventstore.Position{}, nil
}

// log returns the log in the life that the tail was written in, which may be a later one than that of its event.
func (t *tail) log() eventstore.LogID {
	if t.heartbeat != nil {
		return t.heartbeat.Log
	}
	if t.isFeed() {
		return t.own.Log
	}
	id := t.event.Dot.Log
	id.Incarnation = t.event.Position.Incarnation
	return id
}

// dot returns the last event that the tail tells of.
func (t *tail) dot() eventstore.Dot {
	if t.event != nil {
		return t.event.Dot
	}
	return t.heartbeat.Mirrored
}

// take reads one record.
func (f *follower) take(ctx context.Context, r Record) error {
	if recordKind(r.Headers) == headerDot {
		if err := f.dec.event(r, &f.event); err != nil {
			return fmt.Errorf("record at offset %d: %w", r.Offset, err)
		}
		own := f.event.Dot
		if f.o.Feed {
			var err error
			if own, err = f.dec.own(r); err == nil && own.Log.Site == "" {
				err = corruptf("record at offset %d is not of a feed: it has no %s", r.Offset, headerOwn)
			}
			if err != nil {
				return err
			}
		}
		return f.takeEvent(ctx, &f.event, own, r.Offset)
	}
	entry, err := f.dec.decode(r)
	if errors.Is(err, ErrForeign) {
		f.logger.Warn("topic holds a record that no mirror wrote", "offset", r.Offset)
		return nil
	}
	if err != nil {
		return err
	}
	if h, ok := entry.(*Heartbeat); ok {
		return f.takeHeartbeat(h, r.Offset)
	}
	return nil
}

// follows says whether an event comes right after the last one: 0 yes, -1 it was seen before, 1 something is missing.
func (f *follower) follows(e *eventstore.Recorded) int {
	if f.o.Feed {
		return f.followsAt(e.Position)
	}
	last, d := f.last, e.Dot
	switch {
	case last.Log.Incarnation == d.Log.Incarnation && d.Seq <= last.Seq, d.Log.Incarnation < last.Log.Incarnation:
		return -1
	case last.Log.Incarnation == d.Log.Incarnation && d.Seq == last.Seq+1, last.Log.Incarnation < d.Log.Incarnation && d.Seq == 1:
		return 0
	}
	return 1
}

// takeEvent takes an event, and the last one of the site's own log up to it.
func (f *follower) takeEvent(ctx context.Context, e *eventstore.Recorded, own eventstore.Dot, offset int64) error {
	if !f.o.Feed && f.last.Log.Site != "" && (f.last.Log.Site != e.Dot.Log.Site || f.last.Log.Shard != e.Dot.Log.Shard) {
		return fmt.Errorf("%w: event %s at offset %d follows events of %s", eventstore.ErrCorrupt, e.Dot, offset, f.last.Log)
	}
	switch f.follows(e) {
	case -1:
		return nil
	case 1:
		if f.last.Log.Site == "" && !f.cursor.IsZero() && f.present(e.Position) == (eventstore.Position{Incarnation: f.cursor.Incarnation, LSN: f.cursor.LSN + 1}) {
			break // what stood before is gone, and was read
		}
		if f.o.Feed {
			return fmt.Errorf("%w: event %s at %s, offset %d, follows %s", ErrGap, e.Dot, e.Position, offset, f.at)
		}
		return fmt.Errorf("%w: event %s at offset %d follows seq %d of incarnation %d", ErrGap, e.Dot, offset, f.last.Seq, f.last.Log.Incarnation)
	}
	if e.Dot.Log != f.last.Log {
		f.batch = f.batch[:0] // a batch that a life of the log ended in was never whole
	}
	if err := f.enter(e.Position.Incarnation, offset); err != nil {
		return err
	}
	f.last, f.at = e.Dot, e.Position
	if e.Position = f.present(e.Position); e.Position.Compare(f.cursor) <= 0 {
		return nil
	}
	f.batch = append(f.batch, *e)
	if !e.EndsBatch() {
		return nil
	}
	for i := range f.batch {
		if f.filter.Matches(&f.batch[i]) {
			f.chunk.Events = append(f.chunk.Events, f.batch[i])
		}
	}
	f.batch = f.batch[:0]
	f.advance(e.Position, f.own(own))
	if len(f.chunk.Events) >= f.filter.MaxChunk {
		return f.flush(ctx)
	}
	return nil
}

func (f *follower) takeHeartbeat(h *Heartbeat, offset int64) error {
	own := h.Mirrored
	if f.o.Feed {
		if own = h.Own; h.Log.Incarnation < f.life {
			return nil
		}
		if f.at.LSN > 0 && f.at.Incarnation == h.MirroredAt.Incarnation && h.MirroredAt.LSN > f.at.LSN {
			return fmt.Errorf("%w: the heartbeat at offset %d speaks of event %s at %s, the last one seen stands at %s", ErrGap, offset, h.Mirrored, h.MirroredAt, f.at)
		}
	} else if h.Mirrored.Seq > 0 && f.last.Log.Site != "" && f.last.Log.Incarnation == h.Mirrored.Log.Incarnation && h.Mirrored.Seq > f.last.Seq {
		return fmt.Errorf("%w: the heartbeat at offset %d speaks of event %s, seq %d was the last one seen", ErrGap, offset, h.Mirrored, f.last.Seq)
	}
	if err := f.enter(h.Log.Incarnation, offset); err != nil {
		return err
	}
	position, durable := f.present(h.Position), f.present(h.Durable)
	if durable.Compare(f.durable) > 0 {
		f.durable = durable
	}
	// What the log holds from other sites stands in no record: the heartbeat alone tells that it was passed.
	same := f.cursor.IsZero() || position.Incarnation == f.cursor.Incarnation
	if len(f.batch) == 0 && same && position.LSN > f.cursor.LSN && h.Mirrored == f.last {
		f.advance(position, f.own(own))
	}
	return nil
}

func (f *follower) advance(p eventstore.Position, seq uint64) {
	f.cursor = p
	f.chunk.Position, f.chunk.Seq = p, seq
	if p.Compare(f.durable) > 0 {
		f.durable = p
	}
}

// flush hands out what has come together.
func (f *follower) flush(ctx context.Context) error {
	if f.chunk.Position.IsZero() {
		return nil
	}
	f.chunk.Durable = f.durable
	select {
	case f.out <- f.chunk:
	case <-ctx.Done():
		return ctx.Err()
	}
	f.chunk = eventstore.Chunk{}
	return nil
}
