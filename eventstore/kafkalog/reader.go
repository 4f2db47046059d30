package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// ErrGap: the topic does not hold an event that it must hold. The mirror, or a restart from the store, fills such a hole;
// reading over it would lose the event silently.
var ErrGap = errors.New("topic has a gap")

// Reader reads a topic as a store's subscribers read the store. Its methods are safe for concurrent use.
type Reader struct {
	o Options
}

// NewReader returns a reader of a topic. Options.Topic and Options.Brokers are required.
func NewReader(o Options) (*Reader, error) {
	o, err := o.withDefaults(eventstore.LogID{})
	if err != nil {
		return nil, err
	}
	return &Reader{o}, nil
}

// Log says how far the topic has come: the log whose events it holds, and what its last event or heartbeat tells of it. It
// is always a place at which an append ended: one that the topic has a part of does not count. Streams is not known.
// ErrNotFound when the topic holds nothing that tells; ErrUnavailable when no broker answers.
func (r *Reader) Log(ctx context.Context) (eventstore.LogState, error) {
	c := connect(&r.o)
	defer c.close()
	start, end, err := c.offsets(ctx)
	if err != nil {
		return eventstore.LogState{}, fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	}
	t, found, err := c.findTail(ctx, start, end, func(int64, Entry) error { return nil })
	switch {
	case err != nil && errors.Is(err, eventstore.ErrCorrupt):
		return eventstore.LogState{}, err
	case err != nil:
		return eventstore.LogState{}, fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	case !found:
		return eventstore.LogState{}, fmt.Errorf("end of topic %s/%d: %w", r.o.Topic, r.o.Partition, eventstore.ErrNotFound)
	}
	if err := r.o.expects(&t); err != nil {
		return eventstore.LogState{}, err
	}
	if t.event != nil {
		return t.state(), nil
	}
	h := t.heartbeat
	state := eventstore.LogState{ID: h.Log, Durable: h.Durable, Seq: h.Head, Chain: h.Chain}
	if r.o.Feed {
		state.Chain = eventstore.Hash{} // the heartbeat has that of the log of the last event, which may be another site's
	}
	return state, nil
}

// state says how far a topic has come that ends with an event.
func (t *tail) state() eventstore.LogState {
	e := t.event
	state := eventstore.LogState{ID: t.log(), Durable: e.Position, Seq: e.Dot.Seq}
	if t.isFeed() {
		state.Seq = t.own.Seq
	}
	if !e.EndsBatch() {
		// The events of a batch follow each other in lsn as in seq.
		before := e.Dot.Seq + 1 - e.Batch.FirstSeq
		state.Durable.LSN -= before
		if !t.isFeed() || e.Dot == t.own {
			state.Seq -= before
		}
	}
	if !t.isFeed() && state.ID != e.Dot.Log { // the log goes on in a life that has no event here yet
		state.Seq = 0
	}
	return state
}

// expects returns ErrInvalid, with what to do, for a feed that is read as a topic of own events, and for the reverse.
func (o *Options) expects(t *tail) error {
	switch {
	case t.isFeed() && !o.Feed:
		return fmt.Errorf("%w: %s is a feed: read it as one (Options.Feed)", eventstore.ErrInvalid, o.Topic)
	case !t.isFeed() && o.Feed:
		return fmt.Errorf("%w: %s is no feed: it has a site's own events", eventstore.ErrInvalid, o.Topic)
	}
	return nil
}

// Subscribe follows the topic after a position of the log, for ever, as eventstore.Reader's Subscribe follows the log: the
// same events in whole batches, each once, whatever the topic repeats. It outlives restarts of the brokers. A position
// that the topic has not reached yet is waited for.
//
// Where the topic holds several lives of the log, the positions of all events are of the last one, as they are in the store.
// Next ends with ErrGap where an event is missing, with ErrWrongIncarnation when the topic goes on in another life than the
// position's, or than the one that the reader began in, with ErrCorrupt at a record that does not verify, with ErrInvalid when
// Options.Feed is not as the topic is. Recorded.Revises is filled from a feed. Recorded.Chain is not filled: ErrUnsupported
// when the filter asks for it.
func (r *Reader) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.Chain {
		return nil, fmt.Errorf("%w: hash chain from a topic", eventstore.ErrUnsupported)
	}
	if f.MaxChunk <= 0 {
		f.MaxChunk = eventstore.DefaultMaxChunk
	}
	// The subscription outlives this call; Close ends it.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &subscription{chunks: make(chan eventstore.Chunk, 4), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		follow := follower{
			o: r.o, filter: f, out: s.chunks, cursor: after, durable: after,
			logger: r.o.Logger.With("topic", r.o.Topic, "partition", r.o.Partition),
		}
		s.err = follow.run(life)
	}()
	return s, nil
}

type subscription struct {
	chunks chan eventstore.Chunk
	cancel context.CancelFunc
	once   sync.Once
	done   chan struct{} // closed when the follower has ended
	err    error         // why; read after done
}

// Next implements eventstore.Subscription.
func (s *subscription) Next(ctx context.Context) (eventstore.Chunk, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Chunk{}, err
	}
	select {
	case chunk := <-s.chunks:
		return chunk, nil
	case <-ctx.Done():
		return eventstore.Chunk{}, ctx.Err()
	case <-s.done:
	}
	// What was read before the end counts.
	select {
	case chunk := <-s.chunks:
		return chunk, nil
	default:
		return eventstore.Chunk{}, s.err
	}
}

// Close implements eventstore.Subscription.
func (s *subscription) Close() {
	s.once.Do(func() {
		s.cancel()
		<-s.done
	})
}

// run follows over one connection after another.
func (f *follower) run(ctx context.Context) error {
	pauses := backoff{max: f.o.MaxBackoff}
	down := time.Time{}
	var stuckAfter *eventstore.Dot
	for {
		err := f.session(ctx, func() {
			pauses.reset()
			if !down.IsZero() {
				f.logger.Info("reader is back", "after", time.Since(down).Round(time.Millisecond))
				down = time.Time{}
			}
		})
		if flushErr := f.flush(ctx); flushErr != nil || ctx.Err() != nil {
			return eventstore.ErrClosed
		}
		switch {
		case (errors.Is(err, ErrGap) || errors.Is(err, eventstore.ErrCorrupt)) && (stuckAfter == nil || *stuckAfter != f.last):
			// The topic may have been made anew while it was read; finding the place again tells.
			last := f.last
			stuckAfter = &last
			continue
		case errors.Is(err, ErrGap), errors.Is(err, eventstore.ErrCorrupt), errors.Is(err, eventstore.ErrWrongIncarnation), errors.Is(err, eventstore.ErrInvalid):
			return fmt.Errorf("read %s/%d: %w", f.o.Topic, f.o.Partition, err)
		case down.IsZero():
			down = time.Now()
			f.logger.Warn("reader is interrupted and tries again", "error", err)
		}
		select {
		case <-time.After(pauses.pause()):
		case <-ctx.Done():
			return eventstore.ErrClosed
		}
	}
}
