package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// The mirror keeps, in the sense of package durable, what every in-sync replica of its topic has.

// Available returns ErrUnavailable, with the cause, unless the mirror is copying and the brokers answer.
func (m *Mirror) Available() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.State == StateMirroring && m.status.Silent.IsZero() {
		return nil
	}
	cause := m.status.Err
	if cause == nil {
		cause = errors.New("it has not begun yet")
	}
	return fmt.Errorf("%w: the mirror is %s: %w", eventstore.ErrUnavailable, m.status.State, cause)
}

// Keeps reports whether every own event up to the receipt's position is in the topic.
func (m *Mirror) Keeps(r *eventstore.Receipt) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status.Position.Incarnation == r.Position.Incarnation && m.status.Position.LSN >= r.Position.LSN
}

// Await is Wait for the receipt's position.
func (m *Mirror) Await(ctx context.Context, r *eventstore.Receipt) error {
	return m.Wait(ctx, r.Position)
}
