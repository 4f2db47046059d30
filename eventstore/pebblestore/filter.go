package pebblestore

import (
	"context"

	"github.com/tributary-es/tributary/eventstore"
)

// filterPage is how many events of a filter are looked up in the index before they are read.
const filterPage = 256

// sparse is how many events of the log there must be to one that a filter lets through, for the index to be of help: to
// read a block and pass over most of it costs less than to look for each event.
const sparse = 4

// readFiltered yields the events after an lsn and up to another that the filter lets through, found through the index. It
// stops at the lsn it returns when so many come that reading all is faster, or when the reader has enough; done is true
// then or at the end.
func (s *Store) readFiltered(ctx context.Context, f *eventstore.Filter, after, end uint64, yield func(eventstore.Recorded, error) bool) (upTo uint64, done bool) {
	next := after + 1
	for next <= end {
		events, upTo, dense, err := s.filteredPage(ctx, f, next, end)
		for i := range events {
			if f.Matches(&events[i]) && !yield(events[i], nil) { // a digest may stand for two terms
				return upTo, true
			}
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return upTo, true
		}
		if dense {
			return upTo, false
		}
		next = upTo + 1
	}
	return end, true
}

// filteredPage returns the next events from an lsn on, and up to where they are complete. dense says that the index is of
// no help there.
func (s *Store) filteredPage(ctx context.Context, f *eventstore.Filter, from, end uint64) (events []eventstore.Recorded, upTo uint64, dense bool, err error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, from - 1, false, err
	}
	defer release()
	found, err := s.filterPlaces(f)
	if err != nil || found == nil {
		return nil, from - 1, true, err
	}
	defer found.close()
	var lsns []uint64
	for lsn := from; len(lsns) < filterPage; lsn++ {
		if lsn, err = found.ceil(lsn); err != nil {
			return nil, from - 1, false, err
		}
		if lsn == 0 || lsn > end {
			upTo = end
			break
		}
		lsns = append(lsns, lsn)
		upTo = lsn
	}
	if n := len(lsns); n == filterPage && lsns[n-1]-from < sparse*filterPage {
		return nil, from - 1, true, nil
	}
	events, err = s.readLSNs(ctx, lsns)
	if n := len(events); err == nil && n < len(lsns) {
		upTo = lsns[n-1]
	}
	return events, upTo, false, err
}

// readFilteredBack is readFiltered from an lsn down to 1.
func (s *Store) readFilteredBack(ctx context.Context, f *eventstore.Filter, from uint64, yield func(eventstore.Recorded, error) bool) (downTo uint64, done bool) {
	for from > 0 {
		events, downTo, dense, err := s.filteredPageBack(ctx, f, from)
		for i := range events {
			if f.Matches(&events[i]) && !yield(events[i], nil) {
				return downTo, true
			}
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return downTo, true
		}
		if dense {
			return downTo, false
		}
		from = downTo - 1
	}
	return 1, true
}

func (s *Store) filteredPageBack(ctx context.Context, f *eventstore.Filter, from uint64) (events []eventstore.Recorded, downTo uint64, dense bool, err error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, from + 1, false, err
	}
	defer release()
	found, err := s.filterPlaces(f)
	if err != nil || found == nil {
		return nil, from + 1, true, err
	}
	defer found.close()
	var lsns []uint64
	downTo = 1
	for lsn := from; lsn > 0 && len(lsns) < filterPage; lsn-- {
		if lsn, err = found.floor(lsn); err != nil {
			return nil, from + 1, false, err
		}
		if lsn == 0 {
			downTo = 1
			break
		}
		lsns = append(lsns, lsn)
		downTo = lsn
	}
	if n := len(lsns); n == filterPage && from-lsns[n-1] < sparse*filterPage {
		return nil, from + 1, true, nil
	}
	events, err = s.readLSNs(ctx, lsns)
	if n := len(events); err == nil && n < len(lsns) {
		downTo = lsns[n-1]
	}
	return events, downTo, false, err
}

// readLSNs returns the events at the given places, as many as make a page, or up to the first that cannot be read.
func (s *Store) readLSNs(ctx context.Context, lsns []uint64) ([]eventstore.Recorded, error) {
	events := make([]eventstore.Recorded, len(lsns))
	from := lazyReader{db: s.log}
	defer from.close()
	bytes := 0
	for i, lsn := range lsns {
		if err := ctx.Err(); err != nil {
			return events[:i], err
		}
		if err := s.readLSN(&events[i], lsn, &from); err != nil {
			return events[:i], err
		}
		if bytes += len(events[i].Payload); bytes >= scanBytes {
			return events[:i+1], nil
		}
	}
	return events, nil
}

// readLSN reads one event, from memory if it is there.
func (s *Store) readLSN(e *eventstore.Recorded, lsn uint64, from *lazyReader) error {
	if s.tail.get(e, lsn) {
		return nil
	}
	r, err := from.open()
	if err != nil {
		return err
	}
	return r.event(e, lsn, s.id.Incarnation)
}
