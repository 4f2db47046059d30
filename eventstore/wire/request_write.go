package wire

import (
	"slices"

	"github.com/google/uuid"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// AppendRequest appends the wire form of r's AppendRequest to dst, which is that of EncodeRequest's message, without making
// the message.
func AppendRequest(dst []byte, r *eventstore.Request) []byte {
	dst = slices.Grow(dst, aboutSize(r))
	dst = appendString(dst, 1, r.Tenant)
	dst = appendString(dst, 2, r.ID)
	for i := range r.Appends {
		dst = appendStreamAppend(dst, &r.Appends[i])
	}
	if c := r.Condition; c != nil {
		dst = appendMessage(dst, 4, appendCondition(nil, c))
	}
	if r.Durability != eventstore.Local {
		dst = appendString(dst, 5, r.Durability.String())
	}
	dst = appendMetadata(dst, 6, &r.Metadata)
	if r.Hash != (eventstore.Hash{}) {
		dst = appendBytes(dst, 7, r.Hash[:])
	}
	return dst
}

// RequestMessage returns r as an AppendRequest in its wire form.
func RequestMessage(r *eventstore.Request) *Encoded {
	empty := func() proto.Message { return &storev1.AppendRequest{} }
	size := aboutSize(r)
	if size <= firstPage {
		return &Encoded{buffers: mem.BufferSlice{mem.SliceBuffer(AppendRequest(nil, r))}, empty: empty}
	}
	body := bodies.Get(size)
	*body = AppendRequest((*body)[:0], r)
	return encoded(body, empty)
}

// aboutSize returns how much room the wire form of a request takes, its condition apart.
func aboutSize(r *eventstore.Request) int {
	m := &r.Metadata
	size := 128 + len(r.Tenant) + len(r.ID) + len(m.Causation) + len(m.Correlation) + len(m.TraceParent) + len(m.TraceState) + len(m.Actor)
	for i := range r.Appends {
		size += 8 + sizeStreamAppend(&r.Appends[i])
	}
	return size
}

func appendCondition(dst []byte, c *eventstore.Condition) []byte {
	for i := range c.Query {
		var item []byte
		for _, name := range c.Query[i].Types {
			item = protowire.AppendString(protowire.AppendTag(item, 1, protowire.BytesType), name)
		}
		for _, tag := range c.Query[i].Tags {
			item = protowire.AppendString(protowire.AppendTag(item, 2, protowire.BytesType), tag)
		}
		dst = appendMessage(dst, 1, item)
	}
	return appendString(dst, 2, EncodePosition(c.After))
}

func appendStreamAppend(dst []byte, a *eventstore.StreamAppend) []byte {
	dst = protowire.AppendVarint(protowire.AppendTag(dst, 3, protowire.BytesType), uint64(sizeStreamAppend(a)))
	dst = appendString(dst, 1, a.Stream.Category)
	dst = appendString(dst, 2, a.Stream.ID)
	if field, value := expectField(a.Expect); field != 0 {
		dst = appendNumber(dst, field, value)
	}
	for i := range a.Events {
		e := &a.Events[i]
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 7, protowire.BytesType), uint64(sizeNewEvent(e)))
		dst = appendNewEvent(dst, e)
	}
	for _, d := range a.Context {
		var small [64]byte
		dst = appendMessage(dst, 8, appendKnown(small[:0], d))
	}
	return dst
}

func sizeStreamAppend(a *eventstore.StreamAppend) int {
	size := sizeText(len(a.Stream.Category)) + sizeText(len(a.Stream.ID))
	if field, value := expectField(a.Expect); field != 0 {
		size += 1 + protowire.SizeVarint(value)
	}
	for i := range a.Events {
		size += 1 + protowire.SizeBytes(sizeNewEvent(&a.Events[i]))
	}
	for _, d := range a.Context {
		var small [64]byte
		size += 1 + protowire.SizeBytes(len(appendKnown(small[:0], d)))
	}
	return size
}

func appendKnown(dst []byte, d eventstore.Dot) []byte {
	dst = appendString(dst, 1, d.Log.Site)
	dst = appendNumber(dst, 2, uint64(d.Log.Incarnation))
	dst = appendNumber(dst, 3, uint64(d.Log.Shard))
	return appendNumber(dst, 4, d.Seq)
}

// expectField returns the field of StreamAppend that says an expectation, 0 for none.
func expectField(e eventstore.Expect) (field protowire.Number, value uint64) {
	switch e {
	case eventstore.Any:
		return 0, 0
	case eventstore.NoStream:
		return 4, 1
	case eventstore.Exists:
		return 5, 1
	}
	return 6, uint64(e)
}

func appendNewEvent(dst []byte, e *eventstore.Event) []byte {
	if e.ID != (uuid.UUID{}) {
		var small [36]byte
		dst = appendBytes(dst, 1, appendUUID(small[:0], e.ID))
	}
	dst = appendString(dst, 2, e.Type)
	dst = appendNumber(dst, 3, uint64(e.SchemaVersion))
	dst = appendString(dst, 4, contentType(e))
	dst = appendBytes(dst, 5, e.Payload)
	for _, tag := range e.Tags {
		dst = protowire.AppendString(protowire.AppendTag(dst, 7, protowire.BytesType), tag)
	}
	dst = appendString(dst, 8, kind(e))
	return appendNumber(dst, 9, uint64(e.KeyRef))
}

// contentType and kind return what the message says: nothing where it is the default.
func contentType(e *eventstore.Event) string {
	if e.Encoding == 0 || e.Encoding == eventstore.Protobuf {
		return ""
	}
	return e.Encoding.ContentType()
}

func kind(e *eventstore.Event) string {
	if e.Kind == 0 || e.Kind == eventstore.KindDomain {
		return ""
	}
	return e.Kind.String()
}

func sizeNewEvent(e *eventstore.Event) int {
	size := sizeText(len(e.Type)) + sizeText(len(contentType(e))) + sizeText(len(e.Payload)) + sizeText(len(kind(e))) +
		sizeNumber(uint64(e.SchemaVersion)) + sizeNumber(uint64(e.KeyRef))
	if e.ID != (uuid.UUID{}) {
		size += sizeText(36)
	}
	for _, tag := range e.Tags {
		size += 1 + protowire.SizeBytes(len(tag))
	}
	return size
}

// sizeText returns how many bytes a field with n bytes takes, whose tag has one.
func sizeText(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

// SessionAppendsMessage collects appends of a session for one message, in its wire form. It is used by one goroutine.
type SessionAppendsMessage struct{ body *[]byte }

// Add adds an append: its number and the wire form of its request.
func (m *SessionAppendsMessage) Add(number uint64, request []byte) {
	if m.body == nil {
		m.body = bodies.Get(2 * firstPage)
		*m.body = (*m.body)[:0]
	}
	b := protowire.AppendTag(*m.body, 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeNumber(number)+1+protowire.SizeBytes(len(request))))
	b = appendNumber(b, 1, number)
	*m.body = appendMessage(b, 2, request)
}

// Size returns about how many bytes the message has.
func (m *SessionAppendsMessage) Size() int {
	if m.body == nil {
		return 0
	}
	return len(*m.body)
}

// Message returns the appends as an AppendSessionRequest and empties the collection; nil when there are none.
func (m *SessionAppendsMessage) Message() *Encoded {
	if m.body == nil {
		return nil
	}
	body := m.body
	m.body = nil
	return encoded(body, func() proto.Message { return &storev1.AppendSessionRequest{} })
}
