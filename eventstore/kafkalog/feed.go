package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// A feed has what projectors at a site that has others need, which the topic of own events does not have: all that the site's log
// holds, each event at its place in the local order, the lsn, and whether it revises. It is written by a Mirror with Options.Feed, by the
// same steps as the other topic, and is no part of replication: nothing is restored from it, and no other site reads it.
//
//	topic        events                         tail is told from the log by    another life of the log
//	own events   born in the log, by life, seq  dot, bytes or chain             goes on behind the one before
//	feed         all, by lsn                    position, dot, bytes or chain   begins anew, from its first event
//
// A life begins anew because it may hold at an lsn another event than the one before it did. Whoever read the one before has to begin
// anew too: its positions mean nothing any more. So a reader has to look at the last life alone, in which the lsns are dense.

// FeedOf returns the name of the topic that holds all that a site's log holds.
func FeedOf(site string) string {
	return "tributary." + site + ".feed"
}

// ownBefore returns the last event of a log before a chunk of a store's local order.
func ownBefore(log eventstore.LogID, chunk *eventstore.Chunk) eventstore.Dot {
	own := eventstore.Dot{Log: log, Seq: chunk.Seq}
	for i := range chunk.Events {
		if chunk.Events[i].Dot.Log == log {
			own.Seq--
		}
	}
	return own
}

// isFeed reports whether the record that the tail was read from is of a feed.
func (t *tail) isFeed() bool { return t.own.Log.Site != "" }

// at returns the position of the last event that the tail tells of.
func (t *tail) at() eventstore.Position {
	if t.event != nil {
		return t.event.Position
	}
	return t.heartbeat.MirroredAt
}

// followsAt is follows for a feed, in which the lsns of a life are dense.
func (f *follower) followsAt(p eventstore.Position) int {
	last := f.at.LSN
	switch {
	case p.Incarnation < max(f.at.Incarnation, f.life):
		return -1
	case p.Incarnation > f.at.Incarnation:
		last = 0
	}
	switch {
	case p.LSN <= last:
		return -1
	case p.LSN == last+1:
		return 0
	}
	return 1
}

// resumeFeed compares the end of a feed with the log and returns the position after which to copy.
func (w *writer) resumeFeed(ctx context.Context, t tail, found bool, earlier Mark, start int64) (eventstore.Position, error) {
	w.mark.Own = eventstore.Dot{Log: w.log}
	switch {
	case !found:
		return w.resumeEmptyFeed(ctx, earlier, start)
	case !t.isFeed():
		return eventstore.Position{}, fmt.Errorf("%w: the record at offset %d is not of a feed", ErrForked, t.offset)
	}
	log := t.log()
	if err := w.checkLog(log, t.offset); err != nil {
		return eventstore.Position{}, err
	}
	if log.Incarnation < w.log.Incarnation {
		w.logger.Warn("the log goes on in another life, for which its feed begins anew", "was", log.String(), "is", w.log.String())
		return eventstore.Position{}, nil
	}
	if t.dot().Seq == 0 {
		return eventstore.Position{}, nil
	}
	e, err := w.entry(ctx, t.dot(), t.at(), t.offset)
	switch {
	case err != nil:
		return eventstore.Position{}, err
	case t.event != nil && !bytes.Equal(frameOf(&e), frameOf(t.event)):
		return eventstore.Position{}, fmt.Errorf("%w: event %s at offset %d is %s of %s there, %s of %s here", ErrForked,
			e.Dot, t.offset, t.event.Event.ID, t.event.Stream, e.Event.ID, e.Stream)
	case t.heartbeat != nil && t.heartbeat.Chain != e.Chain:
		return eventstore.Position{}, fmt.Errorf("%w: hash chain after event %s is %x by the heartbeat at offset %d, %x here", ErrForked,
			e.Dot, t.heartbeat.Chain[:8], t.offset, e.Chain[:8])
	}
	return w.behindEntry(&e, t.own), nil
}

// resumeEmptyFeed decides by the mark of earlier what an empty feed means, as resumeWithoutTail does.
func (w *writer) resumeEmptyFeed(ctx context.Context, earlier Mark, start int64) (eventstore.Position, error) {
	known := earlier.Topic == w.o.Topic && earlier.Partition == w.o.Partition && earlier.Own.Log == w.log && earlier.Mirrored.Seq > 0
	if !known || start < earlier.Offset {
		if known {
			w.logger.Warn("topic has lost all its records, they are published again", "acknowledged", earlier.Offset, "start", start)
		}
		return eventstore.Position{}, nil
	}
	e, err := w.entry(ctx, earlier.Mirrored, earlier.At, earlier.Offset)
	if err != nil || e.Chain != earlier.Chain {
		return eventstore.Position{}, nil //nolint:nilerr // the mark is only a cache; everything is published again, which is right in any case
	}
	w.logger.Warn("topic's retention has taken all events; the mirror goes on behind them", "position", e.Position.String())
	return w.behindEntry(&e, earlier.Own), nil
}

// behindEntry makes an event the last one that is in the feed, and returns the position after which to copy.
func (w *writer) behindEntry(e *eventstore.Recorded, own eventstore.Dot) eventstore.Position {
	w.mark.Mirrored, w.mark.At, w.mark.Chain, w.mark.Own = e.Dot, e.Position, e.Chain, own
	return e.Position
}

// entry returns what the log has where the feed has an event, with the chain after it.
func (w *writer) entry(ctx context.Context, dot eventstore.Dot, at eventstore.Position, offset int64) (eventstore.Recorded, error) {
	const anew = "remove the topic, it is filled anew, and rebuild the read models that read it"
	state, err := w.store.Log(ctx)
	if err != nil {
		return eventstore.Recorded{}, fmt.Errorf("ask for the log's end: %w", err)
	}
	if at.LSN > state.Durable.LSN {
		return eventstore.Recorded{}, fmt.Errorf("%w: it holds %s at %s, offset %d, the log ends durably at %s: it lost its end or is an older copy; "+
			"bring the end back, see Restore in docs/operations.md, or %s", ErrBehind, dot, at, offset, state.Durable, anew)
	}
	for e, err := range w.store.ReadAll(ctx, eventstore.Position{Incarnation: w.log.Incarnation, LSN: at.LSN - 1}, eventstore.Filter{Chain: true}) {
		switch {
		case errors.Is(err, eventstore.ErrTruncated):
			return e, fmt.Errorf("%w: it ends with %s at %s, offset %d, which the log has dropped: there is nothing to compare it with; %s", ErrForked, dot, at, offset, anew)
		case err != nil:
			return e, err
		case e.Dot != dot || e.Position != at:
			return e, fmt.Errorf("%w: it has %s at %s, offset %d, the log has %s at %s: it has received events in another order since; %s",
				ErrForked, dot, at, offset, e.Dot, e.Position, anew)
		}
		return e, nil
	}
	return eventstore.Recorded{}, fmt.Errorf("%w: nothing stands at %s, where it has %s at offset %d; %s", ErrForked, at, dot, offset, anew)
}
