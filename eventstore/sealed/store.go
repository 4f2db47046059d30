package sealed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/eventstore"
)

// Store seals and opens what another store keeps. See the package comment.
type Store struct {
	eventstore.Store
	keys Keys
	id   string // of the keys
	// bound: the log is known to name the keys.
	bound atomic.Bool
	// of is the log's name, once it was asked for.
	of atomic.Pointer[eventstore.LogID]

	// types holds the marks of the types that have personal fields. It is written before the store is used.
	types map[string]*marks

	// appending is held for reading by appends that seal until they are in the log, and for writing by an erasure from its
	// event to the key's end, so that no event that the key opens comes after the one by which read models drop the subject.
	appending sync.RWMutex

	// followed is the position up to which every erasure on record is done, wherever it was recorded: Resume comes to it, and Follow
	// goes on from there. It is for the two alone: an erasure of this site moves it no further, lest one of another that stands
	// before be passed over.
	followed eventstore.Position
}

// New returns a store over another, which it shares with others: closing it closes the other one. id tells the keys from all
// others; the log names it before the first event that they seal.
func New(store eventstore.Store, keys Keys, id string) *Store {
	return &Store{Store: store, keys: keys, id: id, types: map[string]*marks{}}
}

// Unwrap returns the store below, which has the events as they are recorded.
func (s *Store) Unwrap() eventstore.Store { return s.Store }

// born reports whether an event was born at the log's own site. Numbers of keys are a site's own: those of another one's
// events name none of the keys here.
func (s *Store) born(ctx context.Context, r *eventstore.Recorded) (bool, error) {
	of := s.of.Load()
	if of == nil {
		state, err := s.Log(ctx)
		if err != nil {
			return false, fmt.Errorf("ask for the log's name: %w", err)
		}
		of = &state.ID
		s.of.Store(of)
	}
	return r.Dot.Log.Site == of.Site, nil
}

// Declare says which message the events of a type are. Declare all types before the first append; it is not safe to do
// both at once. Marks that cannot be kept are an error, and so is a second declaration of a type that says otherwise.
func (s *Store) Declare(name string, message protoreflect.MessageDescriptor) error {
	m, err := marksOf(message)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	if known := s.types[name]; known != nil && known.message != m.message {
		return fmt.Errorf("event %s: it is a %s already, and not a %s", name, known.message, m.message)
	}
	if len(m.personal) > 0 {
		s.types[name] = m
	}
	return nil
}

// Append implements eventstore.Appender. Of a request that brings personal data, the hash is keyed and the events are
// sealed. ErrErased when it brings data of an erased subject; ErrInvalid when it names none, or repeats personal data in an
// id or a tag, or when an event comes with a key or with something sealed.
func (s *Store) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if err := unsealed(&r); err != nil {
		return eventstore.Receipt{}, err
	}
	if !s.concerns(&r) {
		return s.Store.Append(ctx, r)
	}
	receipt, wait, err := s.appendSealed(ctx, r)
	if err != nil || wait == nil {
		return receipt, err
	}
	return wait(ctx)
}

// Stepped is a store below that appends in two steps, of which the second only waits.
type Stepped interface {
	// Begin appends as Append does, but for wait, which returns the receipt that Append would; nil when there is nothing to
	// wait for.
	Begin(ctx context.Context, r eventstore.Request) (receipt eventstore.Receipt, wait func(context.Context) (eventstore.Receipt, error), err error)
}

// appendSealed seals and appends. What is waited for then holds up no erasure: the event has its place in the log.
func (s *Store) appendSealed(ctx context.Context, r eventstore.Request) (
	receipt eventstore.Receipt, wait func(context.Context) (eventstore.Receipt, error), err error,
) {
	s.appending.RLock()
	defer s.appending.RUnlock()
	if err := s.seal(ctx, &r); err != nil {
		return receipt, nil, err
	}
	if below, ok := s.Store.(Stepped); ok {
		return below.Begin(ctx, r)
	}
	receipt, err = s.Store.Append(ctx, r)
	return receipt, nil, err
}

// unsealed refuses events that say that they are sealed: keys are given here, and what others have sealed opens for nobody.
func unsealed(r *eventstore.Request) error {
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			e := &r.Appends[i].Events[j]
			if e.KeyRef != 0 {
				return fmt.Errorf("%w: event %s names key %d: leave the key out, it is the server's to give", eventstore.ErrInvalid, e.Type, e.KeyRef)
			}
			if e.Encoding == eventstore.JSON {
				continue
			}
			// What does not read as a message has no fields.
			if box, _, err := sealedIn(e.Payload); err == nil && box != nil {
				return fmt.Errorf("%w: event %s: field %d is kept for what is sealed", eventstore.ErrInvalid, e.Type, Field)
			}
		}
	}
	return nil
}

// concerns reports whether the request has events that may have personal fields.
func (s *Store) concerns(r *eventstore.Request) bool {
	if len(s.types) == 0 {
		return false
	}
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			if s.types[r.Appends[i].Events[j].Type] != nil {
				return true
			}
		}
	}
	return false
}

// place is an event of a request that has personal fields, taken apart.
type place struct {
	append, event int
	split
}

// seal seals the personal fields of the request's events, on copies of them: the caller may go on with its own.
func (s *Store) seal(ctx context.Context, r *eventstore.Request) error {
	places, err := s.personal(r)
	if err != nil || len(places) == 0 {
		return err
	}
	// The hash is of what was asked, so it is computed before anything is sealed: a nonce is new each time.
	if err := r.Normalize(); err != nil {
		return err
	}
	if err := s.bind(ctx); err != nil {
		return err
	}
	r.Appends = slices.Clone(r.Appends)
	for i := range r.Appends {
		r.Appends[i].Events = slices.Clone(r.Appends[i].Events)
	}
	for n := range places {
		p := &places[n]
		a := &r.Appends[p.append]
		e := &a.Events[p.event]
		if err := p.check(r, a.Stream, e); err != nil {
			return err
		}
		number, key, err := s.keys.Of(ctx, Subject{r.Tenant, p.subject})
		if err != nil {
			return fmt.Errorf("key of subject %s/%s: %w", r.Tenant, p.subject, err)
		}
		if e.ID == (uuid.UUID{}) {
			if e.ID, err = uuid.NewV7(); err != nil {
				return fmt.Errorf("make event id: %w", err)
			}
		}
		if e.Payload, err = seal(&key, a.Stream, e, &p.split); err != nil {
			return err
		}
		e.KeyRef = number
		if n == 0 && r.ID != "" {
			r.Hash = keyed(&key, r.Hash)
		}
	}
	return nil
}

// personal takes the events apart that have personal fields.
func (s *Store) personal(r *eventstore.Request) ([]place, error) {
	var places []place
	for i := range r.Appends {
		for j := range r.Appends[i].Events {
			e := &r.Appends[i].Events[j]
			marks := s.types[e.Type]
			if marks == nil {
				continue
			}
			if e.Encoding == eventstore.JSON {
				return nil, fmt.Errorf("%w: event %s has personal fields, so it is recorded as protobuf", eventstore.ErrInvalid, e.Type)
			}
			parts, err := marks.split(e.Payload)
			if err != nil {
				return nil, fmt.Errorf("%w: event %s: %w", eventstore.ErrInvalid, e.Type, err)
			}
			if parts.personal != nil {
				places = append(places, place{i, j, parts})
			}
		}
	}
	return places, nil
}

// shortest is the length from which a personal text must not even be part of an id or a tag; a shorter one must not be one.
const shortest = 8

// check refuses an event without a subject, and one whose personal data stand in a place that cannot be erased.
func (p *place) check(r *eventstore.Request, stream eventstore.StreamID, e *eventstore.Event) error {
	if p.subject == "" {
		return fmt.Errorf("%w: event %s has the personal field %s, and does not say whose it is", eventstore.ErrInvalid, e.Type, p.first)
	}
	if err := (Subject{r.Tenant, p.subject}).validate(); err != nil {
		return fmt.Errorf("event %s: %w", e.Type, err)
	}
	names := map[string]string{"its stream's id": stream.ID, "the request's id": r.ID, "the subject's reference": p.subject}
	for _, tag := range e.Tags {
		_, value, ok := strings.Cut(tag, ":")
		if !ok {
			value = tag
		}
		names["a tag"] = value
		if err := p.keptFrom(names, e); err != nil {
			return err
		}
	}
	return p.keptFrom(names, e)
}

// keptFrom refuses names that hold personal data. The error does not repeat them.
func (p *place) keptFrom(names map[string]string, e *eventstore.Event) (err error) {
	values(p.personal, 0, func(text string) {
		for what, name := range names {
			if text != "" && (name == text || len(text) >= shortest && strings.Contains(name, text)) {
				err = fmt.Errorf("%w: event %s: %s holds what the personal field %s says; what is personal cannot be erased from there",
					eventstore.ErrInvalid, e.Type, what, p.first)
			}
		}
	})
	return err
}

// SameRequest reports whether a request that is recorded with the hash stored is the one that hashes to asked. The receipt
// is the recorded one's. ErrErased when it brought data of a subject who is erased since: nobody can tell any more.
func (s *Store) SameRequest(ctx context.Context, r eventstore.Receipt, stored, asked eventstore.Hash) (bool, error) {
	if stored == asked {
		return true, nil
	}
	for _, part := range r.Streams {
		if part.First == 0 {
			continue
		}
		for e, err := range s.Store.Read(ctx, part.Stream, part.First) {
			if err != nil {
				return false, fmt.Errorf("read what a request brought: %w", err)
			}
			if e.Version > part.Last {
				break
			}
			if e.KeyRef == 0 {
				continue
			}
			key, err := s.keys.Key(ctx, e.KeyRef)
			if err != nil {
				return false, fmt.Errorf("compare with the request of id %q: key %d: %w", r.ID, e.KeyRef, err)
			}
			return keyed(&key, asked) == stored, nil
		}
	}
	return false, nil
}
