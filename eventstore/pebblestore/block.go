package pebblestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tributary-es/tributary/eventstore"
)

// A block is the value under its last lsn in the log database: frames, then what is needed to find each of them and to
// go on with the chain. It is appended to as events come, and sealed once.
//
//	block  = frame… ‖ end of each frame (4 bytes, from the block's start) ‖ footer
//
// A frame whose content was dropped has the hash of that content behind it (dropped.go); blocks that have such are of version 2.
// A block that has events of other logs has notes on them between its ends and its footer, and is of version 3
// (block_notes.go).
//
//	footer = chain before the first event (32) ‖ first lsn (8) ‖ own seq before the first event (8) ‖
//	         number of frames (4) ‖ version (1) ‖ CRC-32C of all from the ends up to here (4)
//
// Integers are big-endian. Each frame has a checksum of its own, so that one event is read without the others.
const (
	blockVersion = 1
	slimVersion  = 2
	notedVersion = 3
	footerBytes  = 32 + 8 + 8 + 4 + 1 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockWriter builds a block.
type blockWriter struct {
	buf    []byte
	ends   []uint32
	chain  eventstore.Hash // before the first event
	first  uint64          // lsn
	before uint64          // own seq before the first event
	// version is that of a block with frames from blocks of more than version 1.
	version byte

	// noted: the block has notes, one for each frame, and says how far other logs were before it.
	noted bool
	notes []eventNote
	logs  []logChain
}

func (w *blockWriter) reset(first, before uint64, chain eventstore.Hash) {
	w.buf, w.ends = w.buf[:0], w.ends[:0]
	w.first, w.before, w.chain = first, before, chain
	w.noted, w.notes, w.logs = false, w.notes[:0], w.logs[:0]
}

func (w *blockWriter) add(r *eventstore.Recorded, content []byte) {
	w.buf = eventstore.AppendFrame(w.buf, r, content)
	w.ends = append(w.ends, uint32(len(w.buf)))
}

// size is the length of the block if it were sealed now, without its notes.
func (w *blockWriter) size() int { return len(w.buf) + 4*len(w.ends) + footerBytes }

// seal returns the finished block, which is valid until the next reset.
func (w *blockWriter) seal() []byte {
	start := len(w.buf)
	b := w.buf
	for _, end := range w.ends {
		b = binary.BigEndian.AppendUint32(b, end)
	}
	version := max(w.version, blockVersion)
	if w.noted {
		b, version = w.appendNotes(b), notedVersion
	}
	b = append(b, w.chain[:]...)
	b = binary.BigEndian.AppendUint64(b, w.first)
	b = binary.BigEndian.AppendUint64(b, w.before)
	b = binary.BigEndian.AppendUint32(b, uint32(len(w.ends)))
	b = append(b, version)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	w.buf = b
	return b
}

// block is a sealed block as it was read. It shares the memory it was opened from.
type block struct {
	data   []byte // frames
	ends   []byte // four bytes each
	chain  eventstore.Hash
	first  uint64
	before uint64
	count  int
	// version of the encoding.
	version byte
	// notes has one of each event, logs how far other logs were before their first events here; nil where there are none.
	notes []eventNote
	logs  []logChain
}

// openBlock checks a block's footer against itself and its key, the last lsn. Errors match eventstore.ErrCorrupt.
func openBlock(lsn uint64, b []byte) (block, error) {
	corrupt := func(format string, args ...any) (block, error) {
		return block{}, fmt.Errorf("log block up to lsn %d: %w: %s", lsn, eventstore.ErrCorrupt, fmt.Sprintf(format, args...))
	}
	if len(b) < footerBytes {
		return corrupt("%d bytes", len(b))
	}
	f := b[len(b)-footerBytes:]
	if v := f[52]; v < blockVersion || v > notedVersion {
		return corrupt("block version %d, this program knows %d to %d", v, blockVersion, notedVersion)
	}
	count := int(binary.BigEndian.Uint32(f[48:]))
	frames, notes := len(b)-footerBytes-4*count, 0
	if f[52] == notedVersion && frames >= 4 {
		notes = 4 + int(binary.BigEndian.Uint32(b[len(b)-footerBytes-4:]))
		frames -= notes
	}
	if frames < 0 || count == 0 || f[52] == notedVersion && notes == 0 {
		return corrupt("%d events in %d bytes", count, len(b))
	}
	if got, want := crc32.Checksum(b[frames:len(b)-4], castagnoli), binary.BigEndian.Uint32(f[53:]); got != want {
		return corrupt("checksum of the footer is %08x, should be %08x", got, want)
	}
	r := block{
		data: b[:frames], ends: b[frames : frames+4*count], count: count, version: f[52],
		first: binary.BigEndian.Uint64(f[32:]), before: binary.BigEndian.Uint64(f[40:]),
	}
	copy(r.chain[:], f)
	if r.first == 0 || r.last() != lsn {
		return corrupt("it says that it holds lsn %d to %d", r.first, r.last())
	}
	if end := binary.BigEndian.Uint32(r.ends[4*(count-1):]); int(end) != frames {
		return corrupt("frames end at byte %d, should at %d", end, frames)
	}
	if notes > 0 {
		var err error
		if r.logs, r.notes, err = readNotes(b[frames+4*count:len(b)-footerBytes-4], count); err != nil {
			return corrupt("%v", err)
		}
	}
	return r, nil
}

// last returns the lsn of the block's last event.
func (b *block) last() uint64 { return b.first + uint64(b.count) - 1 }

// holds reports whether the block is open and has the event.
func (b *block) holds(lsn uint64) bool { return b.count > 0 && lsn >= b.first && lsn <= b.last() }

// frame returns the bytes of the i-th event.
func (b *block) frame(i int) ([]byte, error) {
	start, end, err := b.span(i)
	if err != nil {
		return nil, err
	}
	return b.data[start:end:end], nil
}

// span returns where the frame of the i-th event is in data.
func (b *block) span(i int) (start, end uint32, err error) {
	if i > 0 {
		start = binary.BigEndian.Uint32(b.ends[4*(i-1):])
	}
	end = binary.BigEndian.Uint32(b.ends[4*i:])
	if start > end || int(end) > len(b.data) {
		return 0, 0, fmt.Errorf("log block from lsn %d, event at lsn %d: %w: its frame is from byte %d to %d of %d",
			b.first, b.first+uint64(i), eventstore.ErrCorrupt, start, end, len(b.data))
	}
	return start, end, nil
}

// frames returns the bytes of the events from one lsn to another. REQUIRES: the block holds both.
func (b *block) frames(from, to uint64) ([]byte, error) {
	start, _, err := b.span(int(from - b.first))
	if err != nil {
		return nil, err
	}
	_, end, err := b.span(int(to - b.first))
	if err != nil {
		return nil, err
	}
	return b.data[start:end:end], nil
}

// decode decodes the i-th event into r. Its payload shares frame, which is what frame(i) returned or a copy of it.
func (b *block) decode(r *eventstore.Recorded, i int, frame []byte, incarnation uint32) error {
	var d eventstore.FrameDecoder
	return b.decodeWith(&d, r, i, frame, incarnation)
}

// decodeWith is decode for those who decode many.
func (b *block) decodeWith(d *eventstore.FrameDecoder, r *eventstore.Recorded, i int, frame []byte, incarnation uint32) error {
	if err := decodeAt(d, r, b.first+uint64(i), frame, incarnation); err != nil {
		return fmt.Errorf("log block from lsn %d, event at %w", b.first, err)
	}
	r.Revises = len(b.notes) > 0 && b.notes[i].has(noteRevises)
	return nil
}

// decodeAt decodes the frame of the event at an lsn into r. Its payload shares the frame's memory.
func decodeAt(d *eventstore.FrameDecoder, r *eventstore.Recorded, lsn uint64, frame []byte, incarnation uint32) error {
	rest, err := d.Decode(r, frame)
	if err == nil && len(rest) > 0 && len(rest) != len(eventstore.Hash{}) {
		err = fmt.Errorf("%w: %d bytes after the frame", eventstore.ErrCorrupt, len(rest))
	}
	if err != nil {
		return fmt.Errorf("lsn %d: %w", lsn, err)
	}
	r.Position = eventstore.Position{Incarnation: incarnation, LSN: lsn}
	return nil
}

// chainAfter returns the chain after an event, given the chain before it and its frame.
func chainAfter(before eventstore.Hash, r *eventstore.Recorded, frame []byte) (eventstore.Hash, error) {
	content, rest, err := eventstore.FrameContent(frame)
	if err != nil {
		return before, err
	}
	var hash eventstore.Hash
	if copy(hash[:], rest) == 0 { // else it is that of the content that was dropped
		hash = eventstore.ContentHash(content)
	}
	return eventstore.NextChain(before, r.Dot.Seq, r.HLC, r.Version, hash), nil
}
