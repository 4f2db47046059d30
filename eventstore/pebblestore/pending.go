package pebblestore

import (
	"context"
	"slices"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
	"golang.org/x/sync/semaphore"
)

// pending is a request on its way: first its caller's, then the sequencer's, then the committer's. Whoever has it alone
// may touch it; done gives it back to the caller. It is borrowed from a pool, with most of the memory that an append needs.
type pending struct {
	ctx     context.Context // of the caller: the sequencer passes over those who left
	request eventstore.Request
	records []eventstore.Recorded
	// contents holds the content parts of all records, one after the other, content i ending at ends[i]; hashes are
	// theirs.
	contents []byte
	ends     []int
	hashes   []eventstore.Hash

	notes   []eventNote // of the records; nil when they need none
	keys    []headKey   // of the streams of records, in their order
	digests requestDigests
	// heads are what the request's streams had come to as it was durable at lsn checked, where no request of this ID
	// was known.
	heads   []streamHead
	checked uint64
	met     uint64 // lsn of the last event that stood against the request's condition then; 0: none

	room    *semaphore.Weighted // of which it holds weight, until it is answered
	weight  int64
	done    chan struct{} // has a token when the request is finished
	receipt eventstore.Receipt
	err     error
	// answered, when set, is called in place of a token of done, with the request's place: nobody waits for it.
	answered func(place int, a eventstore.Answer)
	place    int
	// received, when set, says that the records are of another log, and there is no request.
	received *received
}

var pendings = sync.Pool{New: func() any { return &pending{done: make(chan struct{}, 1)} }}

// maxKeptBytes bounds what is kept for later.
const maxKeptBytes = 1 << 20

// giveBack keeps the memory for another request. REQUIRES: the caller has taken the token of done, or nobody waits for it
// and the caller is the last who has the request.
func (p *pending) giveBack() {
	if cap(p.contents) > maxKeptBytes {
		return
	}
	*p = pending{
		contents: p.contents[:0], ends: p.ends[:0], hashes: p.hashes[:0], keys: p.keys[:0], heads: p.heads[:0], done: p.done,
	}
	pendings.Put(p)
}

// prepare does on the caller's goroutine all that needs no turn: ids, encoding, hashing. REQUIRES: r is normalized.
func (s *Store) prepare(ctx context.Context, r *eventstore.Request) *pending {
	p := pendings.Get().(*pending)
	p.ctx, p.request, p.records = ctx, *r, r.Records(s.opts.NewID)
	size := 0
	for i := range p.records {
		size += 256 + len(p.records[i].Payload)
	}
	p.contents = slices.Grow(p.contents, size)
	dep := s.dep.Load()
	for i := range p.records {
		e := &p.records[i]
		if dep != nil {
			e.Dep = *dep
		}
		start := len(p.contents)
		p.contents = eventstore.AppendContent(p.contents, e)
		p.ends = append(p.ends, len(p.contents))
		p.hashes = append(p.hashes, eventstore.ContentHash(p.contents[start:]))
		if i == 0 || e.Stream != p.records[i-1].Stream {
			p.keys = append(p.keys, headKeyOf(e.Stream))
		}
	}
	p.digests = p.key().digests()
	p.heads = slices.Grow(p.heads, len(r.Appends))[:len(r.Appends)]
	return p
}

// pass asks the fence about the request's streams, and gives the records their epochs.
func (p *pending) pass(fence eventstore.Fence) error {
	for i := range p.records {
		r := &p.records[i]
		if i > 0 && r.Stream == p.records[i-1].Stream {
			r.Epoch = p.records[i-1].Epoch
			continue
		}
		epoch, err := fence(r.Stream, r.Cell)
		if err != nil {
			return err
		}
		r.Epoch = epoch
	}
	return nil
}

func (p *pending) content(i int) []byte {
	start := 0
	if i > 0 {
		start = p.ends[i-1]
	}
	return p.contents[start:p.ends[i]]
}

func (p *pending) key() requestKey { return requestKey{p.request.Tenant, p.request.ID} }

// size is about the memory that the request takes.
func (p *pending) size() int64 { return int64(2*len(p.contents) + 512*len(p.records)) }

// finish gives the request back to its caller. Nobody else may touch it from then on.
func (p *pending) finish() {
	p.room.Release(p.weight)
	if p.answered != nil {
		answered, place, a := p.answered, p.place, eventstore.Answer{Receipt: p.receipt, Err: p.err}
		p.giveBack()
		answered(place, a)
		return
	}
	p.done <- struct{}{}
}

func (p *pending) answer(receipt eventstore.Receipt, err error) {
	p.receipt, p.err = receipt, err
	p.finish()
}

// queue holds the requests that wait for the sequencer, in order.
type queue struct {
	mu      sync.Mutex // guards what follows
	waiting []*pending
	closed  bool

	wake chan struct{} // holds a token when there is something to take, or closed was set
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// put adds requests in their order; it returns false when the queue is closed.
func (q *queue) put(all ...*pending) bool {
	if len(all) == 0 {
		return true
	}
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.waiting = append(q.waiting, all...)
	first := len(q.waiting) == len(all)
	q.mu.Unlock()
	if first {
		q.signal()
	}
	return true
}

// take returns all that waits, reusing spare for what comes next.
func (q *queue) take(spare []*pending) (all []*pending, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all, q.waiting = q.waiting, spare[:0]
	return all, q.closed
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
