package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// defaultCapacity is how many events a member may have that does not say.
const defaultCapacity = 100

// maxCredits bounds the credits that a member has; more are taken as so many.
const maxCredits = 1 << 20

// consumer is the member of a group that a stream stands for.
type consumer struct {
	stream grpc.BidiStreamingServer[storev1.ConsumeRequest, storev1.ConsumeResponse]
	member *groups.Member

	sending sync.Mutex // held while something is sent; guards ended
	ended   bool       // nothing may be sent any more

	mu      sync.Mutex // guards what follows
	held    map[uint64]*groups.Delivery
	most    int // len(held) from which on it is looked through for what the member has no more
	serial  uint64
	dropped uint64 // the last id that was dropped so
	credits uint64
	more    chan struct{} // tells of credits
}

// newConsumer returns a consumer that keeps twice the member's capacity of deliveries at most.
func newConsumer(stream grpc.BidiStreamingServer[storev1.ConsumeRequest, storev1.ConsumeResponse], m *groups.Member, capacity int) *consumer {
	return &consumer{stream: stream, member: m, held: map[uint64]*groups.Delivery{}, most: 2 * capacity, more: make(chan struct{}, 1)}
}

// Consume makes the client a member of a group.
func (s *Groups) Consume(stream grpc.BidiStreamingServer[storev1.ConsumeRequest, storev1.ConsumeResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	join := first.GetJoin()
	if join == nil {
		return problemf(kindInvalid, "send join first", "the stream does not begin with join")
	}
	name := join.GetMember()
	if name == "" {
		name = "member-" + uuid.NewString()
	}
	capacity := int(cmp.Or(join.GetCapacity(), defaultCapacity))
	member, err := s.Groups.Join(ctx, join.GetGroup(), name, capacity)
	if err != nil {
		return err
	}
	defer member.Lose("the connection of member " + name + " broke")
	c := newConsumer(stream, member, capacity)
	defer c.end()
	joined := &storev1.ConsumeJoined{Member: name, LeaseMs: uint32(member.Lease() / time.Millisecond)}
	if err := c.send(&storev1.ConsumeResponse{Kind: &storev1.ConsumeResponse_Joined{Joined: joined}}); err != nil {
		return err
	}
	// It ends when the stream does, which is when this method has returned.
	go func() { cancel(c.receive(ctx)) }()
	err = c.deliver(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, io.EOF) {
		member.Leave()
		return nil
	} else if cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// deliver sends the member's events, as many as it has credits for, until ctx ends or the member is no more.
func (c *consumer) deliver(ctx context.Context) error {
	for {
		if err := c.credit(ctx); err != nil {
			return err
		}
		d, err := c.member.Next(ctx)
		if err != nil {
			return err
		}
		event, err := wire.EncodeEvent(&d.Event)
		if err != nil {
			return err
		}
		delivery := &storev1.GroupDelivery{Id: c.keep(d), Event: event, Tries: uint32(d.Tries)}
		if err := c.send(&storev1.ConsumeResponse{Kind: &storev1.ConsumeResponse_Delivery{Delivery: delivery}}); err != nil {
			return err
		}
	}
}

// credit takes a credit, and waits for one.
func (c *consumer) credit(ctx context.Context) error {
	for {
		c.mu.Lock()
		has := c.credits > 0
		if has {
			c.credits--
		}
		c.mu.Unlock()
		if has {
			return nil
		}
		select {
		case <-c.more:
		case <-c.member.Done():
			return c.member.Err()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *consumer) keep(d *groups.Delivery) (id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) >= c.most {
		c.drop()
	}
	c.serial++
	c.held[c.serial] = d
	return c.serial
}

// drop forgets the deliveries that were taken back from the member, which a client may never settle. REQUIRES: mu is held.
func (c *consumer) drop() {
	for id, d := range c.held {
		if !d.Held() {
			delete(c.held, id)
			c.dropped = max(c.dropped, id)
		}
	}
}

// take returns a delivery that is to be settled; nil when there is none, and then whether it may be one that was dropped.
func (c *consumer) take(id uint64) (d *groups.Delivery, dropped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d = c.held[id]
	delete(c.held, id)
	return d, d == nil && 0 < id && id <= c.dropped
}

// receive does what the client says, and returns why that ends: io.EOF when the client has nothing more to say.
func (c *consumer) receive(ctx context.Context) error {
	for {
		in, err := c.stream.Recv()
		if err != nil {
			return err
		}
		switch kind := in.GetKind().(type) {
		case *storev1.ConsumeRequest_Credits:
			c.mu.Lock()
			c.credits = min(c.credits+uint64(kind.Credits), maxCredits)
			c.mu.Unlock()
			select {
			case c.more <- struct{}{}:
			default:
			}
		case *storev1.ConsumeRequest_Ack:
			err = c.settle(kind.Ack.GetIds(), (*groups.Delivery).Ack)
		case *storev1.ConsumeRequest_Nack:
			nack := kind.Nack
			err = c.settle([]uint64{nack.GetId()}, func(d *groups.Delivery) error {
				if nack.GetPark() {
					return d.Park(nack.GetReason())
				}
				return d.Nack(time.Duration(nack.GetRetryAfterMs())*time.Millisecond, nack.GetReason())
			})
		case *storev1.ConsumeRequest_Touch:
			c.member.Touch()
		case *storev1.ConsumeRequest_Flush:
			if err = c.member.Flush(ctx); err == nil {
				err = c.send(&storev1.ConsumeResponse{Kind: &storev1.ConsumeResponse_Settled{Settled: &storev1.ConsumeSettled{}}})
			}
		default:
			err = problemf(kindInvalid, "", "join is sent once, and everything sent is one of the kinds that there are")
		}
		if err != nil {
			return err
		}
	}
}

// settle settles deliveries, and tells the client of those that are not its any more.
func (c *consumer) settle(ids []uint64, how func(*groups.Delivery) error) error {
	var lost []uint64
	for _, id := range ids {
		d, dropped := c.take(id)
		if dropped {
			lost = append(lost, id)
			continue
		}
		if d == nil {
			return problemf(kindInvalid, "settle each delivery once", "delivery %d is not one that is to be settled", id)
		}
		switch err := how(d); {
		case errors.Is(err, groups.ErrLeaseLost):
			lost = append(lost, id)
		case err != nil:
			return fmt.Errorf("settle delivery %d: %w", id, err)
		}
	}
	if lost == nil {
		return nil
	}
	return c.send(&storev1.ConsumeResponse{Kind: &storev1.ConsumeResponse_Lost{Lost: &storev1.ConsumeLost{Ids: lost}}})
}

// send sends to the client, one at a time.
func (c *consumer) send(m *storev1.ConsumeResponse) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.ended {
		return context.Canceled
	}
	return c.stream.Send(m)
}

// end keeps everything from being sent after the method has returned.
func (c *consumer) end() {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.ended = true
}
