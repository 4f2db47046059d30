package pebblestore

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// history is the lives of a log. A restore ends a life and begins the next: lsns go on, while seq and chain begin anew,
// so that what was lost and what comes never share a dot. Events keep the dots of the life that they were born in; the
// positions of all carry the present incarnation.
//
// INVARIANT: the life that a log is in has a higher incarnation than any before it.
type history struct {
	id      eventstore.LogID // of the present life
	earlier []life           // in order
}

// life is a life that has ended.
type life struct {
	Incarnation uint32 `json:"incarnation"`
	// LSN and Seq are of its last event that is kept, Chain is the hash chain after it. The LSN is that of the life before
	// when none is.
	LSN   uint64  `json:"lsn"`
	Seq   uint64  `json:"seq"`
	Chain hexHash `json:"chain"`
}

// hexHash is a hash that people can read and compare.
type hexHash eventstore.Hash

// MarshalText implements encoding.TextMarshaler.
func (h hexHash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexHash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("hash %q has not %d bytes", text, len(h))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// log returns the name of the log in its i-th life, counting the present one.
func (h *history) log(i int) eventstore.LogID {
	id := h.id
	if i < len(h.earlier) {
		id.Incarnation = h.earlier[i].Incarnation
	}
	return id
}

// base returns the lsn after which the present life begins.
func (h *history) base() uint64 {
	if n := len(h.earlier); n > 0 {
		return h.earlier[n-1].LSN
	}
	return 0
}

// begin returns the head of the log before its first event.
func (h *history) begin() logHead { return h.onward(logHead{chain: eventstore.ChainStart(h.log(0))}) }

// onward returns what the log goes on from at a head: where a life ended, the beginning of the next.
func (h *history) onward(head logHead) logHead {
	for i, l := range slices.Backward(h.earlier) {
		if l.LSN < head.lsn {
			break
		}
		if l.LSN == head.lsn {
			return logHead{lsn: head.lsn, chain: eventstore.ChainStart(h.log(i + 1))}
		}
	}
	return head
}

// ending returns the first life that ends at a head that was reached in it.
func (h *history) ending(lsn uint64) (l life, ends bool) {
	i := slices.IndexFunc(h.earlier, func(l life) bool { return l.LSN >= lsn })
	if i < 0 || h.earlier[i].LSN != lsn {
		return life{}, false
	}
	return h.earlier[i], true
}

// logAt returns the name that the log had when the event at an lsn was appended.
func (h *history) logAt(lsn uint64) eventstore.LogID {
	i := slices.IndexFunc(h.earlier, func(l life) bool { return l.LSN >= lsn })
	if i < 0 {
		return h.id
	}
	return h.log(i)
}

// ended returns the history of a log that is kept up to a head, as it was reached there, and goes on in a new life. Of a
// life without events only the incarnation is known, if that.
func (h *history) ended(head logHead, incarnation uint32) history {
	next := history{id: h.id}
	next.id.Incarnation = incarnation
	for _, l := range h.earlier {
		if l.LSN <= head.lsn {
			next.earlier = append(next.earlier, l)
		}
	}
	if i := len(next.earlier); head.lsn > next.base() {
		next.earlier = append(next.earlier, life{h.log(i).Incarnation, head.lsn, head.seq, hexHash(head.chain)})
	}
	return next
}

// check says what of a history cannot be.
func (h *history) check() error {
	last := life{}
	for _, l := range append(slices.Clone(h.earlier), life{Incarnation: h.id.Incarnation, LSN: h.base()}) {
		if l.Incarnation <= last.Incarnation || l.LSN < last.LSN {
			return fmt.Errorf("%w: its life %d up to lsn %d follows life %d up to lsn %d", eventstore.ErrCorrupt,
				l.Incarnation, l.LSN, last.Incarnation, last.LSN)
		}
		last = l
	}
	return nil
}
