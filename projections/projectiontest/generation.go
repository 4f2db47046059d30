package projectiontest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/projections"
)

func (s *suite[W]) testGeneration(t *testing.T) {
	f := s.fixture(t, 60)
	sink := empty(t, f.sink(t))
	gens, ok := sink.(projections.Generations)
	if !ok {
		return // it is rebuilt in place
	}
	half := fill(t, sink, f.log, projections.Cursor{})
	live := digest(t, sink)
	grow(t, f.log, 60)
	events, end := read(t, f.log, projections.Cursor{})

	forgotten, err := gens.Beside(t.Context())
	if err != nil {
		t.Fatalf("Beside: %v", err)
	}
	g, err := gens.Beside(t.Context())
	if err != nil {
		t.Fatalf("second Beside: %v", err)
	}
	if _, err := forgotten.Commit(t.Context(), projections.Cursor{}, end, events); !errors.Is(err, projections.ErrCursorMoved) {
		t.Errorf("Commit to a generation that was given up: %v, want ErrCursorMoved", err)
	}
	if err := forgotten.Promote(t.Context(), projections.Cursor{}); !errors.Is(err, projections.ErrCursorMoved) {
		t.Errorf("Promote of a generation that was given up: %v, want ErrCursorMoved", err)
	}
	if _, err := g.Commit(t.Context(), projections.Cursor{}, end, events); err != nil {
		t.Fatalf("Commit to a generation: %v", err)
	}
	if _, err := g.Commit(t.Context(), projections.Cursor{}, end, events); !errors.Is(err, projections.ErrCursorMoved) {
		t.Errorf("repeated Commit to a generation: %v, want ErrCursorMoved", err)
	}
	if digest(t, opened(t, f.sink(t), half)) != live {
		t.Error("a generation that is being filled changed the live model")
	}
	want := s.undisturbed(t, f.log)
	if got := digest(t, g); got != want {
		t.Error("the generation differs from an undisturbed model")
	}
	if err := g.Promote(t.Context(), half); !errors.Is(err, projections.ErrCursorMoved) {
		t.Errorf("Promote at a cursor where the generation is not: %v, want ErrCursorMoved", err)
	}
	if err := g.Promote(t.Context(), end); err != nil {
		t.Fatalf("Promote: %v", err)
	}
	if digest(t, opened(t, sink, end)) != want || digest(t, opened(t, f.sink(t), end)) != want {
		t.Error("after Promote the live model is not the generation")
	}
	grow(t, f.log, 10)
	more, to := read(t, f.log, end)
	commit(t, sink, end, to, more)
	if digest(t, sink) != s.undisturbed(t, f.log) {
		t.Error("the promoted generation does not go on as the model does")
	}

	given, err := gens.Beside(t.Context())
	if err != nil {
		t.Fatalf("Beside: %v", err)
	}
	if _, err := given.Commit(t.Context(), projections.Cursor{}, end, events); err != nil {
		t.Fatalf("Commit to a generation: %v", err)
	}
	if err := given.Discard(t.Context()); err != nil {
		t.Fatalf("Discard: %v", err)
	}
	if digest(t, opened(t, f.sink(t), to)) != s.undisturbed(t, f.log) {
		t.Error("Discard of a generation changed the live model")
	}
}

// patience bounds what the suite waits for.
const patience = 30 * time.Second

// testRunner shows P4 and P5: rebuilt beside the live model, or because it was lost, the model is as if it never had been.
func (s *suite[W]) testRunner(t *testing.T) {
	f := s.fixture(t, 500)
	sink := f.sink(t)
	runner := projections.NewRunner(f.log, sink, projections.Options{
		MaxBatch: 64, CheckEvery: 20 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := runner.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	defer running.Wait()
	defer cancel()
	settle := func() {
		t.Helper()
		log, err := f.log.Log(ctx)
		if err != nil {
			t.Fatalf("read the suite's log: %v", err)
		}
		waiting, stop := context.WithTimeout(ctx, patience)
		defer stop()
		if err := runner.Await(waiting, log.Durable); err != nil {
			t.Fatalf("wait for %s: %v; status %+v", log.Durable, err, runner.Status())
		}
	}
	settle()

	// Rebuilt while the log grows.
	growing := make(chan struct{})
	running.Go(func() {
		defer close(growing)
		grow(t, f.log, 1500)
	})
	before, after, err := runner.Rebuild(ctx, nil)
	if err != nil {
		t.Fatalf("Rebuild: %v", err)
	}
	if before == "" || before != after {
		t.Errorf("the digest was %s before the rebuild, %s after", before, after)
	}
	<-growing
	settle()
	if err := runner.Pause(ctx); err != nil {
		t.Fatalf("Pause: %v", err)
	}
	if got := digest(t, sink); got != s.undisturbed(t, f.log) {
		t.Error("the model that was kept, and rebuilt meanwhile, differs from an undisturbed one")
	}
	if f.Lose != nil {
		f.Lose(t) // and nothing happens in the log: only looking after the sink can show it
	}
	runner.Resume()
	if f.Lose != nil {
		s.awaitRefill(t, runner)
	}
	settle()
	if err := runner.Pause(ctx); err != nil {
		t.Fatalf("Pause: %v", err)
	}
	if got := digest(t, sink); got != s.undisturbed(t, f.log) {
		t.Error("the model that was lost and filled again differs from an undisturbed one")
	}
	runner.Resume()
}

// awaitRefill waits until the runner has filled its model a third time: at first, by Rebuild, and because it was lost.
func (s *suite[W]) awaitRefill(t testing.TB, runner *projections.Runner) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for runner.Status().Rebuilds < 3 {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the runner did not notice that its model was lost; status %+v", runner.Status())
		}
	}
}
