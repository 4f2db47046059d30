package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// requestKey names a request: ids are of a tenant.
type requestKey struct{ tenant, id string }

// requestDigests stand for a request: key in memory, hash in the index. Two requests may have the same hash: the log tells
// them apart.
type requestDigests struct {
	key  headKey
	hash uint64
}

func (k requestKey) digests() requestDigests {
	var buf [256]byte
	name := append(append(append(buf[:0], k.tenant...), 0), k.id...)
	return requestDigests{headKeyOfName(name), xxhash.Sum64(name)}
}

func (k requestKey) hash() uint64 { return k.digests().hash }

// Requests come in an order that says nothing, and almost every append asks for one that is not there. A key for each
// would be rewritten by compaction again and again: that was a third of the work of an append. So the requests of a
// generation are spread by hash over requestBuckets keys, and a filter in memory (hashFilter) answers for those that
// are not there. A request that is there is looked for in its bucket of all generations.
const (
	requestBucketBits = 10
	requestBuckets    = 1 << requestBucketBits
	requestHashBytes  = 7 // of the hash in an entry; the bucket has the rest
)

// requestPlace is where the batch of a request with this hash begins.
type requestPlace struct{ hash, lsn uint64 }

func (p requestPlace) bucket() uint16 { return bucketOf(p.hash) }

func bucketOf(hash uint64) uint16 { return uint16(hash >> (64 - requestBucketBits)) }

// appendBucketKey appends the key of a bucket's requests of the generation that ends at an lsn.
func appendBucketKey(dst []byte, bucket uint16, end uint64) []byte {
	dst = binary.BigEndian.AppendUint16(append(dst, requestPrefix), bucket)
	return binary.BigEndian.AppendUint64(dst, end)
}

const bucketKeyBytes = 1 + 2 + 8

func parseBucketKey(key []byte) (bucket uint16, end uint64, ok bool) {
	if len(key) != bucketKeyBytes || key[0] != requestPrefix {
		return 0, 0, false
	}
	bucket, end = binary.BigEndian.Uint16(key[1:]), binary.BigEndian.Uint64(key[3:])
	return bucket, end, bucket < requestBuckets
}

// appendPlace appends an entry of a bucket: the low bytes of the hash, and how far before the generation's end the batch
// begins.
func appendPlace(dst []byte, p requestPlace, end uint64) []byte {
	var hash [8]byte
	binary.BigEndian.PutUint64(hash[:], p.hash)
	return binary.AppendUvarint(append(dst, hash[8-requestHashBytes:]...), end-p.lsn)
}

// bucketPlaces yields the entries of a bucket of a generation; ok is false after the last if there was more that is none.
func bucketPlaces(bucket uint16, end uint64, value []byte) iter.Seq2[requestPlace, bool] {
	return func(yield func(requestPlace, bool) bool) {
		top := uint64(bucket>>(requestBucketBits-(64-8*requestHashBytes))) << (8 * requestHashBytes)
		for len(value) > 0 {
			if len(value) <= requestHashBytes {
				yield(requestPlace{}, false)
				return
			}
			var hash [8]byte
			copy(hash[8-requestHashBytes:], value)
			back, n := binary.Uvarint(value[requestHashBytes:])
			p := requestPlace{top | binary.BigEndian.Uint64(hash[:]), end - back}
			// The hash's low bytes and the bucket have some bits in common, which must agree.
			if n <= 0 || back >= end || bucketOf(p.hash) != bucket {
				yield(requestPlace{}, false)
				return
			}
			if !yield(p, true) {
				return
			}
			value = value[requestHashBytes+n:]
		}
	}
}

// writeRequests calls set with the entries of a generation's requests in the order of their keys.
func (g *generation) writeRequests(set func(key, value []byte) error) error {
	if g.requests.len() == 0 {
		return nil
	}
	places := make([]requestPlace, 0, g.requests.len())
	for _, p := range g.requests.all() {
		places = append(places, *p)
	}
	slices.SortFunc(places, func(a, b requestPlace) int { return cmp.Compare(a.hash, b.hash) })
	var key, value []byte
	for from := 0; from < len(places); {
		bucket := places[from].bucket()
		value = value[:0]
		for ; from < len(places) && places[from].bucket() == bucket; from++ {
			value = appendPlace(value, places[from], g.end.lsn)
		}
		key = appendBucketKey(key[:0], bucket, g.end.lsn)
		if err := set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// requests yields the places of the requests of the buckets from one to another.
func (x *index) requests(from, to uint16) iter.Seq2[requestPlace, error] {
	return func(yield func(requestPlace, error) bool) {
		it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: appendBucketKey(nil, from, 0), UpperBound: appendBucketKey(nil, to+1, 0)})
		if err != nil {
			yield(requestPlace{}, fmt.Errorf("read index: %w", corrupted(err)))
			return
		}
		defer it.Close()
		for valid := it.First(); valid; valid = it.Next() {
			value, err := it.ValueAndErr()
			if err != nil {
				yield(requestPlace{}, fmt.Errorf("read index: %w", corrupted(err)))
				return
			}
			bucket, end, ok := parseBucketKey(it.Key())
			if !ok {
				yield(requestPlace{}, fmt.Errorf("read index: %w: key %q is not one of requests", eventstore.ErrCorrupt, it.Key()))
				return
			}
			for p, ok := range bucketPlaces(bucket, end, value) {
				if !ok {
					yield(p, fmt.Errorf("read index: %w: value of key %q is %x", eventstore.ErrCorrupt, it.Key(), value))
					return
				}
				if !yield(p, nil) {
					return
				}
			}
		}
		if err := it.Error(); err != nil {
			yield(requestPlace{}, fmt.Errorf("read index: %w", corrupted(err)))
		}
	}
}

// countRequests returns about how many requests the index has, and no fewer.
func (x *index) countRequests() (count int64, err error) {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{requestPrefix}, UpperBound: []byte{requestPrefix + 1}})
	if err != nil {
		return 0, fmt.Errorf("read index: %w", corrupted(err))
	}
	for valid := it.First(); valid; valid = it.Next() {
		count += int64(len(it.Value())) / (requestHashBytes + 1)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return 0, fmt.Errorf("read index: %w", corrupted(err))
	}
	return count, nil
}

// requestPlaces returns where the batches of the requests with this hash begin.
func (x *index) requestPlaces(hash uint64) (lsns []uint64, err error) {
	if err := x.hold(); err != nil {
		return nil, err
	}
	defer x.letGo()
	bucket := bucketOf(hash)
	for p, err := range x.requests(bucket, bucket) {
		if err != nil {
			return nil, err
		}
		if p.hash == hash {
			lsns = append(lsns, p.lsn)
		}
	}
	return lsns, nil
}

// errAnotherRequest: the index names the batch of another request with the same hash.
var errAnotherRequest = errors.New("another request with the same hash")

// lookRequest returns the batch that recorded a request; none when it is not durable. It looks in memory first, since
// entries move from there to the index.
func (s *Store) lookRequest(k requestKey, d requestDigests) ([]eventstore.Recorded, error) {
	if lsn, known := s.recent.request(d.key); known {
		return s.requestBatch(k, d.hash, lsn)
	}
	if !s.filter.mayHave(d.hash) {
		return nil, nil
	}
	lsns, err := s.index.requestPlaces(d.hash)
	if err != nil {
		return nil, err
	}
	for _, lsn := range lsns {
		batch, err := s.requestBatch(k, d.hash, lsn)
		if !errors.Is(err, errAnotherRequest) {
			return batch, err
		}
	}
	return nil, nil
}

// requestBatch reads the batch of a request, which is said to begin at an lsn.
func (s *Store) requestBatch(k requestKey, hash, lsn uint64) ([]eventstore.Recorded, error) {
	durable := s.recent.state().lsn
	if lsn == 0 || lsn > durable {
		return nil, fmt.Errorf("read receipt of request %q: %w: the index names lsn %d, the log goes to %d", k.id, eventstore.ErrCorrupt, lsn, durable)
	}
	batch, err := s.readPage(nil, lsn, durable, pageLimits{events: 1, whole: true})
	if err != nil {
		return nil, fmt.Errorf("read receipt: %w", err)
	}
	first := &batch[0]
	got := requestKey{first.Stream.Tenant, first.CommandID}
	switch {
	case first.Dot.Seq != first.Batch.FirstSeq || got.id == "" || got.hash() != hash:
		return nil, fmt.Errorf("read receipt of request %q: %w: the index names lsn %d, where its batch does not begin", k.id, eventstore.ErrCorrupt, lsn)
	case got != k:
		return nil, errAnotherRequest
	}
	return batch, nil
}
