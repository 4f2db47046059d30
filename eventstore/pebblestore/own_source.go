package pebblestore

import (
	"context"
	"iter"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// ownSource has the log's own events from a source that goes by positions.
type ownSource struct {
	store  *Store
	source Source
	behind uint64 // lsn
}

// String implements Holder.
func (o ownSource) String() string { return "Kafka" }

// refillPatience is how long a source may say nothing.
const refillPatience = 30 * time.Second

// Events implements Holder.
func (o ownSource) Events(ctx context.Context, log eventstore.LogID, after, through uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		position, err := o.after()
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		sub, err := o.source.Subscribe(ctx, position, eventstore.Filter{})
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		defer sub.Close()
		for {
			waiting, cancel := context.WithTimeout(ctx, refillPatience)
			chunk, err := sub.Next(waiting)
			cancel()
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			for i := range chunk.Events {
				e := &chunk.Events[i]
				if e.Dot.Log == log && e.Dot.Seq <= after || e.Dot.Log.Incarnation < log.Incarnation {
					continue
				}
				if !yield(*e, nil) || e.Dot.Seq >= through {
					return
				}
			}
		}
	}
}

// after returns the position that the source is read from: sources give whole batches.
func (o ownSource) after() (eventstore.Position, error) {
	if o.behind == 0 {
		return eventstore.Position{}, nil
	}
	var before eventstore.Recorded
	if err := o.store.readLSN(&before, o.behind); err != nil {
		return eventstore.Position{}, err
	}
	after := before.Position
	if before.Dot.Log == o.store.history.logAt(o.behind) && !before.EndsBatch() {
		after.LSN -= before.Dot.Seq - before.Batch.FirstSeq + 1
	}
	if after.LSN == 0 {
		return eventstore.Position{}, nil
	}
	return after, nil
}
