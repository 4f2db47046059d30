package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Subscribe implements eventstore.Reader. The subscription outlives broken connections: it goes on after the last chunk
// that came whole.
func (c *Client) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	if err := f.Endless(); err != nil {
		return nil, err
	}
	s := &subscription{
		client: c, at: after, closed: make(chan struct{}), chunks: make(chan eventstore.Chunk),
		request: &storev1.SubscribeRequest{
			Tenant: f.Tenant, Categories: f.Categories, Types: f.Types, Query: wire.EncodeQuery(f.Query), Chain: f.Chain,
			MaxEvents: uint32(min(max(f.MaxChunk, 0), wire.MaxChunk)), Frames: true,
		},
	}
	s.life, s.cancel = context.WithCancel(c.life)
	stream, err := retry(ctx, c, s.open)
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	c.work.Go(func() { s.run(stream) })
	return s, nil
}

type answers = grpc.ServerStreamingClient[storev1.SubscribeResponse]

// subscription is a subscription on a server. Its goroutine reads one chunk ahead.
type subscription struct {
	client  *Client
	request *storev1.SubscribeRequest
	chunks  chan eventstore.Chunk // closed at the end, after err is set
	err     error
	life    context.Context
	cancel  context.CancelFunc

	at  eventstore.Position // of the last chunk; the goroutine's own, as is cut
	cut context.CancelFunc  // ends the stream

	closing sync.Once
	closed  chan struct{}
}

// open subscribes after the last chunk, and returns when the server has taken it.
func (s *subscription) open(bound context.Context) (answers, error) {
	s.request.After = wire.EncodePosition(s.at)
	stream, cancel, err := begin(bound, s.life, func(ctx context.Context) (answers, error) {
		stream, err := s.client.api.Subscribe(ctx, s.request)
		if err != nil {
			return nil, err
		}
		header, err := stream.Header()
		if err == nil && header == nil { // it ended at once
			_, err = stream.Recv()
		}
		return stream, err
	})
	s.cut = cancel
	return stream, err
}

// run reads chunks, and subscribes again when the connection breaks, until the subscription is closed or refused.
func (s *subscription) run(stream answers) {
	defer close(s.chunks)
	for attempt := 0; ; attempt++ {
		came, err := s.read(stream)
		if came {
			attempt = 0
		}
		for err != nil {
			if err = s.client.errorOf(s.life, err); !errors.Is(err, eventstore.ErrUnavailable) || !pause(s.life, attempt) {
				s.err = err
				return
			}
			attempt++
			s.cut()
			stream, err = s.open(s.life)
		}
	}
}

// read reads chunks until the stream breaks; came says that there were any.
func (s *subscription) read(stream answers) (came bool, err error) {
	var chunk eventstore.Chunk
	for {
		m, err := stream.Recv()
		if err != nil {
			return came, err
		}
		if chunk.Events, err = wire.DecodeFrames(chunk.Events, m.GetFrames()); err != nil {
			return came, err
		}
		if m.GetContinues() {
			continue
		}
		if chunk.Position, err = wire.DecodePosition(m.GetPosition()); err != nil {
			return came, err
		}
		if chunk.Durable, err = wire.DecodePosition(m.GetDurable()); err != nil {
			return came, err
		}
		if chunk.Seq = m.GetSeq(); chunk.Position.LSN == s.at.LSN { // it only says that the subscription lives
			continue
		}
		select {
		case s.chunks <- chunk:
			s.at, came, chunk = chunk.Position, true, eventstore.Chunk{}
		case <-s.life.Done():
			return came, s.life.Err()
		}
	}
}

// Next implements eventstore.Subscription.
func (s *subscription) Next(ctx context.Context) (eventstore.Chunk, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Chunk{}, err
	}
	select {
	case <-s.closed:
		return eventstore.Chunk{}, eventstore.ErrClosed
	case <-s.client.life.Done():
		return eventstore.Chunk{}, eventstore.ErrClosed
	default:
	}
	select {
	case chunk, open := <-s.chunks:
		if !open && s.life.Err() != nil {
			return eventstore.Chunk{}, eventstore.ErrClosed
		}
		if !open {
			return eventstore.Chunk{}, fmt.Errorf("follow log: %w", s.err)
		}
		return chunk, nil
	case <-ctx.Done():
		return eventstore.Chunk{}, ctx.Err()
	}
}

// Close implements eventstore.Subscription.
func (s *subscription) Close() {
	s.closing.Do(func() {
		close(s.closed)
		s.cancel()
	})
}
