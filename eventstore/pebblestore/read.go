package pebblestore

import (
	"bytes"
	"context"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// Log implements eventstore.Reader.
func (s *Store) Log(ctx context.Context) (eventstore.LogState, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return eventstore.LogState{}, err
	}
	defer release()
	state := s.recent.state()
	return eventstore.LogState{ID: s.id, Durable: s.position(state.lsn), Seq: state.seq, Chain: state.chain, Streams: state.streams}, nil
}

func (s *Store) position(lsn uint64) eventstore.Position {
	return eventstore.Position{Incarnation: s.id.Incarnation, LSN: lsn}
}

// Version implements eventstore.Reader.
func (s *Store) Version(ctx context.Context, stream eventstore.StreamID) (uint64, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	h, err := s.head(stream)
	return h.version(), err
}

// headFor is head for those who do not hold the databases.
func (s *Store) headFor(ctx context.Context, stream eventstore.StreamID) (streamHead, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	return s.head(stream)
}

// head returns what a stream has come to. It looks in memory first, since entries move from there to the index.
func (s *Store) head(stream eventstore.StreamID) (streamHead, error) {
	if err := stream.Validate(); err != nil {
		return 0, err
	}
	h, known, turns := s.recent.head(stream)
	if known {
		return h, nil
	}
	h, err := s.indexedHead(stream, headKeyOf(stream))
	if err == nil {
		s.recent.remember(stream, h, turns)
	}
	return h, err
}

// indexedHead returns what a stream has come to in the index, 0 when it has no such stream.
func (s *Store) indexedHead(stream eventstore.StreamID, k headKey) (streamHead, error) {
	if !s.streams.mayHave(k.hash()) {
		return 0, nil
	}
	return s.index.head(stream)
}

// eventReader reads single events, one after the other, from wherever each is found fastest: from memory, from a table
// that is mapped, or else through Pebble.
type eventReader struct {
	store  *Store
	lsns   []uint64 // still to be read
	frames [][]byte // of those among them that were read already, nil for the others
	// revising are the lsns of those among them that revise.
	revising []uint64
	// memory has all frames, one after the other, if all were read already.
	memory []byte
	r      *blockReader

	decoder eventstore.FrameDecoder
}

// eventReader returns a reader of the events at the given lsns. REQUIRES: they are in the log.
func (s *Store) eventReader(lsns []uint64) *eventReader {
	r := &eventReader{store: s, lsns: lsns}
	if oldest := s.tail.oldest(); len(lsns) > 0 && min(lsns[0], lsns[len(lsns)-1]) < oldest {
		r.frames, r.memory, r.revising = s.tables.read(lsns)
	}
	return r
}

// next sets *e to the next event, in memory that it may keep, and returns its frame if it was read from disk.
func (r *eventReader) next(e *eventstore.Recorded) (frame []byte, err error) {
	lsn := r.lsns[0]
	r.lsns = r.lsns[1:]
	if len(r.frames) > 0 {
		frame, r.frames = r.frames[0], r.frames[1:]
	}
	if frame != nil {
		if err := decodeAt(&r.decoder, e, lsn, frame, r.store.id.Incarnation); err == nil {
			e.Revises = slices.Contains(r.revising, lsn)
			return frame, nil
		}
		// What is wrong is said by those who read it through Pebble.
		r.memory = nil
	}
	if r.store.tail.get(e, lsn) {
		return nil, nil
	}
	if lsn > r.store.archived.Load().end() {
		r.store.tables.want(lsn)
	} else if r.store.readKept(e, lsn) {
		return nil, nil
	}
	if r.r == nil {
		if r.r, err = r.store.blockReader(); err != nil {
			return nil, err
		}
	}
	return r.r.event(e, lsn, r.store.id.Incarnation)
}

func (r *eventReader) close() {
	if r.r != nil {
		r.r.close()
	}
}

// event decodes one event, and returns its frame, with memory of its own.
func (r *blockReader) event(e *eventstore.Recorded, lsn uint64, incarnation uint32) (frame []byte, err error) {
	if err := r.seek(lsn); err != nil {
		return nil, err
	}
	i := int(lsn - r.cur.first)
	if frame, err = r.cur.frame(i); err != nil {
		return nil, err
	}
	frame = bytes.Clone(frame)
	return frame, r.cur.decode(e, i, frame, incarnation)
}

// checkPosition returns the durable lsn, or what is wrong with a position to read after.
func (s *Store) checkPosition(ctx context.Context, after eventstore.Position) (durable uint64, err error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	durable = s.recent.state().lsn
	return durable, after.Check(s.position(durable))
}
