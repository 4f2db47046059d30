package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// DefaultDurabilityTimeout is how long an append waits for the mirror when its context has no earlier end.
const DefaultDurabilityTimeout = 5 * time.Second

// WithMirror returns the store with durability Kafka: such an append is answered when the mirror's topic has it, in every
// in-sync replica. While the mirror is known not to copy, it is refused with ErrUnavailable and nothing is appended. When
// the topic does not have it in time, the receipt comes with ErrDurabilityTimeout; the same request waits again.
//
// Receipts of other appends say Kafka too where that is so by the time they are given. Closing the store is the mirror's
// end as well.
func WithMirror(store eventstore.Store, m *Mirror) *DurableStore {
	return &DurableStore{Store: store, mirror: m, timeout: DefaultDurabilityTimeout}
}

// DurableStore is a store with a mirror. See WithMirror.
type DurableStore struct {
	eventstore.Store
	mirror  *Mirror
	timeout time.Duration
}

// Unwrap returns the store itself, for what it can do beyond eventstore.Store.
func (s *DurableStore) Unwrap() eventstore.Store { return s.Store }

// Append implements eventstore.Appender.
func (s *DurableStore) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	receipt, wait, err := s.Begin(ctx, r)
	if err != nil || wait == nil {
		return receipt, err
	}
	return wait(ctx)
}

// Begin is Append without waiting for the topic: that is left to wait, which returns the receipt that Append would; nil when
// there is nothing to wait for.
func (s *DurableStore) Begin(ctx context.Context, r eventstore.Request) (
	receipt eventstore.Receipt, wait func(context.Context) (eventstore.Receipt, error), err error,
) {
	if r.Durability != eventstore.Kafka {
		receipt, err = s.Store.Append(ctx, r)
		return s.reached(receipt), nil, err
	}
	if err := s.mirror.available(); err != nil {
		return eventstore.Receipt{}, nil, err
	}
	r.Durability = eventstore.Local
	if receipt, err = s.Store.Append(ctx, r); err != nil {
		return receipt, nil, err
	}
	return receipt, func(ctx context.Context) (eventstore.Receipt, error) { return s.wait(ctx, receipt) }, nil
}

// Enqueue implements eventstore.Enqueuer. What waits for the topic is answered with eventstore.Answer.Wait.
func (s *DurableStore) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	begin, waits := 0, false
	for i := range requests { // runs of the same durability, which is one mostly
		if w := requests[i].Durability == eventstore.Kafka; w != waits {
			s.enqueueRun(ctx, requests, begin, i, waits, done)
			begin, waits = i, w
		}
	}
	s.enqueueRun(ctx, requests, begin, len(requests), waits, done)
}

// enqueueRun enqueues the requests from begin to end, which wait for the topic, or do not.
func (s *DurableStore) enqueueRun(ctx context.Context, requests []eventstore.Request, begin, end int, waits bool, done func(int, eventstore.Answer)) {
	if begin == end {
		return
	}
	if waits {
		err := s.mirror.available()
		for i := begin; i < end; i++ {
			if err != nil {
				done(i, eventstore.Answer{Err: err})
			}
			requests[i].Durability = eventstore.Local
		}
		if err != nil {
			return
		}
	}
	eventstore.Enqueue(ctx, s.Store, requests[begin:end], func(i int, a eventstore.Answer) {
		if receipt := a.Receipt; waits && a.Err == nil {
			a.Wait = func(ctx context.Context) (eventstore.Receipt, error) { return s.wait(ctx, receipt) }
		}
		a.Receipt = s.reached(a.Receipt)
		done(begin+i, a)
	})
}

// wait returns when the topic has what the receipt is of.
func (s *DurableStore) wait(ctx context.Context, receipt eventstore.Receipt) (eventstore.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.mirror.Wait(ctx, receipt.Position); err != nil {
		return s.reached(receipt), fmt.Errorf("durability kafka: %w: %w", eventstore.ErrDurabilityTimeout, err)
	}
	return s.reached(receipt), nil
}

// Receipt implements eventstore.Appender.
func (s *DurableStore) Receipt(ctx context.Context, tenant, id string) (eventstore.Receipt, eventstore.Hash, error) {
	receipt, hash, err := s.Store.Receipt(ctx, tenant, id)
	return s.reached(receipt), hash, err
}

// reached fills in what the receipt's durability is by now.
func (s *DurableStore) reached(r eventstore.Receipt) eventstore.Receipt {
	if !r.Position.IsZero() && r.Reached < eventstore.Kafka && s.mirror.has(r.Position) {
		r.Reached = eventstore.Kafka
	}
	return r
}

// has reports whether every own event up to a position is in the topic.
func (m *Mirror) has(p eventstore.Position) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status.Position.Incarnation == p.Incarnation && m.status.Position.LSN >= p.LSN
}

// available returns ErrUnavailable, with the cause, unless the mirror is copying.
func (m *Mirror) available() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.State == StateMirroring {
		return nil
	}
	cause := m.status.Err
	if cause == nil {
		cause = errors.New("it has not begun yet")
	}
	return fmt.Errorf("%w: durability kafka: the mirror is %s: %w", eventstore.ErrUnavailable, m.status.State, cause)
}
