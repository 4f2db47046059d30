package sealed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	subjectv1 "github.com/tributary-es/tributary/schemas/gen/tributary/subject/v1"
)

// MaxReasonBytes bounds why a subject is erased.
const MaxReasonBytes = 500

// Erasure is what is on record of the erasure of a subject.
type Erasure struct {
	Subject Subject
	// Event is the position of the event that records it; zero when the log has none, as one that was restored from before.
	Event eventstore.Position
	// Reason, Actor and At are what the event says.
	Reason, Actor string
	At            time.Time
	// Key is the number of the subject's key, 0 when it had none. Destroyed: nobody can read any more what it sealed.
	Key       uint32
	Destroyed bool
}

// Requested reports whether the subject is to be erased, or is.
func (e *Erasure) Requested() bool { return e.Destroyed || !e.Event.IsZero() }

// Erase records that a subject is to be erased, then destroys its key. What is between the two, after a crash say, is
// finished by Resume or by the next call. A subject that is erased already stays so; one that nothing is known of is
// recorded all the same, and will never have personal data here. After an error of the keys the erasure is on record, and
// not done.
//
// It waits until the appends under way that bring personal data of anyone are in the log, wherever else they are to be, and
// holds up later ones until it is done.
func (s *Store) Erase(ctx context.Context, of Subject, reason string, m eventstore.Metadata) (Erasure, error) {
	if err := of.validate(); err != nil {
		return Erasure{}, err
	}
	if err := ValidateReason(reason); err != nil {
		return Erasure{}, err
	}
	s.appending.Lock()
	defer s.appending.Unlock()
	if err := s.bind(ctx); err != nil {
		return Erasure{}, err
	}
	erasure, err := s.Erasure(ctx, of)
	if err != nil {
		return erasure, err
	}
	if erasure.Event.IsZero() {
		if err := s.record(ctx, of, reason, erasure.Key, m); err != nil {
			return erasure, err
		}
		if erasure, err = s.Erasure(ctx, of); err != nil {
			return erasure, err
		}
	}
	if err := s.keys.Destroy(ctx, of, erasure.Key); err != nil {
		return erasure, fmt.Errorf("destroy key of subject %s, whose erasure is on record: %w", of, err)
	}
	erasure.Destroyed = true
	return erasure, nil
}

// ValidateReason says what is wrong with the reason of an erasure.
func ValidateReason(reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return fmt.Errorf("%w: reason is missing: say why the subject is erased, in 1 to %d bytes, without personal data", eventstore.ErrInvalid, MaxReasonBytes)
	case len(reason) > MaxReasonBytes:
		return fmt.Errorf("%w: reason has %d bytes, the limit is %d", eventstore.ErrInvalid, len(reason), MaxReasonBytes)
	case !utf8.ValidString(reason):
		return fmt.Errorf("%w: reason is not valid UTF-8", eventstore.ErrInvalid)
	}
	return nil
}

// record appends the event.
func (s *Store) record(ctx context.Context, of Subject, reason string, key uint32, m eventstore.Metadata) error {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(&subjectv1.SubjectErased{Reason: reason, Key: key, AtMs: time.Now().UnixMilli()})
	if err != nil {
		return fmt.Errorf("encode %s: %w", eventstore.SubjectErased, err)
	}
	_, err = s.Store.Append(ctx, eventstore.Request{
		Tenant: of.Tenant, Metadata: m,
		Appends: []eventstore.StreamAppend{{
			Stream: of.stream(), Expect: eventstore.NoStream,
			Events: []eventstore.Event{{Type: eventstore.SubjectErased, Kind: eventstore.KindSystem, Payload: payload}},
		}},
	})
	if err != nil && !errors.Is(err, eventstore.ErrConflict) { // a conflict: somebody else has recorded it
		return fmt.Errorf("record the erasure of subject %s: %w", of, err)
	}
	return nil
}

// Erasure returns what is on record of a subject's erasure: that nobody has asked for it, too.
func (s *Store) Erasure(ctx context.Context, of Subject) (Erasure, error) {
	e := Erasure{Subject: of}
	if err := of.validate(); err != nil {
		return e, err
	}
	for r, err := range s.Store.Read(ctx, of.stream(), 1) {
		if err != nil {
			return e, fmt.Errorf("read the erasure of subject %s: %w", of, err)
		}
		if e, err = s.erasureOf(ctx, &r); err != nil {
			return e, err
		}
		break
	}
	number, destroyed, err := s.keys.Known(ctx, of)
	if err != nil {
		return e, fmt.Errorf("key of subject %s: %w", of, err)
	}
	if e.Key == 0 {
		e.Key = number
	}
	e.Destroyed = destroyed
	return e, nil
}

// erasureOf returns what an event says. The key is that of the log's own site; of an erasure at another one it is looked up.
func (s *Store) erasureOf(ctx context.Context, r *eventstore.Recorded) (Erasure, error) {
	e, err := erasureOf(r)
	if err != nil {
		return e, err
	}
	own, err := s.born(ctx, r)
	if err == nil && !own {
		e.Key, _, err = s.keys.Known(ctx, e.Subject)
	}
	return e, err
}

func erasureOf(r *eventstore.Recorded) (Erasure, error) {
	var m subjectv1.SubjectErased
	if err := proto.Unmarshal(r.Payload, &m); err != nil {
		return Erasure{}, fmt.Errorf("read %s at %s: %w: %w", r.Type, r.Position, eventstore.ErrCorrupt, err)
	}
	return Erasure{
		Subject: Subject{r.Stream.Tenant, r.Stream.ID}, Event: r.Position, Reason: m.GetReason(), Actor: r.Actor,
		At: time.UnixMilli(m.GetAtMs()).UTC(), Key: m.GetKey(),
	}, nil
}

// Resume destroys again every key whose erasure is on record: one that a crash left, and one that came back from a backup
// of the keys. Call it before anything is read for others. It returns how many keys had to be destroyed, and the position
// of the last erasure on record.
func (s *Store) Resume(ctx context.Context) (destroyed int, last eventstore.Position, err error) {
	state, err := s.Store.Log(ctx)
	if err != nil {
		return 0, last, fmt.Errorf("ask how far the log is: %w", err)
	}
	all := erasures
	all.Until = state.Durable
	for r, err := range s.Store.ReadAll(ctx, eventstore.Position{}, all) {
		if err != nil {
			return destroyed, last, fmt.Errorf("read the erasures on record: %w", err)
		}
		if r.Stream.Category != eventstore.SubjectCategory {
			continue
		}
		news, err := s.enforce(ctx, &r)
		if err != nil {
			return destroyed, last, err
		}
		if last = r.Position; news {
			destroyed++
		}
	}
	s.followed = state.Durable
	return destroyed, last, nil
}

var erasures = eventstore.Filter{Types: []string{eventstore.SubjectErased}}

// enforce destroys the key of the subject whose erasure an event records, and reports whether it was there.
func (s *Store) enforce(ctx context.Context, r *eventstore.Recorded) (destroyed bool, err error) {
	e, err := s.erasureOf(ctx, r)
	if err != nil {
		return false, err
	}
	_, done, err := s.keys.Known(ctx, e.Subject)
	if err != nil {
		return false, fmt.Errorf("key of subject %s: %w", e.Subject, err)
	}
	if done {
		return false, nil
	}
	if err := s.keys.Destroy(ctx, e.Subject, e.Key); err != nil {
		return false, fmt.Errorf("destroy key of subject %s, whose erasure is on record: %w", e.Subject, err)
	}
	return true, nil
}

// Follow destroys the keys of subjects whose erasure is recorded at another site, as it comes to be read in the log behind what
// Resume has read, and tells done of each when its key is gone. It runs until ctx ends; what keeps it from destroying a key for the
// moment is tried again. Called once more after an error it goes on where it was. As in Erase, no event that a key opens comes after
// the one by which it was destroyed, but for those of appends that were under way.
//
// REQUIRES: Resume has returned without an error, and no other Follow runs.
func (s *Store) Follow(ctx context.Context, done func(of Subject, at eventstore.Position)) error {
	sub, err := s.Store.Subscribe(ctx, s.followed, erasures)
	if err != nil {
		return fmt.Errorf("follow erasures: %w", err)
	}
	defer sub.Close()
	for {
		chunk, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("follow erasures: %w", err)
		}
		for i := range chunk.Events {
			r := &chunk.Events[i]
			if r.Stream.Category != eventstore.SubjectCategory {
				continue
			}
			if own, err := s.born(ctx, r); own || err != nil {
				if err != nil {
					return err
				}
				continue // Erase sees to it
			}
			if err := s.enforceInTime(ctx, r); err != nil {
				return err
			}
			done(Subject{r.Stream.Tenant, r.Stream.ID}, r.Position)
			s.followed = r.Position
		}
		s.followed = chunk.Position
	}
}

// followPause is how long Follow waits before it tries again what failed for the moment.
const followPause = time.Second

// enforceInTime is enforce while nothing is appended that seals, tried again until ctx ends.
func (s *Store) enforceInTime(ctx context.Context, r *eventstore.Recorded) error {
	for {
		s.appending.Lock()
		_, err := s.enforce(ctx, r)
		s.appending.Unlock()
		if eventstore.ClassOf(err) != eventstore.Transient {
			return err
		}
		select {
		case <-time.After(followPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
