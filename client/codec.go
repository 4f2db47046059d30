package client

import (
	"bytes"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// codec is gRPC's own for protobuf, apart from answers full of events: those are copied once, out of the buffers of the
// connection, and the events share that memory. gRPC's own copies them into one buffer, and out of that again.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Unmarshal reads the wire form of v.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v.(type) {
	case *storev1.ReadResponse, *storev1.SubscribeResponse:
	default:
		return c.CodecV2.Unmarshal(data, v)
	}
	parts := make([][]byte, len(data))
	for i, buffer := range data {
		parts[i] = buffer.ReadOnlyData()
	}
	// Join does not clear the memory before it fills it, as Materialize does.
	if err := wire.UnmarshalAnswer(bytes.Join(parts, nil), v.(protobuf.Message)); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}
