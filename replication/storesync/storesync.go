// Package storesync brings over what is recorded in another event store: through a Go client of the store API that is a gRPC
// stream. It is a replication.Syncer that follows.
//
// It is for stores that are not sites of one another: their events are given to Apply, which makes of them what is wanted
// here. Sites exchange their logs as they are, see package replication.
package storesync

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// Options of a Syncer. From and Apply are required.
type Options struct {
	// From is the store to follow, such as a client.Client.
	From eventstore.Reader
	// Filter chooses events; it must have no end.
	Filter eventstore.Filter
	// Apply is given events in the order of the log, at least one, and returns when they are done for good, each once for its
	// dot. What it has returned nil for may be given again after an error, and when Sync is called anew: so are those events
	// that the store has received from other sites since it last recorded one of its own.
	Apply func(ctx context.Context, events []eventstore.Recorded) error
	// Quiet is after what time without news the store is asked how far it is; zero means 1 s.
	Quiet time.Duration
}

// Syncer follows a store. It implements replication.Sharer, with the stream's name as the key.
type Syncer struct {
	o Options

	mu      sync.Mutex // guards what follows
	keep    func(key string) bool
	running bool
	applied time.Time // everything recorded before it has been applied; zero: nothing is known
}

var _ replication.Sharer = (*Syncer)(nil)

// New returns a Syncer.
func New(o Options) (*Syncer, error) {
	if o.From == nil || o.Apply == nil {
		return nil, fmt.Errorf("%w: a store to follow and Apply are needed", eventstore.ErrInvalid)
	}
	if err := o.Filter.Endless(); err != nil {
		return nil, err
	}
	if o.Quiet <= 0 {
		o.Quiet = time.Second
	}
	return &Syncer{o: o}, nil
}

// Share implements replication.Sharer.
func (s *Syncer) Share(keep func(key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = keep
}

// HealthCheck implements replication.Syncer. The lag is that between the clock here and the events of the store, or the time
// since it was known that there are no more.
func (s *Syncer) HealthCheck() (healthy bool, lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || s.applied.IsZero() {
		return false, 0
	}
	return true, max(0, time.Since(s.applied))
}

// Sync applies what was recorded from fromTS on, and follows the store until ctx ends.
func (s *Syncer) Sync(ctx context.Context, fromTS int64) error {
	s.set(true, time.Time{})
	defer s.set(false, time.Time{})
	var after eventstore.Position
	if fromTS > 0 {
		at, err := s.before(ctx, fromTS)
		if err != nil {
			return fmt.Errorf("find where to begin: %w", err)
		}
		after = at
	}
	sub, err := s.o.From.Subscribe(ctx, after, s.o.Filter)
	if err != nil {
		return fmt.Errorf("follow the store: %w", err)
	}
	defer sub.Close()
	return s.follow(ctx, sub)
}

// before returns a position before everything that the store recorded at fromTS or later, in Unix nanoseconds. When an event of
// another log was received is not known: so it is that of the last event of the store's own, and those received after it
// come again. Events are timed to the millisecond.
func (s *Syncer) before(ctx context.Context, fromTS int64) (eventstore.Position, error) {
	at, err := s.o.From.PositionAt(ctx, time.Unix(0, fromTS).Add(-time.Millisecond))
	if err != nil || at.IsZero() {
		return at, err
	}
	log, err := s.o.From.Log(ctx)
	if err != nil {
		return at, err
	}
	var end eventstore.Position
	if at.LSN < log.Durable.LSN {
		end = eventstore.Position{Incarnation: at.Incarnation, LSN: at.LSN + 1}
	}
	for e, err := range s.o.From.ReadAllBackwards(ctx, end, eventstore.Filter{MaxChunk: 100}) {
		if err != nil {
			return at, err
		}
		own := e.Dot.Log.Site == log.ID.Site && e.Dot.Log.Shard == log.ID.Shard // in an earlier life, too
		if own && e.Position.LSN <= at.LSN {
			return e.Position, nil
		}
	}
	return eventstore.Position{}, nil
}

func (s *Syncer) set(running bool, applied time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.applied = running, applied
}

func (s *Syncer) follow(ctx context.Context, sub eventstore.Subscription) error {
	var at eventstore.Position
	for {
		asked := time.Now()
		waiting, cancel := context.WithTimeout(ctx, s.o.Quiet)
		chunk, err := sub.Next(waiting)
		quiet := waiting.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && quiet:
			log, err := s.o.From.Log(ctx)
			if err != nil {
				return fmt.Errorf("ask how far the store is: %w", err)
			}
			if log.Durable == at {
				s.set(true, asked)
			}
			continue
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		if err := s.apply(ctx, chunk.Events); err != nil {
			return err
		}
		at = chunk.Position
		if n := len(chunk.Events); chunk.Position == chunk.Durable {
			s.set(true, asked)
		} else if n > 0 {
			s.set(true, chunk.Events[n-1].Time())
		}
	}
}

func (s *Syncer) apply(ctx context.Context, events []eventstore.Recorded) error {
	s.mu.Lock()
	keep := s.keep
	s.mu.Unlock()
	if keep != nil {
		var kept []eventstore.Recorded
		for i := range events {
			if keep(events[i].Stream.String()) {
				kept = append(kept, events[i])
			}
		}
		events = kept
	}
	if len(events) == 0 {
		return nil
	}
	if err := s.o.Apply(ctx, events); err != nil {
		return fmt.Errorf("apply %d events from %s on: %w", len(events), events[0].Dot, err)
	}
	return nil
}
