package wire

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"

	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Codec is gRPC's own codec for protobuf, apart from what is written and read by hand, where the generated code would cost
// more than all the rest: an Encoded goes out as it is, a Raw is left in its wire form, and the frames of a read share the
// memory of their message.
type Codec struct{ encoding.CodecV2 }

// NewCodec returns a codec, for both sides of a connection.
func NewCodec() Codec { return Codec{encoding.GetCodecV2(proto.Name)} }

// Marshal returns the wire form of v.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*Encoded); ok {
		return e.Buffers(), nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal reads the wire form of v.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case raw:
		m.set(joined(data))
	case *LentResponse:
		m.memory = slices.Grow(m.memory[:0], data.Len())[:data.Len()]
		data.CopyTo(m.memory)
		if err := UnmarshalAnswer(m.memory, &m.ReadResponse); err != nil {
			return fmt.Errorf("decode answer: %w", err)
		}
	case *storev1.ReadResponse, *storev1.SubscribeResponse:
		if err := UnmarshalAnswer(joined(data), v.(protobuf.Message)); err != nil {
			return fmt.Errorf("decode answer: %w", err)
		}
	default:
		return c.CodecV2.Unmarshal(data, v)
	}
	return nil
}

// joined returns a message in memory of its own: copied out of the buffers of the connection, once, without clearing the
// memory first, as Materialize does. A small message has its own already, for gRPC takes buffers from a pool for large
// ones only.
func joined(data mem.BufferSlice) []byte {
	if len(data) == 1 {
		if own, ok := data[0].(mem.SliceBuffer); ok {
			return own
		}
		return bytes.Clone(data[0].ReadOnlyData())
	}
	parts := make([][]byte, len(data))
	for i, buffer := range data {
		parts[i] = buffer.ReadOnlyData()
	}
	return bytes.Join(parts, nil)
}

// Raw is a message in its wire form, of which each Raw has memory of its own. Embedded in a message, it has the codec leave
// that message alone.
type Raw struct{ Bytes []byte }

type raw interface{ set(b []byte) }

func (r *Raw) set(b []byte) { r.Bytes = b }
