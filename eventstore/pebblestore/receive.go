package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

var _ eventstore.Replica = (*Store)(nil)

// received is what a pending has of events that come from another log.
type received struct {
	batches []receivedBatch
	tops    []eventTop // of the streams of the pending's keys, as they were durable at lsn checked
	latest  hlc.Timestamp
}

// receivedBatch is events that were appended together. Its streams have keys of their own, also where the batch before it ends
// with the same stream.
type receivedBatch struct {
	end, keys int // the number of records, and of keys, up to its end
	key       requestKey
	digests   requestDigests
	known     bool // its request was durable already at lsn checked
}

// eventTop is the last event of a stream in canonical order.
type eventTop struct {
	hlc hlc.Timestamp
	log eventstore.LogID
}

// each appends the batches for those who take them one by one.
func (r *received) each(p *pending, to []keyedBatch, batches [][]eventstore.Recorded) ([]keyedBatch, [][]eventstore.Recorded) {
	record, key := 0, 0
	for i := range r.batches {
		b := &r.batches[i]
		records := p.records[record:b.end:b.end]
		batches = append(batches, records)
		to = append(to, keyedBatch{records, p.keys[key:b.keys], b.digests, p.notes[record:b.end]})
		record, key = b.end, b.keys
	}
	return to, batches
}

// Receive implements eventstore.Replica. Several may be under way at once: events are taken that follow those which are accepted
// and not durable yet. Calls that overtake one another get ErrGap.
func (s *Store) Receive(ctx context.Context, events []eventstore.Recorded) (eventstore.Position, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Position{}, err
	}
	if err := s.writable(); err != nil {
		return eventstore.Position{}, err
	}
	if err := eventstore.Foreign(s.id, events); err != nil {
		return eventstore.Position{}, err
	}
	if err := s.expectNotes(); err != nil {
		return eventstore.Position{}, err
	}
	for {
		rest, err := s.passOver(ctx, events)
		if err != nil {
			return eventstore.Position{}, err
		}
		if len(rest) == 0 {
			return s.positionOf(ctx, events[len(events)-1].Dot)
		}
		at, err := s.receive(ctx, rest)
		if !errors.Is(err, errReceivedMeanwhile) {
			return at, err
		}
	}
}

// receive is Receive of events of which none is durable.
func (s *Store) receive(ctx context.Context, events []eventstore.Recorded) (eventstore.Position, error) {
	p := s.prepareReceived(ctx, events)
	if err := s.checkReceived(p); err != nil {
		p.giveBack()
		return eventstore.Position{}, err
	}
	if err := s.stall.enter(ctx, p, s.room, s.opts.MaxQueueBytes); err != nil {
		p.giveBack()
		return eventstore.Position{}, err
	}
	s.put(p)
	select {
	case <-p.done:
	case <-ctx.Done():
		return eventstore.Position{}, ctx.Err() // the events are the sequencer's or the committer's
	}
	at, err := p.receipt.Position, p.err
	p.giveBack()
	return at, err
}

// expectNotes makes it known that blocks may have notes, so that programs that know of none refuse the folder.
func (s *Store) expectNotes() error {
	if s.noted.Load() {
		return nil
	}
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	s.rewriting.Lock()
	defer s.rewriting.Unlock()
	if s.noted.Load() {
		return nil
	}
	if err := writeMeta(s.log, metaOf(s.history, s.archived.Load(), s.dropped.Load(), true)); err != nil {
		return err
	}
	s.noted.Store(true)
	return s.learnTimes()
}

// passOver returns the events that are not held, after it has compared the others with what is.
func (s *Store) passOver(ctx context.Context, events []eventstore.Recorded) (rest []eventstore.Recorded, err error) {
	log, first := events[0].Dot.Log, events[0].Dot.Seq
	head, err := s.logHead(ctx, log)
	if err != nil || first > head.Seq {
		return events, err
	}
	held := min(uint64(len(events)), head.Seq-first+1)
	chain, err := s.heldChain(ctx, log, first-1)
	if err != nil {
		return nil, err
	}
	var content []byte
	next := func(e *eventstore.Recorded) {
		content = eventstore.AppendContent(content[:0], e)
		chain = eventstore.NextChain(chain, e.Dot.Seq, e.HLC, e.Version, eventstore.ContentHash(content))
	}
	before := chain
	for i := range events[:held] {
		next(&events[i])
	}
	want, err := s.heldChain(ctx, log, first+held-1)
	if err != nil {
		return nil, err
	}
	if chain == want {
		rest = events[held:]
		return rest, eventstore.BeginsBatch(rest)
	}
	chain = before
	for i := range events[:held] {
		next(&events[i])
		want, err := s.heldChain(ctx, log, events[i].Dot.Seq)
		if err != nil {
			return nil, err
		}
		if chain != want {
			return nil, &eventstore.ForkError{Dot: events[i].Dot, Held: want, Got: chain}
		}
	}
	return nil, fmt.Errorf("compare events of %s from seq %d: %w: the chain of what is held has changed", log, first, eventstore.ErrCorrupt)
}

// heldChain is ChainAt for a seq that is held.
func (s *Store) heldChain(ctx context.Context, log eventstore.LogID, seq uint64) (eventstore.Hash, error) {
	chain, held, err := s.ChainAt(ctx, log, seq)
	if err == nil && !held {
		err = fmt.Errorf("chain of %s: %w: seq %d is not held any more", log, eventstore.ErrCorrupt, seq)
	}
	return chain, err
}

// prepareReceived does on the caller's goroutine all that needs no turn: encoding and hashing.
func (s *Store) prepareReceived(ctx context.Context, events []eventstore.Recorded) *pending {
	p := pendings.Get().(*pending)
	p.ctx, p.records, p.received = ctx, events, &received{}
	size := 0
	for i := range events {
		size += 256 + len(events[i].Payload)
	}
	p.contents = slices.Grow(p.contents, size)
	for i := range events {
		e := &events[i]
		e.Opened, e.Erased = nil, false
		if len(e.Payload) == 0 {
			e.Payload = nil // as it is when it is read
		}
		start := len(p.contents)
		p.contents = eventstore.AppendContent(p.contents, e)
		p.ends = append(p.ends, len(p.contents))
		p.hashes = append(p.hashes, eventstore.ContentHash(p.contents[start:]))
		p.received.latest = max(p.received.latest, e.HLC)
		begins := e.Batch.FirstSeq == e.Dot.Seq
		if begins || e.Stream != events[i-1].Stream {
			p.keys = append(p.keys, headKeyOf(e.Stream))
		}
		if begins {
			k := requestKey{e.Stream.Tenant, e.CommandID}
			p.received.batches = append(p.received.batches, receivedBatch{key: k, digests: k.digests()})
		}
		if e.EndsBatch() {
			b := &p.received.batches[len(p.received.batches)-1]
			b.end, b.keys = i+1, len(p.keys)
		}
	}
	p.heads = slices.Grow(p.heads, len(p.keys))[:len(p.keys)]
	p.received.tops = make([]eventTop, len(p.keys))
	return p
}

// checkReceived looks up what is durable: what the streams of received events have come to, their last events in canonical
// order, and which requests were done before.
func (s *Store) checkReceived(p *pending) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return eventstore.ErrClosed
	}
	logs, durable := s.recent.known()
	latest := s.latest(logs)
	p.checked = durable.lsn
	firsts := make(map[headKey]int, len(p.keys)) // of the keys of each stream; the sequencer knows the heads for the others
	run := -1
	for i := range p.records {
		e := &p.records[i]
		if e.Batch.FirstSeq != e.Dot.Seq && e.Stream == p.records[i-1].Stream {
			continue
		}
		run++
		if _, known := firsts[p.keys[run]]; known {
			continue
		}
		firsts[p.keys[run]] = run
		head, err := s.head(e.Stream)
		if err != nil {
			return err
		}
		p.heads[run], p.received.tops[run] = head, eventTop{}
		if head > 0 && e.HLC <= latest { // else it stands behind all that is held
			if p.received.tops[run], err = s.top(e.Stream, head.version()); err != nil {
				return err
			}
		}
	}
	for i := range p.received.batches {
		b := &p.received.batches[i]
		if b.key.id == "" {
			continue
		}
		batch, err := s.lookRequest(b.key, b.digests)
		if err != nil {
			return err
		}
		b.known = batch != nil
	}
	return nil
}

// top returns the last event of a stream in canonical order, of its events up to a version. REQUIRES: there is one, and the
// databases are held.
func (s *Store) top(stream eventstore.StreamID, version uint64) (eventTop, error) {
	// It is the last one that was put behind all others.
	for ; ; version-- {
		lsn, err := s.place(stream, version)
		if err != nil {
			return eventTop{}, err
		}
		var e eventstore.Recorded
		if err := s.readLSN(&e, lsn); err != nil {
			return eventTop{}, err
		}
		if e.Stream != stream || version == 1 && e.Revises {
			return eventTop{}, fmt.Errorf("stream %s: %w: the index names lsn %d as its event %d", stream, eventstore.ErrCorrupt, lsn, version)
		}
		if !e.Revises {
			return eventTop{e.HLC, e.Dot.Log}, nil
		}
	}
}
