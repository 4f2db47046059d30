package wire

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// appendReceipt appends the wire form of a receipt, which is that of EncodeReceipt's message.
func appendReceipt(dst []byte, r *eventstore.Receipt) []byte {
	var small [64]byte
	dst = appendString(dst, 1, r.ID)
	for i := range r.Streams {
		s := &r.Streams[i]
		size := sizeText(len(s.Stream.Category)) + sizeText(len(s.Stream.ID)) + sizeNumber(s.First) + sizeNumber(s.Last)
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 2, protowire.BytesType), uint64(size))
		dst = appendString(dst, 1, s.Stream.Category)
		dst = appendString(dst, 2, s.Stream.ID)
		dst = appendNumber(dst, 3, s.First)
		dst = appendNumber(dst, 4, s.Last)
	}
	if r.First != (eventstore.Position{}) {
		dst = appendBytes(dst, 3, appendPosition(small[:0], r.First))
	}
	if r.Position != (eventstore.Position{}) {
		dst = appendBytes(dst, 4, appendPosition(small[:0], r.Position))
	}
	if r.Duplicate {
		dst = appendNumber(dst, 5, 1)
	}
	dst = appendString(dst, 6, r.Reached.String())
	if r.Dot != (eventstore.Dot{}) {
		dst = appendBytes(dst, 7, appendDot(small[:0], r.Dot))
	}
	return dst
}

// sizeNumber returns how many bytes a number takes, whose tag has one.
func sizeNumber(n uint64) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(n)
}

// ReceiptMessage returns a receipt in its wire form.
func ReceiptMessage(r *eventstore.Receipt) *Encoded {
	body := appendReceipt(make([]byte, 0, 192), r)
	return &Encoded{buffers: mem.BufferSlice{mem.SliceBuffer(body)}, empty: func() proto.Message { return &storev1.Receipt{} }}
}

// SessionAnswers collects answers of a session for one message, in its wire form. It is used by one goroutine.
type SessionAnswers struct {
	body    *[]byte // from the pool
	scratch []byte
}

// Receipt adds the answer to an append that is recorded.
func (a *SessionAnswers) Receipt(number uint64, r *eventstore.Receipt) {
	a.scratch = appendReceipt(a.scratch[:0], r)
	a.add(number, 2, a.scratch)
}

// Failure adds the answer to an append that failed.
func (a *SessionAnswers) Failure(number uint64, f *storev1.Failure) (err error) {
	a.scratch, err = proto.MarshalOptions{}.MarshalAppend(a.scratch[:0], f)
	if err == nil {
		a.add(number, 3, a.scratch)
	}
	return err
}

func (a *SessionAnswers) add(number uint64, outcome protowire.Number, inner []byte) {
	if a.body == nil {
		a.body = bodies.Get(firstPage)
		*a.body = (*a.body)[:0]
	}
	b := protowire.AppendTag(*a.body, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeNumber(number)+1+protowire.SizeBytes(len(inner))))
	b = appendNumber(b, 1, number)
	*a.body = appendMessage(b, outcome, inner)
}

// Size returns how many bytes the answers have.
func (a *SessionAnswers) Size() int {
	if a.body == nil {
		return 0
	}
	return len(*a.body)
}

// Message returns the answers as an AppendSessionResponse and empties the collection.
func (a *SessionAnswers) Message() *Encoded {
	body := a.body
	a.body = nil
	if cap(a.scratch) > firstPage {
		a.scratch = nil
	}
	return encoded(body, func() proto.Message { return &storev1.AppendSessionResponse{} })
}
