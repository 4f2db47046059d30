package pebblestore

import (
	"bytes"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// hashFilter knows what cannot be in the index: a Bloom filter over the hashes of all requests or streams that are, in
// memory, so that an append with a new id or to a new stream does not look there. It takes filterBits for each that there
// ever was, 2 MB a million, and is not kept on disk: at the start it is read from the index, in the background.
//
// INVARIANT: a hash is in the filter before what it stands for leaves recent. Until the filter is made, it may have
// everything.
type hashFilter struct {
	current atomic.Pointer[bloomFilter] // nil: not made yet

	mu     sync.Mutex   // guards what follows
	making *bloomFilter // takes what is added while it is filled from the index; nil when none is
}

const (
	filterBits        = 16 // per hash: about one hash in 500 is looked for in vain
	minFilterCapacity = 1 << 18
)

// mayHave reports whether the index may have what has this hash.
func (f *hashFilter) mayHave(hash uint64) bool {
	b := f.current.Load()
	return b == nil || b.has(hash)
}

// add takes the hashes of a generation. It returns true when the filter has become too small or there is none, so that
// one is to be made.
func (f *hashFilter) add(hashes iter.Seq[uint64]) (grow bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	current := f.current.Load()
	for hash := range hashes {
		if current != nil {
			current.add(hash)
		}
		if f.making != nil {
			f.making.add(hash)
		}
	}
	return f.making == nil && (current == nil || current.count.Load() > current.capacity)
}

// requestHashes and streamHashes yield what filters take of a generation.
func (g *generation) requestHashes() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for _, p := range g.requests.all() {
			if !yield(p.hash) {
				return
			}
		}
	}
}

func (g *generation) streamHashes() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for k := range g.streams.all() {
			if !yield(k.hash()) {
				return
			}
		}
	}
}

// begin makes a filter the one that is being made; nil when another is.
func (f *hashFilter) begin(capacity int64) *bloomFilter {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.making != nil {
		return nil
	}
	f.making = newBloom(max(capacity, minFilterCapacity))
	return f.making
}

// end makes the filter that was being made the current one; if it could not be filled, it is dropped.
func (f *hashFilter) end(filled bool) {
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
	count    atomic.Int64 // hashes that were added, each once
	capacity int64        // for which it was made
}

type bloomBlock [8]atomic.Uint64

func newBloom(capacity int64) *bloomFilter {
	blocks := max(1, capacity*filterBits/512)
	return &bloomFilter{blocks: make([]bloomBlock, blocks), capacity: capacity}
}

// at returns the block of a hash, and the hash from which its bits are taken: one of each of the block's words.
func (b *bloomFilter) at(hash uint64) (block *bloomBlock, bits uint64) {
	bits = hash * 0x9E3779B97F4A7C15
	return &b.blocks[(hash>>32)*uint64(len(b.blocks))>>32], bits ^ bits>>29
}

func (b *bloomFilter) add(hash uint64) {
	if b.has(hash) { // a stream comes with each generation that has events of it
		return
	}
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
	release, err := s.useIndex()
	if err != nil {
		return // nobody looks anything up any more
	}
	defer release()
	count, err := s.index.countRequests()
	if err != nil {
		s.opts.Logger.Warn("the filter of request ids cannot be made: appends with an id take longer", "error", err)
		return
	}
	if err := s.fillFilter(&s.filter, 2*count, s.index.requestHashes()); err != nil {
		s.opts.Logger.Warn("the filter of request ids cannot be made: appends with an id take longer", "error", err)
	}
}

// makeStreamFilter makes a filter of the streams in the index, with room for as many again.
func (s *Store) makeStreamFilter() {
	release, err := s.useIndex()
	if err != nil {
		return // nobody looks anything up any more
	}
	defer release()
	count := int64(s.recent.state().streams)
	if err := s.fillFilter(&s.streams, 2*count, s.index.streamHashes()); err != nil {
		s.opts.Logger.Warn("the filter of streams cannot be made: appends to new streams take longer", "error", err)
	}
}

// fillFilter makes a filter of hashes in the index, unless it is being made or the store closes meanwhile.
func (s *Store) fillFilter(f *hashFilter, capacity int64, hashes iter.Seq2[uint64, error]) (err error) {
	b := f.begin(capacity)
	if b == nil {
		return nil
	}
	filled := false
	defer func() { f.end(filled) }()
	n := 0
	for hash, err := range hashes {
		if err != nil {
			return err
		}
		b.add(hash)
		if n++; n%1024 == 0 && s.isDone() {
			return nil
		}
	}
	filled = true
	return nil
}

// requestHashes yields the hashes of the requests in the index.
func (x *index) requestHashes() iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		for p, err := range x.requests(0, requestBuckets-1) {
			if !yield(p.hash, err) {
				return
			}
		}
	}
}

// streamHashes yields the hashes of the streams in the index.
func (x *index) streamHashes() iter.Seq2[uint64, error] {
	return func(yield func(uint64, error) bool) {
		it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{runPrefix}, UpperBound: []byte{runPrefix + 1}})
		if err != nil {
			yield(0, fmt.Errorf("read index: %w", corrupted(err)))
			return
		}
		defer it.Close()
		// Not NextPrefix: no key sorts behind all runs of a stream and is a prefix itself, which Pebble would want for that.
		var last []byte
		for valid := it.First(); valid; valid = it.Next() {
			name := it.Key()[1:splitIndexKey(it.Key())]
			if bytes.Equal(name, last) {
				continue
			}
			last = append(last[:0], name...)
			if !yield(headKeyOfName(name).hash(), nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(0, fmt.Errorf("read index: %w", corrupted(err)))
		}
	}
}

func (s *Store) isDone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}
