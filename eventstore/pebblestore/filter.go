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

// walk is what of the log is still to be read, both ends included: from next up to last, or down to it.
type walk struct {
	next, last uint64
	back       bool
}

func (l *walk) empty() bool {
	if l.back {
		return l.next < l.last
	}
	return l.next > l.last
}

// find returns the place that comes next in the stretch, 0 when there is none.
func (l *walk) find(p places) (lsn uint64, err error) {
	if l.back {
		lsn, err = p.floor(l.next)
	} else {
		lsn, err = p.ceil(l.next)
	}
	if lsn < min(l.next, l.last) || lsn > max(l.next, l.last) {
		lsn = 0
	}
	return lsn, err
}

// pass goes on behind a place of the stretch, and returns how many places that leaves behind.
func (l *walk) pass(lsn uint64) (passed uint64) {
	if l.back {
		passed = l.next - lsn + 1
		l.next = lsn - 1
	} else {
		passed = lsn - l.next + 1
		l.next = lsn + 1
	}
	return passed
}

// readFiltered yields the events of a stretch that the filter lets through, found through the index, and moves the
// stretch's beginning on. done is false when reading the rest without the index is faster, true at the end of the stretch
// and when the reader has enough.
func (s *Store) readFiltered(ctx context.Context, f *eventstore.Filter, l *walk, yield func(eventstore.Recorded, error) bool) (done bool) {
	for !l.empty() {
		events, dense, err := s.filteredPage(ctx, f, l)
		for i := range events {
			if f.Matches(&events[i]) && !yield(events[i], nil) { // a digest may stand for two terms
				return true
			}
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return true
		}
		if dense {
			return false
		}
	}
	return true
}

// filteredPage returns the next events of a stretch and passes them. dense says that the index is of no help there; then
// nothing is returned and nothing passed.
func (s *Store) filteredPage(ctx context.Context, f *eventstore.Filter, l *walk) (events []eventstore.Recorded, dense bool, err error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, false, err
	}
	defer release()
	found, err := s.filterPlaces(f)
	if err != nil || found == nil {
		return nil, true, err
	}
	ahead := *l
	lsns, passed, err := s.findPlaces(found, &ahead)
	if err != nil {
		return nil, false, err
	}
	if len(lsns) == filterPage && passed < sparse*filterPage {
		return nil, true, nil
	}
	events, err = s.readLSNs(ctx, lsns)
	if n := len(events); n < len(lsns) { // the page is full, or the next cannot be read
		ahead = *l
		if n > 0 {
			ahead.pass(lsns[n-1])
		}
	}
	*l = ahead
	return events, false, err
}

// findPlaces returns the next places of a stretch that are found, as many as make a page, and how many they leave behind.
func (s *Store) findPlaces(found places, ahead *walk) (lsns []uint64, passed uint64, err error) {
	if err := s.index.hold(); err != nil {
		return nil, 0, err
	}
	defer s.index.letGo()
	defer found.close()
	for len(lsns) < filterPage && !ahead.empty() {
		lsn, err := ahead.find(found)
		if err != nil {
			return nil, 0, err
		}
		if lsn == 0 {
			ahead.pass(ahead.last)
			break
		}
		lsns = append(lsns, lsn)
		passed += ahead.pass(lsn)
	}
	return lsns, passed, nil
}

// readLSNs returns the events at the given places, as many as make a page, or up to the first that cannot be read.
func (s *Store) readLSNs(ctx context.Context, lsns []uint64) ([]eventstore.Recorded, error) {
	events := make([]eventstore.Recorded, len(lsns))
	from := s.eventReader(lsns)
	defer from.close()
	bytes := 0
	for i := range lsns {
		if err := ctx.Err(); err != nil {
			return events[:i], err
		}
		if _, err := from.next(&events[i]); err != nil {
			return events[:i], err
		}
		if bytes += len(events[i].Payload); bytes >= scanBytes {
			return events[:i+1], nil
		}
	}
	return events, nil
}
