package pebblestore

import (
	"encoding/binary"

	"github.com/tributary-es/tributary/eventstore"
)

// Keys of the log database. Blocks come in the order of the log.
//
//	m                    what log this is (meta.go)
//	b ‖ last lsn         a block: so that the block that holds an event is found by one seek forwards
//
// Keys of the index database. Names hold no zero byte, so a zero byte ends them.
//
//	m                                          up to where the index is filled
//	h ‖ tenant 0 category 0 id 0               the stream's version
//	r ‖ tenant 0 id                            the request: hash, first lsn, number of events
//	s ‖ tenant 0 category 0 id 0 ‖ version     the lsns of a run of the stream's events from that version on
var (
	metaKey     = []byte("m")
	firstBlock  = []byte("b")
	afterBlocks = []byte("c")
)

const (
	headPrefix    = 'h'
	requestPrefix = 'r'
	runPrefix     = 's'
)

func blockKey(lsn uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'b'}, lsn) }

func blockKeyLSN(key []byte) (lsn uint64, ok bool) {
	if len(key) != 9 || key[0] != 'b' {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

func appendStreamKey(dst []byte, prefix byte, s eventstore.StreamID) []byte {
	return appendStreamName(append(dst, prefix), s)
}

func appendStreamName(dst []byte, s eventstore.StreamID) []byte {
	dst = append(append(dst, s.Tenant...), 0)
	dst = append(append(dst, s.Category...), 0)
	return append(append(dst, s.ID...), 0)
}

func appendRequestKey(dst []byte, k requestKey) []byte {
	dst = append(dst, requestPrefix)
	dst = append(append(dst, k.tenant...), 0)
	return append(dst, k.id...)
}

// requestKey names a request: ids are of a tenant.
type requestKey struct{ tenant, id string }

// requestEntry is what is kept of a request: enough to find its batch, which holds its receipt.
type requestEntry struct {
	hash  eventstore.Hash
	first uint64 // lsn
	count uint32
}

func (e requestEntry) last() uint64 { return e.first + uint64(e.count) - 1 }

func appendRequestEntry(dst []byte, e requestEntry) []byte {
	dst = append(dst, e.hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, e.first)
	return binary.BigEndian.AppendUint32(dst, e.count)
}

func parseRequestEntry(b []byte) (e requestEntry, ok bool) {
	if len(b) != 44 {
		return e, false
	}
	copy(e.hash[:], b)
	e.first, e.count = binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint32(b[40:])
	return e, e.count > 0
}

// maxRun bounds how many events one run key stands for.
const maxRun = 512

// appendRun appends the lsns of a run: the first, then how much each is more than the one before.
func appendRun(dst []byte, lsns []uint64) []byte {
	before := uint64(0)
	for _, lsn := range lsns {
		dst = binary.AppendUvarint(dst, lsn-before)
		before = lsn
	}
	return dst
}

// parseRun appends the lsns of a run to dst.
func parseRun(dst []uint64, b []byte) (lsns []uint64, ok bool) {
	lsn := uint64(0)
	for len(b) > 0 {
		step, n := binary.Uvarint(b)
		if n <= 0 {
			return dst, false
		}
		b = b[n:]
		lsn += step
		dst = append(dst, lsn)
	}
	return dst, true
}
