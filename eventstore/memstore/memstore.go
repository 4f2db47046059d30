// Package memstore is an event store in memory: the reference for what a store does, and the store of tests.
//
// It keeps every promise of package eventstore except that a process's end is the end of its log. One mutex guards
// everything; nothing is clever, so that it can be believed. The model tests hold pebblestore against it.
package memstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Options of a Store. The zero value is good.
type Options struct {
	// LogID names the log; a zero site means "local", a zero incarnation 1.
	LogID eventstore.LogID
	// Clock gives the events their time; nil means a new clock over time.Now.
	Clock *hlc.Clock
	// NewID gives ids to events that have none; nil means random UUIDv7s.
	NewID func() uuid.UUID
	// Fence, when set, is asked before a request is accepted.
	Fence eventstore.Fence
}

// Store is a log in memory. It implements eventstore.Store and eventstore.Replica.
type Store struct {
	mu     sync.RWMutex // guards what follows
	log    *Log
	grown  chan struct{} // closed and replaced when the log grows
	closed bool
	done   chan struct{} // closed by Close
}

// New returns an empty store.
func New(o Options) *Store {
	return &Store{log: NewLog(o), grown: make(chan struct{}), done: make(chan struct{})}
}

// Append implements eventstore.Appender.
func (s *Store) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Receipt{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return eventstore.Receipt{}, eventstore.ErrClosed
	}
	receipt, err := s.log.Accept(r)
	s.sync()
	return receipt, err
}

// Receive implements eventstore.Replica.
func (s *Store) Receive(ctx context.Context, events []eventstore.Recorded) (eventstore.Position, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Position{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return eventstore.Position{}, eventstore.ErrClosed
	}
	at, err := s.log.Receive(events)
	s.sync()
	return at, err
}

// sync makes durable what the log has, and wakes those who wait for it. REQUIRES: mu is held.
func (s *Store) sync() {
	if s.log.Durable() == s.log.Accepted() {
		return
	}
	s.log.Sync()
	close(s.grown)
	s.grown = make(chan struct{})
}

// Receipt implements eventstore.Appender.
func (s *Store) Receipt(ctx context.Context, tenant, id string) (eventstore.Receipt, eventstore.Hash, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Receipt{}, eventstore.Hash{}, err
	}
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return eventstore.Receipt{}, eventstore.Hash{}, eventstore.ErrClosed
	}
	earlier, ok := s.log.requests[requestKey{tenant, id}]
	if !ok {
		return eventstore.Receipt{}, eventstore.Hash{}, fmt.Errorf("receipt of request %q: %w", id, eventstore.ErrNotFound)
	}
	return duplicate(earlier.receipt), earlier.hash, nil
}

// Close implements eventstore.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	return nil
}
