package memstore

import (
	"context"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Log implements eventstore.Reader.
func (s *Store) Log(ctx context.Context) (eventstore.LogState, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.LogState{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return eventstore.LogState{}, eventstore.ErrClosed
	}
	return eventstore.LogState{
		ID: s.id, Durable: s.head(), Seq: uint64(len(s.events)), Chain: s.chain, Streams: uint64(len(s.streams)),
	}, nil
}

// head returns the position of the last event. REQUIRES: mu is held.
func (s *Store) head() eventstore.Position {
	return eventstore.Position{Incarnation: s.id.Incarnation, LSN: uint64(len(s.events))}
}

// Version implements eventstore.Reader.
func (s *Store) Version(ctx context.Context, stream eventstore.StreamID) (uint64, error) {
	places, err := s.stream(ctx, stream)
	return uint64(len(places)), err
}

// stream returns the places of the stream's events, by version-1.
func (s *Store) stream(ctx context.Context, stream eventstore.StreamID) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := stream.Validate(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, eventstore.ErrClosed
	}
	return s.streams[stream], nil
}

// Read implements eventstore.Reader.
func (s *Store) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		places, err := s.stream(ctx, stream)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if skip := max(from, 1) - 1; skip < uint64(len(places)) {
			s.yield(ctx, places[skip:], yield)
		}
	}
}

// ReadBackwards implements eventstore.Reader.
func (s *Store) ReadBackwards(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		places, err := s.stream(ctx, stream)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		places = slices.Clone(places)
		if from > 0 && from < uint64(len(places)) {
			places = places[:from]
		}
		slices.Reverse(places)
		s.yield(ctx, places, yield)
	}
}

// yield hands out the events at the given places until one of both sides has enough.
func (s *Store) yield(ctx context.Context, places []int, yield func(eventstore.Recorded, error) bool) {
	for _, place := range places {
		e, err := s.at(ctx, place)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		e.Chain = eventstore.Hash{}
		if !yield(e, nil) {
			return
		}
	}
}

func (s *Store) at(ctx context.Context, place int) (eventstore.Recorded, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Recorded{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return eventstore.Recorded{}, eventstore.ErrClosed
	}
	return s.events[place], nil
}

// ReadAll implements eventstore.Reader.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		end, err := s.checkPosition(ctx, after)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for place := after.LSN; place < end; place++ {
			e, err := s.at(ctx, int(place))
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			if !f.Matches(&e) {
				continue
			}
			if !f.Chain {
				e.Chain = eventstore.Hash{}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// ReadAllBackwards implements eventstore.Reader.
func (s *Store) ReadAllBackwards(ctx context.Context, before eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		end, err := s.checkPosition(ctx, before)
		if err == nil {
			err = f.Backwards()
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if !before.IsZero() {
			end = before.LSN - 1
		}
		for place := end; place > 0; place-- {
			e, err := s.at(ctx, int(place-1))
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			e.Chain = eventstore.Hash{}
			if f.Matches(&e) && !yield(e, nil) {
				return
			}
		}
	}
}

// checkPosition returns the lsn of the head, or what is wrong with a position to read after.
func (s *Store) checkPosition(ctx context.Context, after eventstore.Position) (head uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, eventstore.ErrClosed
	}
	return uint64(len(s.events)), after.Check(s.head())
}
