package conflictview

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections/counting"
)

// heldEvents bounds the events of the streams that a finder holds: all streams together, but for the one that it has looked at last.
// What payloads take is counted as so many events, and so is each record.
const (
	heldEvents   = 1 << 16
	payloadBytes = 1 << 10
	recordEvents = 2
)

// finder finds the conflicts that an event brings about. What it says of an event is a function of the log up to the event; the
// streams that it holds only spare it reading and judging them. It is safe for concurrent use, by who reads the log from several
// places too.
type finder struct {
	Options
	known *counting.Known

	mu     sync.Mutex // guards what follows
	held   map[eventstore.StreamID]*list.Element
	recent list.List // of *stream, the one that was put there last first
	weight int
}

// of returns the records that an event brings about or changes, as its stream is up to the event. One that knew all before it
// changes none, unless a person says with it what counts, or the stream becomes too long to be judged with it: it stands behind them, and
// has no branch of its own.
func (f *finder) of(e *eventstore.Recorded) ([]*Record, error) {
	if eventstore.IsSystemCategory(e.Stream.Category) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(f.Life, f.Timeout)
	defer cancel()
	concurrent, place, err := f.known.Look(ctx, e)
	if err != nil {
		return nil, err
	}
	crosses := e.Version == maxJudged+1
	changes := concurrent || e.Kind == eventstore.KindResolution || crosses
	s := f.take(e.Stream)
	if s == nil && !changes {
		return nil, nil
	}
	if s != nil && place == 0 {
		if place, err = f.Streams.VersionAt(ctx, e.Stream, e.Position); err != nil {
			return nil, fmt.Errorf("place of the event at %s in its stream: %w", e.Position, err)
		}
	}
	// It may be as it was for a reader that is behind or ahead, or before events that were not shown here.
	if s != nil && (place != uint64(len(s.events))+1 || !s.takes(e)) {
		s = nil
	}
	switch {
	case !changes && s == nil:
		return nil, nil
	case !changes:
		s.insert(e)
		f.put(s)
		return nil, nil
	case s == nil:
		if s, e, err = f.read(ctx, e); crosses && !concurrent && errors.Is(err, eventstore.ErrTruncated) {
			return nil, nil // what it may have had of conflicts is not to be told any more
		} else if err != nil {
			return nil, err
		}
	}
	changed, err := s.add(e)
	if err != nil {
		return nil, err
	}
	f.put(s)
	return changed, nil
}

// read reads e's stream as the log had it when it had come to e, and returns it without e, and e as it stands there.
func (f *finder) read(ctx context.Context, e *eventstore.Recorded) (*stream, *eventstore.Recorded, error) {
	var before []eventstore.Recorded
	var own *eventstore.Recorded
	for r, err := range f.Streams.Read(ctx, e.Stream, 1) {
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("read stream %s: %w", e.Stream, err)
		case r.Dot == e.Dot:
			own = &r
		case r.Position.LSN < e.Position.LSN:
			before = append(before, r)
		}
	}
	if own == nil {
		return nil, nil, fmt.Errorf("%w: stream %s does not have %s", eventstore.ErrCorrupt, e.Stream, e.Dot)
	}
	s := newStream(&f.Options, e.Stream)
	for i := range before {
		s.insert(&before[i])
	}
	_, err := s.update(0, true)
	return s, own, err
}

// take returns the stream that is held, and holds it no more: nil when it is not held.
func (f *finder) take(id eventstore.StreamID) *stream {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.held[id]
	if at == nil {
		return nil
	}
	return f.drop(at)
}

// drop lets go of a stream. REQUIRES: f.mu is held.
func (f *finder) drop(at *list.Element) *stream {
	s := f.recent.Remove(at).(*stream)
	delete(f.held, s.id)
	f.weight -= s.weight
	return s
}

// put holds a stream. What is personal is not held, for it may be erased at any time.
func (f *finder) put(s *stream) {
	if s.personal {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := f.held[s.id]; at != nil {
		f.drop(at)
	}
	if f.held == nil {
		f.held = map[eventstore.StreamID]*list.Element{}
	}
	s.weight = len(s.events) + recordEvents*s.records + s.payloads/payloadBytes
	f.held[s.id] = f.recent.PushFront(s)
	f.weight += s.weight
	for f.weight > heldEvents && f.recent.Len() > 1 {
		f.drop(f.recent.Back())
	}
}
