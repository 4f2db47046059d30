package wire

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Page collects events for one message, already in its wire form. It is used by one goroutine.
type Page struct {
	asFrames bool
	body     *[]byte // the events field by field, or the frames; from the pool
	size     int     // of the body of the page before, which the next is likely to have

	events      int
	incarnation uint32
	lsns        []byte // varints
	chains      []byte
	revising    []byte // varints
	scratch     []byte
}

// NewPage returns an empty page, for events in one of the two forms.
func NewPage(asFrames bool) *Page { return &Page{asFrames: asFrames, size: firstPage} }

// Len returns how many events the page has.
func (p *Page) Len() int { return p.events }

// Size returns about how many bytes the page takes.
func (p *Page) Size() int {
	if p.body == nil {
		return 0
	}
	return len(*p.body)
}

// Add appends an event. chain says that its chain is wanted, which only frames have.
func (p *Page) Add(e *eventstore.Recorded, chain bool) {
	p.room()
	number := p.events
	p.events++
	if !p.asFrames {
		p.scratch = appendEvent(p.scratch[:0], e)
		*p.body = appendMessage(*p.body, 1, p.scratch)
		return
	}
	p.scratch = eventstore.AppendContent(p.scratch[:0], e)
	*p.body = eventstore.AppendFrame(*p.body, e, p.scratch)
	p.incarnation = e.Position.Incarnation
	p.lsns = protowire.AppendVarint(p.lsns, e.Position.LSN)
	if e.Revises {
		p.revising = protowire.AppendVarint(p.revising, uint64(number))
	}
	if chain {
		p.chains = append(p.chains, e.Chain[:]...)
	}
}

func (p *Page) room() {
	if p.body == nil {
		p.body = bodies.Get(p.size)
		*p.body = (*p.body)[:0]
	}
}

func appendMessage(dst []byte, field protowire.Number, inner []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), inner)
}

// ReadResponse returns the page as a message and empties it.
func (p *Page) ReadResponse() *Encoded {
	return p.take(nil, emptyRead)
}

func emptyRead() proto.Message { return &storev1.ReadResponse{} }

// SubscribeResponse returns the page as a message together with the rest of its fields, and empties it.
func (p *Page) SubscribeResponse(rest *storev1.SubscribeResponse) (*Encoded, error) {
	tail, err := proto.Marshal(rest)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return p.take(tail, func() proto.Message { return &storev1.SubscribeResponse{} }), nil
}

// take makes a message of the page. Both answers have the events in field 1 and the frames in field 2; what is appended
// to a message is merged with it.
func (p *Page) take(tail []byte, empty func() proto.Message) *Encoded {
	out := &Encoded{empty: empty}
	if p.events > 0 {
		if p.asFrames {
			out.buffers = append(out.buffers, mem.SliceBuffer(framesHead(p.incarnation, p.lsns, p.chains, p.revising, len(*p.body))))
		}
		p.size = cap(*p.body)
		out.buffers = append(out.buffers, mem.NewBuffer(p.body, &bodies))
	}
	if len(tail) > 0 {
		out.buffers = append(out.buffers, mem.SliceBuffer(tail))
	}
	p.body, p.events, p.lsns, p.chains, p.revising = nil, 0, p.lsns[:0], p.chains[:0], p.revising[:0]
	return out
}

// EncodeFrames returns a ReadResponse with frames as they are: their bytes are sent from where they stand. They are released
// when they were sent.
func EncodeFrames(f *eventstore.Frames) *Encoded {
	last := f.First.LSN + uint64(f.Count)
	if n := len(f.LSNs); n > 0 {
		last = f.LSNs[n-1]
	}
	lsns := make([]byte, 0, f.Count*protowire.SizeVarint(last))
	for i := range f.Count {
		lsn := f.First.LSN + uint64(i)
		if len(f.LSNs) > 0 {
			lsn = f.LSNs[i]
		}
		lsns = protowire.AppendVarint(lsns, lsn)
	}
	var revising []byte
	for _, i := range f.Revising {
		revising = protowire.AppendVarint(revising, i)
	}
	size := 0
	for _, part := range f.Parts {
		size += len(part)
	}
	out := &Encoded{empty: emptyRead, buffers: make(mem.BufferSlice, 0, 1+len(f.Parts))}
	out.buffers = append(out.buffers, mem.SliceBuffer(framesHead(f.First.Incarnation, lsns, nil, revising, size)))
	if size < leastPart*len(f.Parts) {
		body := bodies.Get(size)
		*body = (*body)[:0]
		for _, part := range f.Parts {
			*body = append(*body, part...)
		}
		if f.Release != nil {
			f.Release()
		}
		out.buffers = append(out.buffers, mem.NewBuffer(body, &bodies))
		return out
	}
	sent := &partsSent{release: f.Release}
	for i, part := range f.Parts {
		switch {
		case f.Release == nil:
			out.buffers = append(out.buffers, mem.SliceBuffer(part))
		case mem.IsBelowBufferPoolingThreshold(cap(part)): // gRPC does not say when it was sent
			out.buffers = append(out.buffers, mem.SliceBuffer(bytes.Clone(part)))
		default:
			sent.left.Add(1)
			out.buffers = append(out.buffers, mem.NewBuffer(&f.Parts[i], sent))
		}
	}
	return out
}

// leastPart is how long the parts of a message are on average at least that are sent from where they stand: shorter ones take
// gRPC longer than putting them together does.
const leastPart = 4 << 10

// partsSent is the pool that the parts of a message go to when they were sent. The last one releases them all.
type partsSent struct {
	left    atomic.Int32
	release func()
}

var _ mem.BufferPool = (*partsSent)(nil)

// Get implements mem.BufferPool. There is nothing to be had.
func (p *partsSent) Get(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// Put implements mem.BufferPool.
func (p *partsSent) Put(*[]byte) {
	if p.left.Add(-1) == 0 {
		p.release()
	}
}

// framesHead returns what stands before so many bytes of frames in a message: they are the last field. lsns and
// revising are varints.
func framesHead(incarnation uint32, lsns, chains, revising []byte, size int) []byte {
	inner := make([]byte, 0, 40+len(lsns)+len(chains)+len(revising))
	inner = appendNumber(inner, 1, uint64(incarnation))
	inner = appendBytes(inner, 2, lsns)
	inner = appendBytes(inner, 4, chains)
	inner = appendBytes(inner, 5, revising)
	inner = protowire.AppendVarint(protowire.AppendTag(inner, 3, protowire.BytesType), uint64(size))
	head := protowire.AppendTag(make([]byte, 0, 8+len(inner)), 2, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(inner)+size))
	return append(head, inner...)
}

// Encoded is a message in its wire form. A codec that knows Buffers sends it as it is; for everybody else it is the
// message that it is the form of.
type Encoded struct {
	buffers mem.BufferSlice
	empty   func() proto.Message
}

// encoded makes a message of a body from the pool.
func encoded(body *[]byte, empty func() proto.Message) *Encoded {
	return &Encoded{buffers: mem.BufferSlice{mem.NewBuffer(body, &bodies)}, empty: empty}
}

// Buffers gives the bytes away, with one reference each; the message is of no use afterwards.
func (e *Encoded) Buffers() mem.BufferSlice {
	b := e.buffers
	e.buffers = nil
	return b
}

// ProtoReflect decodes the message. It makes Encoded a proto.Message.
func (e *Encoded) ProtoReflect() protoreflect.Message {
	m := e.empty()
	if err := proto.Unmarshal(e.buffers.Materialize(), m); err != nil { // INVARIANT: a page is a message
		panic(fmt.Sprintf("page is no message: %v", err))
	}
	return m.ProtoReflect()
}
