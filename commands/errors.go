package commands

import (
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// ErrUnknownCommand: no aggregate is registered for a command's type. It is of class Broken.
var ErrUnknownCommand = errors.New("no aggregate is registered for this command")

// ErrContended: other writers of the same streams were faster in every attempt. It is of class Transient; nothing was
// appended.
var ErrContended error = contended{}

type contended struct{}

func (contended) Error() string           { return "too many conflicts with other writers" }
func (contended) Class() eventstore.Class { return eventstore.Transient }

// Is makes errors.Is(err, eventstore.ErrUnavailable) true: to a client both mean "try again".
func (contended) Is(target error) bool { return target == eventstore.ErrUnavailable }

// AggregateError: an aggregate's own code or stored events do not fit together. It is of class Broken.
type AggregateError struct {
	Stream eventstore.StreamID
	// Version is the event that could not be folded; 0 when the fault was met while deciding or encoding.
	Version uint64
	Err     error
}

// Error names the stream and, where there is one, the event.
func (e *AggregateError) Error() string {
	if e.Version > 0 {
		return fmt.Sprintf("stream %s, version %d: %v", e.Stream, e.Version, e.Err)
	}
	return fmt.Sprintf("stream %s: %v", e.Stream, e.Err)
}

// Unwrap returns what went wrong.
func (e *AggregateError) Unwrap() error { return e.Err }

// DeciderError: a decider's own code or the events that its query matches do not fit together. It is of class Broken.
type DeciderError struct {
	// Decider is its name.
	Decider string
	Err     error
}

// Error names the decider.
func (e *DeciderError) Error() string { return fmt.Sprintf("decider %q: %v", e.Decider, e.Err) }

// Unwrap returns what went wrong.
func (e *DeciderError) Unwrap() error { return e.Err }

// Class returns eventstore.Broken.
func (e *DeciderError) Class() eventstore.Class { return eventstore.Broken }

// Class returns eventstore.Broken.
func (e *AggregateError) Class() eventstore.Class { return eventstore.Broken }
