package projections

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Sink keeps one projection's model and its cursor. It is used by one Runner; reads go beside it. Whoever made the sink
// closes it, after the runner has ended.
//
// A sink may also be a Generations (rebuilt beside its live model), a Parking (its parked events can be seen, retried and
// skipped), a CursorReader (its cursor can be had cheaply), a Correcting or a Versioned; the runner makes use of each that it finds.
type Sink interface {
	// Name returns the projection's name.
	Name() string
	// Types returns the event types that the projection wants; none are all.
	Types() []string
	// Open prepares the sink (schema, scripts) and returns the cursor of the model it holds; ErrNoCursor when it holds
	// none of this version. Errors of an unreachable server are transient: the runner tries again. It may be called
	// again at any time.
	Open(ctx context.Context) (Cursor, error)
	// Reset drops the model and its cursor. Afterwards Open answers ErrNoCursor or the zero Cursor, and Commit goes on
	// from the zero Cursor. What an operator said to skip stays skipped.
	Reset(ctx context.Context) error
	// Commit applies the events and moves the cursor from one to the next, in one atomic step: after a crash either all
	// of it has happened, or a repeated Commit makes it so. Events that cannot be applied are parked within the same
	// step and returned. ErrCursorMoved when the cursor is not at from (such as when an earlier Commit of which the
	// answer was lost had gone through), ErrNoCursor when the model is gone, a *TooMuchError when fewer are to be committed at once;
	// then nothing was applied.
	Commit(ctx context.Context, from, to Cursor, events []eventstore.Recorded) ([]Parked, error)
	// Digest returns a hash over the model's content, the same for equal models whatever way they came about. It is for
	// a model at rest. ErrNoCursor when there is none; sinks may also answer as for an empty one.
	Digest(ctx context.Context) (string, error)
	// Close releases what Open acquired; safe twice.
	Close() error
}

// Generations is a Sink that can fill a new generation of its model while the live one goes on answering.
type Generations interface {
	Sink
	// Beside starts a new, empty generation, at the zero Cursor, with nothing parked. An earlier one that was never
	// promoted is dropped; commits to it fail with ErrCursorMoved.
	Beside(ctx context.Context) (Generation, error)
}

// Generation is a model that is being filled beside the live one.
type Generation interface {
	// Commit is as Sink.Commit.
	Commit(ctx context.Context, from, to Cursor, events []eventstore.Recorded) ([]Parked, error)
	// Digest is as Sink.Digest.
	Digest(ctx context.Context) (string, error)
	// Promote makes this the live generation in one atomic step, provided that it stands at the cursor, and drops the one
	// before. The Sink's own methods speak of the new one from then on.
	Promote(ctx context.Context, at Cursor) error
	// Discard drops the generation.
	Discard(ctx context.Context) error
}

// CursorReader is a Sink that says cheaply where its model stands, by which an idle runner notices a lost model.
type CursorReader interface {
	// Cursor returns the cursor of the live model; ErrNoCursor as Open.
	Cursor(ctx context.Context) (Cursor, error)
}

// Versioned is a Sink that says which version of the projection it keeps.
type Versioned interface {
	Version() int
}

// Correcting is a Sink of a projection with Categories: it wants events of other types too, where those change what counts or are for
// a newer program.
type Correcting interface {
	// Touches is that of the projection.
	Touches(e *eventstore.Recorded) bool
}

// Parking is a Sink that lets an operator see to its parked events. The methods may be called while a Runner uses the
// sink.
type Parking interface {
	// Parked lists the parked events in the order of the log: those that could not be applied, with their reasons, and
	// those that wait behind them.
	Parked(ctx context.Context) ([]Parked, error)
	// Retry applies the parked events of a stream again (of all streams: the zero StreamID), in order, up to the first
	// that still cannot be applied, and returns how many were applied.
	Retry(ctx context.Context, stream eventstore.StreamID) (applied int, err error)
	// Skip drops the event at the position for good, also from every later rebuild, and applies those of its stream that
	// waited behind it. ErrNotFound when no such event is parked.
	Skip(ctx context.Context, at eventstore.Position) error
}

// Parked is an event that could not be applied, or one of a stream that waits behind such an event.
type Parked struct {
	Projection string
	Stream     eventstore.StreamID
	Position   eventstore.Position
	Type       string
	// Reason is the error of the first event, empty for those that wait behind it.
	Reason string
}

// String names the event and why it is parked.
func (p Parked) String() string {
	if p.Reason == "" {
		return fmt.Sprintf("%s: %s at %s of %s waits behind another", p.Projection, p.Type, p.Position, p.Stream)
	}
	return fmt.Sprintf("%s: %s at %s of %s: %s", p.Projection, p.Type, p.Position, p.Stream, p.Reason)
}
