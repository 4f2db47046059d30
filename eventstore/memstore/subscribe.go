package memstore

import (
	"context"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// Subscribe implements eventstore.Reader.
func (s *Store) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	if err := s.checkPosition(ctx, after); err != nil {
		return nil, err
	}
	if err := f.Endless(); err != nil {
		return nil, err
	}
	if f.MaxChunk <= 0 {
		f.MaxChunk = eventstore.DefaultMaxChunk
	}
	return &subscription{store: s, filter: f, next: int(after.LSN), done: make(chan struct{})}, nil
}

type subscription struct {
	store  *Store
	filter eventstore.Filter
	next   int // place of the next event to look at

	closing sync.Once
	done    chan struct{}
}

// Next implements eventstore.Subscription.
func (sub *subscription) Next(ctx context.Context) (eventstore.Chunk, error) {
	for {
		if err := ctx.Err(); err != nil {
			return eventstore.Chunk{}, err
		}
		select {
		case <-sub.done:
			return eventstore.Chunk{}, eventstore.ErrClosed
		case <-sub.store.done:
			return eventstore.Chunk{}, eventstore.ErrClosed
		default:
		}
		chunk, grown := sub.take()
		if grown == nil {
			return chunk, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
		case <-sub.done:
		case <-sub.store.done:
		}
	}
}

// take returns what there is, or the channel that tells of more.
func (sub *subscription) take() (eventstore.Chunk, <-chan struct{}) {
	s := sub.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	if sub.next == len(s.log.events) {
		return eventstore.Chunk{}, s.grown
	}
	var chunk eventstore.Chunk
	for sub.next < len(s.log.events) {
		e := s.log.events[sub.next]
		sub.next++
		if sub.filter.Matches(&e) {
			if !sub.filter.Chain {
				e.Chain = eventstore.Hash{}
			}
			chunk.Events = append(chunk.Events, e)
		}
		if e.EndsBatch() && len(chunk.Events) >= sub.filter.MaxChunk {
			break
		}
	}
	chunk.Position = eventstore.Position{Incarnation: s.log.id.Incarnation, LSN: uint64(sub.next)}
	chunk.Seq = s.log.head(s.log.id, sub.next).Seq
	chunk.Durable = s.head()
	return chunk, nil
}

// Close implements eventstore.Subscription.
func (sub *subscription) Close() { sub.closing.Do(func() { close(sub.done) }) }
