package queries

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// DefaultWait is how long a query waits for a position when nobody says otherwise, and MaxWait is the most that a client
// should be allowed to ask for.
const (
	DefaultWait = 5 * time.Second
	MaxWait     = 30 * time.Second
)

// NotYetError: the read model had not come to the position that was asked for when the wait was over. The client's write
// is safe; only this answer is not there yet. It is transient.
type NotYetError struct {
	// Want is the position that was asked for, At the one that was reached.
	Want, At eventstore.Position
}

// Error says how far the read model is.
func (e *NotYetError) Error() string {
	return fmt.Sprintf("read model is at %s, has not come to %s yet", e.At, e.Want)
}

// NotYet marks the error for the server.
func (e *NotYetError) NotYet() bool { return true }

// Class tells callers to try again.
func (e *NotYetError) Class() eventstore.Class { return eventstore.Transient }

// Fresh waits until the read model holds the log up to want, at most for the given time (zero: DefaultWait; more than
// MaxWait: MaxWait), and returns the position it then stands at. The zero position does not wait. What is read after
// Fresh has returned is of that position or a later one.
//
// Errors: *NotYetError when the wait was over, ErrRebuilding and ErrUnavailable when there is no model to answer from,
// eventstore.ErrWrongIncarnation when want is of another life of the log, and ctx's error when that ended first.
func Fresh(ctx context.Context, p Progress, want eventstore.Position, wait time.Duration) (eventstore.Position, error) {
	if want.IsZero() {
		return p.Position(ctx)
	}
	if wait <= 0 {
		wait = DefaultWait
	}
	waiting, cancel := context.WithTimeout(ctx, min(wait, MaxWait))
	defer cancel()
	if err := p.Await(waiting, want); err != nil {
		if ctx.Err() != nil {
			return eventstore.Position{}, ctx.Err()
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			return eventstore.Position{}, err
		}
		at, err := p.Position(ctx)
		if err != nil {
			return eventstore.Position{}, err
		}
		return eventstore.Position{}, &NotYetError{Want: want, At: at}
	}
	return p.Position(ctx)
}
