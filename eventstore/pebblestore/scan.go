package pebblestore

import (
	"context"
	"iter"
	"runtime"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// scanFrames is how many bytes of frames make a page of a scan. A page goes from the goroutine that decodes it to the one
// that reads it: smaller ones are handed over too often, and larger ones leave the processors' caches on their way.
const scanFrames = 128 << 10

// What other readers take at a time.
const (
	scanEvents = 1024
	scanBytes  = 1 << 20
)

// ReadAll implements eventstore.Reader. Events that a filter lets through now and then are found through the index. A scan
// of more than one page reads the pages ahead on as many processors as there are, unless it was asked to take little
// memory.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		yield = s.given(yield)
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
		sc := newScan(ctx, s, &f, rest.next, end)
		defer sc.close()
		for sc.more() {
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
		}
	}
}

// scan reads the log in pages: a small one and another by itself, since most scans have no more, and then on goroutines of
// its own. Those take turns at getting blocks, which puts the pages in order, and decode them at the same time.
type scan struct {
	ctx   context.Context
	store *Store
	chain bool
	end   uint64 // lsn
	size  int    // bytes of the frames of a page
	most  int    // goroutines

	own     pageReader
	pages   int // that came
	started bool
	after   uint64                     // lsn of the last event that came
	last    []eventstore.Recorded      // the page that came last
	free    chan []eventstore.Recorded // pages to use again
	ahead   chan *pageAhead            // in order
	done    chan struct{}
	workers sync.WaitGroup

	turn   sync.Mutex // held by who gets blocks; guards what follows
	cursor *logCursor
	next   uint64 // lsn
}

// pageAhead is a page that is being decoded.
type pageAhead struct {
	events []eventstore.Recorded
	err    error
	ready  chan struct{} // closed when the others are final
}

// pageReader is what a goroutine needs to read pages.
type pageReader struct {
	decoder pageDecoder
	blocks  []block
}

func newScan(ctx context.Context, s *Store, f *eventstore.Filter, next, end uint64) *scan {
	sc := &scan{ctx: ctx, store: s, chain: f.Chain, end: end, after: next - 1, size: scanFrames, most: runtime.GOMAXPROCS(0), next: next, cursor: s.logCursor()}
	if f.MaxBytes > 0 {
		sc.size, sc.most = min(sc.size, f.MaxBytes/3), 0
	}
	sc.own = sc.reader()
	return sc
}

func (sc *scan) reader() pageReader {
	return pageReader{decoder: pageDecoder{incarnation: sc.store.id.Incarnation, limits: pageLimits{chain: sc.chain}}}
}

// more reports whether there is more to read.
func (sc *scan) more() bool { return sc.after < sc.end }

// page returns the next page, which is valid until the next call. Where something cannot be read, it is what stands before
// that.
func (sc *scan) page() (page []eventstore.Recorded, err error) {
	if sc.started {
		if sc.last != nil {
			sc.free <- sc.last // has room for all pages
		}
		p := <-sc.ahead
		<-p.ready
		page, err = p.events, p.err
	} else {
		begin, size := sc.next, sc.size
		if sc.pages == 0 {
			size = 0
		}
		if err = sc.blocks(&sc.own, size); err == nil || len(sc.own.blocks) > 0 {
			var broken error
			if page, broken = sc.own.events(sc.last[:0], begin, sc.end); broken != nil {
				err = broken
			}
		}
	}
	sc.last = page
	if n := len(page); n > 0 {
		sc.after = page[n-1].Position.LSN
	}
	if sc.pages++; sc.pages == 2 && sc.most > 0 && err == nil && sc.more() {
		sc.start()
	}
	return page, err
}

// blocks gets the blocks of the next page, whose frames have about size bytes. REQUIRES: it is the caller's turn.
func (sc *scan) blocks(r *pageReader, size int) (err error) {
	release, err := sc.store.useFor(sc.ctx)
	if err != nil {
		r.blocks = r.blocks[:0]
		return err
	}
	defer release()
	r.blocks, err = sc.cursor.read(r.blocks[:0], sc.next, sc.end, size)
	if n := len(r.blocks); n > 0 {
		sc.next = r.blocks[n-1].last() + 1
	}
	return err
}

// events appends to page the events of the blocks.
func (r *pageReader) events(page []eventstore.Recorded, from, to uint64) (_ []eventstore.Recorded, err error) {
	for i := range r.blocks {
		if page, _, err = r.decoder.block(page, &r.blocks[i], from, to); err != nil {
			break
		}
	}
	clear(r.blocks) // whoever holds an event holds its block, nobody else does
	return page, err
}

// start has the rest read ahead.
func (sc *scan) start() {
	sc.started = true
	sc.done, sc.ahead = make(chan struct{}), make(chan *pageAhead, sc.most)
	sc.free = make(chan []eventstore.Recorded, 2*sc.most+2)
	for range sc.most {
		sc.workers.Go(sc.work)
	}
}

// work reads pages until the end of the log, or an error.
func (sc *scan) work() {
	r := sc.reader()
	for {
		p := &pageAhead{ready: make(chan struct{})}
		begin, more := sc.take(&r, p)
		if !more {
			return
		}
		select {
		case p.events = <-sc.free:
		default:
		}
		var err error
		if p.events, err = r.events(p.events[:0], begin, sc.end); err != nil {
			p.err = err
		}
		close(p.ready)
	}
}

// take gets the blocks of the next page and takes the page's place in the order. There is no more after the end, after an
// error, and when the scan is over.
func (sc *scan) take(r *pageReader, p *pageAhead) (begin uint64, more bool) {
	sc.turn.Lock()
	defer sc.turn.Unlock()
	if begin = sc.next; begin > sc.end {
		return begin, false
	}
	select {
	case sc.ahead <- p:
	case <-sc.done:
		return begin, false
	}
	if p.err = sc.blocks(r, sc.size); p.err != nil {
		sc.next = sc.end + 1
	}
	return begin, true
}

// close ends what is being read ahead.
func (sc *scan) close() {
	if sc.started {
		close(sc.done)
		sc.workers.Wait()
	}
}
