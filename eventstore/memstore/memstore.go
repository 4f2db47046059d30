// Package memstore is an event store in memory: the reference for what a store does, and the store of tests.
//
// It keeps every promise of package eventstore except that a process's end is the end of its log. One mutex guards
// everything; nothing is clever, so that it can be believed. The model tests hold pebblestore against it.
package memstore

import (
	"context"
	"fmt"
	"slices"
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
}

// Store is a log in memory. It implements eventstore.Store.
type Store struct {
	id    eventstore.LogID
	clock *hlc.Clock
	newID func() uuid.UUID

	mu       sync.RWMutex // guards what follows
	events   []eventstore.Recorded
	streams  map[eventstore.StreamID][]int // places in events, by version-1
	requests map[requestKey]request
	chain    eventstore.Hash
	grown    chan struct{} // closed and replaced when events grows
	closed   bool
	done     chan struct{} // closed by Close
}

type requestKey struct{ tenant, id string }

type request struct {
	receipt eventstore.Receipt
	hash    eventstore.Hash
}

// New returns an empty store.
func New(o Options) *Store {
	if o.LogID.Site == "" {
		o.LogID.Site = "local"
	}
	if o.LogID.Incarnation == 0 {
		o.LogID.Incarnation = 1
	}
	if o.Clock == nil {
		o.Clock = hlc.New(nil)
	}
	if o.NewID == nil {
		o.NewID = func() uuid.UUID { return eventstore.NewEventID(o.Clock.Now()) }
	}
	return &Store{
		id: o.LogID, clock: o.Clock, newID: o.NewID,
		streams:  map[eventstore.StreamID][]int{},
		requests: map[requestKey]request{},
		chain:    eventstore.ChainStart(o.LogID),
		grown:    make(chan struct{}),
		done:     make(chan struct{}),
	}
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
	if err := r.Normalize(); err != nil {
		return eventstore.Receipt{}, err
	}
	if err := r.Supported(); err != nil {
		return eventstore.Receipt{}, err
	}
	if earlier, ok := s.requests[requestKey{r.Tenant, r.ID}]; ok && r.ID != "" {
		if earlier.hash != r.Hash {
			return eventstore.Receipt{}, fmt.Errorf("request %q: %w", r.ID, eventstore.ErrIDReused)
		}
		return duplicate(earlier.receipt), nil
	}
	if err := s.check(&r); err != nil {
		return eventstore.Receipt{}, err
	}
	receipt := s.record(r.Records(s.newID))
	if r.ID != "" {
		s.requests[requestKey{r.Tenant, r.ID}] = request{receipt, r.Hash}
	}
	return receipt, nil
}

func (s *Store) check(r *eventstore.Request) error {
	var conflict eventstore.ConflictError
	for i := range r.Appends {
		a := &r.Appends[i]
		if got := uint64(len(s.streams[a.Stream])); !a.Expect.Holds(got) {
			conflict.Conflicts = append(conflict.Conflicts, eventstore.StreamConflict{Stream: a.Stream, Want: a.Expect, Got: got})
		}
	}
	if c := r.Condition; c != nil {
		if err := c.After.Check(s.head()); err != nil {
			return err
		}
		for _, e := range slices.Backward(s.events[c.After.LSN:]) {
			if e.Stream.Tenant == r.Tenant && c.Query.Matches(&e) {
				conflict.Condition = &eventstore.ConditionConflict{Condition: *c, Found: e.Position}
				break
			}
		}
	}
	if conflict.Conflicts != nil || conflict.Condition != nil {
		return &conflict
	}
	return nil
}

// record gives the batch its numbers and makes it part of the log.
func (s *Store) record(batch []eventstore.Recorded) eventstore.Receipt {
	b := eventstore.Batch{FirstSeq: uint64(len(s.events)) + 1, Count: uint32(len(batch))}
	for i := range batch {
		e := &batch[i]
		number := uint64(len(s.events)) + 1
		e.Position = eventstore.Position{Incarnation: s.id.Incarnation, LSN: number}
		e.Dot = eventstore.Dot{Log: s.id, Seq: number}
		e.Batch = b
		e.HLC = s.clock.Now()
		e.Version = uint64(len(s.streams[e.Stream])) + 1
		content := eventstore.ContentHash(eventstore.AppendContent(nil, e))
		s.chain = eventstore.NextChain(s.chain, e.Dot.Seq, e.HLC, e.Version, content)
		e.Chain = s.chain
		s.streams[e.Stream] = append(s.streams[e.Stream], len(s.events))
		s.events = append(s.events, *e)
	}
	close(s.grown)
	s.grown = make(chan struct{})
	return eventstore.ReceiptOf(batch)
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
	earlier, ok := s.requests[requestKey{tenant, id}]
	if !ok {
		return eventstore.Receipt{}, eventstore.Hash{}, fmt.Errorf("receipt of request %q: %w", id, eventstore.ErrNotFound)
	}
	return duplicate(earlier.receipt), earlier.hash, nil
}

func duplicate(r eventstore.Receipt) eventstore.Receipt {
	r.Duplicate = true
	return r
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
