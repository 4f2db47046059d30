package memstore

import (
	"context"
	"iter"
	"slices"
	"time"

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
	l := s.log
	own := l.head(l.id, len(l.events))
	return eventstore.LogState{
		ID: l.id, Durable: s.head(), Seq: own.Seq, Chain: own.Chain, Streams: uint64(len(l.streams)),
	}, nil
}

// head returns the position of the last event. REQUIRES: mu is held.
func (s *Store) head() eventstore.Position { return s.log.Accepted() }

// Heads implements eventstore.Replica.
func (s *Store) Heads(ctx context.Context) ([]eventstore.LogHead, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, eventstore.ErrClosed
	}
	return s.log.Heads(), nil
}

// ChainHere is ChainAt: there is no archive that would have to be waited for.
func (s *Store) ChainHere(ctx context.Context, log eventstore.LogID, seq uint64) (eventstore.Hash, bool, error) {
	return s.ChainAt(ctx, log, seq)
}

// ChainAt implements eventstore.Replica.
func (s *Store) ChainAt(ctx context.Context, log eventstore.LogID, seq uint64) (eventstore.Hash, bool, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Hash{}, false, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return eventstore.Hash{}, false, eventstore.ErrClosed
	}
	chain, held := s.log.ChainAt(log, seq)
	return chain, held, nil
}

// ReadLog implements eventstore.Replica.
func (s *Store) ReadLog(ctx context.Context, log eventstore.LogID, after uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		s.mu.RLock()
		places := s.log.logs[log]
		s.mu.RUnlock()
		for _, place := range places[min(after, uint64(len(places))):] {
			e, err := s.at(ctx, place)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Version implements eventstore.Reader.
func (s *Store) Version(ctx context.Context, stream eventstore.StreamID) (uint64, error) {
	places, err := s.stream(ctx, stream)
	return uint64(len(places)), err
}

// VersionAt implements eventstore.Reader.
func (s *Store) VersionAt(ctx context.Context, stream eventstore.StreamID, at eventstore.Position) (uint64, error) {
	places, err := s.stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	if err := s.checkPosition(ctx, at); err != nil {
		return 0, err
	}
	version := uint64(0)
	for _, place := range places {
		if uint64(place)+1 <= at.LSN {
			version++
		}
	}
	return version, nil
}

// PositionAt implements eventstore.Reader.
func (s *Store) PositionAt(ctx context.Context, at time.Time) (eventstore.Position, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Position{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return eventstore.Position{}, eventstore.ErrClosed
	}
	for i := range s.log.events {
		e := &s.log.events[i]
		if own := e.Dot.Log.Site == s.log.id.Site && e.Dot.Log.Shard == s.log.id.Shard; own && e.Time().After(at) {
			return s.log.position(i - int(e.Dot.Seq-e.Batch.FirstSeq)), nil
		}
	}
	return s.head(), nil
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
	return slices.Clone(s.log.streams[stream]), nil
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
	return s.log.events[place], nil
}

// ReadAll implements eventstore.Reader.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		end, err := s.end(ctx, after, &f)
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
		end, err := s.end(ctx, before, &f)
		if err == nil {
			err = f.Backwards()
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if !before.IsZero() {
			end = min(end, before.LSN-1)
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

// end returns the lsn up to which a read with a filter goes, or what is wrong with the position that it begins at.
func (s *Store) end(ctx context.Context, from eventstore.Position, f *eventstore.Filter) (lsn uint64, err error) {
	if err := s.checkPosition(ctx, from); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	end, err := f.End(s.head())
	return end.LSN, err
}

// checkPosition says what is wrong with a position to read after.
func (s *Store) checkPosition(ctx context.Context, after eventstore.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return eventstore.ErrClosed
	}
	return after.Check(s.head())
}
