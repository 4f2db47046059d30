package projections

import (
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Projection is a fold of events into a read model through a writer W: Keys for key-value models, Rows for tables.
type Projection[W any] struct {
	// Name is a lower-case name; it prefixes what the projection keeps. Version goes up whenever Apply or the model's
	// shape changes: a sink that holds another version is rebuilt.
	Name    string
	Version int
	// Types are the event types that Apply wants; it is called for no others. Without any, it is called for all.
	Types []string
	// Apply writes what the event means for the model. It is pure but for its writer, and never keeps w or e. An error
	// parks the event's stream: nothing that was written for this event counts, and later events of the stream queue
	// behind it until an operator retries or skips it. A panic counts as an error. Of an error that is context.Canceled,
	// context.DeadlineExceeded or eventstore.ErrArchiveUnavailable the commit fails instead, and is tried again.
	Apply func(w W, e *eventstore.Recorded) error
	// Categories are those of the streams in which the events of Types stand, when the projection is to be corrected after
	// conflicts between sites; those of other categories are applied as they come. Then what Apply sets or deletes (Keys) belongs to
	// one stream, and no other stream's events do it; what streams share is added (Keys.HashAdd, Rows). Each table of Rows has a
	// column sign. See Fold.
	Categories []string
	// Unordered are those of the categories whose events come to the same in whatever order they are applied.
	Unordered []string
	// Rebase, when set, changes in an event what it repeats of the state that it was decided on, where another state counts now:
	// before are the events that count before it in its stream. It is pure, and changes a copy: the payload is shared.
	Rebase func(before []eventstore.Recorded, e *eventstore.Recorded) error
	// History says which events count. Whoever runs the projection sets it, where Categories are given; without it events are
	// applied as they come.
	History History
	// Unknown, when set, reports whether only a newer program can say what an event means. Such an event of another site is parked, when
	// it stands in a stream of Categories, whatever Types has: later ones of its stream may rest on it.
	Unknown func(e *eventstore.Recorded) bool
	// Open, when set, opens the sealed fields of an event that comes without them, as one does that was parked: sinks keep
	// events sealed. A source that opens them has done it for the others.
	Open func(e *eventstore.Recorded) error
}

// Try calls Apply and turns a panic into an error, so that one bad event never takes the others down. Sinks use it. What
// was written before the error is the sink's to take back.
func (p *Projection[W]) Try(w W, e *eventstore.Recorded) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("panic: %v", fault)
		}
	}()
	if p.Open != nil {
		if err := p.Open(e); err != nil {
			return err
		}
	}
	return p.Apply(w, e)
}

// Keys writes a key-value model. Keys and fields are the projection's own names; the sink prefixes them. A key holds one
// kind of value. The methods record the writes in order; nothing is read.
type Keys interface {
	// Set makes the key's value a string of bytes. It takes ownership of value.
	Set(key string, value []byte)
	// Delete removes a key of any kind.
	Delete(key string)
	// HashSet sets a field of a hash; HashAdd adds to a field that is an integer (absent: 0); HashDelete removes one. A
	// hash without fields is no longer there.
	HashSet(key, field, value string)
	HashAdd(key, field string, delta int64)
	HashDelete(key, field string)
	// SortedAdd puts a member into a sorted set, or moves it there; SortedRemove takes it out. A score that is not a
	// number parks the event.
	SortedAdd(key, member string, score float64)
	SortedRemove(key, member string)
}

// Rows writes a model of tables.
type Rows interface {
	// Insert adds a row. The values are those of the table's columns as its DDL declares them, after the columns that the
	// sink fills itself: position (the lsn of the event with which the row came), row (0, 1, … within that), and, where the
	// projection has Categories, sign: 1.
	Insert(table string, values ...any)
	// Retract takes back a row with these values: it adds another one with sign -1. It is for projections with Categories.
	Retract(table string, values ...any)
}

// Cursor says how far a projection has come, always kept with the model. The zero Cursor is before the first event.
type Cursor struct {
	Position eventstore.Position
	// Seq is the seq of the log's own events at Position, by which density is checked.
	Seq uint64
}

// String names the position and the seq, for errors and logs.
func (c Cursor) String() string { return fmt.Sprintf("%s (seq %d)", c.Position, c.Seq) }
