package sealed

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Subject is a person whom events refer to.
type Subject struct {
	// Tenant owns the events. ID is the reference that they name the person by; it is no personal data itself, and must do
	// as the id of a stream.
	Tenant, ID string
}

// String names the subject for errors.
func (s Subject) String() string { return s.Tenant + "/" + s.ID }

// stream is where a subject's erasure is recorded.
func (s Subject) stream() eventstore.StreamID {
	return eventstore.StreamID{Tenant: s.Tenant, Category: eventstore.SubjectCategory, ID: s.ID}
}

func (s Subject) validate() error {
	if err := s.stream().Validate(); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	return nil
}

// Key is a key of AES-256.
type Key [32]byte

// Keys is where the keys of subjects are: apart from the log, and in none of its backups. Package keyfile is one; a key
// management service may stand behind another. Implementations are safe for concurrent use.
type Keys interface {
	// Of returns the subject's key with its number, which is never 0, and makes one when there is none: it is durable when
	// Of returns. eventstore.ErrErased when the subject's key is destroyed.
	Of(ctx context.Context, s Subject) (number uint32, key Key, err error)
	// Key returns the key of a number. eventstore.ErrErased when it is destroyed, eventstore.ErrUnavailable when it cannot
	// be had, whatever the reason: what is not known to be destroyed is never taken for it.
	Key(ctx context.Context, number uint32) (Key, error)
	// Known returns the number of the subject's key, 0 when it has none, and whether it is destroyed.
	Known(ctx context.Context, s Subject) (number uint32, destroyed bool, err error)
	// Destroy destroys the subject's key for good, and remembers it, so that the subject never gets another one and a key
	// that comes back from a backup is not used. number is the key's as the log has it, 0 when the subject had none. It is
	// durable when Destroy returns, and may be repeated.
	Destroy(ctx context.Context, s Subject, number uint32) error
}
