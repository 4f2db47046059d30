package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// answerJSON writes messages with the proto's own names; empty fields are left in, so that a client sees the whole shape.
var answerJSON = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// handle serves a route.
func (s *Server) handle(rt *route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				s.fail(rec, r, fmt.Errorf("panic in %s: %v\n%s", rt.fullMethod(), p, debug.Stack()))
			}
			s.metrics.observeHTTP(rt, rec.code(), time.Since(begin))
		}()
		in, err := newMessage(rt.desc.Input())
		if err == nil {
			err = s.decodeRequest(rec, r, rt, in)
		}
		if err != nil {
			s.fail(rec, r, err)
			return
		}
		t := &transport{method: rt.fullMethod()}
		ctx := metadata.NewIncomingContext(r.Context(), incoming(r.Header))
		ctx = grpc.NewContextWithServerTransportStream(ctx, t)
		if rt.stream {
			s.serveStream(ctx, rec, r, rt, in)
			return
		}
		s.serveUnary(ctx, rec, r, rt, in, t)
	}
}

func (s *Server) serveUnary(ctx context.Context, w *recorder, r *http.Request, rt *route, in proto.Message, t *transport) {
	decode := func(dst any) error {
		proto.Merge(dst.(proto.Message), in)
		return nil
	}
	resp, err := rt.unary.Handler(rt.impl, ctx, decode, s.intercept)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body, err := answerJSON.Marshal(resp.(proto.Message))
	if err != nil {
		s.fail(w, r, fmt.Errorf("encode answer: %w", err))
		return
	}
	t.copyTo(w.Header())
	w.Header().Set("Content-Type", "application/json")
	if rt.creates() {
		w.WriteHeader(http.StatusCreated)
	}
	_, _ = w.Write(append(body, '\n')) // the client is gone: nobody to tell
}

func (s *Server) serveStream(ctx context.Context, w *recorder, r *http.Request, rt *route, in proto.Message) {
	ctx, cancel := s.untilClosing(ctx)
	defer cancel()
	stream := &jsonStream{ctx: ctx, w: w, flush: http.NewResponseController(w), in: in, sse: strings.Contains(r.Header.Get("Accept"), "text/event-stream")}
	err := rt.server.Handler(rt.impl, stream)
	defer stream.end()
	switch {
	case r.Context().Err() != nil: // the client has gone away: nobody to tell
	case err != nil && !stream.begun:
		s.fail(w, r, err)
	case err != nil:
		stream.fault(s.problem(r, err))
	default:
		stream.begin()
	}
}

// untilClosing returns a context that also ends when the server begins to close, so that streams do not hold it up.
func (s *Server) untilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

func (s *Server) problem(r *http.Request, err error) Problem {
	p, internal := problemOf(err)
	if internal {
		s.log.LogAttrs(r.Context(), slog.LevelError, "call met an unforeseen error", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	if p.Title == kindConflict && r.Header.Get("If-Match") != "" {
		p.Status = http.StatusPreconditionFailed
	}
	return p
}

const kindConflict = "Stream was changed by another"

func (s *Server) fail(w *recorder, r *http.Request, err error) {
	if w.status != 0 {
		return // the answer has begun: it cannot be taken back
	}
	p := s.problem(r, err)
	p.write(w, r)
}

func newMessage(d protoreflect.MessageDescriptor) (proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", d.FullName(), err)
	}
	return t.New().Interface(), nil
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers and passes on.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write remembers the status that it implies.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach what is underneath.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}
