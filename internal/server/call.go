package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/textproto"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
)

// intercept wraps every unary call of both protocols: panics become errors, metadata is checked, the call is bounded in
// time, and what the answer says of position and version is repeated in the headers X-Position and ETag, but for an answer
// that is in its wire form already.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer recovered(info.FullMethod, &err)
	if err := s.refuses(info.FullMethod); err != nil {
		return nil, err
	}
	if ctx, err = s.checkMetadata(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
	defer cancel()
	if ctx, err = s.located(ctx); err != nil {
		return nil, err
	}
	resp, err = next(ctx, req)
	var elsewhere *eventstore.NotHomeError
	if errors.As(err, &elsewhere) && !elsewhere.Moving && s.options.Forward != nil {
		return s.forward(ctx, elsewhere.Home, info.FullMethod, req, err)
	}
	if err != nil {
		return nil, err
	}
	if m, ok := resp.(proto.Message); ok && !isEncoded(resp) {
		h := answerHeaders(m)
		if err := s.addSession(ctx, h, m); err != nil {
			return nil, err
		}
		if len(h) > 0 {
			if err := grpc.SetHeader(ctx, h); err != nil {
				return nil, fmt.Errorf("set answer headers: %w", err)
			}
		}
	}
	return resp, nil
}

// refuses returns why a method is not answered here.
func (s *Server) refuses(method string) error {
	if s.options.Refuse == nil {
		return nil
	}
	return s.options.Refuse(method)
}

// isEncoded reports whether an answer is in its wire form already, which only Append of the store gives, over gRPC: its client
// has the position in the message, and headers would have their price for each append.
func isEncoded(resp any) bool {
	_, ok := resp.(*wire.Encoded)
	return ok
}

// interceptStream wraps every streaming call of both protocols: panics become errors, metadata is checked, the number of
// open streams is bounded, and the call's context ends when the server begins to close, so that no stream holds that up.
func (s *Server) interceptStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer recovered(info.FullMethod, &err)
	if err := s.refuses(info.FullMethod); err != nil {
		return err
	}
	ctx, err := s.checkMetadata(stream.Context())
	if err != nil {
		return err
	}
	if n := s.openStreams.Add(1); n > int64(s.options.MaxStreams) {
		s.openStreams.Add(-1)
		return problemf(kindBusy, "", "%d streams are open, the limit", s.options.MaxStreams)
	}
	defer s.openStreams.Add(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	if ctx, err = s.located(ctx); err != nil {
		return err
	}
	err = next(srv, boundStream{stream, ctx})
	if err != nil && s.closing.Err() != nil && stream.Context().Err() == nil && errors.Is(ctx.Err(), context.Canceled) {
		return problemf(kindClosing, "", "the stream ends because the server stops")
	}
	return err
}

// boundStream is a stream with another context.
type boundStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the bounded context.
func (b boundStream) Context() context.Context { return b.ctx }

// recovered turns a panic into an error. It is to be deferred.
func recovered(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic in %s: %v\n%s", what, p, debug.Stack())
	}
}

// problem says how the client of a call sees err, and logs what nobody foresaw, and damage.
func (s *Server) problem(ctx context.Context, what string, ifMatch bool, err error) Problem {
	p, internal := problemOf(err, ifMatch)
	if internal {
		met := "call met an unforeseen error"
		if errors.Is(err, eventstore.ErrCorrupt) {
			met = "call met stored data that are damaged"
		}
		s.log.LogAttrs(ctx, slog.LevelError, met,
			slog.String("call", what), slog.String("reference", p.Reference), slog.Any("error", err))
	}
	return p
}

// unary and stream are the interceptors of gRPC, one for all that is to be done: they turn errors into statuses, and count.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	begin := time.Now()
	resp, err := s.intercept(ctx, req, info, next)
	if err != nil {
		resp, err = nil, s.statusOf(ctx, info.FullMethod, err)
	}
	m := s.metrics.ofCall(info.FullMethod)
	m.count(err)
	m.took.Observe(time.Since(begin).Seconds())
	return resp, err
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	err := s.interceptStream(srv, stream, info, next)
	if err != nil {
		err = s.statusOf(stream.Context(), info.FullMethod, err)
	}
	s.metrics.ofCall(info.FullMethod).count(err)
	return err
}

func (s *Server) statusOf(ctx context.Context, method string, err error) error {
	p := s.problem(ctx, method, has(ctx, "if-match"), err)
	return p.grpcStatus()
}

// answerHeaders takes position and version out of an answer.
func answerHeaders(m proto.Message) metadata.MD {
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	h := metadata.MD{}
	if f := fields.ByName("position"); isPlain(f, protoreflect.StringKind) {
		if v := r.Get(f).String(); v != "" {
			h.Set("x-position", v)
		}
	}
	if f := fields.ByName("version"); isPlain(f, protoreflect.Uint64Kind) {
		if v := r.Get(f).Uint(); v > 0 {
			h.Set("etag", fmt.Sprintf("%q", fmt.Sprint(v)))
		}
	}
	return h
}

// sessionOf takes the session token out of a receipt: it is the identity of the last event.
func sessionOf(m proto.Message) string {
	r := m.ProtoReflect()
	for _, name := range []protoreflect.Name{"session", "dot"} {
		if f := r.Descriptor().Fields().ByName(name); isPlain(f, protoreflect.StringKind) {
			return r.Get(f).String()
		}
	}
	return ""
}

func isPlain(f protoreflect.FieldDescriptor, k protoreflect.Kind) bool {
	return f != nil && f.Kind() == k && !f.IsList() && !f.IsMap()
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
