package projections_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const counted = "counter.counted.v1"

// counters counts the events of each counter, and the sum of its payloads.
func counters(version int) projections.Projection[projections.Keys] {
	return projections.Projection[projections.Keys]{
		Name: "counters", Version: version, Types: []string{counted},
		Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			n, err := strconv.ParseInt(string(e.Payload), 10, 64)
			if err != nil {
				return err
			}
			w.HashAdd(e.Stream.ID, "events", 1)
			w.HashAdd(e.Stream.ID, "sum", n)
			w.HashSet(e.Stream.ID, "version", strconv.FormatUint(e.Version, 10))
			return nil
		},
	}
}

// count appends n events to the log, each alone, and returns where the last stands.
func count(t testing.TB, log *memstore.Store, n int) eventstore.Position {
	t.Helper()
	var at eventstore.Position
	for i := range n {
		at = appendTo(t, log, "c"+strconv.Itoa(i%5), counted, strconv.Itoa(i))
	}
	return at
}

func appendTo(t testing.TB, log *memstore.Store, counter, typ, payload string) eventstore.Position {
	t.Helper()
	r, err := log.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("counter", counter), Events: []eventstore.Event{{Type: typ, Payload: []byte(payload)}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return r.Position
}

// digestOf returns the digest of a model of the whole log.
func digestOf(t testing.TB, log projections.Source) string {
	t.Helper()
	sink := memview.NewKeys(counters(1))
	if err := projections.Replay(context.Background(), log, sink, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	sum, err := sink.Digest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func digest(t testing.TB, sink projections.Sink) string {
	t.Helper()
	sum, err := sink.Digest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// quiet are options for tests: what is logged is not read.
var quiet = projections.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}

// start runs a runner until the test ends; wait ends it and returns what Run returned.
func start(t *testing.T, r *projections.Runner) (wait func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	var err error
	wait = func() error {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	t.Cleanup(func() { _ = wait() })
	return wait
}

func await(t testing.TB, r *projections.Runner, p eventstore.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Await(ctx, p); err != nil {
		t.Fatalf("wait for %s: %v; status %+v", p, err, r.Status())
	}
}

// link stands between a runner and its source and sink, and can be cut.
type link struct {
	projections.Source
	eventstore.Appender
	*memview.Keys

	mu                   sync.Mutex
	sourceDown, sinkDown error
	unreadable           error // of events, while the log's head can be read
	loseAnswer           bool
	commits              int
	tamper               func(*eventstore.Chunk)
}

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *link) source() error  { l.mu.Lock(); defer l.mu.Unlock(); return l.sourceDown }
func (l *link) sink() error    { l.mu.Lock(); defer l.mu.Unlock(); return l.sinkDown }
func (l *link) committed() int { l.mu.Lock(); defer l.mu.Unlock(); return l.commits }

func (l *link) Log(ctx context.Context) (eventstore.LogState, error) {
	if err := l.source(); err != nil {
		return eventstore.LogState{}, err
	}
	return l.Source.Log(ctx)
}

func (l *link) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	if err := l.source(); err != nil {
		return nil, err
	}
	f.MaxChunk = 7
	sub, err := l.Source.Subscribe(ctx, after, f)
	return &cutSubscription{Subscription: sub, link: l}, err
}

type cutSubscription struct {
	eventstore.Subscription
	link *link
}

func (s *cutSubscription) Next(ctx context.Context) (eventstore.Chunk, error) {
	c, err := s.Subscription.Next(ctx)
	if down := s.link.source(); down != nil {
		return eventstore.Chunk{}, down
	}
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.link.unreadable != nil {
		return eventstore.Chunk{}, s.link.unreadable
	}
	if s.link.tamper != nil && err == nil {
		s.link.tamper(&c)
	}
	return c, err
}

func (l *link) Open(ctx context.Context) (projections.Cursor, error) {
	if err := l.sink(); err != nil {
		return projections.Cursor{}, err
	}
	return l.Keys.Open(ctx)
}

func (l *link) Cursor(ctx context.Context) (projections.Cursor, error) { return l.Open(ctx) }

func (l *link) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	if err := l.sink(); err != nil {
		return nil, err
	}
	parked, err := l.Keys.Commit(ctx, from, to, events)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commits++
	if l.loseAnswer && err == nil {
		l.loseAnswer = false
		return nil, errDown
	}
	return parked, err
}

var errDown = errors.New("connection refused")

// linked returns a log with n events, a link over it, and a runner that uses the link.
func linked(t *testing.T, n int, o projections.Options) (*memstore.Store, *link, *projections.Runner) {
	log := memstore.New(memstore.Options{})
	if n > 0 {
		count(t, log, n)
	}
	l := &link{Source: log, Appender: log, Keys: memview.NewKeys(counters(1))}
	o.Logger = quiet.Logger
	return log, l, projections.NewRunner(l, l, o)
}

func TestRunnerFollowsTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 100, projections.Options{MaxBatch: 10})
		if got := r.Status().State; got != projections.Starting {
			t.Errorf("before Run the state is %q", got)
		}
		if _, err := r.Position(t.Context()); !errors.Is(err, projections.ErrUnavailable) {
			t.Errorf("before Run the position is %v, want ErrUnavailable", err)
		}
		wait := start(t, r)
		await(t, r, count(t, log, 50))
		synctest.Wait()
		if got, want := digest(t, l.Keys), digestOf(t, log); got != want {
			t.Error("the model differs from one that was folded in one go")
		}
		s := r.Status()
		if s.State != projections.Live || s.Position.LSN != 150 || s.Head.LSN != 150 || s.LagEvents != 0 || s.LagSeconds != 0 {
			t.Errorf("when all is folded the status is %+v", s)
		}
		if at, err := r.Position(t.Context()); err != nil || at.LSN != 150 {
			t.Errorf("the position is %s, %v, want 1-150", at, err)
		}
		if err := wait(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := r.Await(t.Context(), eventstore.Position{Incarnation: 1, LSN: 151}); !errors.Is(err, projections.ErrStopped) {
			t.Errorf("Await after Run has returned: %v, want ErrStopped", err)
		}
		// Run again goes on where it was.
		start(t, r)
		synctest.Wait()
		await(t, r, count(t, log, 10))
		if got, want := digest(t, l.Keys), digestOf(t, log); got != want {
			t.Error("after a second Run the model differs")
		}
	})
}

func TestRunnerMovesTheCursorOverUnwantedEventsNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 1, projections.Options{CheckEvery: time.Second})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 1})
		commits := l.committed()
		var at eventstore.Position
		for range 20 {
			at = appendTo(t, log, "x", "counter.else.v1", "")
		}
		await(t, r, at)
		synctest.Wait()
		if l.committed() != commits {
			t.Errorf("%d commits for events that the projection does not want", l.committed()-commits)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if c, _ := l.Keys.Cursor(t.Context()); c.Position != at || l.committed() != commits+1 {
			t.Errorf("after the next look the cursor is %s with %d more commits, want %s with 1", c.Position, l.committed()-commits, at)
		}
	})
}

func TestRunnerLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 1, projections.Options{Linger: 200 * time.Millisecond, MaxBatch: 50, CheckEvery: time.Hour})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 1})
		synctest.Wait()
		commits, begun := l.committed(), time.Now()
		var at eventstore.Position
		for range 5 {
			at = count(t, log, 1)
			time.Sleep(20 * time.Millisecond)
		}
		await(t, r, at)
		if waited := time.Since(begun); waited != 200*time.Millisecond {
			t.Errorf("events were committed after %s, want 200ms", waited)
		}
		if l.committed() != commits+1 {
			t.Errorf("%d commits, want 1 for all that came while it lingered", l.committed()-commits)
		}
		begun = time.Now()
		await(t, r, count(t, log, 60)) // more than a batch: no lingering
		if waited := time.Since(begun); waited > 200*time.Millisecond {
			t.Errorf("a full batch waited %s", waited)
		}
	})
}

func TestRunnerGoesOnWhenTheSinkIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 20, projections.Options{})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 20})
		l.set(func() { l.sinkDown = errDown })
		at := count(t, log, 1000)
		time.Sleep(20 * time.Second)
		s := r.Status()
		if s.State != projections.Retrying || !strings.Contains(s.LastError, errDown.Error()) || s.LagEvents == 0 || s.LagSeconds < 15 {
			t.Errorf("while the sink is down the status is %+v", s)
		}
		if _, err := r.Position(t.Context()); !errors.Is(err, projections.ErrUnavailable) {
			t.Errorf("while the sink is down the position is %v, want ErrUnavailable", err)
		}
		l.set(func() { l.sinkDown, l.loseAnswer = nil, true })
		await(t, r, at)
		synctest.Wait()
		if s := r.Status(); s.State != projections.Live {
			t.Errorf("when the sink is back the status is %+v", s)
		}
		if digest(t, l.Keys) != digestOf(t, log) {
			t.Error("events were lost or counted twice")
		}
		if r.Status().Rebuilds != 1 {
			t.Errorf("the model was filled %d times, want once", r.Status().Rebuilds)
		}
	})
}

func TestRunnerGoesOnWhenTheSourceIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 20, projections.Options{})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 20})
		l.set(func() { l.sourceDown = errDown })
		at := count(t, log, 100)
		time.Sleep(20 * time.Second)
		if s := r.Status(); s.State != projections.Retrying || !strings.Contains(s.LastError, errDown.Error()) {
			t.Errorf("while the source is down the status is %+v", s)
		}
		if got, err := r.Position(t.Context()); err != nil || got.LSN != 20 {
			t.Errorf("while the source is down the position is %s, %v: the model can still be read", got, err)
		}
		l.set(func() { l.sourceDown = nil })
		await(t, r, at)
		synctest.Wait()
		if s := r.Status(); s.State != projections.Live {
			t.Errorf("when the source is back the status is %+v", s)
		}
		if digest(t, l.Keys) != digestOf(t, log) {
			t.Error("events were lost or counted twice")
		}
	})
}

// TestRunnerStopsWhenEventsAreMissing shows P2.
func TestRunnerStopsWhenEventsAreMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l, r := linked(t, 50, projections.Options{})
		l.tamper = func(c *eventstore.Chunk) {
			for i := range c.Events {
				if c.Events[i].Dot.Seq == 40 {
					c.Events = append(c.Events[:i:i], c.Events[i+1:]...)
					return
				}
			}
		}
		done := make(chan error, 1)
		go func() { done <- r.Run(t.Context()) }()
		err := <-done
		if !errors.Is(err, projections.ErrOrder) || !strings.Contains(err.Error(), "seq 40") || !strings.Contains(err.Error(), "seq 41") {
			t.Errorf("Run: %v, want ErrOrder with both seqs", err)
		}
		if s := r.Status(); s.State != projections.Stopped || !strings.Contains(s.LastError, "seq 40") {
			t.Errorf("the status is %+v", s)
		}
		if err := r.Await(t.Context(), eventstore.Position{Incarnation: 1, LSN: 50}); !errors.Is(err, projections.ErrStopped) || !errors.Is(err, projections.ErrOrder) {
			t.Errorf("Await: %v, want ErrStopped because of ErrOrder", err)
		}
	})
}

// TestRunnerRebuildsAModelOfAnotherLog shows P3.
func TestRunnerRebuildsAModelOfAnotherLog(t *testing.T) {
	for name, old := range map[string]*memstore.Store{
		"another incarnation": memstore.New(memstore.Options{LogID: eventstore.LogID{Incarnation: 7}}),
		"beyond the head":     memstore.New(memstore.Options{}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				count(t, old, 300)
				log, l, r := linked(t, 200, projections.Options{})
				if err := projections.Replay(t.Context(), old, l.Keys, projections.Cursor{}); err != nil {
					t.Fatal(err)
				}
				start(t, r)
				await(t, r, eventstore.Position{Incarnation: 1, LSN: 200})
				synctest.Wait()
				if digest(t, l.Keys) != digestOf(t, log) {
					t.Error("the model is not that of the log")
				}
				if err := r.Await(t.Context(), eventstore.Position{Incarnation: 7, LSN: 1}); !errors.Is(err, eventstore.ErrWrongIncarnation) {
					t.Errorf("Await of a position of another life: %v, want ErrWrongIncarnation", err)
				}
			})
		})
	}
}

// copied is a source that may be behind the log.
type copied struct{ projections.Source }

// TestRunnerWaitsForACopyOfTheLog: a topic that is behind the model is no reason to drop the model.
func TestRunnerWaitsForACopyOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := memstore.New(memstore.Options{})
		count(t, whole, 300)
		log, l, _ := linked(t, 200, projections.Options{})
		if err := projections.Replay(t.Context(), whole, l.Keys, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		before := digest(t, l.Keys)
		r := projections.NewRunner(copied{l}, l, quiet)
		start(t, r)
		time.Sleep(time.Minute)
		if s := r.Status(); s.State != projections.Retrying || !strings.Contains(s.LastError, projections.ErrSourceBehind.Error()) || s.Rebuilds != 0 {
			t.Errorf("while the source is behind the status is %+v", s)
		}
		if at, err := r.Position(t.Context()); err != nil || at.LSN != 300 || digest(t, l.Keys) != before {
			t.Errorf("while the source is behind the position is %s, %v, or the model was touched", at, err)
		}
		for i := 200; i < 320; i++ {
			appendTo(t, log, "c"+strconv.Itoa(i%5), counted, strconv.Itoa(i))
		}
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 320})
		synctest.Wait()
		if s := r.Status(); s.Rebuilds != 0 || s.State != projections.Live || l.Value("c0").Hash["events"] != "64" {
			t.Errorf("when the source has caught up the status is %+v, the counter %v", s, l.Value("c0").Hash)
		}
	})
}

func TestRunnerRebuildsWhatIsLostWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 100, projections.Options{})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 100})
		synctest.Wait()
		l.Keys.Lose()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if digest(t, l.Keys) != digestOf(t, log) {
			t.Error("the lost model is not back")
		}
		if s := r.Status(); s.Rebuilds != 2 || s.State != projections.Live || s.Rebuild != nil {
			t.Errorf("the status is %+v", s)
		}
	})
}

// slowFill is a sink that takes its time for each batch of a model that is filled anew.
type slowFill struct{ *memview.Keys }

type slowGeneration struct{ projections.Generation }

func (s slowFill) Beside(ctx context.Context) (projections.Generation, error) {
	g, err := s.Keys.Beside(ctx)
	return slowGeneration{g}, err
}

func (g slowGeneration) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	time.Sleep(100 * time.Millisecond)
	return g.Generation.Commit(ctx, from, to, events)
}

// Two runners that fill one model, each of which drops what the other has begun, come to an end all the same.
func TestTwoRunnersFillOneModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memstore.New(memstore.Options{})
		end := count(t, log, 1000)
		sink := slowFill{memview.NewKeys(counters(1))}
		runners := make([]*projections.Runner, 2)
		for i := range runners {
			runners[i] = projections.NewRunner(log, sink, projections.Options{MaxBatch: 10, Logger: quiet.Logger})
			start(t, runners[i])
			time.Sleep(3 * time.Second)
		}
		began := time.Now()
		for _, r := range runners {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			if err := r.Await(ctx, end); err != nil {
				t.Fatalf("after %s: %v; status %+v", time.Since(began), err, r.Status())
			}
			cancel()
		}
		if digest(t, sink) != digestOf(t, log) {
			t.Error("the model differs from one that was folded in one go")
		}
	})
}

// TestRunnerNoticesAnOlderModel: a server that was restored behind our back has a whole model of an earlier position.
func TestRunnerNoticesAnOlderModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 100, projections.Options{})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 100})
		synctest.Wait()
		l.Keys.Lose()
		older := projections.Cursor{Position: eventstore.Position{Incarnation: 1, LSN: 40}, Seq: 40}
		if err := projections.Replay(t.Context(), log, l.Keys, older); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if digest(t, l.Keys) != digestOf(t, log) {
			t.Error("the older model was not brought up to date")
		}
		if n := r.Status().Rebuilds; n != 1 {
			t.Errorf("the model was filled %d times, want once: it only had to catch up", n)
		}
	})
}

func TestRunnerIsPausedAndReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 100, projections.Options{})
		wait := start(t, r)
		if err := r.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := digest(t, l.Keys)
		at := count(t, log, 100)
		time.Sleep(time.Minute)
		if s := r.Status(); s.State != projections.Paused || digest(t, l.Keys) != before {
			t.Errorf("a paused runner goes on: %+v", s)
		}
		r.Resume()
		await(t, r, at)
		if err := r.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		await(t, r, at)
		if s := r.Status(); s.Rebuilds != 2 || digest(t, l.Keys) != digestOf(t, log) {
			t.Errorf("after Reset the model differs or was not filled: %+v", s)
		}
		if err := wait(); err != nil {
			t.Fatal(err)
		}
		if err := r.Pause(t.Context()); !errors.Is(err, projections.ErrStopped) {
			t.Errorf("Pause of a runner that has stopped: %v, want ErrStopped", err)
		}
	})
}

// oneGeneration hides that a memory view has generations.
type oneGeneration struct{ projections.Sink }

// TestRebuildOfARunningProjection shows P5, with a switch at an exact position while the log grows.
func TestRebuildOfARunningProjection(t *testing.T) {
	for _, beside := range []bool{true, false} {
		t.Run(fmt.Sprintf("beside=%t", beside), func(t *testing.T) {
			log := memstore.New(memstore.Options{})
			count(t, log, 5000)
			keys := memview.NewKeys(counters(1))
			var sink projections.Sink = keys
			if !beside {
				sink = oneGeneration{keys}
			}
			o := quiet
			o.MaxBatch = 100
			r := projections.NewRunner(log, sink, o)
			start(t, r)
			await(t, r, eventstore.Position{Incarnation: 1, LSN: 5000})

			stop, growing := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(growing)
				for {
					select {
					case <-stop:
						return
					default:
						count(t, log, 10)
					}
				}
			}()
			var last projections.RebuildProgress
			calls := 0
			before, after, err := r.Rebuild(t.Context(), func(p projections.RebuildProgress) {
				if p.Done < last.Done || p.Done > p.Total {
					t.Errorf("progress went from %+v to %+v", last, p)
				}
				last = p
				calls++
			})
			close(stop)
			<-growing
			if err != nil {
				t.Fatal(err)
			}
			if before == "" || before != after {
				t.Errorf("the digests are %q and %q", before, after)
			}
			if calls < 10 || last.Done != last.Total || last.Done < 5000 || last.Rate <= 0 {
				t.Errorf("%d calls, the last progress is %+v", calls, last)
			}
			await(t, r, count(t, log, 1))
			if digest(t, keys) != digestOf(t, log) {
				t.Error("events were lost or counted twice at the switch")
			}
		})
	}
}

func TestRebuildLeavesTheLiveModelWhenItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 500, projections.Options{MaxBatch: 10})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 500})
		ctx, cancel := context.WithCancel(t.Context())
		_, _, err := r.Rebuild(ctx, func(p projections.RebuildProgress) {
			if p.Done > 100 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Rebuild: %v, want it canceled", err)
		}
		await(t, r, count(t, log, 10))
		synctest.Wait()
		if s := r.Status(); s.State != projections.Live || s.Rebuild != nil || digest(t, l.Keys) != digestOf(t, log) {
			t.Errorf("after a rebuild that was given up the status is %+v", s)
		}
	})
}

func TestRebuildOfAStoppedProjection(t *testing.T) {
	log := memstore.New(memstore.Options{})
	count(t, log, 100)
	half, err := log.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sink := memview.NewKeys(counters(1))
	if err := projections.Replay(t.Context(), log, sink, projections.Cursor{Position: half.Durable, Seq: half.Seq}); err != nil {
		t.Fatal(err)
	}
	count(t, log, 100)
	before, after, err := projections.Rebuild(t.Context(), log, sink, quiet, nil)
	if err != nil || before == "" || before != after {
		t.Errorf("Rebuild: %q, %q, %v", before, after, err)
	}
	if digest(t, sink) != digestOf(t, log) {
		t.Error("after Rebuild the model is not that of the whole log")
	}
	empty := memview.NewKeys(counters(1))
	if before, _, err := projections.Rebuild(t.Context(), log, empty, quiet, nil); err != nil || before != "" || digest(t, empty) != digestOf(t, log) {
		t.Errorf("Rebuild of a sink that has nothing: before is %q, %v", before, err)
	}
}

func TestReplayStopsAtAPosition(t *testing.T) {
	log := memstore.New(memstore.Options{})
	count(t, log, 33)
	want := digestOf(t, log)
	at, err := log.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	count(t, log, 1000)
	sink := memview.NewKeys(counters(1))
	cursor := projections.Cursor{Position: at.Durable, Seq: at.Seq}
	if err := projections.Replay(t.Context(), log, sink, cursor); err != nil {
		t.Fatal(err)
	}
	if got, _ := sink.Cursor(t.Context()); got != cursor || digest(t, sink) != want {
		t.Errorf("the model stands at %s, want exactly %s with what the log then held", got, cursor)
	}
	cursor.Position.LSN = 5000
	if err := projections.Replay(t.Context(), log, sink, cursor); !errors.Is(err, eventstore.ErrWrongIncarnation) {
		t.Errorf("Replay beyond the head: %v, want ErrWrongIncarnation", err)
	}
}

// A log that has no events is folded at once: nothing is waited for that never comes.
func TestReplayOfAnEmptyLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memstore.New(memstore.Options{})
		defer log.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := projections.Replay(ctx, log, memview.NewKeys(counters(1)), projections.Cursor{}); err != nil {
			t.Error(err)
		}
	})
}

// TestRunnerCountsParkedEvents shows P6: parked events are told of and counted.
func TestRunnerCountsParkedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan projections.Parked, 10)
		log, l, r := linked(t, 10, projections.Options{OnParked: func(p []projections.Parked) {
			for i := range p {
				told <- p[i]
			}
		}})
		start(t, r)
		appendTo(t, log, "bad", counted, "not a number")
		await(t, r, appendTo(t, log, "bad", counted, "5"))
		if s := r.Status(); s.Parked != 2 || len(told) != 2 {
			t.Errorf("%d events are parked, %d were told of, want 2", s.Parked, len(told))
		}
		if p := <-told; p.Reason == "" || p.Stream.ID != "bad" {
			t.Errorf("told of %+v", p)
		}
		if err := l.Skip(t.Context(), eventstore.Position{Incarnation: 1, LSN: 11}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		if s := r.Status(); s.Parked != 0 {
			t.Errorf("%d events are parked after the operator has skipped one, want 0", s.Parked)
		}
		if v := l.Value("bad"); v.Hash["sum"] != "5" {
			t.Errorf("what waited behind the skipped event is %v", v.Hash)
		}
	})
}

func TestRunnerStopsWhenTheProjectionWritesNonsense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := memstore.New(memstore.Options{})
		count(t, log, 3)
		p := counters(1)
		p.Apply = func(w projections.Keys, e *eventstore.Recorded) error {
			w.Set("k", nil)
			w.HashSet("k", "f", "v")
			return nil
		}
		r := projections.NewRunner(log, memview.NewKeys(p), quiet)
		done := make(chan error, 1)
		go func() { done <- r.Run(t.Context()) }()
		if err := <-done; !errors.Is(err, projections.ErrBadWrite) {
			t.Errorf("Run: %v, want ErrBadWrite", err)
		}
	})
}

func TestRunnerStartsWhenBothSidesAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 50, projections.Options{})
		l.sourceDown, l.sinkDown = errDown, errDown
		start(t, r)
		for _, up := range []func(){func() { l.sourceDown = nil }, func() { l.sinkDown = nil }} {
			time.Sleep(time.Minute)
			if s := r.Status(); s.State != projections.Retrying || s.LastError == "" {
				t.Errorf("the status is %+v", s)
			}
			if _, err := r.Position(t.Context()); !errors.Is(err, projections.ErrUnavailable) {
				t.Errorf("the position is %v, want ErrUnavailable", err)
			}
			l.set(up)
		}
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 50})
		synctest.Wait()
		if s := r.Status(); s.State != projections.Live || digest(t, l.Keys) != digestOf(t, log) {
			t.Errorf("the status is %+v, or the model differs", s)
		}
	})
}

// TestPositionSaysThatThereIsNoModel shows P4: while a lost model is filled again, nobody is told a position.
func TestPositionSaysThatThereIsNoModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l, r := linked(t, 50, projections.Options{})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 50})
		filling, goOn := make(chan struct{}), make(chan struct{})
		l.set(func() {
			l.tamper = func(*eventstore.Chunk) {
				filling <- struct{}{}
				<-goOn
			}
		})
		l.Keys.Lose()
		<-filling
		if _, err := r.Position(t.Context()); !errors.Is(err, projections.ErrRebuilding) {
			t.Errorf("while the model is filled the position is %v, want ErrRebuilding", err)
		}
		if s := r.Status(); s.State != projections.Rebuilding || s.Rebuild == nil || s.Rebuild.Total != 50 {
			t.Errorf("while the model is filled the status is %+v", s)
		}
		waited := make(chan error, 1)
		go func() { waited <- r.Await(t.Context(), eventstore.Position{Incarnation: 1, LSN: 50}) }()
		synctest.Wait()
		if len(waited) > 0 {
			t.Error("Await returned before the model was filled")
		}
		go func() {
			for range filling {
			}
		}()
		close(goOn)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		if at, err := r.Position(t.Context()); err != nil || at.LSN != 50 {
			t.Errorf("when the model is filled the position is %s, %v", at, err)
		}
		l.set(func() { l.tamper = nil })
		close(filling)
	})
}
