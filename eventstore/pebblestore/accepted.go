package pebblestore

import "github.com/tributary-es/tributary/eventstore"

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
	streams  map[headKey]acceptedHead
	requests map[requestKey]acceptedRequest
	terms    acceptedTerms
	last     uint64 // lsn
}

// acceptedHead is a stream's version, and the lsn at which it came to it.
type acceptedHead struct{ version, lsn uint64 }

type acceptedRequest struct {
	hash    eventstore.Hash
	receipt eventstore.Receipt
}

func newAccepted(head uint64, limit int) *accepted {
	a := &accepted{forgotten: head, limit: limit}
	a.young, a.old = newAcceptedGeneration(), newAcceptedGeneration()
	a.young.last, a.old.last = head, head
	return a
}

func newAcceptedGeneration() acceptedGeneration {
	return acceptedGeneration{streams: map[headKey]acceptedHead{}, requests: map[requestKey]acceptedRequest{}, terms: acceptedTerms{last: map[term]uint64{}}}
}

func (a *accepted) head(s headKey) (acceptedHead, bool) {
	h, ok := a.young.streams[s]
	if !ok {
		h, ok = a.old.streams[s]
	}
	return h, ok
}

func (a *accepted) request(k requestKey) (acceptedRequest, bool) {
	r, ok := a.young.requests[k]
	if !ok {
		r, ok = a.old.requests[k]
	}
	return r, ok
}

// forget drops the older generation if the younger is large enough and everything in the older is durable.
func (a *accepted) forget(durable uint64) {
	if len(a.young.streams)+len(a.young.requests)+len(a.young.terms.last)+len(a.young.terms.tagged) < a.limit || a.old.last > durable {
		return
	}
	a.forgotten = a.old.last
	clear(a.old.streams)
	clear(a.old.requests)
	a.old.terms.clear()
	a.young, a.old = a.old, a.young
}
