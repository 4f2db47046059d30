package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// answerJSON writes messages with the proto's own names; empty fields are left in, so that a client sees the whole shape.
var answerJSON = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// encodeJSON writes a message on one line. protojson varies its spaces from build to build on purpose; they are taken out,
// so that an answer looks the same always.
func encodeJSON(m proto.Message) ([]byte, error) {
	raw, err := answerJSON.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return append(withoutSpaces(raw), '\n'), nil
}

// withoutSpaces takes the spaces between the tokens of a valid JSON text out, in place. json.Compact would do, at several
// times the cost: it checks the text again.
func withoutSpaces(text []byte) []byte {
	if bytes.IndexByte(text, ' ') < 0 {
		return text
	}
	out := text[:0]
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ':
		case '"':
			end := i + 1
			for text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			out = append(out, text[i:end+1]...)
			i = end
		default:
			out = append(out, c)
		}
	}
	return out
}

// observed wraps what answers an HTTP request: panics become problems, and the request is counted.
func (s *Server) observed(service, route string, timed bool, serve func(w *recorder, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		rec := &recorder{ResponseWriter: w}
		if err := guarded(route, func() error { return serve(rec, r) }); err != nil {
			s.fail(rec, r, err)
		}
		s.metrics.observeHTTP(service, route, rec.code(), timed, time.Since(begin))
	}
}

func guarded(what string, call func() error) (err error) {
	defer recovered(what, &err)
	return call()
}

// handle serves a route.
func (s *Server) handle(rt *route) http.HandlerFunc {
	serve := s.serveUnary
	if rt.stream {
		serve = s.serveStream
	}
	return s.observed(rt.service(), rt.pattern(), !rt.stream, func(w *recorder, r *http.Request) error {
		return serve(metadata.NewIncomingContext(r.Context(), incoming(r.Header)), w, r, rt)
	})
}

func (s *Server) serveUnary(ctx context.Context, w *recorder, r *http.Request, rt *route) error {
	t := &transport{method: rt.fullMethod()}
	ctx, err := withReadAfter(grpc.NewContextWithServerTransportStream(ctx, t), r, rt)
	if err != nil {
		return err
	}
	decode := func(in any) error { return s.decodeRequest(w, r, rt, in.(proto.Message)) }
	resp, err := rt.unary.Handler(rt.impl, ctx, decode, s.intercept)
	if err != nil {
		return err
	}
	answer := resp.(proto.Message)
	body, err := encodeJSON(answer)
	if err != nil {
		return err
	}
	t.copyTo(w.Header())
	status := http.StatusOK
	if rt.creates() {
		status = http.StatusCreated
		if at := s.location(rt, answer.ProtoReflect()); at != "" {
			w.Header().Set("Location", at)
		}
	}
	w.answer(status, body)
	return nil
}

// location returns where what a route has made can be read, or nothing.
func (s *Server) location(rt *route, answer protoreflect.Message) string {
	f := answer.Descriptor().Fields().ByName("id")
	if !isPlain(f, protoreflect.StringKind) || answer.Get(f).String() == "" || !s.paths[http.MethodGet+" "+rt.path+"/{id}"] {
		return ""
	}
	return rt.path + "/" + url.PathEscape(answer.Get(f).String())
}

func (s *Server) serveStream(ctx context.Context, w *recorder, r *http.Request, rt *route) error {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", ndjson)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	stream := newJSONStream(ctx, w, r, func(in proto.Message) error { return s.decodeStream(w, r, rt, in) })
	defer stream.end()
	info := &grpc.StreamServerInfo{FullMethod: rt.fullMethod(), IsServerStream: true}
	err := s.interceptStream(rt.impl, stream, info, rt.server.Handler)
	switch {
	case r.Context().Err() != nil || stream.broken(): // the client has gone away: nobody to tell
	case err != nil && stream.begun():
		stream.fault(s.problem(r.Context(), rt.pattern(), false, err))
	case err != nil:
		return err
	default:
		stream.begin()
	}
	return nil
}

// decodeStream decodes the request of a stream; where a browser resumes a stream of server-sent events after a fault, it
// goes on after the last event that arrived.
func (s *Server) decodeStream(w http.ResponseWriter, r *http.Request, rt *route, in proto.Message) error {
	if err := s.decodeRequest(w, r, rt, in); err != nil {
		return err
	}
	last := r.Header.Get("Last-Event-ID")
	if f := rt.desc.Input().Fields().ByName("after"); last != "" && isPlain(f, protoreflect.StringKind) {
		in.ProtoReflect().Set(f, protoreflect.ValueOfString(strings.ToValidUTF8(last, "?")))
	}
	return nil
}

// fail answers with a problem; where the answer has begun it cannot be taken back.
func (s *Server) fail(w *recorder, r *http.Request, err error) {
	p := s.problem(r.Context(), r.Method+" "+r.URL.Path, r.Header.Get("If-Match") != "", err)
	if w.status != 0 {
		return
	}
	if p.answer != nil {
		if body, err := encodeJSON(p.answer); err == nil {
			h := answerHeaders(p.answer)
			if token := sessionOf(p.answer); token != "" {
				h.Set("x-session", token)
			}
			(&transport{header: h}).copyTo(w.Header())
			w.answer(http.StatusAccepted, body)
			return
		}
	}
	p.write(w, r)
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) answer(status int, body []byte) {
	r.Header().Set("Content-Type", "application/json")
	r.WriteHeader(status)
	_, _ = r.Write(body) // the client is gone: nobody to tell
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
