package queries_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/projections/redisview"
	"github.com/tributary-es/tributary/queries"
)

var (
	_ queries.KeyReader = (*memview.Keys)(nil)
	_ queries.KeyReader = (*redisview.View)(nil)
	_ queries.Progress  = (*projections.Runner)(nil)
)

// model is a read model that comes to a position at a time.
type model struct {
	at    eventstore.Position
	later eventstore.Position
	after time.Duration
	err   error
}

func (m *model) Position(context.Context) (eventstore.Position, error) { return m.at, m.err }

func (m *model) Await(ctx context.Context, p eventstore.Position) error {
	if m.at.Compare(p) >= 0 {
		return nil
	}
	select {
	case <-time.After(m.after):
		m.at = m.later
		if m.at.Compare(p) >= 0 {
			return nil
		}
		<-ctx.Done()
	case <-ctx.Done():
	}
	return ctx.Err()
}

func at(lsn uint64) eventstore.Position { return eventstore.Position{Incarnation: 1, LSN: lsn} }

// TestFreshWaitsForAPosition shows P7.
func TestFreshWaitsForAPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{at: at(5), later: at(9), after: time.Second}
		start := time.Now()
		if got, err := queries.Fresh(t.Context(), m, eventstore.Position{}, 0); err != nil || got != at(5) {
			t.Errorf("without a wish: %s, %v, want 1-5", got, err)
		}
		if got, err := queries.Fresh(t.Context(), m, at(5), 0); err != nil || got != at(5) {
			t.Errorf("for what is there: %s, %v, want 1-5", got, err)
		}
		if time.Since(start) != 0 {
			t.Error("waited for what was there")
		}
		if got, err := queries.Fresh(t.Context(), m, at(7), 2*time.Second); err != nil || got != at(9) {
			t.Errorf("for what comes in time: %s, %v, want 1-9", got, err)
		}
		if time.Since(start) != time.Second {
			t.Errorf("waited %s, want 1s", time.Since(start))
		}
	})
}

// TestFreshSaysHowFarTheModelIs shows P7.
func TestFreshSaysHowFarTheModelIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &model{at: at(5), later: at(9), after: time.Second}
		_, err := queries.Fresh(t.Context(), m, at(20), 3*time.Second)
		var notYet *queries.NotYetError
		if !errors.As(err, &notYet) || notYet.Want != at(20) || notYet.At != at(9) {
			t.Fatalf("got %v, want NotYetError at 1-9", err)
		}
		if eventstore.ClassOf(err) != eventstore.Transient {
			t.Error("a model that is behind is not transient")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := queries.Fresh(ctx, m, at(20), time.Minute); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &notYet) {
			t.Errorf("when the caller's time is over: %v, want its own error", err)
		}
		start := time.Now()
		if _, err := queries.Fresh(t.Context(), m, at(20), time.Hour); !errors.As(err, &notYet) {
			t.Errorf("got %v, want NotYetError", err)
		}
		if waited := time.Since(start); waited != queries.MaxWait {
			t.Errorf("waited %s, want no more than %s", waited, queries.MaxWait)
		}
	})
}
