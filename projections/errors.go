package projections

import (
	"errors"

	"github.com/tributary-es/tributary/eventstore"
)

// Errors of sinks and runners that their users branch on. Package queries names the last three as its own.
var (
	// ErrNoCursor: the sink holds no model of this projection and version; it was never filled, or it was lost.
	ErrNoCursor = errors.New("no cursor")
	// ErrCursorMoved: the cursor in the sink is not the one that the commit was built on; another runner is at work, or
	// the sink was restored.
	ErrCursorMoved = errors.New("cursor moved")
	// ErrOrder: the source left something out, repeated it, or gave it in another order. The projection stops.
	ErrOrder = errors.New("log is out of order")
	// ErrBadWrite: the projection wrote what its model cannot hold, such as a hash field under a key that holds a string.
	// It is a fault of the projection's code and stops it.
	ErrBadWrite = errors.New("projection wrote what its model cannot hold")
	// ErrDropped: the log has dropped events that a model has to be filled from. The projection stops.
	ErrDropped = errors.New("the model cannot be filled")
	// ErrStopped: the projection is not running.
	ErrStopped error = classed{"projection has stopped", eventstore.Transient}
	// ErrNotFound: the read model has no such thing.
	ErrNotFound error = classed{"not found", eventstore.Rejected}
	// ErrRebuilding: the read model is being rebuilt and cannot answer yet; try again.
	ErrRebuilding error = classed{"read model is being rebuilt", eventstore.Transient}
	// ErrUnavailable: the server that holds the read model cannot be reached; try again.
	ErrUnavailable error = classed{"read model is unavailable", eventstore.Transient}
)

// classed is a sentinel that knows its class.
type classed struct {
	text  string
	class eventstore.Class
}

func (e classed) Error() string           { return e.text }
func (e classed) Class() eventstore.Class { return e.class }
