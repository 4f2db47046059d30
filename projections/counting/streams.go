package counting

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// MaxEvents bounds the streams of which it is said what counts after a conflict: resolvers take a time that grows with the square
// of what sites wrote at once, and the stream is held in memory. Of a longer one the event is parked.
const MaxEvents = 10_000

// Rules are the resolvers of the streams.
type Rules struct {
	// AllCount reports whether each event of a category's streams counts, whatever the others are.
	AllCount func(category string) bool
	// Void returns which events of a stream do not count: all of them, in canonical order.
	Void func(category string, events []eventstore.Recorded) (map[eventstore.Dot]bool, error)
}

// Streams says what of the streams of a log counts. It is a projections.History, safe for concurrent use.
type Streams struct {
	log   eventstore.Reader
	rules Rules
	known *Known
}

// New returns what counts in the streams of the log that the projection follows. Events are given as the reader reads them:
// opened where it opens them. A log of which contents may be dropped should be Dropping: else no event of a stream whose beginning was
// dropped is decided that does not say itself that it knew all the log.
func New(log eventstore.Reader, rules Rules) *Streams {
	return &Streams{log: log, rules: rules, known: NewKnown(log)}
}

// Change is part of projections.History.
func (s *Streams) Change(ctx context.Context, e *eventstore.Recorded, ordered bool) (projections.Change, error) {
	all := s.rules.AllCount(e.Stream.Category)
	if all && !ordered {
		return projections.Change{Appends: true}, nil // it is among those that count
	}
	if !e.Revises && e.Kind != eventstore.KindResolution {
		concurrent, err := s.known.Concurrent(ctx, e)
		if err != nil {
			return projections.Change{}, err
		}
		if !concurrent { // No resolver voids what was decided with the knowledge of all before, nor others by it.
			return s.appends(ctx, e, ordered)
		}
	}
	after, err := s.upTo(ctx, e)
	if err != nil {
		return projections.Change{}, err
	}
	if n := len(after); all && n > 0 && after[n-1].Dot == e.Dot {
		return projections.Change{Appends: true, Version: uint64(n)}, nil
	}
	before := make([]eventstore.Recorded, 0, len(after))
	for i := range after {
		if after[i].Dot != e.Dot {
			before = append(before, after[i])
		}
	}
	if len(before) == len(after) {
		return projections.Change{}, fmt.Errorf("%w: stream %s does not have %s", eventstore.ErrCorrupt, e.Stream, e.Dot)
	}
	void, err := s.void(before)
	if err != nil {
		return projections.Change{}, err
	}
	c := projections.Change{After: after}
	if ordered {
		number(before, void)
	}
	for i := range before {
		if !void[before[i].Dot] {
			c.Before = append(c.Before, before[i])
		}
	}
	if c.Void, err = s.void(after); err != nil {
		return projections.Change{}, err
	}
	if ordered {
		number(after, c.Void)
	}
	return c, nil
}

// appends says that e counts behind all others of its stream, and, if that is wanted, which place that is: another than its site
// gave it, where that did not have all of them.
func (s *Streams) appends(ctx context.Context, e *eventstore.Recorded, ordered bool) (projections.Change, error) {
	c := projections.Change{Appends: true}
	if !ordered {
		return c, nil
	}
	var err error
	if c.Version, err = s.log.VersionAt(ctx, e.Stream, e.Position); err != nil {
		err = fmt.Errorf("place of the event at %s in its stream: %w", e.Position, err)
	}
	return c, err
}

// upTo returns the events of e's stream that the log had when it had come to e, in canonical order.
func (s *Streams) upTo(ctx context.Context, e *eventstore.Recorded) ([]eventstore.Recorded, error) {
	place, err := s.log.VersionAt(ctx, e.Stream, e.Position)
	if err != nil {
		return nil, fmt.Errorf("length of stream %s at %s: %w", e.Stream, e.Position, err)
	}
	if place > MaxEvents {
		return nil, fmt.Errorf("%w: it has %d events, and sites wrote it at once; up to %d are looked at", projections.ErrUndecided, place, MaxEvents)
	}
	events := make([]eventstore.Recorded, 0, place)
	for r, err := range s.log.Read(ctx, e.Stream, 1) {
		if err != nil {
			return nil, unread(e.Stream, err)
		}
		if r.Position.LSN <= e.Position.LSN {
			events = append(events, r)
		}
	}
	return events, nil
}

// unread is the error of a stream that could not be read. What was dropped does not come back: it will never be said what counts.
func unread(stream eventstore.StreamID, err error) error {
	if errors.Is(err, eventstore.ErrTruncated) {
		return fmt.Errorf("%w: it has been written by several sites at once, and its beginning was dropped", projections.ErrUndecided)
	}
	return fmt.Errorf("read stream %s: %w", stream, err)
}

// void returns which of the events do not count. They are all of a stream, in canonical order.
func (s *Streams) void(events []eventstore.Recorded) (map[eventstore.Dot]bool, error) {
	if len(events) == 0 || s.rules.AllCount(events[0].Stream.Category) {
		return nil, nil
	}
	void, err := s.rules.Void(events[0].Stream.Category, events)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", projections.ErrUndecided, err)
	}
	return void, nil
}

// number gives the events of a stream the versions that it is at behind them, up to the next one that counts: void ones count for
// the event before them. Sites give the same versions, where they write at once.
func number(events []eventstore.Recorded, void map[eventstore.Dot]bool) {
	version := uint64(len(events))
	for i := range slices.Backward(events) {
		events[i].Version = version
		if !void[events[i].Dot] {
			version = uint64(i)
		}
	}
}
