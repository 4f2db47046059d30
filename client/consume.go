package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// ConsumeOptions say how a member takes part in a group. Nil and zero values mean the defaults.
type ConsumeOptions struct {
	// Member is its name in the group; empty makes one. Another that joins under it takes its place.
	Member string
	// Workers is how many events are handled at a time, each of another stream; zero means 16, 10,000 is the most.
	Workers int
	// RetryAfter is how long an event waits that could not be handled; zero means one second.
	RetryAfter time.Duration
}

// Handler does what is to be done with an event; tries says how often it was handed out, this time included. Nil settles the
// event. After an error it is handed out again, to this member or another, until the group parks it with that error; one that
// wraps ErrPark parks it at once. ctx ends when the event is not the member's any more: the connection broke, or Consume ends.
type Handler func(ctx context.Context, e *eventstore.Recorded, tries int) error

// ErrPark in the error of a Handler sets the event aside, for an operator to look at.
var ErrPark = errors.New("park the event")

const (
	defaultWorkers    = 16
	defaultRetryAfter = time.Second
	// settlePatience is how long the end of Consume waits until what was settled is in a checkpoint.
	settlePatience = 5 * time.Second
)

// Consume makes the client a member of a consumer group, which must be there, and has handle see to the events that the group
// gives it, until ctx ends; then it gives back what is not settled and returns nil. Each event comes at least once, and those of a
// stream in order, one at a time.
//
// When the connection breaks it joins again, after the handlers under way have returned: what they did is not settled then, and their
// events come again. Any error it returns is the server's last word: eventstore.ErrNotFound when there is no such group or it was
// deleted, an *Error with the reason "replaced" when another member has joined under the name; eventstore.ErrClosed.
func (c *Client) Consume(ctx context.Context, group string, o *ConsumeOptions, handle Handler) error {
	m := &member{client: c, api: storev1.NewConsumerGroupsClient(c.conn), handle: handle}
	if o != nil {
		m.options = *o
	}
	m.options.Workers = cmp.Or(m.options.Workers, defaultWorkers)
	m.options.RetryAfter = cmp.Or(m.options.RetryAfter, defaultRetryAfter)
	if m.options.Workers < 1 || m.options.RetryAfter < 0 {
		return fmt.Errorf("consume: %w: Workers and RetryAfter must not be negative", eventstore.ErrInvalid)
	}
	m.join = &storev1.ConsumeJoin{Group: group, Member: m.options.Member, Capacity: uint32(m.options.Workers)}
	if m.join.Member == "" {
		m.join.Member = "member-" + uuid.NewString()
	}
	for attempt := 0; ; attempt++ {
		joined, err := m.turn(ctx)
		if ctx.Err() != nil && c.life.Err() == nil {
			return nil
		}
		if err = c.errorOf(context.WithoutCancel(ctx), err); !errors.Is(err, eventstore.ErrUnavailable) {
			return fmt.Errorf("consume: %w", err)
		}
		if joined {
			attempt = 0
		}
		if !pause(ctx, attempt) {
			return nil
		}
	}
}

// member is a member of a group, over all its connections.
type member struct {
	client  *Client
	api     storev1.ConsumerGroupsClient
	options ConsumeOptions
	join    *storev1.ConsumeJoin
	handle  Handler
}

// turn is a member's life over one connection. It returns when that has broken or ctx has ended, and no handler runs any more; joined
// says that the group has taken it in.
func (m *member) turn(ctx context.Context) (joined bool, err error) {
	// The stream outlives ctx for as long as it takes to give back what is not settled.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(m.client.life, end)()
	stream, err := m.api.Consume(life)
	if err != nil {
		return false, err
	}
	t := &turn{member: m, stream: stream, settled: make(chan struct{})}
	t.handling, t.stop = context.WithCancel(life)
	defer t.stop()
	if t.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Join{Join: m.join}}) != nil {
		return false, t.why()
	}
	told := make(chan struct{})
	unneeded := context.AfterFunc(ctx, func() {
		defer close(told)
		t.leave(end)
	})
	joined, err = t.receive()
	t.quiesce()
	if !unneeded() {
		<-told
	}
	return joined, err
}

// turn is one connection of a member.
type turn struct {
	member   *member
	stream   grpc.BidiStreamingClient[storev1.ConsumeRequest, storev1.ConsumeResponse]
	handling context.Context // of the handlers
	stop     context.CancelFunc
	work     sync.WaitGroup // handlers and the signs of life
	settled  chan struct{}  // closed when the flush of leave is answered

	sending sync.Mutex // held while something is said

	mu      sync.Mutex // guards leaving, and is held while work grows
	leaving bool
}

// begin runs work of the turn, unless the member leaves.
func (t *turn) begin(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.leaving {
		t.work.Go(do)
	}
}

// quiesce has what runs end, and returns when nothing does any more.
func (t *turn) quiesce() {
	t.mu.Lock()
	t.leaving = true
	t.mu.Unlock()
	t.stop()
	t.work.Wait()
}

func (t *turn) say(m *storev1.ConsumeRequest) error {
	t.sending.Lock()
	defer t.sending.Unlock()
	return t.stream.Send(m)
}

// why returns why a stream has ended that nothing can be said on any more.
func (t *turn) why() error {
	for {
		if _, err := t.stream.Recv(); err != nil {
			return err
		}
	}
}

// receive takes what the group gives, until the stream ends.
func (t *turn) receive() (joined bool, err error) {
	for {
		in, err := t.stream.Recv()
		if err != nil {
			return joined, err
		}
		switch kind := in.GetKind().(type) {
		case *storev1.ConsumeResponse_Joined:
			joined = true
			lease := time.Duration(kind.Joined.GetLeaseMs()) * time.Millisecond
			t.begin(func() { t.live(lease / 3) })
			err = t.credit(uint32(t.member.options.Workers))
		case *storev1.ConsumeResponse_Delivery:
			t.begin(func() { t.see(kind.Delivery) })
		case *storev1.ConsumeResponse_Settled:
			close(t.settled) // nobody asks twice
		}
		if err != nil {
			return joined, t.why()
		}
	}
}

func (t *turn) credit(n uint32) error {
	return t.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Credits{Credits: n}})
}

// live gives signs of life, so that events that take long stay the member's.
func (t *turn) live(every time.Duration) {
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if t.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Touch{Touch: &storev1.ConsumeTouch{}}}) != nil {
				return // receive is told why
			}
		case <-t.handling.Done():
			return
		}
	}
}

// see has an event handled and settles it. What fails because the member leaves is given back unsettled.
func (t *turn) see(d *storev1.GroupDelivery) {
	e, err := wire.DecodeEvent(d.GetEvent())
	if err == nil {
		err = t.member.handle(t.handling, &e, int(d.GetTries()))
	} else {
		err = fmt.Errorf("%w: %w", ErrPark, err)
	}
	var said error
	switch {
	case err == nil:
		said = t.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Ack{Ack: &storev1.ConsumeAck{Ids: []uint64{d.GetId()}}}})
	case t.handling.Err() != nil:
		return
	default:
		nack := &storev1.ConsumeNack{
			Id: d.GetId(), RetryAfterMs: uint32(t.member.options.RetryAfter.Milliseconds()), Reason: reasonOf(err), Park: errors.Is(err, ErrPark),
		}
		said = t.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Nack{Nack: nack}})
	}
	if said == nil && t.handling.Err() == nil {
		_ = t.credit(1) // receive is told why it cannot be said
	}
}

// maxReason bounds what is said of an event that could not be handled.
const maxReason = 1000

func reasonOf(err error) string {
	text := []rune(err.Error())
	return string(text[:min(len(text), maxReason/4)])
}

// leave ends the turn in good order: handlers end, what is settled is asked to be kept, and what is not goes to others.
func (t *turn) leave(end func()) {
	t.quiesce()
	if t.say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Flush{Flush: &storev1.ConsumeFlush{}}}) == nil {
		select {
		case <-t.settled:
		case <-t.stream.Context().Done():
		case <-time.After(settlePatience):
		}
	}
	t.sending.Lock()
	_ = t.stream.CloseSend() // the stream is ended in any case
	t.sending.Unlock()
	select {
	case <-t.stream.Context().Done():
	case <-time.After(settlePatience):
		end()
	}
}
