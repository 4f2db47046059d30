package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// streamWriteTimeout is how long one message of a stream may wait for a client that does not read.
const streamWriteTimeout = 30 * time.Second

// jsonStream is a grpc.ServerStream that writes each message as a line of JSON (application/x-ndjson), or as a
// server-sent event where the client asks for text/event-stream. A client that does not read holds its own stream up and
// nothing else, and loses it after streamWriteTimeout.
type jsonStream struct {
	ctx   context.Context
	w     http.ResponseWriter
	flush *http.ResponseController
	in    proto.Message
	read  bool
	begun bool
	sse   bool
}

// Context returns the request's context.
func (j *jsonStream) Context() context.Context { return j.ctx }

// SetHeader is ignored: no stream method sets headers.
func (j *jsonStream) SetHeader(metadata.MD) error { return nil }

// SendHeader begins the answer.
func (j *jsonStream) SendHeader(metadata.MD) error {
	j.begin()
	return nil
}

// SetTrailer is ignored: JSON answers have no trailers.
func (j *jsonStream) SetTrailer(metadata.MD) {}

// RecvMsg gives the one request.
func (j *jsonStream) RecvMsg(dst any) error {
	if j.read {
		return io.EOF
	}
	j.read = true
	proto.Merge(dst.(proto.Message), j.in)
	return nil
}

// SendMsg writes a message and flushes it.
func (j *jsonStream) SendMsg(m any) error {
	body, err := answerJSON.Marshal(m.(proto.Message))
	if err != nil {
		return fmt.Errorf("encode stream message: %w", err)
	}
	j.begin()
	return j.line(body)
}

func (j *jsonStream) begin() {
	if j.begun {
		return
	}
	j.begun = true
	contentType := "application/x-ndjson"
	if j.sse {
		contentType = "text/event-stream"
	}
	j.w.Header().Set("Content-Type", contentType)
	j.w.Header().Set("Cache-Control", "no-store")
	j.w.WriteHeader(http.StatusOK)
	_ = j.flush.Flush() // what cannot flush sends all at the end
}

func (j *jsonStream) line(body []byte) error {
	// Not every writer knows deadlines (a test recorder does not); the client's own going away still ends the stream.
	_ = j.flush.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
	if j.sse {
		body = append([]byte("data: "), append(body, '\n')...)
	}
	if _, err := j.w.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("write stream message: %w", err)
	}
	if err := j.flush.Flush(); err != nil {
		return fmt.Errorf("flush stream message: %w", err)
	}
	return nil
}

// fault ends a stream that has begun with a last line {"problem": …}.
func (j *jsonStream) fault(p Problem) {
	body, err := json.Marshal(map[string]any{"problem": p})
	if err != nil {
		return
	}
	_ = j.line(body) // the client is gone: nobody to tell
}

// end takes the deadline off the connection, which may serve further requests.
func (j *jsonStream) end() { _ = j.flush.SetWriteDeadline(time.Time{}) }
