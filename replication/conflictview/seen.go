package conflictview

import (
	"context"
	"fmt"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// recentStreams is how many streams are remembered at least; at most it is twice as many.
const recentStreams = 1 << 14

// seen remembers of recent streams which events of which logs they have, so that an event which knew them all costs no reading
// of its stream. It is safe for concurrent use; events of one stream come in the order of the log, or again.
type seen struct {
	mu            sync.Mutex // guards what follows
	recent, older map[eventstore.StreamID]known
}

// known is what a stream has up to a place in the log: of each log the last event.
type known struct {
	lsn  uint64
	last eventstore.Vector
}

func newSeen() *seen { return &seen{recent: map[eventstore.StreamID]known{}} }

// take takes the next event, and reports whether it is concurrent with others of its stream that the log had before it.
func (s *seen) take(ctx context.Context, streams eventstore.Reader, e *eventstore.Recorded) (concurrent bool, err error) {
	k, ok := s.get(e.Stream)
	if !ok || k.lsn >= e.Position.LSN {
		if k, err = before(ctx, streams, e); err != nil {
			return false, err
		}
	}
	concurrent = e.Revises
	for _, d := range k.last {
		concurrent = concurrent || d.Log != e.Dot.Log && !e.Knew(&eventstore.Recorded{Dot: d})
	}
	s.put(e.Stream, known{e.Position.LSN, k.last.With(e.Dot)})
	return concurrent, nil
}

func (s *seen) get(stream eventstore.StreamID) (known, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.recent[stream]
	if !ok {
		k, ok = s.older[stream]
	}
	return k, ok
}

func (s *seen) put(stream eventstore.StreamID, k known) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= recentStreams {
		s.older, s.recent = s.recent, make(map[eventstore.StreamID]known, recentStreams)
	}
	s.recent[stream] = k
}

// before reads what the log had of e's stream before e.
func before(ctx context.Context, streams eventstore.Reader, e *eventstore.Recorded) (known, error) {
	var k known
	for r, err := range streams.Read(ctx, e.Stream, 1) {
		if err != nil {
			return k, fmt.Errorf("read stream %s: %w", e.Stream, err)
		}
		if r.Position.LSN < e.Position.LSN {
			k.last = k.last.With(r.Dot)
		}
	}
	return k, nil
}
