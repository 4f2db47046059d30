package projectiontest

import (
	"context"
	"errors"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
)

func run[W any](t *testing.T, s suite[W]) {
	t.Run("a new storage has no cursor", s.testNew)
	t.Run("commits move the cursor and the model", s.testCommit)
	t.Run("a commit from another cursor changes nothing", s.testWrongCursor)
	t.Run("a commit that dies anywhere counts once", s.testCrash)
	t.Run("what a commit parks dies with it", s.testCrashParking)
	t.Run("what does not count any more is taken back", s.testCorrected)
	t.Run("a correction that dies anywhere is made once", s.testCrashCorrecting)
	t.Run("a stream is corrected behind a skipped event", s.testCorrectedBehindSkipped)
	t.Run("a parked event comes to its place when it is retried", s.testCorrectedWhenRetried)
	t.Run("reset leaves nothing", s.testReset)
	t.Run("another version has no cursor", s.testVersion)
	t.Run("what was lost is missed", s.testLost)
	t.Run("parked events wait in order", s.testParked)
	t.Run("what only passes is not parked", s.testEnded)
	t.Run("parked events are retried and skipped", s.testParking)
	t.Run("a generation is filled beside the live model", s.testGeneration)
	t.Run("a runner follows, rebuilds, and notices what was lost", s.testRunner)
}

// fixture is a storage, a projection and a log.
type fixture[W any] struct {
	Storage[W]
	patient patient[W]
	log     *memstore.Store
}

func (s *suite[W]) fixture(t testing.TB, events int) fixture[W] {
	f := fixture[W]{Storage: s.open(t), patient: s.projection(1), log: memstore.New(memstore.Options{})}
	grow(t, f.log, events)
	return f
}

// sink returns a new sink of the fixture's projection.
func (f *fixture[W]) sink(t testing.TB) projections.Sink {
	return f.Storage.Sink(t, f.patient.Projection)
}

// empty opens a sink and makes it empty.
func empty(t testing.TB, sink projections.Sink) projections.Sink {
	t.Helper()
	if _, err := sink.Open(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
		t.Fatalf("Open of an empty storage: %v, want ErrNoCursor", err)
	}
	if err := sink.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	return sink
}

// opened opens a sink that must stand at a cursor.
func opened(t testing.TB, sink projections.Sink, want projections.Cursor) projections.Sink {
	t.Helper()
	got, err := sink.Open(t.Context())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if got != want {
		t.Fatalf("Open: the cursor is %s, want %s", got, want)
	}
	return sink
}

// fill commits what the log has after the cursor, in one go, and returns the cursor behind it.
func fill(t testing.TB, sink projections.Sink, log *memstore.Store, from projections.Cursor) projections.Cursor {
	t.Helper()
	events, to := read(t, log, from)
	commit(t, sink, from, to, events)
	return to
}

func commit(t testing.TB, sink projections.Sink, from, to projections.Cursor, events []eventstore.Recorded) []projections.Parked {
	t.Helper()
	parked, err := sink.Commit(t.Context(), from, to, events)
	if err != nil {
		t.Fatalf("Commit from %s to %s: %v", from, to, err)
	}
	return parked
}

func digest(t testing.TB, d interface {
	Digest(context.Context) (string, error)
},
) string {
	t.Helper()
	sum, err := d.Digest(t.Context())
	if err != nil {
		t.Fatalf("Digest: %v", err)
	}
	if sum == "" {
		t.Fatal("Digest is empty")
	}
	return sum
}

// blank commits a cursor without events to a sink that was reset, and returns the digest of the model that has nothing.
func blank(t testing.TB, sink projections.Sink) string {
	t.Helper()
	commit(t, sink, projections.Cursor{}, projections.Cursor{Position: eventstore.Position{Incarnation: 1, LSN: 1}, Seq: 1}, nil)
	return digest(t, sink)
}

// undisturbed returns the digest of a model of the whole log, made in one commit in a storage of its own by a projection
// in good health.
func (s *suite[W]) undisturbed(t testing.TB, log *memstore.Store) string {
	t.Helper()
	return s.undisturbedBy(t, log, s.projection(1).Projection)
}

func (s *suite[W]) undisturbedBy(t testing.TB, log *memstore.Store, p projections.Projection[W]) string {
	t.Helper()
	storage := s.open(t)
	sink := empty(t, storage.Sink(t, p))
	fill(t, sink, log, projections.Cursor{})
	return digest(t, sink)
}

func (s *suite[W]) testNew(t *testing.T) {
	f := s.fixture(t, 0)
	sink := f.sink(t)
	if sink.Name() != Name {
		t.Errorf("Name is %q, want %q", sink.Name(), Name)
	}
	if got := len(sink.Types()); got != len(f.patient.Types) {
		t.Errorf("Types are %d, want %d", got, len(f.patient.Types))
	}
	empty(t, sink)
	if err := sink.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := sink.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func (s *suite[W]) testCommit(t *testing.T) {
	f := s.fixture(t, 120)
	want := s.undisturbed(t, f.log)
	other := s.open(t)
	nothing := blank(t, empty(t, other.Sink(t, s.projection(1).Projection)))
	sink := empty(t, f.sink(t))

	events, _ := read(t, f.log, projections.Cursor{})
	var at projections.Cursor
	for i, size := 0, 1; i < len(events); size++ { // batches of 1, 2, 3 … events
		n := min(i+size, len(events))
		to := projections.Cursor{Position: events[n-1].Position, Seq: events[n-1].Dot.Seq}
		if parked := commit(t, sink, at, to, events[i:n]); len(parked) > 0 {
			t.Fatalf("Commit parked %v", parked)
		}
		at, i = to, n
	}
	got := digest(t, sink)
	if got == nothing {
		t.Error("the digest does not change with the model")
	}
	if got != want {
		t.Errorf("committed in many batches the digest is %s, in one %s", got, want)
	}
	// The cursor alone moves too.
	to := projections.Cursor{Position: at.Position, Seq: at.Seq}
	to.Position.LSN += 5
	to.Seq += 5
	commit(t, sink, at, to, nil)
	again := opened(t, f.sink(t), to)
	if digest(t, again) != want {
		t.Error("a new sink over the same storage has another digest")
	}
}

func (s *suite[W]) testWrongCursor(t *testing.T) {
	f := s.fixture(t, 40)
	sink := empty(t, f.sink(t))
	at := fill(t, sink, f.log, projections.Cursor{})
	want := digest(t, sink)

	grow(t, f.log, 10)
	events, to := read(t, f.log, at)
	behind := projections.Cursor{Position: at.Position, Seq: at.Seq - 1}
	behind.Position.LSN--
	for _, from := range []projections.Cursor{{}, behind, to} {
		if _, err := sink.Commit(t.Context(), from, to, events); !errors.Is(err, projections.ErrCursorMoved) {
			t.Errorf("Commit from %s at %s: %v, want ErrCursorMoved", from, at, err)
		}
	}
	if got := digest(t, opened(t, f.sink(t), at)); got != want {
		t.Error("a refused commit changed the model")
	}
	// Of two processes one is late.
	first, second := opened(t, f.sink(t), at), opened(t, f.sink(t), at)
	commit(t, first, at, to, events)
	want = digest(t, first)
	if _, err := second.Commit(t.Context(), at, to, events); !errors.Is(err, projections.ErrCursorMoved) {
		t.Errorf("Commit of the late process: %v, want ErrCursorMoved", err)
	}
	if got := digest(t, opened(t, second, to)); got != want {
		t.Error("the late process changed the model")
	}
	if want != s.undisturbed(t, f.log) {
		t.Error("the model differs from an undisturbed one")
	}
}

// mostSteps is more steps than any sink needs to open and to commit twice.
const mostSteps = 200

// testCrash shows P1: whatever step a process dies at, the next one finds model and cursor both before or both after.
func (s *suite[W]) testCrash(t *testing.T) {
	if s.open(t).Crashing == nil {
		f := s.fixture(t, 10)
		fill(t, empty(t, f.sink(t)), f.log, projections.Cursor{})
		return // one step in memory: commits are tested above
	}
	log := memstore.New(memstore.Options{})
	grow(t, log, 30)
	first := len(mustRead(t, log))
	before := s.undisturbed(t, log)
	grow(t, log, 30)
	all, end := read(t, log, projections.Cursor{})
	middle := projections.Cursor{Position: all[first-1].Position, Seq: all[first-1].Dot.Seq}
	after := s.undisturbed(t, log)
	s.dieAnywhere(t, log, func() patient[W] { return s.projection(1) }, first, middle, end, before, after)
}

// dieAnywhere has a process die at every step of the commit from middle to end, after the first events were committed. before
// and after are the digests of the model at both.
func (s *suite[W]) dieAnywhere(
	t *testing.T, log *memstore.Store, projection func() patient[W], first int, middle, end projections.Cursor, before, after string,
) {
	t.Helper()
	all := mustRead(t, log)
	done, undone := 0, 0
	for _, sent := range []bool{false, true} {
		var f *fixture[W] // a storage that stands at middle
		for step := range mostSteps {
			if f == nil {
				f = &fixture[W]{Storage: s.open(t), patient: projection(), log: log}
				commit(t, empty(t, f.sink(t)), projections.Cursor{}, middle, all[:first])
			}
			dying := f.Crashing(t, f.patient.Projection, CrashPoint{Step: step, Sent: sent})
			_, err := dying.Open(t.Context())
			opens := err == nil
			if opens {
				_, err = dying.Commit(t.Context(), middle, end, all[first:])
			}
			if err != nil && !errors.Is(err, ErrCrash) {
				t.Fatalf("crash after step %d (sent %t): %v, want ErrCrash", step, sent, err)
			}
			// A new process finds the one or the other, never a mixture, and goes on.
			next := f.sink(t)
			at, openErr := next.Open(t.Context())
			if openErr != nil {
				t.Fatalf("crash after step %d (sent %t): next Open: %v", step, sent, openErr)
			}
			if !opens { // the next one dies here too: a new storage at each step takes most of the time
				if at != middle || digest(t, next) != before {
					t.Fatalf("crash after step %d (sent %t) of Open: the model is at %s, and was at %s", step, sent, at, middle)
				}
				continue
			}
			switch at {
			case middle:
				if err == nil {
					t.Fatalf("crash after step %d (sent %t): the commit was confirmed and is not there", step, sent)
				}
				undone++
				if got := digest(t, next); got != before {
					t.Fatalf("crash after step %d (sent %t): the cursor has not moved, the model has", step, sent)
				}
				commit(t, next, middle, end, all[first:])
			case end:
				done++
			default:
				t.Fatalf("crash after step %d (sent %t): the cursor is %s, want %s or %s", step, sent, at, middle, end)
			}
			if got := digest(t, opened(t, f.sink(t), end)); got != after {
				t.Fatalf("crash after step %d (sent %t): events are lost or count twice", step, sent)
			}
			f = nil
			if err == nil {
				break
			}
			if step == mostSteps-1 {
				t.Fatalf("the sink still crashes after %d steps", mostSteps)
			}
		}
	}
	if undone == 0 || done < 2 {
		t.Errorf("%d crashes before the commit and %d after: the crash points do not reach around it", undone, done)
	}
}

// testCrashParking shows P6 for P1: whatever step a commit dies at, the next process knows what it parked if the cursor
// moved, and nothing of it else.
func (s *suite[W]) testCrashParking(t *testing.T) {
	if s.open(t).Crashing == nil {
		return // one step in memory: parking is tested below
	}
	log := memstore.New(memstore.Options{})
	grow(t, log, 10)
	first, middle := read(t, log, projections.Cursor{})
	append1(t, log, account(100), event(credited, 1))
	append1(t, log, account(100), event(garbled, 2))
	append1(t, log, account(101), event(garbled, 3))
	second, end := read(t, log, middle)
	// Each event is followed by one that waits if, and only if, the event is parked.
	append1(t, log, account(100), event(credited, 4))
	append1(t, log, account(101), event(credited, 5))
	third, last := read(t, log, end)

	parkedAt := map[projections.Cursor]int{middle: 0, end: 2}
	met := make(map[projections.Cursor]int)
	for _, sent := range []bool{false, true} {
		var f *fixture[W] // a storage that stands at middle
		for step := range mostSteps {
			if f == nil {
				f = &fixture[W]{Storage: s.open(t), patient: s.projection(1), log: log}
				commit(t, empty(t, f.sink(t)), projections.Cursor{}, middle, first)
			}
			f.patient.ill.Store(true)
			dying := f.Crashing(t, f.patient.Projection, CrashPoint{Step: step, Sent: sent})
			_, err := dying.Open(t.Context())
			opens := err == nil
			if opens {
				_, err = dying.Commit(t.Context(), middle, end, second)
			}
			if err != nil && !errors.Is(err, ErrCrash) {
				t.Fatalf("crash after step %d (sent %t): %v, want ErrCrash", step, sent, err)
			}
			f.patient.ill.Store(false)
			if !opens { // what that leaves testCrash looks at
				continue
			}
			next := f.sink(t)
			at, openErr := next.Open(t.Context())
			if openErr != nil {
				t.Fatalf("crash after step %d (sent %t): next Open: %v", step, sent, openErr)
			}
			want, ok := parkedAt[at]
			if !ok {
				t.Fatalf("crash after step %d (sent %t): the cursor is %s, want %s or %s", step, sent, at, middle, end)
			}
			met[at]++
			if lot, ok := next.(projections.Parking); ok {
				parked, err := lot.Parked(t.Context())
				if err != nil || len(parked) != want {
					t.Fatalf("crash after step %d (sent %t): at %s Parked lists %d events, %v, want %d", step, sent, at, len(parked), err, want)
				}
			}
			if at == middle {
				commit(t, next, middle, end, second)
			}
			if parked := commit(t, next, end, last, third); len(parked) != want {
				t.Fatalf("crash after step %d (sent %t): %d events wait behind parked ones, want %d", step, sent, len(parked), want)
			}
			f = nil
			if err == nil {
				break
			}
			if step == mostSteps-1 {
				t.Fatalf("the sink still crashes after %d steps", mostSteps)
			}
		}
	}
	if met[middle] == 0 || met[end] < 2 {
		t.Errorf("%d crashes before the commit and %d after: the crash points do not reach around it", met[middle], met[end])
	}
}

func mustRead(t testing.TB, log *memstore.Store) []eventstore.Recorded {
	t.Helper()
	events, _ := read(t, log, projections.Cursor{})
	return events
}

func (s *suite[W]) testReset(t *testing.T) {
	f := s.fixture(t, 50)
	other := s.open(t)
	nothing := blank(t, empty(t, other.Sink(t, s.projection(1).Projection)))
	sink := empty(t, f.sink(t))
	fill(t, sink, f.log, projections.Cursor{})
	want := digest(t, sink)

	if err := sink.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	for _, again := range []projections.Sink{sink, f.sink(t)} {
		if at, err := again.Open(t.Context()); err != nil && !errors.Is(err, projections.ErrNoCursor) || at != (projections.Cursor{}) {
			t.Errorf("Open after Reset: %s, %v, want ErrNoCursor or the zero cursor", at, err)
		}
	}
	if got := blank(t, sink); got != nothing {
		t.Error("Reset left something in the model")
	}
	if err := sink.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	fill(t, sink, f.log, projections.Cursor{})
	if got := digest(t, sink); got != want {
		t.Error("filled again after Reset the model differs")
	}
}

func (s *suite[W]) testVersion(t *testing.T) {
	f := s.fixture(t, 50)
	sink := empty(t, f.sink(t))
	fill(t, sink, f.log, projections.Cursor{})
	want := digest(t, sink)

	next := f.Storage.Sink(t, s.projection(2).Projection)
	fill(t, empty(t, next), f.log, projections.Cursor{})
	if got := digest(t, next); got != want {
		t.Error("filled by version 2, which folds alike, the model differs")
	}
}

// testLost shows P4 for a sink: a model that is gone has no cursor.
func (s *suite[W]) testLost(t *testing.T) {
	f := s.fixture(t, 50)
	if f.Lose == nil {
		return // what cannot be lost need not be missed
	}
	sink := empty(t, f.sink(t))
	at := fill(t, sink, f.log, projections.Cursor{})
	want := digest(t, sink)
	grow(t, f.log, 1)
	events, to := read(t, f.log, at)

	f.Lose(t)
	if _, err := sink.Commit(t.Context(), at, to, events); !errors.Is(err, projections.ErrNoCursor) {
		t.Errorf("Commit to a storage that was emptied: %v, want ErrNoCursor", err)
	}
	if r, ok := sink.(projections.CursorReader); ok {
		if at, err := r.Cursor(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
			t.Errorf("Cursor of a storage that was emptied: %s, %v, want ErrNoCursor", at, err)
		}
	}
	if at, err := sink.Open(t.Context()); !errors.Is(err, projections.ErrNoCursor) {
		t.Errorf("Open of a storage that was emptied: %s, %v, want ErrNoCursor", at, err)
	}
	if err := sink.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	fill(t, sink, f.log, projections.Cursor{})
	if got := digest(t, sink); got == want || got != s.undisturbed(t, f.log) {
		t.Error("filled again the model differs from an undisturbed one")
	}
}
