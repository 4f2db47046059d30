package storeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// What a session may have under way, in bytes of payloads; an append counts for leastBytes at least, so that there are
// sessionBytes/leastBytes appends at most. Beyond that the session is not read from, and HTTP/2 holds the client back.
const (
	sessionBytes = 16 << 20
	leastBytes   = 32 << 10
	maxUnderWay  = sessionBytes / leastBytes
)

const (
	// sessionTimeout bounds an append of a session, which does not end with the session.
	sessionTimeout = 30 * time.Second
	// maxAnswers is how many answers a message carries.
	maxAnswers = 256
)

// AppendSession takes appends and answers each. Four kinds of goroutines share the work: the receiver reads messages, the
// caller's goroutine makes requests of them and gives each its place behind those on the same streams, workers append,
// and the sender puts the answers together that are there. Each waits when the next one is busy.
func (s *Service) AppendSession(
	stream grpc.BidiStreamingServer[storev1.AppendSessionRequest, storev1.AppendSessionResponse],
) (err error) {
	ctx := stream.Context()
	o, err := originOf(ctx)
	if err != nil {
		return err
	}
	if o.id != "" || o.ifMatch != eventstore.Any {
		return fmt.Errorf("%w: a session's appends have request ids and expectations of their own: leave Idempotency-Key and If-Match out", eventstore.ErrInvalid)
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	n := &session{
		service: s, origin: &o, ctx: context.WithoutCancel(ctx), room: semaphore.NewWeighted(sessionBytes),
		work: make(chan *sessionAppend), answers: make(chan *storev1.SessionAnswer, maxAnswers),
		lanes: map[eventstore.StreamID]chan struct{}{},
	}
	sent := make(chan error, 1)
	go func() { sent <- n.send(stream) }()
	defer func() {
		close(n.work)
		n.workers.Wait()
		close(n.answers)
		err = errors.Join(err, <-sent)
	}()
	return n.dispatch(ctx, receive(ctx, stream))
}

// received is a message of the client, or the end.
type received struct {
	message *storev1.AppendSessionRequest
	err     error
}

// receive reads messages until ctx ends. A call to Recv cannot be broken off from here: the last one returns when the
// call is over, a moment after the handler.
func receive(ctx context.Context, stream grpc.BidiStreamingServer[storev1.AppendSessionRequest, storev1.AppendSessionResponse]) <-chan received {
	out := make(chan received)
	go func() {
		for {
			m, err := stream.Recv()
			select {
			case out <- received{m, err}:
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
	work    chan *sessionAppend
	answers chan *storev1.SessionAnswer

	started int // workers
	workers sync.WaitGroup

	mu    sync.Mutex // guards lanes
	lanes map[eventstore.StreamID]chan struct{}
}

// sessionAppend is an append with its place.
type sessionAppend struct {
	number  uint64
	request eventstore.Request
	size    int64
	message *messageContext
	// before are the appends on the same streams that come first; done is closed when this one is answered.
	before []chan struct{}
	done   chan struct{}
}

// messageContext bounds in time the appends of one message.
type messageContext struct {
	context.Context
	cancel context.CancelFunc
	left   atomic.Int64
}

func (m *messageContext) release() {
	if m.left.Add(-1) == 0 {
		m.cancel()
	}
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
			if err := n.take(ctx, r.message.GetAppends()); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take gives the appends of a message to the workers.
func (n *session) take(ctx context.Context, appends []*storev1.SessionAppend) error {
	if len(appends) == 0 {
		return nil
	}
	message := &messageContext{}
	message.Context, message.cancel = context.WithTimeout(n.ctx, sessionTimeout)
	message.left.Store(int64(len(appends)))
	for i, m := range appends {
		if err := n.begin(ctx, m, message); err != nil {
			for range len(appends) - i {
				message.release()
			}
			return err
		}
	}
	return nil
}

// begin gives one append to a worker, once there is room for it.
func (n *session) begin(ctx context.Context, m *storev1.SessionAppend, message *messageContext) error {
	r, err := n.service.request(m.GetRequest(), n.origin)
	if err != nil {
		n.answers <- n.failed(m.GetNumber(), err)
		message.release()
		return nil
	}
	a := &sessionAppend{number: m.GetNumber(), request: r, size: sizeOf(&r), message: message, done: make(chan struct{})}
	if err := n.room.Acquire(ctx, a.size); err != nil {
		return err
	}
	n.line(a)
	select {
	case n.work <- a:
		return nil
	default:
	}
	if n.started < maxUnderWay {
		n.started++
		n.workers.Go(n.appendAll)
	}
	n.work <- a
	return nil
}

func sizeOf(r *eventstore.Request) int64 {
	size := 0
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			size += len(r.Appends[i].Events[j].Payload)
		}
	}
	return int64(min(max(size, leastBytes), sessionBytes))
}

// line puts an append behind those on the same streams. Workers take appends in this order, so that what an append waits
// for is always under way.
func (n *session) line(a *sessionAppend) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range a.request.Appends {
		stream := a.request.Appends[i].Stream
		if last, busy := n.lanes[stream]; busy && last != a.done {
			a.before = append(a.before, last)
		}
		n.lanes[stream] = a.done
	}
}

// leave ends an append's turn.
func (n *session) leave(a *sessionAppend, streams []eventstore.StreamID) {
	n.mu.Lock()
	for _, stream := range streams {
		if n.lanes[stream] == a.done {
			delete(n.lanes, stream)
		}
	}
	n.mu.Unlock()
	close(a.done)
	a.message.release()
	n.room.Release(a.size)
}

// appendAll is a worker.
func (n *session) appendAll() {
	var streams []eventstore.StreamID
	for a := range n.work {
		for _, done := range a.before {
			<-done
		}
		streams = streams[:0]
		for i := range a.request.Appends { // which belong to the store from Append on
			streams = append(streams, a.request.Appends[i].Stream)
		}
		receipt, err := answer(n.service.Store.Append(a.message, a.request))
		n.leave(a, streams)
		if err != nil {
			n.answers <- n.failed(a.number, err)
			continue
		}
		n.answers <- &storev1.SessionAnswer{Number: a.number, Outcome: &storev1.SessionAnswer_Receipt{Receipt: receipt}}
	}
}

func (n *session) failed(number uint64, err error) *storev1.SessionAnswer {
	f := n.service.Failure(n.ctx, storev1.EventStore_AppendSession_FullMethodName, err)
	return &storev1.SessionAnswer{Number: number, Outcome: &storev1.SessionAnswer_Failure{Failure: f}}
}

// send sends answers until there are no more. When the client cannot be reached any more, it goes on taking them, so that
// nobody waits for it.
func (n *session) send(stream grpc.ServerStreamingServer[storev1.AppendSessionResponse]) (err error) {
	for first := range n.answers {
		m := &storev1.AppendSessionResponse{Answers: []*storev1.SessionAnswer{first}}
		for more := true; more && len(m.Answers) < maxAnswers; {
			select {
			case next, open := <-n.answers:
				if more = open; more {
					m.Answers = append(m.Answers, next)
				}
			default:
				more = false
			}
		}
		if err == nil {
			err = stream.Send(m)
		}
	}
	return err
}
