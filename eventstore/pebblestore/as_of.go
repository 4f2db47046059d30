package pebblestore

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// VersionAt implements eventstore.Reader. It looks for the version in the stream's places, which grow with it: a stream
// that has not changed since costs one lookup, any other the logarithm of its length.
func (s *Store) VersionAt(ctx context.Context, stream eventstore.StreamID, at eventstore.Position) (uint64, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	if err := at.Check(s.position(s.recent.state().lsn)); err != nil {
		return 0, fmt.Errorf("version of %s: %w", stream, err)
	}
	head, err := s.head(stream)
	if err != nil || head == 0 {
		return 0, err
	}
	version := head.version()
	if last, err := s.place(stream, version); err != nil || last <= at.LSN {
		return version, err
	}
	return searchLast(version-1, func(v uint64) (bool, error) {
		lsn, err := s.place(stream, v)
		return lsn <= at.LSN, err
	})
}

// place returns the lsn of a stream's version. REQUIRES: it is durable, and the databases are held.
func (s *Store) place(stream eventstore.StreamID, version uint64) (uint64, error) {
	if _, latest := s.recent.places(stream, version, version); len(latest) == 1 {
		return latest[0], nil
	}
	lsns, err := s.index.places(stream, version, version)
	if err != nil {
		return 0, err
	}
	return lsns[0], nil
}

// PositionAt implements eventstore.Reader. The clock that times events never goes back, so the log's own events are in the
// order of time.
func (s *Store) PositionAt(ctx context.Context, at time.Time) (eventstore.Position, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return eventstore.Position{}, err
	}
	defer release()
	lsn, err := s.lsnAt(ctx, at)
	if err != nil {
		return eventstore.Position{}, fmt.Errorf("position at %s: %w", at.UTC().Format(time.RFC3339Nano), err)
	}
	return s.position(lsn), nil
}

// lsnAt returns the lsn before the first batch of the log's own whose last event is later; the head's when there is none.
func (s *Store) lsnAt(ctx context.Context, at time.Time) (uint64, error) {
	_, state := s.recent.known()
	own := state.seq
	for i := range s.history.earlier {
		own += s.history.earlier[i].Seq
	}
	var e eventstore.Recorded
	read := func(n uint64) (lsn uint64, err error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if lsn, err = s.nthOwn(n); err == nil {
			err = s.readLSN(&e, lsn)
		}
		return lsn, err
	}
	last, err := searchLast(own, func(n uint64) (bool, error) {
		_, err := read(n)
		return !e.Time().After(at), err
	})
	if err != nil || last == own {
		return state.lsn, err
	}
	next, err := read(last + 1)
	return next - 1 - (e.Dot.Seq - e.Batch.FirstSeq), err
}

// nthOwn returns the lsn of the n-th event that was born in the log, those of its earlier lives counted.
func (s *Store) nthOwn(n uint64) (uint64, error) {
	for i, l := range s.history.earlier {
		if n <= l.Seq {
			return s.placeOf(s.history.log(i), n)
		}
		n -= l.Seq
	}
	return s.placeOf(s.id, n)
}

// readLSN reads one event. REQUIRES: it is in the log, and the databases are held.
func (s *Store) readLSN(e *eventstore.Recorded, lsn uint64) error {
	from := s.eventReader([]uint64{lsn})
	defer from.close()
	_, err := from.next(e)
	return err
}

// searchLast returns the last of the numbers from 1 to n that holds, 0 when none does. REQUIRES: those that hold come first.
func searchLast(n uint64, holds func(uint64) (bool, error)) (uint64, error) {
	low := uint64(0) // holds, or is 0
	for low < n {
		middle := low + (n-low+1)/2
		ok, err := holds(middle)
		if err != nil {
			return 0, err
		}
		if ok {
			low = middle
		} else {
			n = middle - 1
		}
	}
	return low, nil
}

// readEnd returns the lsn up to which a read with a filter goes, or what is wrong with the position that it begins at.
func (s *Store) readEnd(ctx context.Context, from eventstore.Position, f *eventstore.Filter) (lsn uint64, err error) {
	durable, err := s.checkPosition(ctx, from)
	if err != nil {
		return 0, err
	}
	end, err := f.End(s.position(durable))
	return end.LSN, err
}
