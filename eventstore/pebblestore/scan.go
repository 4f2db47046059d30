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
		sc, all := newScan(ctx, s, &f, rest.next, end), f.MatchesAll()
		defer sc.close()
		for sc.more() {
			page, err := sc.page()
			for i := range page {
				if (all || f.Matches(&page[i])) && !yield(page[i], nil) {
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
// its own. Those take turns at finding where the next page begins, which puts the pages in order, and read and decode them
// at the same time.
type scan struct {
	ctx   context.Context
	store *Store
	chain bool
	lent  bool   // blocks are read into the memory of pages
	end   uint64 // lsn
	size  int    // bytes of the frames of a page
	most  int    // goroutines

	own     pageReader
	pages   int // that came
	started bool
	after   uint64          // lsn of the last event that came
	last    scanPage        // the page that came last
	free    chan scanPage   // pages to use again
	ahead   chan *pageAhead // in order
	done    chan struct{}
	workers sync.WaitGroup

	turn  sync.Mutex // held by who takes a page; guards what follows
	place tablePlace // where the next page begins
	next  uint64     // lsn
}

// scanPage is a page, with the memory that its blocks are read into where that is lent.
type scanPage struct {
	events []eventstore.Recorded
	memory []byte
}

// pageAhead is a page that is being decoded.
type pageAhead struct {
	scanPage
	err   error
	ready chan struct{} // closed when the others are final
}

// pageReader is what a goroutine needs to read pages.
type pageReader struct {
	cursor  *logCursor
	decoder pageDecoder
	blocks  []block // of the page; while it is partial, only the last ones
	partial bool
	tail    []block
}

func newScan(ctx context.Context, s *Store, f *eventstore.Filter, next, end uint64) *scan {
	sc := &scan{
		ctx: ctx, store: s, chain: f.Chain, lent: f.Lent, end: end, after: next - 1, size: scanFrames, most: runtime.GOMAXPROCS(0),
		next: next,
	}
	if f.MaxBytes > 0 {
		sc.size, sc.most = min(sc.size, f.MaxBytes/3), 0
	}
	sc.own = sc.reader()
	return sc
}

func (sc *scan) reader() pageReader {
	return pageReader{cursor: sc.store.logCursor(), decoder: pageDecoder{incarnation: sc.store.id.Incarnation, limits: pageLimits{chain: sc.chain}}}
}

// more reports whether there is more to read.
func (sc *scan) more() bool { return sc.after < sc.end }

// page returns the next page, which is valid until the next call, and what its events share too if it is lent. Where something cannot be read, it is what stands before
// that.
func (sc *scan) page() (page []eventstore.Recorded, err error) {
	if sc.started {
		sc.free <- sc.last // has room for all pages
		p := <-sc.ahead
		<-p.ready
		sc.last, err = p.scanPage, p.err
	} else {
		begin, size := sc.next, sc.size
		if sc.pages == 0 {
			size = 0
		}
		err = sc.blocks(&sc.own, &sc.last, size)
		if broken := sc.events(&sc.own, &sc.last, begin); broken != nil {
			err = broken
		}
	}
	page = sc.last.events
	if n := len(page); n > 0 {
		sc.after = page[n-1].Position.LSN
	}
	if sc.pages++; sc.pages == 2 && sc.most > 0 && err == nil && sc.more() {
		sc.start()
	}
	return page, err
}

// blocks gets the blocks of the next page, whose frames have about size bytes, or the last of them only, which is enough to
// tell where the page after it begins. REQUIRES: it is the caller's turn.
func (sc *scan) blocks(r *pageReader, page *scanPage, size int) (err error) {
	r.blocks, r.partial = r.blocks[:0], false
	release, err := sc.store.useFor(sc.ctx)
	if err != nil {
		return err
	}
	defer release()
	if sc.lent {
		if page.memory == nil && size > 0 {
			page.memory = make([]byte, size+size/4)
		}
		r.cursor.tables.lent = page.memory
	}
	r.cursor.tables.tablePlace = sc.place
	var behind tablePlace
	if r.blocks, behind, r.partial = r.cursor.tail(r.blocks, sc.next, size); !r.partial {
		r.blocks, err = r.cursor.read(r.blocks, sc.next, sc.end, size)
		behind = r.cursor.tables.tablePlace
	}
	sc.place = behind
	if n := len(r.blocks); n > 0 {
		sc.next = r.blocks[n-1].last() + 1
	}
	return err
}

// events sets the events of a page that begins at an lsn, whose blocks were got.
func (sc *scan) events(r *pageReader, page *scanPage, begin uint64) (err error) {
	if r.partial {
		err = sc.rest(r, begin)
	}
	page.events = page.events[:0]
	for i := range r.blocks {
		var broken error
		if page.events, _, broken = r.decoder.block(page.events, &r.blocks[i], begin, sc.end); broken != nil {
			err = broken
			break
		}
	}
	clear(r.blocks) // whoever holds an event holds its block, nobody else does
	return err
}

// rest gets the blocks of a page that stand before those that were got.
func (sc *scan) rest(r *pageReader, begin uint64) error {
	r.blocks, r.tail = r.tail[:0], r.blocks
	defer func() { clear(r.tail) }()
	release, err := sc.store.useFor(sc.ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.blocks, err = r.cursor.between(r.blocks, begin, &r.tail[0]); err == nil {
		r.blocks = append(r.blocks, r.tail...)
	}
	return err
}

// start has the rest read ahead.
func (sc *scan) start() {
	sc.started = true
	sc.done, sc.ahead = make(chan struct{}), make(chan *pageAhead, sc.most)
	sc.free = make(chan scanPage, 2*sc.most+2)
	for range sc.most {
		sc.workers.Go(sc.work)
	}
}

// work reads pages until the end of the log, or an error.
func (sc *scan) work() {
	r := sc.reader()
	for {
		p := &pageAhead{ready: make(chan struct{})}
		select {
		case p.scanPage = <-sc.free:
		default:
		}
		begin, more := sc.take(&r, p)
		if !more {
			return
		}
		if err := sc.events(&r, &p.scanPage, begin); err != nil {
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
	if p.err = sc.blocks(r, &p.scanPage, sc.size); p.err != nil {
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
