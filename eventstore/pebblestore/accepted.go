package pebblestore

import (
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// accepted is the sequencer's own knowledge of what it accepted lately, synced or not. It needs no lock.
//
// A request comes with what its caller found durable at an lsn; what came after that is here. Two generations, of which
// the older is dropped when it is durable and so found by every caller that looks from then on. A request that looked
// before that has to look again.
type accepted struct {
	young, old acceptedGeneration
	forgotten  uint64 // the last lsn that was dropped
	limit      int    // entries of a generation
}

type acceptedGeneration struct {
	streams  digestMap[acceptedHead]
	requests digestMap[acceptedRequest]
	terms    acceptedTerms
	last     uint64 // lsn
}

// maxAccepted bounds a generation: what the sequencer asks for each request should stay near its processor.
const maxAccepted = 10_000

// acceptedHead is what a stream came to, the lsn at which it came to it, and its last event in canonical order.
type acceptedHead struct {
	streamHead
	lsn uint64
	top streamTop
}

// streamTop is the last event of a stream in canonical order: its time, and the number that the sequencer gave its log. The zero
// value is before all events.
type streamTop struct {
	hlc hlc.Timestamp
	log uint32
}

type acceptedRequest struct {
	hash    eventstore.Hash
	receipt eventstore.Receipt
}

func newAccepted(head uint64, limit int) *accepted {
	generation := acceptedGeneration{last: head}
	a := &accepted{young: generation, old: generation, forgotten: head, limit: limit}
	a.young.terms.last, a.old.terms.last = map[term]uint64{}, map[term]uint64{}
	return a
}

func (a *accepted) head(s headKey) (acceptedHead, bool) {
	h, ok := a.young.streams.get(s)
	if !ok {
		h, ok = a.old.streams.get(s)
	}
	return h, ok
}

func (a *accepted) request(k headKey) (acceptedRequest, bool) {
	r, ok := a.young.requests.get(k)
	if !ok {
		r, ok = a.old.requests.get(k)
	}
	return r, ok
}

// forget drops the older generation if the younger is large enough and everything in the older is durable.
func (a *accepted) forget(durable uint64) {
	if a.young.streams.len()+a.young.requests.len()+len(a.young.terms.last)+len(a.young.terms.tagged) < a.limit || a.old.last > durable {
		return
	}
	a.forgotten = a.old.last
	a.old.streams.clear()
	a.old.requests.clear()
	a.old.terms.clear()
	a.young, a.old = a.old, a.young
}
