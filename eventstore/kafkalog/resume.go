package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// How much one fetch of many asks for, in compressed bytes. Unpacked and as records it is a multiple of that in memory.
const (
	fetchBytes    = 512 << 10
	minFetchBytes = 16 << 10
)

// fetchSize adapts how much is asked for to what arrives within a request's time, so that a slow machine or network does
// not ask in vain for ever.
type fetchSize int

func (s *fetchSize) bytes() int {
	if *s == 0 {
		*s = fetchBytes
	}
	return int(*s)
}

// learn takes the outcome of a fetch.
func (s *fetchSize) learn(err error) {
	var timeout net.Error
	switch {
	case err == nil:
		*s = fetchSize(min(2*s.bytes(), fetchBytes))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		*s = fetchSize(max(s.bytes()/2, minFetchBytes))
	}
}

// records yields the records from one offset up to before another.
func (c *connection) records(ctx context.Context, from, to int64) iter.Seq2[Record, error] {
	return c.recordsBy(ctx, from, to, fetchBytes)
}

// recordsBy is records with about so many bytes a fetch.
func (c *connection) recordsBy(ctx context.Context, from, to int64, size int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		empty := 0
		for from < to {
			records, _, err := c.fetch(ctx, from, size, 250*time.Millisecond)
			if err == nil && len(records) == 0 {
				// A broker that has just become leader may not know the partition's end yet.
				if empty++; empty > 20 {
					err = fmt.Errorf("fetch %s/%d: no record at offset %d, though the partition ends at %d", c.topic, c.partition, from, to)
				}
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, r := range records {
				if r.Offset >= to {
					return
				}
				if !yield(r, nil) {
					return
				}
				from, empty = r.Offset+1, 0
			}
		}
	}
}

// tail is what the topic says, at its end, of how far it has come: the last event, or a heartbeat behind it.
type tail struct {
	event     *eventstore.Recorded
	own       eventstore.Dot // in a feed, see Event
	heartbeat *Heartbeat
	offset    int64
}

// findTail looks for the last event or heartbeat before an offset. It stops at an error of visit, which is told of all
// other records on the way; entry is nil for a record that no mirror wrote.
func (c *connection) findTail(ctx context.Context, start, end int64, visit func(offset int64, entry Entry) error) (t tail, found bool, err error) {
	var d decoder
	for window := int64(32); start < end; window *= 8 {
		from := max(start, end-window)
		for record, err := range c.records(ctx, from, end) {
			if err != nil {
				return tail{}, false, err
			}
			entry, err := d.decode(record)
			switch {
			case err == nil || errors.Is(err, ErrForeign):
			case c.lenient && errors.Is(err, eventstore.ErrCorrupt):
				continue
			default:
				return tail{}, false, err
			}
			switch e := entry.(type) {
			case *Event:
				t, found = tail{event: &e.Recorded, own: e.Own, offset: record.Offset}, true
			case *Heartbeat:
				t, found = tail{heartbeat: e, own: e.Own, offset: record.Offset}, true
			default:
				if err := visit(record.Offset, entry); err != nil {
					return tail{}, false, err
				}
			}
		}
		if found {
			return t, true, nil
		}
		end = from
	}
	return tail{}, false, nil
}

// visit looks, on the way to the tail, for what should not be there.
func (w *writer) visit(offset int64, entry Entry) error {
	f, ok := entry.(*Fence)
	switch {
	case !ok:
		w.logger.Warn("topic holds a record that no mirror wrote", "offset", offset)
	case f.Log.Incarnation > w.log.Incarnation:
		return w.outlived(f.Log, offset)
	case w.before >= 0 && offset >= w.before && f.Writer != w.name:
		return fmt.Errorf("%w: fence of writer %s at offset %d", ErrFenced, f.Writer, offset)
	}
	return nil
}

// resume compares the topic's end with the log and returns the position after which to copy. REQUIRES: the fence is
// written, so that nothing of an earlier mirror can follow.
func (w *writer) resume(ctx context.Context, c *connection) (eventstore.Position, error) {
	start, _, err := c.offsets(ctx)
	if err != nil {
		return eventstore.Position{}, err
	}
	t, found, err := c.findTail(ctx, start, w.fence, w.visit)
	if err != nil {
		return eventstore.Position{}, fmt.Errorf("look for the topic's end: %w", err)
	}
	if found && t.log().Incarnation > w.log.Incarnation {
		return eventstore.Position{}, w.outlived(t.log(), t.offset)
	}
	earlier := w.mark
	w.mark = Mark{
		Topic: w.o.Topic, Partition: w.o.Partition, Offset: w.fence + 1,
		Mirrored: eventstore.Dot{Log: w.log}, Chain: eventstore.ChainStart(w.log),
	}
	var position eventstore.Position
	switch {
	case w.o.Feed:
		position, err = w.resumeFeed(ctx, t, found, earlier, start)
	case found && t.isFeed():
		err = fmt.Errorf("%w: it is a feed, as the record at offset %d says", ErrForked, t.offset)
	case !found:
		position, err = w.resumeWithoutTail(ctx, earlier, start)
	case t.event != nil:
		position, err = w.resumeAfterEvent(ctx, t)
	default:
		position, err = w.resumeAfterHeartbeat(ctx, t)
	}
	if errors.Is(err, errLeftOut) {
		position, err = w.resumeBeforeTorn(ctx, c, start, err)
	}
	if err != nil {
		return eventstore.Position{}, err
	}
	if earlier.Topic == w.o.Topic && earlier.Mirrored.Log == w.mark.Mirrored.Log && earlier.Mirrored.Seq > w.mark.Mirrored.Seq {
		w.logger.Warn("topic has lost its newest records, they are published again", "after", w.mark.Mirrored.Seq, "up_to", earlier.Mirrored.Seq)
	}
	w.mirror.update(func(s *Status) { s.Mirrored, s.Position = w.mark.Mirrored, position })
	return position, nil
}

func (w *writer) resumeAfterEvent(ctx context.Context, t tail) (eventstore.Position, error) {
	own, err := w.ownEvent(ctx, t.event.Dot, t.event.Position, t.offset)
	if err != nil {
		return eventstore.Position{}, err
	}
	if !bytes.Equal(frameOf(&own), frameOf(t.event)) {
		return eventstore.Position{}, fmt.Errorf("%w: event %s at offset %d is %s of %s there, %s of %s here", ErrForked,
			t.event.Dot, t.offset, t.event.Event.ID, t.event.Stream, own.Event.ID, own.Stream)
	}
	return w.behind(ctx, &own)
}

// behind makes an event the last one that is in the topic, and returns the position after which to copy: its own, or that before
// the first event of a later life. An event that an earlier life has lost may have come back behind such.
func (w *writer) behind(ctx context.Context, own *eventstore.Recorded) (eventstore.Position, error) {
	w.mark.Mirrored, w.mark.At, w.mark.Chain = own.Dot, own.Position, own.Chain
	position := own.Position
	heads, err := w.heads(ctx)
	if err != nil {
		return position, fmt.Errorf("ask for the lives of the log: %w", err)
	}
	for _, h := range heads {
		if h.Log.Site != w.log.Site || h.Log.Shard != w.log.Shard || h.Log.Incarnation <= own.Dot.Log.Incarnation {
			continue
		}
		for e, err := range w.store.(eventstore.Replica).ReadLog(ctx, h.Log, 0) { // which has told of the heads
			if err != nil {
				return position, fmt.Errorf("look where a life of the log begins: %w", err)
			}
			position.LSN = min(position.LSN, e.Position.LSN-1)
			break
		}
	}
	return position, nil
}

func (w *writer) resumeAfterHeartbeat(ctx context.Context, t tail) (eventstore.Position, error) {
	h := t.heartbeat
	if err := w.checkLog(h.Log, t.offset); err != nil {
		return eventstore.Position{}, err
	}
	if h.Mirrored.Seq == 0 {
		return eventstore.Position{}, nil
	}
	own, err := w.ownEvent(ctx, h.Mirrored, h.MirroredAt, t.offset)
	if err != nil {
		return eventstore.Position{}, err
	}
	if own.Chain != h.Chain {
		return eventstore.Position{}, fmt.Errorf("%w: hash chain after event %s is %x by the heartbeat at offset %d, %x here", ErrForked,
			h.Mirrored, h.Chain[:8], t.offset, own.Chain[:8])
	}
	return w.behind(ctx, &own)
}

// resumeWithoutTail decides by the mark of earlier what an empty topic means.
func (w *writer) resumeWithoutTail(ctx context.Context, earlier Mark, start int64) (eventstore.Position, error) {
	known := earlier.Topic == w.o.Topic && earlier.Partition == w.o.Partition && earlier.Mirrored.Seq > 0
	if !known || start < earlier.Offset {
		// Never filled, made anew, or cut: an offset that was acknowledged is not there any more.
		if known {
			w.logger.Warn("topic has lost all its records, they are published again", "acknowledged", earlier.Offset, "start", start)
		}
		return eventstore.Position{}, nil
	}
	own, err := w.ownEvent(ctx, earlier.Mirrored, earlier.At, earlier.Offset)
	if err != nil || own.Chain != earlier.Chain {
		// The mark speaks of another log or of another life of it; it is only a cache.
		return eventstore.Position{}, nil //nolint:nilerr // everything is published again, which is right in any case
	}
	w.logger.Warn("topic's retention has taken all events; the mirror goes on behind them", "seq", own.Dot.Seq)
	return w.behind(ctx, &own)
}

// errLeftOut: an event of an earlier life of the log is not in the log.
var errLeftOut = errors.New("an event that a restore has left out of the log")

// outlived says that the topic has gone on in a later life of the log.
func (w *writer) outlived(log eventstore.LogID, offset int64) error {
	return fmt.Errorf("%w: the record at offset %d is of %s, this is %s: it was restored elsewhere, and this older copy must not go on",
		ErrBehind, offset, log, w.log)
}

// resumeBeforeTorn goes on where an earlier life of the log ended in the middle of copying a batch: the events of it that
// the topic has were left out by the restore from it, and nobody was to apply them. cause is what is wrong if it is not so.
func (w *writer) resumeBeforeTorn(ctx context.Context, c *connection, start int64, cause error) (eventstore.Position, error) {
	last, found, err := c.findLastEvent(ctx, start, w.fence)
	if err != nil {
		return eventstore.Position{}, fmt.Errorf("look for the topic's end: %w", err)
	}
	if !found || last.EndsBatch() {
		return eventstore.Position{}, cause
	}
	before := last.Position.LSN - 1 - (last.Dot.Seq - last.Batch.FirstSeq)
	if before == 0 {
		return eventstore.Position{}, nil
	}
	after := eventstore.Position{Incarnation: w.log.Incarnation, LSN: before - 1}
	var own eventstore.Recorded
	for e, err := range w.store.ReadAll(ctx, after, eventstore.Filter{Chain: true}) {
		if err != nil {
			return eventstore.Position{}, fmt.Errorf("read the log: %w", err)
		}
		if e.Position.LSN == before {
			own = e
			continue
		}
		if e.Dot.Log.Incarnation <= last.Dot.Log.Incarnation {
			return eventstore.Position{}, cause // the log has another event there
		}
		break
	}
	if own.Position.LSN != before || own.Dot.Log.Incarnation > last.Dot.Log.Incarnation {
		return eventstore.Position{}, cause
	}
	w.logger.Warn("topic holds the beginning of a batch that was never whole; the mirror goes on behind it", "last", last.Dot.String(), "after", own.Dot.String())
	w.mark.Mirrored, w.mark.At, w.mark.Chain = own.Dot, own.Position, own.Chain
	return own.Position, nil
}

// findLastEvent looks for the last event before an offset.
func (c *connection) findLastEvent(ctx context.Context, start, end int64) (last eventstore.Recorded, found bool, err error) {
	var d decoder
	for window := int64(32); start < end && !found; window *= 8 {
		from := max(start, end-window)
		for record, err := range c.records(ctx, from, end) {
			if err != nil {
				return last, false, err
			}
			if recordKind(record.Headers) != headerDot {
				continue
			}
			if err := d.event(record, &last); err != nil {
				return last, false, err
			}
			found = true
		}
		end = from
	}
	return last, found, nil
}

// checkLog refuses a topic that another log fills.
func (w *writer) checkLog(other eventstore.LogID, offset int64) error {
	if other.Site != w.log.Site || other.Shard != w.log.Shard {
		return fmt.Errorf("%w: record at offset %d is of %s, this is %s", ErrForked, offset, other, w.log)
	}
	return nil
}

// ownEvent returns the log's own event with a dot that was read at an offset of the topic, and the chain after it. Where
// it stood, when it was mirrored, is a hint.
func (w *writer) ownEvent(ctx context.Context, dot eventstore.Dot, hint eventstore.Position, offset int64) (eventstore.Recorded, error) {
	if err := w.checkLog(dot.Log, offset); err != nil {
		return eventstore.Recorded{}, err
	}
	state, err := w.store.Log(ctx)
	if err != nil {
		return eventstore.Recorded{}, fmt.Errorf("ask for the log's end: %w", err)
	}
	if dot.Log.Incarnation > state.ID.Incarnation || dot.Log.Incarnation == state.ID.Incarnation && dot.Seq > state.Seq {
		return eventstore.Recorded{}, fmt.Errorf("%w: it holds %s at offset %d, the log ends durably at %s/%d: it lost its end or is an older copy; "+
			"let it take no commands, keep a copy of the folder, then bring its end back, see Restore in docs/operations.md",
			ErrBehind, dot, offset, state.ID, state.Seq)
	}
	if hint.LSN > 0 { // lsns go on from life to life
		before := eventstore.Position{Incarnation: state.ID.Incarnation, LSN: hint.LSN - 1}
		for e, err := range w.store.ReadAll(ctx, before, eventstore.Filter{Chain: true}) {
			if errors.Is(err, eventstore.ErrWrongIncarnation) || err == nil && e.Dot != dot {
				break
			}
			return e, err
		}
	}
	for e, err := range w.store.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Chain: true}) {
		if err != nil || e.Dot == dot {
			return e, err
		}
	}
	if dot.Log.Incarnation < state.ID.Incarnation {
		return eventstore.Recorded{}, fmt.Errorf("%w: it holds %s at offset %d, %w, which is %s now; "+
			"make the topic anew, its consumers begin again then, see Restore in docs/operations.md", ErrForked, dot, offset, errLeftOut, state.ID)
	}
	return eventstore.Recorded{}, fmt.Errorf("%w: %s at offset %d is not in the log, which ends at %s/%d", ErrForked, dot, offset, state.ID, state.Seq)
}
