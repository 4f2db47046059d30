package server

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// encoded is a message that is in its wire form already.
type encoded interface{ Buffers() mem.BufferSlice }

// codec is gRPC's own for protobuf, apart from messages that are in their wire form already: those go out as they are,
// without being copied.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal returns the wire form of v.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(encoded); ok {
		return e.Buffers(), nil
	}
	return c.CodecV2.Marshal(v)
}
