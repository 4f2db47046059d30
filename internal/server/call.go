package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/textproto"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// The names of the metadata that methods read, which over HTTP are headers.
var callHeaders = []string{
	"idempotency-key", "if-match", "x-durability", "x-read-after", "x-tenant", "x-correlation-id", "x-causation-id", "traceparent", "tracestate",
}

// intercept wraps every unary call of both protocols: panics become errors, the call is bounded in time, and what the
// answer says of position and version is repeated in the headers X-Position and ETag.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in %s: %v\n%s", info.FullMethod, p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
	defer cancel()
	resp, err = next(ctx, req)
	if err != nil {
		return resp, err
	}
	if m, ok := resp.(proto.Message); ok {
		if h := answerHeaders(m); len(h) > 0 {
			if err := grpc.SetHeader(ctx, h); err != nil {
				return nil, fmt.Errorf("set answer headers: %w", err)
			}
		}
	}
	return resp, nil
}

// unaryStatus is the outermost interceptor of gRPC: it turns errors into statuses.
func (s *Server) unaryStatus(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	resp, err := next(ctx, req)
	if err != nil {
		return nil, s.statusOf(ctx, info.FullMethod, err)
	}
	return resp, nil
}

func (s *Server) streamStatus(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.statusOf(stream.Context(), info.FullMethod, fmt.Errorf("panic in %s: %v\n%s", info.FullMethod, p, debug.Stack()))
		}
	}()
	bound, cancel := s.untilClosing(stream.Context())
	defer cancel()
	if err := next(srv, boundStream{stream, bound}); err != nil {
		return s.statusOf(stream.Context(), info.FullMethod, err)
	}
	return nil
}

// boundStream is a stream whose context ends when the server begins to close.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the bounded context.
func (b boundStream) Context() context.Context { return b.ctx }

func (s *Server) statusOf(ctx context.Context, method string, err error) error {
	p, internal := problemOf(err)
	if internal {
		s.log.LogAttrs(ctx, slog.LevelError, "call met an unforeseen error", slog.String("method", method), slog.Any("error", err))
	}
	return p.grpcStatus()
}

// answerHeaders takes position and version out of an answer.
func answerHeaders(m proto.Message) metadata.MD {
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	h := metadata.MD{}
	if f := fields.ByName("position"); f != nil && f.Kind() == protoreflect.StringKind {
		if v := r.Get(f).String(); v != "" {
			h.Set("x-position", v)
		}
	}
	if f := fields.ByName("version"); f != nil && f.Kind() == protoreflect.Uint64Kind {
		if v := r.Get(f).Uint(); v > 0 {
			h.Set("etag", fmt.Sprintf("%q", fmt.Sprint(v)))
		}
	}
	return h
}

// incoming gives the headers of an HTTP request to a method as gRPC gives metadata.
func incoming(header map[string][]string) metadata.MD {
	md := metadata.MD{}
	for _, name := range callHeaders {
		if v := header[textproto.CanonicalMIMEHeaderKey(name)]; len(v) > 0 {
			md.Set(name, v...)
		}
	}
	return md
}

// transport collects the headers that a method sets, for the HTTP answer.
type transport struct {
	method string
	header metadata.MD
}

// Method returns the full method name.
func (t *transport) Method() string { return t.method }

// SetHeader adds headers.
func (t *transport) SetHeader(md metadata.MD) error {
	t.header = metadata.Join(t.header, md)
	return nil
}

// SendHeader adds headers; they go out with the answer.
func (t *transport) SendHeader(md metadata.MD) error { return t.SetHeader(md) }

// SetTrailer is ignored: JSON answers have no trailers.
func (t *transport) SetTrailer(metadata.MD) error { return nil }

func (t *transport) copyTo(header map[string][]string) {
	for name, values := range t.header {
		header[textproto.CanonicalMIMEHeaderKey(name)] = []string{strings.Join(values, ", ")}
	}
}
