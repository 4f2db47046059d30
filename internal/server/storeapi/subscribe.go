package storeapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

const (
	defaultHeartbeat = 15 * time.Second
	maxHeartbeat     = 3600 // seconds
	// checkpointDelay is how long a position may wait that comes without events, so that a filter that lets little
	// through does not send a message for each commit of others.
	checkpointDelay = 100 * time.Millisecond
)

// Subscribe sends the log's events after a position, and goes on with what is appended.
func (s *Service) Subscribe(m *storev1.SubscribeRequest, stream grpc.ServerStreamingServer[storev1.SubscribeResponse]) error {
	ctx := stream.Context()
	filter := eventstore.Filter{
		Tenant: tenantOr(ctx, m.GetTenant(), ""), Categories: m.GetCategories(), Types: m.GetTypes(),
		Query: wire.DecodeQuery(m.GetQuery()), Chain: m.GetChain(), MaxChunk: int(m.GetMaxEvents()),
		MaxBytes: heldBytes,
	}
	if err := checkSubscribe(m, &filter); err != nil {
		return err
	}
	after, durable, err := s.start(ctx, m)
	if err != nil {
		return err
	}
	from, err := s.Store.Subscribe(ctx, after, filter)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer from.Close()
	if err := stream.SendHeader(nil); err != nil { // the client learns that it is connected before the first event comes
		return err
	}
	sub := subscriber{
		stream: stream, from: from, page: wire.NewPage(m.GetFrames()), chain: m.GetChain(), heartbeat: defaultHeartbeat,
		at: &storev1.SubscribeResponse{
			Position: wire.EncodePosition(after), Durable: wire.EncodePosition(durable), CaughtUp: after.LSN == durable.LSN,
		},
	}
	if n := m.GetHeartbeatSeconds(); n > 0 {
		sub.heartbeat = time.Duration(n) * time.Second
	}
	if sub.at.GetCaughtUp() {
		if err := sub.send(); err != nil {
			return err
		}
	}
	return sub.run(ctx)
}

func checkSubscribe(m *storev1.SubscribeRequest, f *eventstore.Filter) error {
	switch {
	case m.GetFromEnd() && m.GetAfter() != "":
		return fmt.Errorf("%w: from_end and after are both set: set one", eventstore.ErrInvalid)
	case m.GetMaxEvents() > wire.MaxChunk:
		return fmt.Errorf("%w: max_events %d is beyond %d", eventstore.ErrInvalid, m.GetMaxEvents(), wire.MaxChunk)
	case m.GetHeartbeatSeconds() > maxHeartbeat:
		return fmt.Errorf("%w: heartbeat_seconds %d is beyond %d", eventstore.ErrInvalid, m.GetHeartbeatSeconds(), maxHeartbeat)
	}
	return checkFilter(f, m.GetFrames())
}

// start returns the position to begin after, and how far the log is durable.
func (s *Service) start(ctx context.Context, m *storev1.SubscribeRequest) (after, durable eventstore.Position, err error) {
	state, err := s.Store.Log(ctx)
	if err != nil {
		return after, durable, err
	}
	if m.GetFromEnd() {
		return state.Durable, state.Durable, nil
	}
	after, err = wire.DecodePosition(m.GetAfter())
	return after, state.Durable, err
}

// subscriber is a subscription under way.
type subscriber struct {
	stream    grpc.ServerStream
	from      eventstore.Subscription
	page      *wire.Page
	chain     bool
	heartbeat time.Duration

	at     *storev1.SubscribeResponse // where the subscription is, without events
	unsent bool                       // the client does not know that yet
	sent   time.Time                  // when the client was told something
}

func (s *subscriber) run(ctx context.Context) error {
	for {
		wait := s.heartbeat
		if s.unsent {
			wait = checkpointDelay
		}
		next, cancel := context.WithTimeout(ctx, wait)
		chunk, err := s.from.Next(next)
		cancel()
		switch {
		case err == nil:
			err = s.take(&chunk)
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			s.at.Heartbeat = !s.unsent
			err = s.send()
			s.at.Heartbeat = false
		default:
			return fmt.Errorf("follow log: %w", err)
		}
		if err != nil {
			return err
		}
	}
}

// take sends a chunk. One that the filter has emptied waits, unless it brings the news that the subscriber is up to date.
func (s *subscriber) take(chunk *eventstore.Chunk) error {
	wasCaughtUp := s.at.GetCaughtUp()
	s.at = &storev1.SubscribeResponse{
		Position: wire.EncodePosition(chunk.Position), Durable: wire.EncodePosition(chunk.Durable),
		CaughtUp: chunk.Position == chunk.Durable, Seq: chunk.Seq,
	}
	s.unsent = true
	if len(chunk.Events) == 0 && s.at.GetCaughtUp() == wasCaughtUp && time.Since(s.sent) < checkpointDelay {
		return nil
	}
	for i := range chunk.Events {
		e := &chunk.Events[i]
		if s.page.Len() > 0 && s.page.Size()+len(e.Payload) > pageBytes {
			part, err := s.page.SubscribeResponse(&storev1.SubscribeResponse{Continues: true})
			if err != nil {
				return err
			}
			if err := s.stream.SendMsg(part); err != nil {
				return err
			}
		}
		s.page.Add(e, s.chain)
	}
	return s.send()
}

// send sends what the page holds and where the subscription is.
func (s *subscriber) send() error {
	m, err := s.page.SubscribeResponse(s.at)
	if err != nil {
		return err
	}
	s.unsent, s.sent = false, time.Now()
	return s.stream.SendMsg(m)
}
