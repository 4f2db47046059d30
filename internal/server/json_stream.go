package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// streamWriteTimeout is how long a stream waits for a client that does not read.
	streamWriteTimeout = 30 * time.Second
	// streamFlushDelay is how long a message may wait for others to go out with it.
	streamFlushDelay = 5 * time.Millisecond
	// streamHeartbeat is how often server-sent events say that they live when there are none. Lines of JSON have no such
	// sign, for not every client would take an empty line; the connection's own keep-alive has to do.
	streamHeartbeat = 15 * time.Second
)

const (
	ndjson      = "application/x-ndjson"
	eventStream = "text/event-stream"
)

// jsonStream is a grpc.ServerStream that writes each message as a line of JSON (application/x-ndjson), or as a
// server-sent event where the client asks for text/event-stream. A client that does not read holds its own stream up and
// nothing else, and loses it after streamWriteTimeout.
type jsonStream struct {
	ctx     context.Context
	decode  func(proto.Message) error
	control *http.ResponseController
	sse     bool
	read    bool // the request was given to the method

	mu      sync.Mutex // guards what follows, and the use of w
	w       http.ResponseWriter
	started bool
	ended   bool
	err     error // what broke the connection
	flush   *time.Timer
	pending bool // written, not flushed
	beat    *time.Timer
}

func newJSONStream(ctx context.Context, w http.ResponseWriter, r *http.Request, decode func(proto.Message) error) *jsonStream {
	return &jsonStream{ctx: ctx, w: w, control: http.NewResponseController(w), decode: decode, sse: wantsEvents(r)}
}

func wantsEvents(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if media, _, err := mime.ParseMediaType(part); err == nil && media == eventStream {
			return true
		}
	}
	return false
}

// Context returns the request's context.
func (j *jsonStream) Context() context.Context { return j.ctx }

// SetHeader is ignored: no stream method sets headers.
func (j *jsonStream) SetHeader(metadata.MD) error { return nil }

// SendHeader begins the answer.
func (j *jsonStream) SendHeader(metadata.MD) error {
	j.begin()
	return j.failure()
}

// SetTrailer is ignored: JSON answers have no trailers.
func (j *jsonStream) SetTrailer(metadata.MD) {}

// RecvMsg gives the one request.
func (j *jsonStream) RecvMsg(dst any) error {
	if j.read {
		return io.EOF
	}
	j.read = true
	return j.decode(dst.(proto.Message))
}

// SendMsg writes a message. It goes out at once or within streamFlushDelay, together with those that follow at once.
func (j *jsonStream) SendMsg(m any) error {
	message := m.(proto.Message)
	body, err := encodeJSON(message)
	if err != nil {
		return err
	}
	if j.sse {
		body = serverSent(positionOf(message.ProtoReflect()), "", body)
	}
	j.begin()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(body)
	return j.err
}

// serverSent frames a line of JSON as an event of text/event-stream.
func serverSent(id, event string, line []byte) []byte {
	var out []byte
	if id != "" {
		out = append(append(append(out, "id: "...), id...), '\n')
	}
	if event != "" {
		out = append(append(append(out, "event: "...), event...), '\n')
	}
	return append(append(append(out, "data: "...), line...), '\n')
}

func positionOf(m protoreflect.Message) string {
	if f := m.Descriptor().Fields().ByName("position"); isPlain(f, protoreflect.StringKind) {
		return m.Get(f).String()
	}
	return ""
}

// begin sends the head of the answer, so that the client knows that it is connected.
func (j *jsonStream) begin() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.started {
		return
	}
	j.started = true
	h := j.w.Header()
	h.Set("Content-Type", ndjson)
	if j.sse {
		h.Set("Content-Type", eventStream)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies are to pass lines on as they come
	j.bounded(func() {
		j.w.WriteHeader(http.StatusOK)
		j.flushNow()
	})
	j.flush = time.AfterFunc(time.Hour, j.flushLater)
	j.flush.Stop()
	if j.sse {
		j.beat = time.AfterFunc(streamHeartbeat, j.heartbeat)
	}
}

// write adds to the answer. REQUIRES: j.mu is held and the stream has begun.
func (j *jsonStream) write(b []byte) {
	if j.err != nil || j.ended {
		return
	}
	j.bounded(func() {
		if _, err := j.w.Write(b); err != nil {
			j.err = fmt.Errorf("write stream message: %w", err)
		}
	})
	if !j.pending {
		j.pending = true
		j.flush.Reset(streamFlushDelay)
	}
	if j.beat != nil {
		j.beat.Reset(streamHeartbeat)
	}
}

func (j *jsonStream) flushLater() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pending && !j.ended {
		j.bounded(j.flushNow)
	}
}

func (j *jsonStream) flushNow() {
	j.pending = false
	// What cannot flush, such as a recorder of tests, has all of it anyway.
	if err := j.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) && j.err == nil {
		j.err = fmt.Errorf("flush stream message: %w", err)
	}
}

func (j *jsonStream) heartbeat() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write([]byte(": still here\n\n"))
}

// bounded bounds what write does in time, and takes the bound off again, for a stream may rest for long. What knows no
// deadlines is not a connection.
func (j *jsonStream) bounded(write func()) {
	_ = j.control.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
	write()
	_ = j.control.SetWriteDeadline(time.Time{})
}

func (j *jsonStream) begun() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.started
}

func (j *jsonStream) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

func (j *jsonStream) broken() bool { return j.failure() != nil }

// fault ends a stream that has begun with a last line {"problem": …}, or an event named problem.
func (j *jsonStream) fault(p Problem) {
	body := append(append([]byte(`{"problem":`), p.json()...), "}\n"...)
	if j.sse {
		body = serverSent("", "problem", body)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(body)
}

// end sends what is left. After it nothing is written any more.
func (j *jsonStream) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pending && j.err == nil {
		j.bounded(j.flushNow)
	}
	j.ended = true
	_ = j.control.SetWriteDeadline(time.Now().Add(streamWriteTimeout)) // for what net/http writes at the end
	for _, t := range []*time.Timer{j.flush, j.beat} {
		if t != nil {
			t.Stop()
		}
	}
}
