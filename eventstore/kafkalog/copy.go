package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// parcel is an encoded batch with what is known once it is acknowledged; or, without a batch, only that the log was read
// up to a position.
type parcel struct {
	batch    batch
	events   int
	last     eventstore.Dot
	at       eventstore.Position
	chain    eventstore.Hash
	own      eventstore.Dot      // in a feed
	position eventstore.Position // zero inside a chunk
	err      error               // reading or encoding ended
}

// copy sends what the log holds after a position, as it comes, and heartbeats.
func (w *writer) copy(ctx context.Context, c *connection, after eventstore.Position) error {
	ctx, cancel := context.WithCancel(ctx)
	parcels, idle := make(chan parcel, 2), make(chan struct{})
	go w.pack(ctx, after, w.mark.Mirrored, parcels, idle)
	defer func() {
		cancel()
		for range parcels { // pack closes it when it is done
		}
	}()

	heartbeat := time.NewTicker(w.o.Heartbeat)
	defer heartbeat.Stop()
	begun, marked := time.Now(), time.Now()
	position := after
	if err := w.sendHeartbeat(ctx, c, position); err != nil {
		return err
	}
	w.mirror.update(func(s *Status) { s.State, s.Err = StateMirroring, nil })
	for {
		var p parcel
		select {
		case next, ok := <-parcels:
			if !ok {
				return ctx.Err()
			}
			p = next
		case idle <- struct{}{}:
			continue
		case <-heartbeat.C:
			if err := w.sendHeartbeat(ctx, c, position); err != nil {
				return err
			}
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case p.err != nil:
			return p.err
		case p.events > 0:
			if err := w.sendParcel(ctx, c, &p); err != nil {
				return err
			}
			// Inside a chunk, what lies before its last event is all in the topic.
			position = p.at
		}
		if !p.position.IsZero() {
			position = p.position
		}
		w.mirror.update(func(s *Status) {
			s.Position, s.Mirrored, s.Err = position, w.mark.Mirrored, nil
			s.Events += uint64(p.events)
			if w.mark.Mirrored.Log == w.log {
				s.Head = max(s.Head, w.mark.Mirrored.Seq)
			}
		})
		if time.Since(marked) > markEvery {
			w.saveMark()
			marked = time.Now()
		}
		if w.full() || time.Since(begun) > sessionLife {
			return errSessionOld
		}
	}
}

func (w *writer) sendParcel(ctx context.Context, c *connection, p *parcel) error {
	offset, err := w.send(ctx, c, p.batch)
	if tooLarge(err) {
		if p.events > 1 {
			w.batchBytes = max(1, w.batchBytes/2)
		}
		return fmt.Errorf("%d events up to %s in %d bytes: %w", p.events, p.last, len(p.batch.bytes), err)
	}
	if err != nil {
		return err
	}
	if offset < w.mark.Offset {
		return fmt.Errorf("%w: records came to offset %d, others are acknowledged up to %d", errTopicChanged, offset, w.mark.Offset)
	}
	w.mark.Mirrored, w.mark.At, w.mark.Chain, w.mark.Own = p.last, p.at, p.chain, p.own
	w.mark.Offset = offset + int64(p.batch.records)
	return nil
}

func (w *writer) sendHeartbeat(ctx context.Context, c *connection, position eventstore.Position) error {
	state, err := w.store.Log(ctx)
	if err != nil {
		return fmt.Errorf("ask for the log's end: %w", err)
	}
	applied, err := w.applied(ctx, state.ID)
	if err != nil {
		return fmt.Errorf("ask for what is held of other logs: %w", err)
	}
	mirrored := w.mark.Mirrored
	if mirrored.Seq == 0 {
		mirrored.Log = w.log
	}
	var enc encoder
	record := enc.heartbeat(&Heartbeat{
		Log: state.ID, Mirrored: mirrored, MirroredAt: w.mark.At, Chain: w.mark.Chain, Position: position,
		Head: state.Seq, Durable: state.Durable, HLC: w.o.Clock.Shown(),
		Applied: applied, Own: w.mark.Own,
	})
	b, err := encodeBatch([]Record{record}, 0)
	if err != nil {
		return err
	}
	offset, err := w.send(ctx, c, b)
	if err != nil {
		return err
	}
	if offset < w.mark.Offset {
		return fmt.Errorf("%w: a heartbeat came to offset %d, records are acknowledged up to %d", errTopicChanged, offset, w.mark.Offset)
	}
	w.mark.Offset = offset + 1
	w.mirror.update(func(s *Status) {
		s.Head, s.durable = state.Seq, state.Durable.LSN
		s.Heartbeats++
	})
	return nil
}

// heads returns how far the store holds each log; none when it holds only its own.
func (w *writer) heads(ctx context.Context) ([]eventstore.LogHead, error) {
	replica, ok := w.store.(eventstore.Replica)
	if !ok {
		return nil, nil
	}
	heads, err := replica.Heads(ctx)
	if errors.Is(err, eventstore.ErrUnsupported) {
		return nil, nil
	}
	return heads, err
}

// applied returns how far the store holds every other log.
func (w *writer) applied(ctx context.Context, own eventstore.LogID) (eventstore.Vector, error) {
	heads, err := w.heads(ctx)
	return eventstore.DepOf(own, heads), err
}

// pack follows the log after a position and encodes its own events after one that is in the topic. It closes parcels at its end.
//
// Where the log is far ahead it encodes ahead of what is sent. Where it is not, it reads on only when there is nothing to send, which
// idle tells, and Options.Gather after it last did: what comes while a parcel is on its way goes into one, where to read it as it came
// would make a queue of small ones.
func (w *writer) pack(ctx context.Context, after eventstore.Position, mirrored eventstore.Dot, parcels chan<- parcel, idle <-chan struct{}) {
	defer close(parcels)
	give := func(p parcel) bool {
		select {
		case parcels <- p:
			return true
		case <-ctx.Done():
			return false
		}
	}
	sub, err := w.store.Subscribe(ctx, after, eventstore.Filter{Chain: true, MaxChunk: eventstore.DefaultMaxChunk})
	if dropped, ok := errors.AsType[*eventstore.TruncatedError](err); ok {
		// The topic was made anew, and the log does not have its beginning any more. Who reads the topic sees that it begins later.
		w.logger.Warn("the log's beginning was dropped and cannot be published again; the topic begins behind it", "first", dropped.First.String())
		after = dropped.Before()
		sub, err = w.store.Subscribe(ctx, after, eventstore.Filter{Chain: true, MaxChunk: eventstore.DefaultMaxChunk})
	}
	if err != nil {
		give(parcel{err: fmt.Errorf("follow the log: %w", err)})
		return
	}
	defer sub.Close()
	e := packer{w: w, bytes: w.batchBytes}
	if mirrored.Seq > 0 {
		e.last = mirrored
	}
	for {
		chunk, err := sub.Next(ctx)
		read := time.Now()
		if err != nil {
			if ctx.Err() == nil {
				give(parcel{err: fmt.Errorf("follow the log: %w", err)})
			}
			return
		}
		if err := e.chunk(&chunk, give); err != nil {
			if !errors.Is(err, errNotTaken) {
				give(parcel{err: err})
			}
			return
		}
		if chunk.Position == chunk.Durable && !w.gather(ctx, read, idle) {
			return
		}
	}
}

// gather returns when the log is to be read again that was read to its end at a time: after Options.Gather, or at once when somebody
// waits for the mirror or begins to; false when ctx has ended.
func (w *writer) gather(ctx context.Context, read time.Time, idle <-chan struct{}) bool {
	select {
	case <-idle:
	case <-ctx.Done():
		return false
	}
	left := w.o.Gather - time.Since(read)
	if left <= 0 {
		return true
	}
	t := time.NewTimer(left)
	defer t.Stop()
	for w.mirror.waiting.Load() == 0 {
		select {
		case <-t.C:
			return true
		case <-w.mirror.wake: // who has begun to wait may have ended
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// errNotTaken: the session has ended.
var errNotTaken = errors.New("parcel was not taken")

// packer encodes chunks of the log. Its memory is used again for each batch.
type packer struct {
	w       *writer
	bytes   int
	last    eventstore.Dot // that was packed
	enc     encoder
	records []Record
	frame   framer
	size    int
}

func (k *packer) chunk(chunk *eventstore.Chunk, give func(parcel) bool) error {
	var pending parcel
	flush := func(position eventstore.Position) error {
		pending.position = position
		if len(k.records) > 0 {
			var err error
			if pending.batch, err = encodeBatch(k.records, k.w.o.compression()); err != nil {
				return err
			}
		}
		if !give(pending) {
			return errNotTaken
		}
		pending = parcel{}
		k.records, k.size = k.records[:0], 0
		k.enc.reset()
		return nil
	}
	if k.w.o.Feed {
		k.enc.own = ownBefore(k.w.log, chunk)
	}
	for i := range chunk.Events {
		e := &chunk.Events[i]
		if !k.takes(e) {
			continue
		}
		k.last = e.Dot
		frame := k.frame.of(e)
		size := 2 * len(frame) // near enough: headers spell out what a frame packs
		if k.size > 0 && k.size+size > k.bytes {
			if err := flush(eventstore.Position{}); err != nil {
				return err
			}
		}
		k.records = append(k.records, k.enc.event(e, frame))
		k.size += size
		pending.events++
		pending.last, pending.at, pending.chain, pending.own = e.Dot, e.Position, e.Chain, k.enc.own
	}
	return flush(chunk.Position)
}

// takes reports whether an event is to be in the topic.
func (k *packer) takes(e *eventstore.Recorded) bool {
	if k.w.o.Feed {
		if e.Dot.Log == k.w.log {
			k.enc.own = e.Dot
		}
		return true
	}
	// What an earlier life has lost comes back from other sites, behind events that are in the topic already: who reads it
	// would take it for a repetition.
	return e.Dot.Log.Site == k.w.log.Site && e.Dot.Log.Shard == k.w.log.Shard && before(k.last, e.Dot)
}
