package pebblestore

import (
	"context"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// An event whose content was dropped is in a block of version 2, or 3 where it has notes: its frame has no payload, and the hash of the content that it
// had follows it. System events in such a block are whole. Whoever works on what the log knows of its events (index, receipts,
// chain) reads them like any other; whoever would give them out is refused.

// slim returns the block without the contents of its events, but those of the system. It is valid until w is used again.
func (b *block) slim(w *blockWriter, incarnation uint32) ([]byte, error) {
	w.reset(b.first, b.before, b.chain)
	w.version = slimVersion
	w.noted, w.notes, w.logs = b.notes != nil, b.notes, b.logs
	var content []byte
	for i := range b.count {
		frame, err := b.frame(i)
		if err != nil {
			return nil, err
		}
		var e eventstore.Recorded
		if err := b.decode(&e, i, frame, incarnation); err != nil {
			return nil, err
		}
		if eventstore.IsSystemCategory(e.Stream.Category) || slimFrame(frame) != nil {
			w.buf = append(w.buf, frame...)
		} else {
			before, _, err := eventstore.FrameContent(frame)
			if err != nil {
				return nil, err
			}
			hash := eventstore.ContentHash(before)
			e.Payload = nil
			content = eventstore.AppendContent(content[:0], &e)
			w.buf = append(eventstore.AppendFrame(w.buf, &e, content), hash[:]...)
		}
		w.ends = append(w.ends, uint32(len(w.buf)))
	}
	return w.seal(), nil
}

// slimFrame returns the hash of the content that a frame had, nil when it has it still.
func slimFrame(frame []byte) []byte {
	_, rest, err := eventstore.FrameContent(frame)
	if err != nil || len(rest) != len(eventstore.Hash{}) {
		return nil
	}
	return rest
}

// isDropped reports whether the content of an event was dropped.
func (s *Store) isDropped(e *eventstore.Recorded) bool {
	return e.Position.LSN <= s.dropped.Load() && !eventstore.IsSystemCategory(e.Stream.Category)
}

// droppedOf returns the version up to which the events of a stream were dropped.
func (s *Store) droppedOf(ctx context.Context, stream eventstore.StreamID) (version uint64, err error) {
	cut := s.dropped.Load()
	if cut == 0 || eventstore.IsSystemCategory(stream.Category) {
		return 0, nil
	}
	return s.VersionAt(ctx, stream, s.position(cut))
}

// LastDots returns the last event of each log among a stream's first events in the order of the log, so many of them. It reads no
// contents, so that it knows of what was dropped as well.
func (s *Store) LastDots(ctx context.Context, stream eventstore.StreamID, count uint64) (last eventstore.Vector, err error) {
	for from := uint64(1); from <= count; from += streamPage {
		events, err := s.placesFor(ctx, stream, from, min(count, from+streamPage-1))
		if err != nil {
			return nil, fmt.Errorf("last events of stream %s: %w", stream, err)
		}
		for i := range events {
			last = last.With(events[i].Dot)
		}
	}
	return last, nil
}

// truncated is the error of who would have to be given what was dropped.
func (s *Store) truncated() error {
	return &eventstore.TruncatedError{First: s.First()}
}

// given returns a yield that ends a read at an event whose content was dropped, and has it known that a read came upon damage.
func (s *Store) given(yield func(eventstore.Recorded, error) bool) func(eventstore.Recorded, error) bool {
	return func(e eventstore.Recorded, err error) bool {
		if err == nil && s.isDropped(&e) {
			yield(eventstore.Recorded{}, s.truncated())
			return false
		}
		s.doubt(err)
		return yield(e, err)
	}
}

// behindDropped says that a subscription that has come to an lsn would have to be given what was dropped. One that wants
// nothing but system events would not.
func (s *Store) behindDropped(lsn uint64, f *eventstore.Filter) error {
	if lsn >= s.dropped.Load() {
		return nil
	}
	if len(f.Categories) > 0 && !slices.ContainsFunc(f.Categories, func(c string) bool { return !eventstore.IsSystemCategory(c) }) {
		return nil
	}
	return s.truncated()
}
