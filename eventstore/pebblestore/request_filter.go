package pebblestore

import (
	"sync"
	"sync/atomic"
)

// requestFilter knows which requests cannot be in the index: a Bloom filter over the hashes of all that are, in memory,
// so that an append with a new id does not look there. It takes requestFilterBits for each id that was ever used, 2 MB a
// million, and is not kept on disk: at the start it is read from the index, in the background.
//
// INVARIANT: a hash is in the filter before its request leaves recent. Until the filter is made, it may have everything.
type requestFilter struct {
	current atomic.Pointer[bloomFilter] // nil: not made yet

	mu     sync.Mutex   // guards what follows
	making *bloomFilter // takes what is added while it is filled from the index; nil when none is
}

const (
	requestFilterBits  = 16 // per hash: about one hash in 500 is looked for in vain
	minRequestCapacity = 1 << 18
)

// mayHave reports whether the index may have a request with this hash.
func (f *requestFilter) mayHave(hash uint64) bool {
	b := f.current.Load()
	return b == nil || b.has(hash)
}

// add takes the hashes of a generation. It returns true when the filter has become too small or there is none, so that
// one is to be made.
func (f *requestFilter) add(g *generation) (grow bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	current := f.current.Load()
	for k := range g.requests {
		hash := k.hash()
		if current != nil {
			current.add(hash)
		}
		if f.making != nil {
			f.making.add(hash)
		}
	}
	return f.making == nil && (current == nil || current.count.Load() > current.capacity)
}

// begin makes a filter the one that is being made; nil when another is.
func (f *requestFilter) begin(capacity int64) *bloomFilter {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.making != nil {
		return nil
	}
	f.making = newBloom(max(capacity, minRequestCapacity))
	return f.making
}

// end makes the filter that was being made the current one; if it could not be filled, it is dropped.
func (f *requestFilter) end(filled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if filled {
		f.current.Store(f.making)
	}
	f.making = nil
}

// bloomFilter is a Bloom filter in blocks of a cache line: a look touches one. It is safe for concurrent use.
type bloomFilter struct {
	blocks   []bloomBlock
	count    atomic.Int64 // hashes that were added
	capacity int64        // for which it was made
}

type bloomBlock [8]atomic.Uint64

func newBloom(capacity int64) *bloomFilter {
	blocks := max(1, capacity*requestFilterBits/512)
	return &bloomFilter{blocks: make([]bloomBlock, blocks), capacity: capacity}
}

// at returns the block of a hash, and the hash from which its bits are taken: one of each of the block's words.
func (b *bloomFilter) at(hash uint64) (block *bloomBlock, bits uint64) {
	bits = hash * 0x9E3779B97F4A7C15
	return &b.blocks[(hash>>32)*uint64(len(b.blocks))>>32], bits ^ bits>>29
}

func (b *bloomFilter) add(hash uint64) {
	b.count.Add(1)
	block, bits := b.at(hash)
	for i := range block {
		block[i].Or(1 << (bits & 63))
		bits >>= 6
	}
}

func (b *bloomFilter) has(hash uint64) bool {
	block, bits := b.at(hash)
	for i := range block {
		if block[i].Load()&(1<<(bits&63)) == 0 {
			return false
		}
		bits >>= 6
	}
	return true
}

// makeFilter makes a filter of the requests in the index, with room for as many again.
func (s *Store) makeFilter() {
	count, err := s.index.countRequests()
	if err != nil {
		s.opts.Logger.Warn("the filter of request ids cannot be made: appends with an id take longer", "error", err)
		return
	}
	b := s.filter.begin(2 * count)
	if b == nil {
		return
	}
	filled, err := s.fillFilter(b)
	if err != nil {
		s.opts.Logger.Warn("the filter of request ids cannot be made: appends with an id take longer", "error", err)
	}
	s.filter.end(filled)
}

// fillFilter adds the requests that the index has. It is false when the store closed meanwhile.
func (s *Store) fillFilter(b *bloomFilter) (filled bool, err error) {
	n := 0
	for p, err := range s.index.requests(0, requestBuckets-1) {
		if err != nil {
			return false, err
		}
		b.add(p.hash)
		if n++; n%1024 == 0 && s.isDone() {
			return false, nil
		}
	}
	return true, nil
}

func (s *Store) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
