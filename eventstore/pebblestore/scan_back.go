package pebblestore

import (
	"cmp"
	"context"
	"iter"

	"github.com/tributary-es/tributary/eventstore"
)

// ReadAllBackwards implements eventstore.Reader.
func (s *Store) ReadAllBackwards(ctx context.Context, before eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		yield = s.given(yield)
		if err := f.Backwards(); err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		end, err := s.readEnd(ctx, before, &f)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if !before.IsZero() {
			end = min(end, before.LSN-1)
		}
		rest := walk{next: end, last: 1, back: true}
		if s.readFiltered(ctx, &f, &rest, yield) {
			return
		}
		for page, err := range s.pagesBack(ctx, rest.next, cmp.Or(f.MaxBytes, scanBytes)) {
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
// page is valid until the next. A page takes about so many bytes.
func (s *Store) pagesBack(ctx context.Context, end uint64, most int) iter.Seq2[[]eventstore.Recorded, error] {
	return func(yield func([]eventstore.Recorded, error) bool) {
		// Reads backwards are mostly for the last few. How many events make a page is known when they are read.
		step := uint64(16)
		var page []eventstore.Recorded
		for end > 0 {
			from := max(end, step) - step + 1
			var err error
			if page, err = s.pageFor(ctx, page[:0], from, end, pageLimits{events: int(step)}); err != nil {
				yield(nil, err)
				return
			}
			if !yield(page, nil) {
				return
			}
			bytes := batchBytes(page)
			if bytes < most/2 {
				step = min(2*step, scanEvents)
			} else if bytes > most {
				step = max(1, step/2)
			}
			end = from - 1
		}
	}
}
