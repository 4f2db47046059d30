package storeapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// What a session may have under way, in bytes of payloads and eventBytes for each event; an append counts for leastBytes at
// least, also one that fails, so that there are sessionBytes/leastBytes appends at most. An append is under way until its
// answer is sent. Beyond that the session is not read from, and HTTP/2 holds the client back: also one that does not read.
const (
	sessionBytes = 16 << 20
	leastBytes   = 32 << 10
	eventBytes   = 256
)

const (
	// sessionTimeout bounds an append of a session, which does not end with the session.
	sessionTimeout = 30 * time.Second
	// A message carries up to maxAnswers answers, and no more once they have maxAnswerBytes.
	maxAnswers     = 256
	maxAnswerBytes = 1 << 20
)

// AppendSession takes appends and answers each. Three goroutines share the work: the receiver reads messages, the caller's
// makes requests of each and has the store queue them together, and the sender puts the answers together that are there.
// There is none for each append, except where one waits for more than this server's disk. The store judges what it queued
// in order, so that appends to one stream need not wait for each other.
func (s *Service) AppendSession(
	stream grpc.BidiStreamingServer[storev1.AppendSessionRequest, storev1.AppendSessionResponse],
) (err error) {
	ctx := stream.Context()
	o, err := originOf(ctx)
	if err != nil {
		return err
	}
	if o.ID != "" || o.ifMatch != eventstore.Any {
		return fmt.Errorf("%w: a session's appends have request ids and expectations of their own: leave Idempotency-Key and If-Match out", eventstore.ErrInvalid)
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	n := &session{
		service: s, origin: &o, ctx: context.WithoutCancel(ctx), room: semaphore.NewWeighted(sessionBytes), answers: newSessionAnswers(),
	}
	ctx, broken := context.WithCancelCause(ctx)
	defer broken(nil)
	sent := make(chan error, 1)
	go func() { sent <- n.answers.send(stream, n, broken) }()
	defer func() {
		n.answers.end()
		err = cmp.Or(<-sent, err)
	}()
	return n.dispatch(ctx, receive(ctx, stream))
}

// received is a message of the client, or the end.
type received struct {
	message []byte
	err     error
}

// receive reads messages until ctx ends. A call to RecvMsg cannot be broken off from here: the last one returns when the
// call is over, a moment after the handler.
func receive(ctx context.Context, stream grpc.ServerStream) <-chan received {
	out := make(chan received)
	go func() {
		for {
			m := wire.Raw{}
			err := stream.RecvMsg(&m)
			select {
			case out <- received{m.Bytes, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// session is a session under way.
type session struct {
	service *Service
	origin  *origin
	ctx     context.Context // of the appends; it does not end with the call: what is begun is answered
	room    *semaphore.Weighted
	answers *sessionAnswers
	reader  wire.RequestReader
	request eventstore.Request // that is being read
}

// dispatch takes messages until the client has no more, or ctx ends.
func (n *session) dispatch(ctx context.Context, messages <-chan received) error {
	for {
		select {
		case r := <-messages:
			if errors.Is(r.err, io.EOF) {
				return nil
			}
			if r.err != nil {
				return fmt.Errorf("receive appends: %w", r.err)
			}
			if err := n.take(ctx, r.message); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take has the appends of a message queued: together, as far as there is room for them and their answers.
func (n *session) take(ctx context.Context, message []byte) error {
	t := &together{}
	err := wire.SessionAppends(message, func(number uint64, b []byte) error {
		r, size := &n.request, int64(leastBytes)
		wrong := n.service.read(n.ctx, &n.reader, r, b, n.origin)
		if wrong == nil {
			size = sizeOf(r)
		}
		if !n.room.TryAcquire(size) {
			n.enqueue(t) // they make room when they are answered
			t = &together{}
			if n.room.Acquire(ctx, size) != nil {
				return context.Cause(ctx)
			}
		}
		n.answers.expect(1)
		if wrong != nil {
			n.answers.put(sessionAnswer{number: number, err: wrong, size: size})
			return nil
		}
		t.add(number, *r, size)
		return nil
	})
	n.enqueue(t)
	n.request = eventstore.Request{} // a session that rests keeps nothing of its last message
	return err
}

func sizeOf(r *eventstore.Request) int64 {
	size := 0
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			size += eventBytes + len(r.Appends[i].Events[j].Payload)
		}
	}
	return int64(min(max(size, leastBytes), sessionBytes))
}

// enqueue gives appends to the store. It returns when the store has taken them.
func (n *session) enqueue(t *together) {
	if len(t.requests) == 0 {
		return
	}
	t.begin(n)
	eventstore.Enqueue(t.ctx, n.service.Store, t.requests, t.done)
}

// failure says how the client sees an error of an append.
func (n *session) failure(err error) *storev1.Failure {
	return n.service.Failure(n.ctx, storev1.EventStore_AppendSession_FullMethodName, err)
}
