package projectiontest

import (
	"errors"
	"testing"

	"github.com/tributary-es/tributary/projections"
)

// Storage is one place where the sink of one projection keeps its model, shared with nobody, such as a database of its
// own. It is empty at first and gone when the test is.
type Storage struct {
	// Sink returns a new sink over the storage, as a new process would make it. It closes it when the test ends.
	Sink func(t testing.TB) projections.Sink
	// Crashing returns a new sink over the storage whose process dies at a point. Nil: the sink's commit is one step in
	// memory, there is nothing between.
	Crashing func(t testing.TB, at CrashPoint) projections.Sink
	// Lose empties the storage behind the sinks' backs, as FLUSHALL or DROP DATABASE does. Nil: cannot happen.
	Lose func(t testing.TB)
}

// CrashPoint is a place between two steps of a sink. A step is whatever the sink sends to its server in one go: a
// command, a pipeline, a query, an insert. Open's steps count too.
type CrashPoint struct {
	// Step is the number of steps that go through, with their answers.
	Step int
	// Sent: the step after those is still done by the server, but its answer is lost. Else it never reaches the server.
	Sent bool
}

// ErrCrash is what a crashing sink's methods fail with from its CrashPoint on; they may wrap it, or return an error of
// their own.
var ErrCrash = errors.New("crash on purpose")

// Table is the table that the projection of RunRows writes to. The storage must have made it, as its sink does it for all
// tables, with these columns behind the two that the sink fills itself:
//
//	stream    String         the stream's id
//	version   UInt64         the event's version
//	amount    Int64
//	recorded  DateTime64(3)  in UTC
const Table = "movements"

// RunKeys runs the suite against sinks of key-value models. open makes a new, empty storage for a sink of p; it is called
// several times, with projections of one name.
func RunKeys(t *testing.T, open func(t testing.TB, p projections.Projection[projections.Keys]) Storage) {
	run(t, suite{
		open:   func(t testing.TB, version int) Storage { return open(t, keysProjection(version)) },
		faulty: true,
	})
}

// RunRows runs the suite against sinks of tables, as RunKeys.
func RunRows(t *testing.T, open func(t testing.TB, p projections.Projection[projections.Rows]) Storage) {
	run(t, suite{
		open: func(t testing.TB, version int) Storage { return open(t, rowsProjection(version)) },
	})
}
