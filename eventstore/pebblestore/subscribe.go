package pebblestore

import (
	"context"
	"slices"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// What a chunk takes in memory is bounded, whole batches apart: chunkBytes for those who said how many events they want at
// once, stretchBytes for all others, for there may be thousands of them, each with a chunk in its hands.
const chunkBytes = 4 << 20

// Subscribe implements eventstore.Reader.
func (s *Store) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	if _, err := s.checkPosition(ctx, after); err != nil {
		return nil, err
	}
	if err := f.Endless(); err != nil {
		return nil, err
	}
	if err := s.behindDropped(after.LSN, &f); err != nil {
		return nil, err
	}
	bytes := chunkBytes
	if f.MaxChunk <= 0 {
		f.MaxChunk, bytes = eventstore.DefaultMaxChunk, stretchBytes
	}
	if f.MaxBytes > 0 {
		bytes = min(bytes, f.MaxBytes)
	}
	all := f.MatchesAll()
	seq, err := s.ownSeqAt(ctx, after.LSN)
	if err != nil {
		return nil, err
	}
	return &subscription{store: s, filter: f, bytes: bytes, all: all, lsn: after.LSN, seq: seq, done: make(chan struct{})}, nil
}

// subscription follows the log: from the tail if it can, from disk if it must. The two meet without a gap, because both
// are asked for what follows an lsn, and the tail says when it does not have it.
type subscription struct {
	store  *Store
	filter eventstore.Filter
	bytes  int    // that a chunk may take, about
	all    bool   // the filter lets everything through
	lsn    uint64 // of the last event that was looked at
	seq    uint64 // the log's own there

	closing sync.Once
	done    chan struct{}
}

// Next implements eventstore.Subscription.
func (sub *subscription) Next(ctx context.Context) (eventstore.Chunk, error) {
	s := sub.store
	for {
		if err := ctx.Err(); err != nil {
			return eventstore.Chunk{}, err
		}
		select {
		case <-sub.done:
			return eventstore.Chunk{}, eventstore.ErrClosed
		case <-s.done:
			return eventstore.Chunk{}, eventstore.ErrClosed
		default:
		}
		if row := s.tail.crowd.sit(sub.lsn); row != nil {
			select {
			case <-row.called:
				continue
			case <-ctx.Done():
			case <-sub.done:
			case <-s.done:
			}
			s.tail.crowd.leave(row)
			continue
		}
		if sub.all && !sub.filter.Chain {
			if events, durable := s.tail.stretch(sub.lsn, sub.filter.MaxChunk); events != nil {
				sub.pass(events)
				return sub.to(eventstore.Chunk{Events: events}, durable), nil
			}
		}
		batches, durable := s.tail.after(sub.lsn, sub.filter.MaxChunk, sub.bytes)
		if batches == nil {
			page, err := s.pageFor(ctx, nil, sub.lsn+1, durable.lsn, pageLimits{events: sub.filter.MaxChunk, bytes: sub.bytes, whole: true, chain: sub.filter.Chain})
			if err != nil {
				s.doubt(err)
				return eventstore.Chunk{}, err
			}
			batches = [][]eventstore.Recorded{page}
		}
		if err := s.behindDropped(sub.lsn, &sub.filter); err != nil { // what was read may have been dropped meanwhile
			return eventstore.Chunk{}, err
		}
		return sub.chunk(batches, durable), nil
	}
}

// chunk makes a chunk of what was read.
func (sub *subscription) chunk(batches [][]eventstore.Recorded, durable logState) eventstore.Chunk {
	var chunk eventstore.Chunk
	if sub.all {
		n := 0
		for _, batch := range batches {
			n += len(batch)
		}
		chunk.Events = make([]eventstore.Recorded, 0, n)
	}
	for _, batch := range batches {
		for i := range batch {
			e := &batch[i]
			if e.Position.LSN <= sub.lsn {
				continue
			}
			if sub.filter.Matches(e) {
				chunk.Events = append(chunk.Events, *e)
				if !sub.filter.Chain {
					chunk.Events[len(chunk.Events)-1].Chain = eventstore.Hash{}
				}
			}
		}
		sub.pass(batch)
	}
	return sub.to(chunk, durable)
}

// pass goes on behind events that follow each other.
func (sub *subscription) pass(events []eventstore.Recorded) {
	sub.lsn = events[len(events)-1].Position.LSN
	for i := range slices.Backward(events) {
		if events[i].Dot.Log == sub.store.id { // else it was born elsewhere, or in an earlier life
			sub.seq = events[i].Dot.Seq
			return
		}
		if !sub.store.noted.Load() {
			return
		}
	}
}

// to says in the chunk how far it goes.
func (sub *subscription) to(chunk eventstore.Chunk, durable logState) eventstore.Chunk {
	chunk.Position, chunk.Seq, chunk.Durable = sub.store.position(sub.lsn), sub.seq, sub.store.position(durable.lsn)
	return chunk
}

// Close implements eventstore.Subscription.
func (sub *subscription) Close() { sub.closing.Do(func() { close(sub.done) }) }
