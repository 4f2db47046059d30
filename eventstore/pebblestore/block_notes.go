package pebblestore

import (
	"encoding/binary"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// A block that has events of other logs, or events whose version is not their place in the stream, has notes between its
// ends and its footer, and is of version 3:
//
//	notes = number of other logs (uvarint) ‖ of each: length of the site's name (1) ‖ name ‖ incarnation (4) ‖ shard (2) ‖
//	        seq (8) and chain (32) before its first event in the block ‖
//	        of each event: its note (uvarint) ‖ length of all this (4)
//
// So each log's chain is checked block by block, and goes on from any of them. A log of a single site has no such blocks, and
// is as programs wrote it that know of no other sites.

// eventNote says what the log knows of an event beyond its frame: its place in its stream, and how it stands there.
type eventNote uint64

const (
	// noteForeign: the event is of another log.
	noteForeign eventNote = 1 << iota
	// noteRevises: Recorded.Revises.
	noteRevises
	// noteRevised: the stream has an event that revises, this one or one before it.
	noteRevised
	// noteRepeats: the event is the first of a batch of a request that another batch was recorded of before.
	noteRepeats

	noteBits = 4
)

// plainNote is the note of an event that needs none: of the log's own, in a stream whose order is that of the log.
func plainNote(version uint64) eventNote { return eventNote(version) << noteBits }

// place returns the event's place among those of its stream in the order of the log, from 1.
func (n eventNote) place() uint64 { return uint64(n >> noteBits) }

func (n eventNote) has(flag eventNote) bool { return n&flag != 0 }

// head returns what the stream came to with the event.
func (n eventNote) head() streamHead {
	h := streamHead(n.place())
	if n.has(noteRevised) {
		h |= revisedHead
	}
	return h
}

// streamHead is a stream's version and whether its canonical order is another than that of the log.
type streamHead uint64

const revisedHead streamHead = 1 << 63

func (h streamHead) version() uint64 { return uint64(h &^ revisedHead) }
func (h streamHead) revised() bool   { return h&revisedHead != 0 }

// logChain is how far a log is given: its chain after a seq.
type logChain struct {
	log   eventstore.LogID
	seq   uint64
	chain eventstore.Hash
}

// chainIn returns the entry of a log, nil when there is none.
func chainIn(logs []logChain, log eventstore.LogID) *logChain {
	for i := range logs {
		if logs[i].log == log {
			return &logs[i]
		}
	}
	return nil
}

// appendLogID appends the name of a log.
func appendLogID(dst []byte, log eventstore.LogID) []byte {
	dst = append(append(dst, byte(len(log.Site))), log.Site...)
	dst = binary.BigEndian.AppendUint32(dst, log.Incarnation)
	return binary.BigEndian.AppendUint16(dst, log.Shard)
}

// cutLogID reads what appendLogID wrote, and returns what follows.
func cutLogID(b []byte) (log eventstore.LogID, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0])+6 {
		return log, nil, false
	}
	end := 1 + int(b[0])
	log = eventstore.LogID{
		Site: string(b[1:end]), Incarnation: binary.BigEndian.Uint32(b[end:]), Shard: binary.BigEndian.Uint16(b[end+4:]),
	}
	return log, b[end+6:], true
}

// note adds a note for an event that was added. before is how far its log was given, when it is another.
func (w *blockWriter) note(n eventNote, before *logChain) {
	w.notes = append(w.notes, n)
	if before != nil && chainIn(w.logs, before.log) == nil {
		w.logs = append(w.logs, *before)
	}
}

// appendNotes appends the notes of the block.
func (w *blockWriter) appendNotes(b []byte) []byte {
	start := len(b)
	b = binary.AppendUvarint(b, uint64(len(w.logs)))
	for i := range w.logs {
		l := &w.logs[i]
		b = appendLogID(b, l.log)
		b = binary.BigEndian.AppendUint64(b, l.seq)
		b = append(b, l.chain[:]...)
	}
	for _, n := range w.notes {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return binary.BigEndian.AppendUint32(b, uint32(len(b)-start))
}

// readNotes reads the notes of count events.
func readNotes(b []byte, count int) (logs []logChain, notes []eventNote, err error) {
	number, n := binary.Uvarint(b)
	const least = 1 + 6 + 8 + 32 // bytes of an entry
	if n <= 0 || number > uint64(len(b)/least) {
		return nil, nil, fmt.Errorf("its notes speak of %d logs", number)
	}
	b = b[n:]
	for range number {
		log, rest, ok := cutLogID(b)
		if !ok || len(rest) < 8+32 {
			return nil, nil, fmt.Errorf("its notes are cut short")
		}
		l := logChain{log: log, seq: binary.BigEndian.Uint64(rest)}
		copy(l.chain[:], rest[8:])
		logs, b = append(logs, l), rest[8+32:]
	}
	if len(b) < count {
		return nil, nil, fmt.Errorf("its notes are cut short")
	}
	notes = make([]eventNote, count)
	for i := range notes {
		note, n := binary.Uvarint(b)
		if n <= 0 || eventNote(note).place() == 0 {
			return nil, nil, fmt.Errorf("the note of event %d is %d", i, note)
		}
		notes[i], b = eventNote(note), b[n:]
	}
	if len(b) > 0 {
		return nil, nil, fmt.Errorf("it has %d bytes after its notes", len(b))
	}
	return logs, notes, nil
}

// noteOf returns the note of the i-th event, which is e.
func (b *block) noteOf(i int, e *eventstore.Recorded) eventNote {
	if b.notes == nil {
		return plainNote(e.Version)
	}
	return b.notes[i]
}

// foreign reports whether the i-th event is of another log.
func (b *block) foreign(i int) bool { return len(b.notes) > 0 && b.notes[i].has(noteForeign) }

// chains follows the chains of the logs that a block has events of.
type chains struct {
	own    logChain // without its name
	others []logChain
}

// chains returns the chains before the block's first event.
func (b *block) chains() chains {
	c := chains{own: logChain{seq: b.before, chain: b.chain}}
	if len(b.logs) > 0 {
		c.others = append(c.others, b.logs...)
	}
	return c
}

// next goes on with the i-th event of a block, and returns the chain after it.
func (c *chains) next(b *block, i int, e *eventstore.Recorded, frame []byte) (eventstore.Hash, error) {
	l := &c.own
	if b.foreign(i) {
		if l = chainIn(c.others, e.Dot.Log); l == nil {
			return eventstore.Hash{}, fmt.Errorf("%w: the block does not say how far %s was", eventstore.ErrCorrupt, e.Dot.Log)
		}
	}
	chain, err := chainAfter(l.chain, e, frame)
	if err == nil {
		l.seq, l.chain = e.Dot.Seq, chain
	}
	return chain, err
}
