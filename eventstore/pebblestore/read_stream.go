package pebblestore

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// streamPage is how many events of a stream are read at a time.
const streamPage = 256

// Read implements eventstore.Reader.
func (s *Store) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		known, err := s.headFor(ctx, stream)
		if known.revised() {
			s.readRevised(ctx, stream, known.version(), from, false, yield)
			return
		}
		head := known.version()
		for from = max(from, 1); from <= head && err == nil; {
			var page streamEvents
			page, err = s.readVersions(ctx, stream, from, min(head, from+streamPage-1))
			given, more := page.each(yield)
			if !more {
				return
			}
			from += uint64(given)
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
		}
	}
}

// ReadBackwards implements eventstore.Reader.
func (s *Store) ReadBackwards(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		known, err := s.headFor(ctx, stream)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if known.revised() {
			s.readRevised(ctx, stream, known.version(), from, true, yield)
			return
		}
		head := known.version()
		if from > 0 {
			head = min(head, from)
		}
		dropped, err := s.droppedOf(ctx, stream)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		var events []eventstore.Recorded
		for head > 0 {
			if head <= dropped {
				yield(eventstore.Recorded{}, s.truncated())
				return
			}
			first := max(max(head, streamPage)-streamPage+1, dropped+1)
			events = events[:0]
			for next := first; next <= head; next = first + uint64(len(events)) {
				page, err := s.readVersions(ctx, stream, next, head)
				if err != nil {
					yield(eventstore.Recorded{}, err)
					return
				}
				page.each(func(e eventstore.Recorded, _ error) bool {
					events = append(events, e)
					return true
				})
			}
			for i := range events {
				if !yield(events[len(events)-1-i], nil) {
					return
				}
			}
			head = first - 1
		}
	}
}

// ReadStreamFrames implements eventstore.FrameReader.
func (s *Store) ReadStreamFrames(ctx context.Context, stream eventstore.StreamID, from uint64, size int) iter.Seq2[eventstore.Frames, error] {
	return func(yield func(eventstore.Frames, error) bool) {
		known, err := s.headFor(ctx, stream)
		if known.revised() {
			s.readRevisedFrames(ctx, stream, known.version(), from, size, yield)
			return
		}
		head := known.version()
		for from = max(from, 1); from <= head && err == nil; {
			var page streamEvents
			page, err = s.readVersions(ctx, stream, from, min(head, from+streamPage-1))
			if !page.pieces(s.id.Incarnation, size, func(f eventstore.Frames) bool { return yield(f, nil) }) {
				return
			}
			from += uint64(len(page.lsns))
		}
		if err != nil {
			yield(eventstore.Frames{}, err)
		}
	}
}

// streamEvents are events of a stream that follow each other.
type streamEvents struct {
	store *Store
	key   headKey
	lsns  []uint64
	// kept has the frames of those that were in memory, which come first, events has the others.
	kept   []byte
	events []eventstore.Recorded
	// frames has those of events, if they were put together.
	frames []byte
}

// each yields the events. It gives fewer than there are when what was kept in memory has changed there; that is forgotten
// then, and the rest is to be read anew.
func (p *streamEvents) each(yield func(eventstore.Recorded, error) bool) (given int, more bool) {
	if rest := p.kept; len(rest) > 0 {
		var d eventstore.FrameDecoder
		var e eventstore.Recorded
		for given < len(p.lsns)-len(p.events) {
			var err error
			if rest, err = d.Decode(&e, rest); err != nil {
				p.store.streamCache.forget(p.key)
				return given, true
			}
			e.Position = p.store.position(p.lsns[given])
			given++
			if !yield(e, nil) {
				return given, false
			}
		}
	}
	for i := range p.events {
		given++
		if !yield(p.events[i], nil) {
			return given, false
		}
	}
	return given, true
}

// pieces yields the frames in pieces of about size bytes.
func (p *streamEvents) pieces(incarnation uint32, size int, yield func(eventstore.Frames) bool) bool {
	frames := p.frames
	if frames == nil {
		for i := range p.events {
			frames = appendFrame(frames, &p.events[i])
		}
	}
	lsns := p.lsns
	piece := func(frames []byte, count int) bool {
		f := eventstore.Frames{
			First: eventstore.Position{Incarnation: incarnation, LSN: lsns[0]}, LSNs: lsns[:count], Count: count, Parts: [][]byte{frames},
		}
		first := len(p.events) - len(lsns) // among events; those before are of a stream that none revises
		for i := max(-first, 0); i < count; i++ {
			if p.events[first+i].Revises {
				f.Revising = append(f.Revising, uint64(i))
			}
		}
		lsns = lsns[count:]
		return yield(f)
	}
	for _, all := range [...]struct {
		frames []byte
		count  int
	}{{p.kept, len(p.lsns) - len(p.events)}, {frames, len(p.events)}} {
		if len(all.frames) <= size {
			if all.count > 0 && !piece(all.frames, all.count) {
				return false
			}
			continue
		}
		part, begin, count := all.frames, 0, 0
		for at := 0; at < len(part) && count < len(lsns); count++ {
			length := eventstore.FrameLength(part[at:])
			if count > 0 && at+length-begin > size {
				if !piece(part[begin:at], count) {
					return false
				}
				begin, count = at, 0
			}
			at += length
		}
		if count > 0 && !piece(part[begin:], count) {
			return false
		}
	}
	return true
}

func appendFrame(dst []byte, e *eventstore.Recorded) []byte {
	return eventstore.AppendFrame(dst, e, eventstore.AppendContent(nil, e))
}

// readVersions returns the stream's events of versions from to to, or those before one that cannot be read along with the
// error. None are returned when the first was dropped. REQUIRES: they are durable.
func (s *Store) readVersions(ctx context.Context, stream eventstore.StreamID, from, to uint64) (streamEvents, error) {
	p, err := s.readKnown(ctx, stream, from, to)
	// What is in memory has its contents still.
	if len(p.lsns) > 0 && p.lsns[0] <= s.dropped.Load() && !eventstore.IsSystemCategory(stream.Category) {
		return streamEvents{}, s.truncated()
	}
	return p, err
}

// readKnown is readVersions of what is known, dropped or not.
func (s *Store) readKnown(ctx context.Context, stream eventstore.StreamID, from, to uint64) (p streamEvents, err error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return p, err
	}
	defer release()
	p = streamEvents{store: s, key: headKeyOf(stream)}
	cleared := s.streamCache.cleared.Load()
	var known []uint64 // where the first events of the stream are
	var whole []byte   // the frames of those before from, when they are of use
	if to <= streamPage {
		var frames []byte
		known, frames = s.streamCache.get(p.key)
		if n := min(uint64(len(known)), to); frames != nil && from <= n {
			p.kept = frames[framesLength(frames, from-1):]
			if n < uint64(len(known)) {
				p.kept = p.kept[:framesLength(p.kept, n-from+1)]
			}
			p.lsns = known[from-1 : n : n]
			from = n + 1
		}
		if frames != nil && from == uint64(len(known))+1 {
			whole = frames
		}
	}
	if from > to {
		return p, nil
	}
	lsns, err := s.streamPlaces(stream, known, from, to)
	if err != nil {
		return p, err
	}
	if err := s.readPlaces(&p, stream, from, lsns); err != nil {
		return p, err
	}
	switch {
	case whole != nil && p.frames != nil:
		s.streamCache.put(p.key, slices.Concat(known, lsns), slices.Concat(whole, p.frames), cleared)
	case from == 1:
		s.streamCache.put(p.key, slices.Clone(lsns), p.frames, cleared)
	}
	return p, nil
}

// framesLength returns how many bytes the first frames have, so many of them.
func framesLength(frames []byte, count uint64) (length int) {
	for range count {
		length += eventstore.FrameLength(frames[length:])
	}
	return length
}

// streamPlaces returns the lsns of the stream's events of versions from to to. known are those of its first events, as far
// as they are known.
func (s *Store) streamPlaces(stream eventstore.StreamID, known []uint64, from, to uint64) ([]uint64, error) {
	if to <= uint64(len(known)) {
		return known[from-1 : to : to], nil
	}
	first, latest := s.recent.places(stream, from, to)
	indexed, err := s.index.places(stream, from, first-1)
	if err != nil {
		return nil, err
	}
	return slices.Concat(indexed, latest), nil
}

// readPlaces adds the events at the given lsns, which the index says are the stream's from a version on.
func (s *Store) readPlaces(p *streamEvents, stream eventstore.StreamID, version uint64, lsns []uint64) error {
	from := s.eventReader(lsns)
	defer from.close()
	events := make([]eventstore.Recorded, len(lsns))
	var frames []byte // of the events so far, once one of them was read from disk
	for i, lsn := range lsns {
		e := &events[i]
		frame, err := from.next(e)
		if err == nil && s.isDropped(e) {
			err = s.truncated()
		}
		if want := version + uint64(i); err == nil && (e.Stream != stream || e.Version != want && !s.noted.Load()) {
			err = fmt.Errorf("stream %s, version %d: %w: the index names lsn %d, which holds version %d of %s",
				stream, want, eventstore.ErrCorrupt, lsn, e.Version, e.Stream)
		}
		if err != nil {
			p.lsns, p.events = slices.Concat(p.lsns, lsns[:i]), events[:i]
			return err
		}
		switch {
		case from.memory != nil:
		case frame != nil && frames == nil:
			for j := range i {
				frames = appendFrame(frames, &events[j])
			}
			fallthrough
		case frame != nil:
			frames = append(frames, frame...)
		case frames != nil:
			frames = appendFrame(frames, e)
		}
	}
	if from.memory != nil {
		frames = from.memory
	}
	p.lsns, p.events, p.frames = slices.Concat(p.lsns, lsns), events, frames
	return nil
}
