package pebblestore

import (
	"encoding/binary"

	"github.com/tributary-es/tributary/eventstore"
)

// Keys of the log database. Blocks come in the order of the log.
//
//	a                    what log this is (meta.go): before all blocks, so that tables follow each other as blocks do, and
//	                     compactions move them
//	ak ‖ lsn             the frame of an archived event that is kept near (archive_kept.go)
//	b ‖ last lsn         a block: so that the block that holds an event is found by one seek forwards
//	m                    that the meta record has moved, for programs that look for it here (signpost.go)
//
// Keys of the index database. Names hold no zero byte, so a zero byte ends them.
//
//	h ‖ log                                    how far a log is held, once there are others than the store's own (index_logs.go)
//	l ‖ log ‖ ^seq                             the lsns of a run of the events of another log from that seq on
//	m                                          up to where the index is filled
//	r ‖ bucket ‖ last lsn                      the requests of a stretch of the log whose hashes fall into the bucket (requests.go)
//	s ‖ tenant 0 category 0 id 0 ‖ ^version    the lsns of a run of the stream's events from that version on
//	t ‖ digest ‖ ^lsn                          the lsns of a run of the events of a category, type or tag, from that one on
//	u ‖ tenant                                 that there is such a tenant
//
// The bits of versions and lsns are inverted, so that the last run comes first: one seek finds a stream's version or the
// last place of a tag. What comes before them is the key's prefix (index_comparer.go), by which the filters know whether
// there is such a stream or tag.
var (
	logMetaKey  = []byte("a")
	metaKey     = []byte("m")
	firstBlock  = []byte("b")
	afterBlocks = []byte("c")
)

const (
	headPrefix    = 'h'
	logPrefix     = 'l'
	requestPrefix = 'r'
	runPrefix     = 's'
	termPrefix    = 't'
	tenantPrefix  = 'u'
)

func blockKey(lsn uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'b'}, lsn) }

func blockKeyLSN(key []byte) (lsn uint64, ok bool) {
	if len(key) != 9 || key[0] != 'b' {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// appendStreamKey appends what the keys of a stream's runs begin with.
func appendStreamKey(dst []byte, s eventstore.StreamID) []byte {
	return appendStreamName(append(dst, runPrefix), s)
}

func appendStreamName(dst []byte, s eventstore.StreamID) []byte {
	dst = append(append(dst, s.Tenant...), 0)
	dst = append(append(dst, s.Category...), 0)
	return append(append(dst, s.ID...), 0)
}

// appendRunKey appends the key of the run that begins at a version.
func appendRunKey(dst []byte, s eventstore.StreamID, version uint64) []byte {
	return binary.BigEndian.AppendUint64(appendStreamKey(dst, s), ^version)
}

// maxRun bounds how many events one run key stands for.
const maxRun = 512

// revisedRun is what the value of a run begins with whose stream is revised (streamHead). No run begins with lsn 0.
const revisedRun = 0

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
