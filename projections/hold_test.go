package projections_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// TestPauseReturnsWhileTheRunnerTriesAgain: an operator is not made to wait until a server is back.
func TestPauseReturnsWhileTheRunnerTriesAgain(t *testing.T) {
	cut := map[string]func(*link){
		"source": func(l *link) { l.sourceDown = errDown },
		"sink":   func(l *link) { l.sinkDown = errDown },
	}
	for name, down := range cut {
		for _, started := range []bool{false, true} {
			title := name + " down from the start"
			if started {
				title = name + " down later"
			}
			t.Run(title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log, l, r := linked(t, 20, projections.Options{})
					if !started {
						l.set(func() { down(l) })
					}
					start(t, r)
					if started {
						await(t, r, eventstore.Position{Incarnation: 1, LSN: 20})
						l.set(func() { down(l) })
					}
					at := count(t, log, 30)
					time.Sleep(20 * time.Second)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if err := r.Pause(ctx); err != nil {
						t.Fatal(err)
					}
					if s := r.Status(); s.State != projections.Paused {
						t.Errorf("a paused runner is %+v", s)
					}
					commits := l.committed()
					l.set(func() { l.sourceDown, l.sinkDown = nil, nil })
					time.Sleep(time.Minute)
					if l.committed() != commits {
						t.Errorf("%d commits while the runner was paused", l.committed()-commits)
					}
					r.Resume()
					await(t, r, at)
					synctest.Wait()
					if s := r.Status(); s.State != projections.Live || digest(t, l.Keys) != digestOf(t, log) {
						t.Errorf("after Resume the status is %+v, or the model differs", s)
					}
				})
			})
		}
	}
}

func TestPauseAndResetWhileAModelIsFilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 50, projections.Options{MaxBatch: 10})
		down := false
		l.tamper = func(*eventstore.Chunk) {
			if !down {
				down, l.sourceDown = true, errDown
			}
		}
		start(t, r)
		time.Sleep(10 * time.Second)
		for _, ask := range []func(context.Context) error{r.Pause, r.Pause} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if err := ask(ctx); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		r.Resume()
		r.Resume()
		if err := r.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.set(func() { l.sourceDown = nil })
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 50})
		synctest.Wait()
		if digest(t, l.Keys) != digestOf(t, log) {
			t.Error("the model differs")
		}
	})
}

func TestPausesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 100, projections.Options{})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 100})
		paused := make(chan error, 2)
		for range cap(paused) {
			go func() { paused <- r.Pause(t.Context()) }()
		}
		for range cap(paused) {
			if err := <-paused; err != nil {
				t.Fatal(err)
			}
		}
		before := digest(t, l.Keys)
		at := count(t, log, 10)
		r.Resume()
		time.Sleep(time.Minute)
		if s := r.Status(); s.State != projections.Paused || digest(t, l.Keys) != before {
			t.Errorf("after one of two Resumes the runner goes on: %+v", s)
		}
		r.Resume()
		await(t, r, at)
		r.Resume() // of nothing
		if err := r.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Resume()
	})
}

// TestPauseTellsWhyTheRunnerCannotStand: the cursor cannot be stored for good because the model is gone.
func TestPauseTellsWhyTheRunnerCannotStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, l, r := linked(t, 10, projections.Options{CheckEvery: time.Hour})
		start(t, r)
		await(t, r, eventstore.Position{Incarnation: 1, LSN: 10})
		synctest.Wait()
		await(t, r, appendTo(t, log, "x", "counter.else.v1", ""))
		l.Keys.Lose()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Pause(ctx); !errors.Is(err, projections.ErrNoCursor) {
			t.Errorf("Pause: %v, want ErrNoCursor", err)
		}
	})
}
