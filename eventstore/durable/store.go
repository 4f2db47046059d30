package durable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// DefaultTimeout is how long an append waits for its keepers when its context has no earlier end.
const DefaultTimeout = 5 * time.Second

// Keeper is a place beyond the store's disk that events come to. It is safe for concurrent use.
type Keeper interface {
	// Available returns nil as long as what is recorded now can be expected to come there soon; else an error that matches
	// eventstore.ErrUnavailable and says why not. It is asked before each append that needs the keeper, and must be quick.
	Available() error
	// Keeps reports whether what the receipt is of is there, as durable as the class asks.
	Keeps(r *eventstore.Receipt) bool
	// Await returns when it is. It ends with ctx's error, or with another one when that cannot come about.
	Await(ctx context.Context, r *eventstore.Receipt) error
}

// Store is a store with keepers. See the package comment.
type Store struct {
	eventstore.Store
	// Lacks says of classes without a keeper what there would have to be, such as "needs another site", for who asks for them. It is set
	// before the store is used.
	Lacks map[eventstore.Durability]string

	keepers [eventstore.Peer + 1]Keeper // by class
	timeout time.Duration
}

// New returns the store with a keeper for each class that it is to offer. Closing it closes the store below, and nothing of
// the keepers.
func New(store eventstore.Store, keepers map[eventstore.Durability]Keeper) *Store {
	s := &Store{Store: store, timeout: DefaultTimeout}
	for class, k := range keepers {
		s.keepers[class] = k
	}
	return s
}

// Unwrap returns the store itself, for what it can do beyond eventstore.Store.
func (s *Store) Unwrap() eventstore.Store { return s.Store }

// Append implements eventstore.Appender.
func (s *Store) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	receipt, wait, err := s.Begin(ctx, r)
	if err != nil || wait == nil {
		return receipt, err
	}
	return wait(ctx)
}

// Begin is Append without waiting for keepers: that is left to wait, which returns the receipt that Append would; nil when
// there is nothing to wait for.
func (s *Store) Begin(ctx context.Context, r eventstore.Request) (
	receipt eventstore.Receipt, wait func(context.Context) (eventstore.Receipt, error), err error,
) {
	class := r.Durability
	if !s.offers(class) {
		receipt, err = s.Store.Append(ctx, r) // it refuses what is beyond its disk
		return s.reached(receipt), nil, s.explain(class, err)
	}
	if err := s.available(class); err != nil {
		receipt, err = s.refuse(ctx, &r, err)
		return receipt, nil, err
	}
	r.Durability = eventstore.Local
	if receipt, err = s.Store.Append(ctx, r); err != nil {
		return receipt, nil, err
	}
	return receipt, func(ctx context.Context) (eventstore.Receipt, error) { return s.wait(ctx, receipt, class) }, nil
}

// Enqueue implements eventstore.Enqueuer. What waits for a keeper is answered with eventstore.Answer.Wait.
func (s *Store) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	for begin := 0; begin < len(requests); { // runs of the same class, which is one mostly
		end := begin + 1
		for end < len(requests) && requests[end].Durability == requests[begin].Durability {
			end++
		}
		first := begin
		s.enqueueRun(ctx, requests[first:end], func(i int, a eventstore.Answer) { done(first+i, a) })
		begin = end
	}
}

// enqueueRun enqueues requests that ask for the same class.
func (s *Store) enqueueRun(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	class := requests[0].Durability
	waits := s.offers(class)
	if waits {
		if err := s.available(class); err != nil {
			for i := range requests {
				receipt, err := s.refuse(ctx, &requests[i], err)
				done(i, eventstore.Answer{Receipt: receipt, Err: err})
			}
			return
		}
		for i := range requests {
			requests[i].Durability = eventstore.Local
		}
	}
	eventstore.Enqueue(ctx, s.Store, requests, func(i int, a eventstore.Answer) {
		if receipt := a.Receipt; waits && a.Err == nil {
			a.Wait = func(ctx context.Context) (eventstore.Receipt, error) { return s.wait(ctx, receipt, class) }
		}
		a.Receipt, a.Err = s.reached(a.Receipt), s.explain(class, a.Err)
		done(i, a)
	})
}

// offers reports whether there is a keeper for a class.
func (s *Store) offers(class eventstore.Durability) bool {
	return class <= eventstore.Peer && s.keepers[class] != nil
}

// explain adds to the error of a class without a keeper what it lacks.
func (s *Store) explain(class eventstore.Durability, err error) error {
	if why := s.Lacks[class]; why != "" && !s.offers(class) && errors.Is(err, eventstore.ErrUnsupported) {
		return fmt.Errorf("%w, which %s", err, why)
	}
	return err
}

// available returns why a class cannot be reached now. A store that takes nothing itself says so first: what keeps it from that, such as
// a full disk, may be what ails a keeper as well.
func (s *Store) available(class eventstore.Durability) error {
	for c, k := range s.keepers[:class+1] {
		if k == nil {
			continue
		}
		if err := k.Available(); err != nil {
			if below, ok := s.Store.(interface{ Writable() error }); ok {
				if refused := below.Writable(); refused != nil {
					return refused
				}
			}
			return fmt.Errorf("durability %s: %w", eventstore.Durability(c), err)
		}
	}
	return nil
}

// refuse answers a request whose class cannot be reached now: with why, and nothing is recorded. One that is recorded already
// gets its receipt, and learns what it has reached.
func (s *Store) refuse(ctx context.Context, r *eventstore.Request, why error) (eventstore.Receipt, error) {
	if r.ID == "" {
		return eventstore.Receipt{}, why
	}
	if err := r.Normalize(); err != nil {
		return eventstore.Receipt{}, err
	}
	receipt, hash, err := s.Receipt(ctx, r.Tenant, r.ID)
	switch {
	case errors.Is(err, eventstore.ErrNotFound):
		return eventstore.Receipt{}, why
	case err != nil:
		return eventstore.Receipt{}, err
	case hash != r.Hash:
		return eventstore.Receipt{}, fmt.Errorf("request %q: %w", r.ID, eventstore.ErrIDReused)
	case receipt.Reached >= r.Durability:
		return receipt, nil
	}
	return receipt, fmt.Errorf("%w: %w", eventstore.ErrDurabilityTimeout, why)
}

// wait returns when what the receipt is of is as durable as the class says.
func (s *Store) wait(ctx context.Context, receipt eventstore.Receipt, class eventstore.Durability) (eventstore.Receipt, error) {
	if receipt = s.reached(receipt); receipt.Reached >= class {
		return receipt, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for c, k := range s.keepers[:class+1] {
		if k == nil {
			continue
		}
		if err := k.Await(ctx, &receipt); err != nil {
			receipt = s.reached(receipt)
			return receipt, fmt.Errorf("durability %s: %w, it is %s: %w", eventstore.Durability(c), eventstore.ErrDurabilityTimeout, receipt.Reached, err)
		}
	}
	return s.reached(receipt), nil
}

// Receipt implements eventstore.Appender.
func (s *Store) Receipt(ctx context.Context, tenant, id string) (eventstore.Receipt, eventstore.Hash, error) {
	receipt, hash, err := s.Store.Receipt(ctx, tenant, id)
	return s.reached(receipt), hash, err
}

// reached fills in what the receipt's durability is by now.
func (s *Store) reached(r eventstore.Receipt) eventstore.Receipt {
	for class := eventstore.Peer; class > r.Reached; class-- {
		if k := s.keepers[class]; k != nil && !r.Position.IsZero() && k.Keeps(&r) {
			r.Reached = class
		}
	}
	return r
}
