package projections_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

// droppedLog is a log that has dropped what stands before a place.
type droppedLog struct {
	*memstore.Store
	first atomic.Uint64 // lsn of the first event that is left
}

func (d *droppedLog) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	sub, err := d.Store.Subscribe(ctx, after, f)
	if first := d.first.Load(); err == nil && after.LSN+1 < first {
		return droppedSubscription{sub, &eventstore.TruncatedError{First: eventstore.Position{Incarnation: 1, LSN: first}}}, nil
	}
	return sub, err
}

type droppedSubscription struct {
	eventstore.Subscription
	err error
}

func (s droppedSubscription) Next(context.Context) (eventstore.Chunk, error) {
	return eventstore.Chunk{}, s.err
}

// A model whose first events were dropped is not rebuilt: that is refused before it is touched, it says from where on there are events,
// and the model goes on. One that cannot be filled at all has stopped, and whoever asks for something of it is told why.
func TestRebuildOfADroppedLog(t *testing.T) {
	refused := func(err error) error {
		if !errors.Is(err, projections.ErrDropped) || errors.Is(err, eventstore.ErrTruncated) || !strings.Contains(err.Error(), "1-20") {
			return fmt.Errorf("it is answered by %w, want %w with the first position that is left", err, projections.ErrDropped)
		}
		return nil
	}
	for _, beside := range []bool{true, false} {
		t.Run(fmt.Sprintf("beside=%t", beside), func(t *testing.T) {
			log := &droppedLog{Store: memstore.New(memstore.Options{})}
			keys := memview.NewKeys(counters(1))
			var sink projections.Sink = keys
			if !beside {
				sink = oneGeneration{keys}
			}
			r := projections.NewRunner(log, sink, quiet)
			end := start(t, r)
			await(t, r, count(t, log.Store, 30))
			log.first.Store(20)
			before := digest(t, keys)
			if _, _, err := r.Rebuild(t.Context(), nil); refused(err) != nil {
				t.Errorf("a rebuild: %v", refused(err))
			}
			if _, err := r.Position(t.Context()); err != nil || digest(t, keys) != before || r.Status().State != projections.Live {
				t.Errorf("the model was touched: it is %+v, %v", r.Status(), err)
			}
			await(t, r, count(t, log.Store, 5))
			if digest(t, keys) != digestOf(t, log.Store) {
				t.Error("the model does not go on as it was")
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := projections.Rebuild(t.Context(), log, sink, quiet, nil); refused(err) != nil {
				t.Errorf("a rebuild of a model that no runner keeps: %v", refused(err))
			}
			if digest(t, keys) != digestOf(t, log.Store) {
				t.Error("the model that no runner keeps was touched")
			}

			empty := projections.NewRunner(log, memview.NewKeys(counters(1)), quiet)
			if err := empty.Run(t.Context()); refused(err) != nil {
				t.Errorf("a model that has to be filled: %v", refused(err))
			}
			if err := empty.Pause(t.Context()); !errors.Is(err, projections.ErrStopped) || refused(err) != nil {
				t.Errorf("a pause of a model that cannot be filled: %v; want %v and why", err, projections.ErrStopped)
			}
			if _, _, err := empty.Rebuild(t.Context(), nil); refused(err) != nil {
				t.Errorf("a rebuild of a model that cannot be filled: %v", refused(err))
			}
		})
	}
}
