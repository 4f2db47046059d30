package counting

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// recentStreams is how many streams are remembered at least; at most it is twice as many.
const recentStreams = 1 << 14

// Known tells which events were decided without the knowledge of others that their stream had before them. It remembers recent
// streams, so that mostly none has to be read. It is safe for concurrent use, by who reads the log from several places too.
type Known struct {
	log eventstore.Reader

	mu            sync.Mutex // guards what follows
	recent, older map[eventstore.StreamID]known
}

// known is what the first events of a stream are: how many, in the order of the log, and the last of each log.
type known struct {
	count uint64
	last  eventstore.Vector
}

// NewKnown returns one that remembers nothing.
func NewKnown(log eventstore.Reader) *Known {
	return &Known{log: log, recent: map[eventstore.StreamID]known{}}
}

// Concurrent reports whether an event was decided without the knowledge of one that its stream had before it in the log. Of a log
// that is Dropping it can be told of every event; of another one an error matches projections.ErrUndecided where events were dropped.
func (k *Known) Concurrent(ctx context.Context, e *eventstore.Recorded) (bool, error) {
	concurrent, _, err := k.Look(ctx, e)
	return concurrent, err
}

// Look is Concurrent, and returns the place of the event in its stream in the order of the log as well, where it had to be looked up;
// else 0.
func (k *Known) Look(ctx context.Context, e *eventstore.Recorded) (concurrent bool, place uint64, err error) {
	before, remembered := k.get(e.Stream)
	knew := projections.KnewLog(e)
	if knew && !remembered {
		return false, 0, nil
	}
	if place, err = k.log.VersionAt(ctx, e.Stream, e.Position); err != nil {
		return false, 0, fmt.Errorf("place of the event at %s in its stream: %w", e.Position, err)
	}
	// What is remembered may be of another place: of a reader that is behind or ahead, or before events that were not shown here.
	if !remembered || before.count != place-1 {
		switch {
		case knew:
			return false, place, nil
		case place == 1:
			before = known{}
		default:
			if before, err = k.read(ctx, e, place-1); err != nil {
				return false, 0, err
			}
		}
	}
	for _, d := range before.last {
		concurrent = concurrent || d.Log != e.Dot.Log && !e.Knew(&eventstore.Recorded{Dot: d})
	}
	k.put(e.Stream, known{place, before.last.With(e.Dot)})
	return concurrent && !knew, place, nil
}

func (k *Known) get(stream eventstore.StreamID) (known, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, ok := k.recent[stream]
	if !ok {
		s, ok = k.older[stream]
	}
	return s, ok
}

func (k *Known) put(stream eventstore.StreamID, s known) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.recent) >= recentStreams {
		k.older, k.recent = k.recent, make(map[eventstore.StreamID]known, recentStreams)
	}
	k.recent[stream] = s
}

// Dropping is a log that knows of events whose contents it has dropped.
type Dropping interface {
	// LastDots returns the last event of each log among a stream's first events in the order of the log, so many of them, dropped
	// or not.
	LastDots(ctx context.Context, stream eventstore.StreamID, count uint64) (eventstore.Vector, error)
}

// read reads what the log had of e's stream before e, which are as many events as said. Who wrote them is known also of those
// that were dropped.
func (k *Known) read(ctx context.Context, e *eventstore.Recorded, count uint64) (known, error) {
	var s known
	for r, err := range k.log.Read(ctx, e.Stream, 1) {
		if d, ok := k.log.(Dropping); ok && errors.Is(err, eventstore.ErrTruncated) {
			last, err := d.LastDots(ctx, e.Stream, count)
			return known{count, last}, err
		}
		if err != nil {
			return s, unread(e.Stream, err)
		}
		if r.Position.LSN < e.Position.LSN {
			s.count++
			s.last = s.last.With(r.Dot)
		}
	}
	return s, nil
}
