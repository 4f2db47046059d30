package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Projection is a fold of events into a read model through a writer W: Keys for key-value models, Rows for tables.
type Projection[W any] struct {
	// Name is a lower-case name; it prefixes what the projection keeps. Version goes up whenever Apply or the model's
	// shape changes: a sink that holds another version is rebuilt.
	Name    string
	Version int
	// Types are the event types that Apply wants; it is called for no others.
	Types []string
	// Apply writes what the event means for the model. It is pure but for its writer, and never keeps w or e. An error
	// parks the event's stream: nothing that was written for this event counts, and later events of the stream queue
	// behind it until an operator retries or skips it.
	Apply func(w W, e *eventstore.Recorded) error
}

// Keys writes a key-value model. Keys and fields are the projection's own names; the sink prefixes them. A key holds one
// kind of value. The methods record the writes in order; nothing is read.
type Keys interface {
	// Set makes the key's value a string of bytes.
	Set(key string, value []byte)
	// Delete removes a key of any kind.
	Delete(key string)
	// HashSet sets a field of a hash; HashAdd adds to a field that is an integer (absent: 0); HashDelete removes one.
	HashSet(key, field, value string)
	HashAdd(key, field string, delta int64)
	HashDelete(key, field string)
	// SortedAdd puts a member into a sorted set, or moves it there; SortedRemove takes it out.
	SortedAdd(key, member string, score float64)
	SortedRemove(key, member string)
}

// Rows writes a model of tables.
type Rows interface {
	// Insert adds a row. The values are those of the table's columns as its DDL declares them, after the two columns that
	// the sink fills itself: position (the event's lsn) and row (0, 1, … within the event).
	Insert(table string, values ...any)
}

// Cursor says how far a projection has come, always kept with the model. The zero Cursor is before the first event.
type Cursor struct {
	Position eventstore.Position
	// Seq is the seq of the log's own events at Position, by which density is checked.
	Seq uint64
}

// ErrNoCursor: the sink holds no model of this projection and version; it was never filled, or it was lost.
var ErrNoCursor = errors.New("no cursor")

// ErrCursorMoved: the cursor in the sink is not the one that the commit was built on; another runner is at work, or the
// sink was restored.
var ErrCursorMoved = errors.New("cursor moved")

// Sink keeps one projection's model and its cursor. It is used by one Runner; reads go beside it.
type Sink interface {
	// Name returns the projection's name.
	Name() string
	// Types returns the event types that the projection wants.
	Types() []string
	// Open prepares the sink (schema, scripts) and returns the cursor of the model it holds; ErrNoCursor when it holds
	// none of this version. Errors of an unreachable server are transient: the runner tries again.
	Open(ctx context.Context) (Cursor, error)
	// Reset drops the model and its cursor and prepares an empty one.
	Reset(ctx context.Context) error
	// Commit applies the events and moves the cursor from one to the next, in one atomic step: after a crash either all
	// of it has happened, or a repeated Commit makes it so. Events that cannot be applied are parked within the same
	// step and returned. ErrCursorMoved when the cursor is not at from.
	Commit(ctx context.Context, from, to Cursor, events []eventstore.Recorded) ([]Parked, error)
	// Digest returns a hash over the model's content, the same for equal models whatever way they came about.
	Digest(ctx context.Context) (string, error)
	// Close releases what Open acquired; safe twice.
	Close() error
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
	return fmt.Sprintf("%s: %s at %s of %s: %s", p.Projection, p.Type, p.Position, p.Stream, p.Reason)
}
