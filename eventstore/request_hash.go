package eventstore

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/zeebo/xxh3"
)

// contentHash covers what was asked: streams, expectations, the condition's query, and of each event everything but its
// id, for a repeated request may have been given new ones. The condition's position is left out too: whoever repeats a
// request may have read again.
//
// Of a payload that is longer than its digest the digest is taken. That is not one for keeping forgers out: what is told
// apart are two requests that one caller gave the same id, and the chain has the payload's SHA-256.
func (r *Request) contentHash() Hash {
	in := hashInputs.Get().(*hashInput)
	defer hashInputs.Put(in)
	in.b = in.b[:0]
	for i := range r.Appends {
		a := &r.Appends[i]
		in.text(a.Stream.Tenant)
		in.text(a.Stream.Category)
		in.text(a.Stream.ID)
		in.number(uint64(a.Expect))
		in.number(uint64(len(a.Events)))
		for j := range a.Events {
			in.event(&a.Events[j])
		}
	}
	if r.Condition != nil {
		for _, item := range r.Condition.Query {
			in.texts(item.Types)
			in.texts(item.Tags)
		}
	}
	return sha256.Sum256(in.b)
}

// hashInput is what a request's hash is taken of. Each part begins with its length, so that no two requests give the same.
type hashInput struct{ b []byte }

var hashInputs = sync.Pool{New: func() any { return &hashInput{} }}

func (in *hashInput) number(v uint64) { in.b = binary.AppendUvarint(in.b, v) }

func (in *hashInput) text(s string) {
	in.number(uint64(len(s)))
	in.b = append(in.b, s...)
}

func (in *hashInput) texts(all []string) {
	in.number(uint64(len(all)))
	for _, s := range all {
		in.text(s)
	}
}

func (in *hashInput) event(e *Event) {
	in.text(e.Type)
	in.number(uint64(e.SchemaVersion))
	in.number(uint64(e.Kind))
	in.number(uint64(e.Encoding))
	in.number(uint64(e.KeyRef))
	in.texts(e.Tags)
	in.number(uint64(len(e.Payload)))
	if len(e.Payload) <= digestBytes {
		in.b = append(in.b, e.Payload...)
		return
	}
	digest := xxh3.Hash128(e.Payload).Bytes()
	in.b = append(in.b, digest[:]...)
}

// digestBytes is the length of an XXH3 of 128 bits.
const digestBytes = 16
