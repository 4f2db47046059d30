package storeapi

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// ServiceDesc is what a *Service is registered with: the generated description, but for Append, whose messages over gRPC
// are read and written by hand. With the generated one it works as well, and slower.
var ServiceDesc = func() grpc.ServiceDesc {
	d := storev1.EventStore_ServiceDesc
	d.Methods = slices.Clone(d.Methods)
	i := slices.IndexFunc(d.Methods, func(m grpc.MethodDesc) bool { return m.MethodName == "Append" })
	d.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		return handleAppend(ctx, srv.(*Service), decode, intercept)
	}
	return d
}()

// appendRequest is an AppendRequest: in its wire form when it has come over gRPC, else the message.
type appendRequest struct {
	storev1.AppendRequest
	wire.Raw
}

// Message returns the request as a message, for who sends it on.
func (m *appendRequest) Message() (proto.Message, error) {
	if m.Bytes == nil {
		return &m.AppendRequest, nil
	}
	request := &storev1.AppendRequest{}
	if err := proto.Unmarshal(m.Bytes, request); err != nil {
		return nil, fmt.Errorf("%w: %w", eventstore.ErrInvalid, err)
	}
	return request, nil
}

// handleAppend takes the place of the generated handler.
func handleAppend(ctx context.Context, s *Service, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	m := &appendRequest{}
	if err := decode(m); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, _ any) (any, error) {
		if m.Bytes == nil {
			return s.Append(ctx, &m.AppendRequest)
		}
		return s.appendRaw(ctx, m.Bytes)
	}
	if intercept == nil {
		return handle(ctx, m)
	}
	return intercept(ctx, m, &grpc.UnaryServerInfo{Server: s, FullMethod: storev1.EventStore_Append_FullMethodName}, handle)
}

// readers are RequestReaders with their memory.
var readers = sync.Pool{New: func() any { return &wire.RequestReader{} }}

// appendRaw records the events of a request that is in its wire form.
func (s *Service) appendRaw(ctx context.Context, b []byte) (*wire.Encoded, error) {
	o, err := originOf(ctx)
	if err != nil {
		return nil, err
	}
	var r eventstore.Request
	d := readers.Get().(*wire.RequestReader)
	err = s.read(ctx, d, &r, b, &o)
	readers.Put(d)
	if err != nil {
		return nil, err
	}
	receipt, err := recordedWith(s.Store.Append(ctx, r))
	if err != nil {
		return nil, err
	}
	return wire.ReceiptMessage(&receipt), nil
}
