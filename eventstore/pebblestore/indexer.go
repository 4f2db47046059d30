package pebblestore

import (
	"errors"
	"sync"
	"time"
)

// indexer brings the index up to date, off the sequencer, a generation at a time.
type indexer struct {
	store *Store
	size  int // events of a generation
	wake  chan struct{}
	all   chan chan struct{} // closed when all there was is in the index
	stop  chan struct{}
	done  chan struct{}

	mu     sync.Mutex // guards behind and freed
	cond   sync.Cond  // behind became less, or freed was set
	behind int        // events that the index lacks
	freed  bool       // nobody is held any more
}

func newIndexer(s *Store, behind int) *indexer {
	x := &indexer{
		store: s, size: s.opts.IndexBatch, behind: behind,
		wake: make(chan struct{}, 1), all: make(chan chan struct{}), stop: make(chan struct{}), done: make(chan struct{}),
	}
	x.cond.L = &x.mu
	return x
}

// notify says that the young generation has grown. How much is looked up here: what a caller counted a moment ago may have
// been indexed since, and would hold back appends for ever.
func (x *indexer) notify() {
	x.mu.Lock()
	x.behind = x.store.recent.unindexed()
	full := x.behind >= x.size
	x.mu.Unlock()
	if full {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

// hold waits while the index is too far behind, so that memory stays bounded.
func (x *indexer) hold() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.behind >= x.size*maxIndexLag && !x.freed {
		x.cond.Wait()
	}
}

// run fills the index until close, and then once more with all there is.
func (x *indexer) run() {
	defer close(x.done)
	for open := true; open; {
		select {
		case <-x.wake:
		case filled := <-x.all:
			if x.store.recent.unindexed() > 0 && !x.turn() {
				return
			}
			close(filled)
		case <-x.stop:
			open = false
		}
		for x.store.recent.unindexed() >= x.size {
			if !x.turn() {
				return
			}
		}
	}
	if x.store.recent.unindexed() > 0 {
		x.turn()
	}
}

// turn moves the young generation to the index. When that fails it tries again until it works; the store can go on as
// long as the index is not too far behind. It returns false when the store closed meanwhile, or
// has lost its index.
func (x *indexer) turn() bool {
	g := x.store.recent.turn()
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := x.store.fillIndex(g)
		if err == nil {
			break
		}
		if errors.Is(err, errNoIndex) {
			return false
		}
		x.store.opts.Logger.Error("the index cannot be filled, trying again", "error", err)
		select {
		case <-time.After(delay):
		case <-x.stop:
			return false
		}
	}
	x.store.recent.keepTags(g)
	if x.store.filter.add(g.requestHashes()) {
		x.store.keeper.Go(x.store.makeFilter)
	}
	if x.store.streams.add(g.streamHashes()) {
		x.store.keeper.Go(x.store.makeStreamFilter)
	}
	x.mu.Lock()
	x.behind = x.store.recent.unindexed()
	x.mu.Unlock()
	x.cond.Broadcast()
	return true
}

// letGo frees those who are held, now and from now on: the store closes.
func (x *indexer) letGo() {
	x.mu.Lock()
	x.freed = true
	x.mu.Unlock()
	x.cond.Broadcast()
}

// close fills the index with the rest and ends the indexer. REQUIRES: nothing is added any more.
func (x *indexer) close() {
	close(x.stop)
	<-x.done
}
