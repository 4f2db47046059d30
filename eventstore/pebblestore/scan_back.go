package pebblestore

import (
	"context"
	"iter"

	"github.com/tributary-es/tributary/eventstore"
)

// ReadAllBackwards implements eventstore.Reader.
func (s *Store) ReadAllBackwards(ctx context.Context, before eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if err := f.Backwards(); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		end, err := s.checkPosition(ctx, before)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if !before.IsZero() {
			end = before.LSN - 1
		}
		for page, err := range s.pagesBack(ctx, end) {
			for i := len(page) - 1; i >= 0; i-- {
				if f.Matches(&page[i]) && !yield(page[i], nil) {
					return
				}
			}
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
		}
	}
}

// pagesBack yields the log from an lsn down to 1 in pages, the latest first; the events of a page are in order, and the
// page is valid until the next.
func (s *Store) pagesBack(ctx context.Context, end uint64) iter.Seq2[[]eventstore.Recorded, error] {
	return func(yield func([]eventstore.Recorded, error) bool) {
		const step = 128 // reads backwards are mostly for the last few
		var page []eventstore.Recorded
		for end > 0 {
			from := max(end, step) - step + 1
			var err error
			if page, err = s.pageFor(ctx, page[:0], from, end, pageLimits{events: step}); err != nil {
				yield(nil, err)
				return
			}
			if !yield(page, nil) {
				return
			}
			end = from - 1
		}
	}
}
