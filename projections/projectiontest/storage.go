package projectiontest

import (
	"errors"
	"testing"

	"github.com/tributary-es/tributary/projections"
)

// Storage is one place where the sinks of one projection keep its model, shared with no other test, such as a database of
// its own. It is empty at first and gone when the test is.
type Storage[W any] struct {
	// Sink returns a new sink over the storage, as a new process would make it, and closes it when the test ends. The
	// projections it is called with have one name; their versions differ in some tests.
	Sink func(t testing.TB, p projections.Projection[W]) projections.Sink
	// Crashing is as Sink, for a process that dies at a point. Nil: a commit is one step in memory, with nothing between.
	Crashing func(t testing.TB, p projections.Projection[W], at CrashPoint) projections.Sink
	// Lose empties the storage behind the sinks' backs, as FLUSHALL or DROP DATABASE does. Nil: cannot happen.
	Lose func(t testing.TB)
}

// CrashPoint is a place between two steps of a sink. A step is whatever the sink sends to its server in one go: a
// command, a pipeline, a query, an insert. Those of Open count too.
type CrashPoint struct {
	// Step is the number of steps that go through, with their answers.
	Step int
	// Sent: the step after those is still done by the server, but its answer is lost. Else it never reaches the server.
	Sent bool
}

// ErrCrash is what a crashing sink's methods fail with from its CrashPoint on; they wrap it. A sink that still succeeds
// has needed no more steps than went through.
var ErrCrash = errors.New("crash on purpose")

// Table is the table that the projection of RunRows writes to. The storage has made it, as its sink does it for all
// tables, with these columns behind the three that the sink fills itself, sign among them:
//
//	stream    String         the stream's id
//	version   UInt64         the event's version
//	amount    Int64
//	recorded  DateTime64(3)  in UTC
const Table = "movements"

// Name is the name of the suite's projections.
const Name = "conformance"

// RunKeys runs the suite against sinks of key-value models. open makes a new, empty storage.
func RunKeys(t *testing.T, open func(t testing.TB) Storage[projections.Keys]) {
	run(t, suite[projections.Keys]{open: open, apply: applyKeys})
}

// RunRows runs the suite against sinks of tables. open makes a new, empty storage.
func RunRows(t *testing.T, open func(t testing.TB) Storage[projections.Rows]) {
	run(t, suite[projections.Rows]{open: open, apply: applyRows})
}
