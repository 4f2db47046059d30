package sealed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Open sets r.Opened of an event that has sealed fields and is not opened yet, and r.Erased where they stay away: the key is
// destroyed, or it is another site's, where the event was born. Errors: ErrUnavailable when the key cannot be had, ErrCorrupt
// when it does not fit.
func (s *Store) Open(ctx context.Context, r *eventstore.Recorded) error {
	if r.KeyRef == 0 {
		return nil
	}
	own, err := s.born(ctx, r)
	if err != nil {
		return err
	}
	if !own {
		return leaveSealed(r)
	}
	return open(ctx, s.keys, r)
}

// leaveSealed opens an event without its sealed fields.
func leaveSealed(r *eventstore.Recorded) error {
	if r.Opened != nil || r.Encoding != eventstore.Protobuf {
		return nil
	}
	box, around, err := sealedIn(r.Payload)
	if err != nil {
		return fmt.Errorf("open %s at %s: %w: %w", r.Type, r.Position, eventstore.ErrCorrupt, err)
	}
	if box != nil {
		r.Opened, r.Erased = slices.Concat(around, erasedMark), true
	}
	return nil
}

func open(ctx context.Context, keys Keys, r *eventstore.Recorded) error {
	if r.KeyRef == 0 || r.Opened != nil || r.Encoding != eventstore.Protobuf {
		return nil
	}
	box, around, err := sealedIn(r.Payload)
	if err != nil {
		return fmt.Errorf("open %s at %s: %w: %w", r.Type, r.Position, eventstore.ErrCorrupt, err)
	}
	if box == nil {
		return nil
	}
	key, err := keys.Key(ctx, r.KeyRef)
	switch {
	case errors.Is(err, eventstore.ErrErased):
		r.Opened, r.Erased = slices.Concat(around, erasedMark), true
		return nil
	case err != nil:
		return fmt.Errorf("open %s at %s: %w", r.Type, r.Position, err)
	}
	if r.Opened, err = unseal(&key, r, box, around); err != nil {
		return fmt.Errorf("open %s at %s: %w", r.Type, r.Position, err)
	}
	return nil
}

// Withhold has an opened event read as one of an erased subject, where the erasure is on record here and the key is still there: of
// an erasure at another site until this one starts again, of one that is under way for moments. Who has dropped a subject does not
// get it back by reading earlier events again.
func (s *Store) Withhold(ctx context.Context, r *eventstore.Recorded) error {
	marks := s.types[r.Type]
	if marks == nil || r.Opened == nil || r.Erased {
		return nil
	}
	parts, err := marks.split(r.Opened)
	if err != nil {
		return fmt.Errorf("read %s at %s: %w: %w", r.Type, r.Position, eventstore.ErrCorrupt, err)
	}
	if parts.subject == "" {
		return nil
	}
	erased, err := s.Version(ctx, Subject{r.Stream.Tenant, parts.subject}.stream())
	if err != nil {
		return fmt.Errorf("ask for the erasure of whom %s at %s is about: %w", r.Type, r.Position, err)
	}
	if erased == 0 {
		return nil
	}
	r.Opened = nil
	return leaveSealed(r)
}

// opened opens the events of a read, which ends with the first that cannot be.
func (s *Store) opened(ctx context.Context, events iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r, err := range events {
			if err == nil && r.KeyRef != 0 {
				err = s.Open(ctx, &r)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Read implements eventstore.Reader.
func (s *Store) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return s.opened(ctx, s.Store.Read(ctx, stream, from))
}

// ReadBackwards implements eventstore.Reader.
func (s *Store) ReadBackwards(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return s.opened(ctx, s.Store.ReadBackwards(ctx, stream, from))
}

// ReadAll implements eventstore.Reader.
func (s *Store) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return s.opened(ctx, s.Store.ReadAll(ctx, after, f))
}

// ReadAllBackwards implements eventstore.Reader.
func (s *Store) ReadAllBackwards(ctx context.Context, before eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return s.opened(ctx, s.Store.ReadAllBackwards(ctx, before, f))
}

// Subscribe implements eventstore.Reader.
func (s *Store) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	return subscribe(ctx, s.Store, s.Open, after, f)
}

// follower is what a copy of a log offers to those who follow it.
type follower interface {
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error)
	Log(ctx context.Context) (eventstore.LogState, error)
}

// Copy opens what is followed of a copy of the log, such as its topic.
type Copy struct {
	follower
	keys Keys
}

// NewCopy returns a copy whose events are opened with the keys.
func NewCopy(of follower, keys Keys) *Copy { return &Copy{of, keys} }

// Subscribe is as eventstore.Reader.Subscribe.
func (c *Copy) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	return subscribe(ctx, c.follower, func(ctx context.Context, r *eventstore.Recorded) error { return open(ctx, c.keys, r) }, after, f)
}

func subscribe(ctx context.Context, from follower, open opener, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	sub, err := from.Subscribe(ctx, after, f)
	if err != nil {
		return nil, err
	}
	return &subscription{Subscription: sub, open: open}, nil
}

// opener opens an event.
type opener func(context.Context, *eventstore.Recorded) error

// subscription opens the events of another.
type subscription struct {
	eventstore.Subscription
	open opener
	// held is a chunk that could not be opened: the one below will not give it again.
	held *eventstore.Chunk
}

// Next implements eventstore.Subscription. After an error that will pass it may be called again, and leaves nothing out.
func (s *subscription) Next(ctx context.Context) (eventstore.Chunk, error) {
	if s.held == nil {
		c, err := s.Subscription.Next(ctx)
		if err != nil {
			return c, err
		}
		if !slices.ContainsFunc(c.Events, func(r eventstore.Recorded) bool { return r.KeyRef != 0 }) {
			return c, nil
		}
		c.Events = slices.Clone(c.Events) // a store may share them among its subscribers
		s.held = &c
	}
	for i := range s.held.Events {
		if err := s.open(ctx, &s.held.Events[i]); err != nil {
			return eventstore.Chunk{}, err
		}
	}
	c := *s.held
	s.held = nil
	return c, nil
}
