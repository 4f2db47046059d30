package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// A segment's file is blocks, then what is needed to find each of them.
//
//	segment = block… ‖ entry of each block ‖ footer
//	entry   = last lsn (8) ‖ offset (8) ‖ length (4)
//	footer  = number of blocks (4) ‖ version (1) ‖ CRC-32C of the entries and the footer up to here (4) ‖ "TRIBSEG1"
//
// Integers are big-endian. Beside it stands the same name with .json: the Segment, for people, and for the day when only the
// archive is left.
const (
	segmentVersion = 1
	entryBytes     = 8 + 8 + 4
	footerBytes    = 4 + 1 + 4 + 8
	magic          = "TRIBSEG1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Segment says what a segment's file holds.
type Segment struct {
	Name string `json:"name"`
	// First and Last are the lsns of its first and last event. LastSeq and LastChain are of the log after the last: where a
	// life ended there, those with which the next one begins. Before is the chain before the first.
	First     uint64 `json:"first_lsn"`
	Last      uint64 `json:"last_lsn"`
	LastSeq   uint64 `json:"last_seq"`
	Before    string `json:"chain_before"`
	LastChain string `json:"chain_after"`
	// FirstTime and LastTime are when its first and last event happened.
	FirstTime time.Time `json:"first_event"`
	LastTime  time.Time `json:"last_event"`
	Blocks    int       `json:"blocks"`
	Bytes     int64     `json:"bytes"`
	SHA256    string    `json:"sha256"`
}

// Events returns how many events the segment has.
func (s *Segment) Events() uint64 { return s.Last - s.First + 1 }

// tableAt returns where the entries of the blocks begin.
func (s *Segment) tableAt() int64 { return s.Bytes - footerBytes - int64(s.Blocks)*entryBytes }

// Description returns the JSON that stands beside the segment: what it holds, and of which log.
func (s *Segment) Description(log any) ([]byte, error) {
	body, err := json.MarshalIndent(struct {
		Format int `json:"archive_format"`
		Log    any `json:"log"`
		*Segment
	}{segmentVersion, log, s}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describe segment %s: %w", s.Name, err)
	}
	return append(body, '\n'), nil
}

// DescriptionName returns the name of a segment's description.
func DescriptionName(segment string) string { return segment + ".json" }

// Writer builds a segment in memory.
type Writer struct {
	buf    []byte
	blocks []entry
}

type entry struct {
	last   uint64
	offset int64
	length int
}

// Reset begins a new segment.
func (w *Writer) Reset() { w.buf, w.blocks = w.buf[:0], w.blocks[:0] }

// Add takes the next block, whose last event has this lsn.
func (w *Writer) Add(last uint64, block []byte) {
	w.blocks = append(w.blocks, entry{last, int64(len(w.buf)), len(block)})
	w.buf = append(w.buf, block...)
}

// Bytes returns the size of the blocks.
func (w *Writer) Bytes() int64 { return int64(len(w.buf)) }

// Cut leaves the first n blocks.
func (w *Writer) Cut(n int) {
	if n < len(w.blocks) {
		w.buf = w.buf[:w.blocks[n].offset]
		w.blocks = w.blocks[:n]
	}
}

// Blocks returns how many blocks there are.
func (w *Writer) Blocks() int { return len(w.blocks) }

// Seal returns the segment's file, which is valid until Reset, and fills in what of the Segment follows from it. Its name is
// below folder.
func (w *Writer) Seal(folder string, s *Segment) []byte {
	at := len(w.buf)
	b := w.buf
	for _, e := range w.blocks {
		b = binary.BigEndian.AppendUint64(b, e.last)
		b = binary.BigEndian.AppendUint64(b, uint64(e.offset))
		b = binary.BigEndian.AppendUint32(b, uint32(e.length))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(w.blocks)))
	b = append(b, segmentVersion)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	b = append(b, magic...)
	w.buf = b
	sum := sha256.Sum256(b)
	s.SHA256 = hex.EncodeToString(sum[:])
	s.Blocks, s.Bytes = len(w.blocks), int64(len(b))
	s.Name = path.Join(folder, fmt.Sprintf("%020d-%020d-%s.segment", s.First, s.Last, s.SHA256[:12]))
	return b
}

// parseTable returns the entries of a segment from the end of its file. Errors match eventstore.ErrCorrupt.
func parseTable(s *Segment, b []byte) ([]entry, error) {
	corrupt := func(format string, args ...any) ([]entry, error) {
		return nil, fmt.Errorf("%w: %s", eventstore.ErrCorrupt, fmt.Sprintf(format, args...))
	}
	f := b[len(b)-footerBytes:]
	if string(f[9:]) != magic || f[4] != segmentVersion {
		return corrupt("its end is not that of a segment of version %d", segmentVersion)
	}
	if got, want := crc32.Checksum(b[:len(b)-footerBytes+5], castagnoli), binary.BigEndian.Uint32(f[5:]); got != want {
		return corrupt("checksum of the table is %08x, should be %08x", got, want)
	}
	if n := int(binary.BigEndian.Uint32(f)); n != s.Blocks {
		return corrupt("it has %d blocks, should have %d", n, s.Blocks)
	}
	entries := make([]entry, s.Blocks)
	last, offset := s.First-1, int64(0)
	for i := range entries {
		p := b[i*entryBytes:]
		e := entry{binary.BigEndian.Uint64(p), int64(binary.BigEndian.Uint64(p[8:])), int(binary.BigEndian.Uint32(p[16:]))}
		if e.last <= last || e.offset != offset {
			return corrupt("block %d ends at lsn %d and begins at byte %d", i, e.last, e.offset)
		}
		last, offset = e.last, e.offset+int64(e.length)
		entries[i] = e
	}
	if last != s.Last || offset != s.tableAt() {
		return corrupt("its blocks go to lsn %d and byte %d, should go to %d and %d", last, offset, s.Last, s.tableAt())
	}
	return entries, nil
}
