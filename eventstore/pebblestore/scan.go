package pebblestore

import (
	"context"
	"iter"
	"runtime"

	"github.com/tributary-es/tributary/eventstore"
)

// How much of the log a scan reads at a time.
const (
	scanEvents = 1024
	scanBytes  = 1 << 20
)

// ReadAll implements eventstore.Reader. Events that a filter lets through now and then are found through the index. A scan
// of more than one page decodes the pages ahead on as many processors as there are, unless it was asked to take little
// memory.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		end, err := s.readEnd(ctx, after, &f)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		rest := walk{next: after.LSN + 1, last: end}
		// The chain comes from reading every event.
		if !f.Chain && s.readFiltered(ctx, &f, &rest, yield) {
			return
		}
		sc := scan{store: s, ctx: ctx, chain: f.Chain, next: rest.next, end: end, bytes: scanBytes, most: runtime.GOMAXPROCS(0)}
		if f.MaxBytes > 0 {
			sc.bytes, sc.most = min(scanBytes, f.MaxBytes), 0
		}
		defer sc.stop()
		for {
			page, err := sc.page()
			for i := range page {
				if f.Matches(&page[i]) && !yield(page[i], nil) {
					return
				}
			}
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			if page == nil {
				return
			}
		}
	}
}

// scan reads the log in pages. Since the log is dense, the places of the pages ahead are known before those before them
// are read; only large events make a page end before its place does, and then its rest is read when its turn comes.
type scan struct {
	store *Store
	ctx   context.Context
	chain bool
	end   uint64 // lsn
	bytes int    // of a page
	most  int    // pages that are read ahead

	next  uint64                  // of the next stretch to read ahead
	ahead []*stretch              // being read, in order
	rest  stretch                 // of the stretch whose turn it is, from rest.from on
	free  [][]eventstore.Recorded // pages to use again
	last  []eventstore.Recorded   // the page that was returned last
}

// stretch is a piece of the log that is read on a goroutine of its own.
type stretch struct {
	from, to uint64
	page     []eventstore.Recorded
	err      error
	done     chan struct{} // closed when page and err are final
}

// page returns the next page, which is valid until the next call; nil at the end.
func (sc *scan) page() ([]eventstore.Recorded, error) {
	if sc.last != nil {
		sc.free = append(sc.free, sc.last)
		sc.last = nil
	}
	if sc.rest.from > 0 && sc.rest.from <= sc.rest.to {
		page, err := sc.read(sc.rest.from, sc.rest.to, sc.spare())
		return sc.took(page, err)
	}
	if len(sc.ahead) == 0 {
		if sc.next > sc.end {
			return nil, nil
		}
		// The first page is read here: most scans have no other.
		sc.rest = sc.stretch()
		page, err := sc.read(sc.rest.from, sc.rest.to, sc.spare())
		sc.fill()
		return sc.took(page, err)
	}
	s := sc.ahead[0]
	sc.ahead = sc.ahead[1:]
	<-s.done
	sc.rest = stretch{from: s.from, to: s.to}
	sc.fill()
	return sc.took(s.page, s.err)
}

func (sc *scan) took(page []eventstore.Recorded, err error) ([]eventstore.Recorded, error) {
	sc.rest.from += uint64(len(page))
	sc.last = page
	return page, err
}

// stretch returns the next piece of the log.
func (sc *scan) stretch() stretch {
	s := stretch{from: sc.next, to: min(sc.end, sc.next+scanEvents-1)}
	sc.next = s.to + 1
	return s
}

// fill reads ahead.
func (sc *scan) fill() {
	for len(sc.ahead) < sc.most && sc.next <= sc.end {
		s := sc.stretch()
		s.done = make(chan struct{})
		page := sc.spare()
		sc.ahead = append(sc.ahead, &s)
		go func() {
			defer close(s.done)
			s.page, s.err = sc.read(s.from, s.to, page)
		}()
	}
}

func (sc *scan) spare() []eventstore.Recorded {
	if n := len(sc.free); n > 0 {
		page := sc.free[n-1]
		sc.free = sc.free[:n-1]
		return page[:0]
	}
	return nil
}

func (sc *scan) read(from, to uint64, page []eventstore.Recorded) ([]eventstore.Recorded, error) {
	return sc.store.pageFor(sc.ctx, page, from, to, pageLimits{events: scanEvents, bytes: sc.bytes, chain: sc.chain})
}

// stop waits for what is being read ahead.
func (sc *scan) stop() {
	for _, s := range sc.ahead {
		<-s.done
	}
}
