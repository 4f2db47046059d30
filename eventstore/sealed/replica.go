package sealed

import (
	"context"
	"fmt"
	"iter"

	"github.com/tributary-es/tributary/eventstore"
)

var _ eventstore.Replica = (*Store)(nil)

// replica returns the store below, which takes in the events of other logs as they were sealed there, and gives them out
// like that. ErrUnsupported when it does not.
func (s *Store) replica() (eventstore.Replica, error) {
	r, ok := s.Store.(eventstore.Replica)
	if !ok {
		return nil, fmt.Errorf("%w: the store takes in no events of other logs", eventstore.ErrUnsupported)
	}
	return r, nil
}

// Receive implements eventstore.Replica.
func (s *Store) Receive(ctx context.Context, events []eventstore.Recorded) (eventstore.Position, error) {
	r, err := s.replica()
	if err != nil {
		return eventstore.Position{}, err
	}
	return r.Receive(ctx, events)
}

// Heads implements eventstore.Replica.
func (s *Store) Heads(ctx context.Context) ([]eventstore.LogHead, error) {
	r, err := s.replica()
	if err != nil {
		return nil, err
	}
	return r.Heads(ctx)
}

// ReadLog implements eventstore.Replica. It opens nothing: what it yields is for other sites.
func (s *Store) ReadLog(ctx context.Context, log eventstore.LogID, after uint64) iter.Seq2[eventstore.Recorded, error] {
	r, err := s.replica()
	if err != nil {
		return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, err) }
	}
	return r.ReadLog(ctx, log, after)
}

// ChainAt implements eventstore.Replica.
func (s *Store) ChainAt(ctx context.Context, log eventstore.LogID, seq uint64) (chain eventstore.Hash, held bool, err error) {
	r, err := s.replica()
	if err != nil {
		return chain, false, err
	}
	return r.ChainAt(ctx, log, seq)
}
