package pebblestore

import (
	"bytes"
	"context"
	"fmt"
	"iter"
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
	return s.version(stream)
}

// version looks in memory first, since entries move from there to the index.
func (s *Store) version(stream eventstore.StreamID) (uint64, error) {
	if err := stream.Validate(); err != nil {
		return 0, err
	}
	v, known, turns := s.recent.head(stream)
	if known {
		return v, nil
	}
	v, err := s.indexedVersion(stream, headKeyOf(stream))
	if err == nil {
		s.recent.remember(stream, v, turns)
	}
	return v, err
}

// indexedVersion returns the version of a stream in the index, 0 when it has none.
func (s *Store) indexedVersion(stream eventstore.StreamID, k headKey) (uint64, error) {
	if !s.streams.mayHave(k.hash()) {
		return 0, nil
	}
	return s.index.version(stream)
}

// streamPage is how many events of a stream are read at a time.
const streamPage = 256

// Read implements eventstore.Reader.
func (s *Store) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		head, err := s.Version(ctx, stream)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		for from = max(from, 1); from <= head; from += streamPage {
			events, err := s.readVersions(ctx, stream, from, min(head, from+streamPage-1))
			for i := range events {
				if !yield(events[i], nil) {
					return
				}
			}
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
		}
	}
}

// ReadBackwards implements eventstore.Reader.
func (s *Store) ReadBackwards(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		head, err := s.Version(ctx, stream)
		if err != nil {
			yield(eventstore.Recorded{}, err)
			return
		}
		if from > 0 {
			head = min(head, from)
		}
		for head > 0 {
			first := max(head, streamPage) - streamPage + 1
			events, err := s.readVersions(ctx, stream, first, head)
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
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

// readVersions returns the stream's events of versions from to to. REQUIRES: they are durable.
func (s *Store) readVersions(ctx context.Context, stream eventstore.StreamID, from, to uint64) ([]eventstore.Recorded, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	first, latest := s.recent.places(stream, from, to)
	lsns, err := s.indexedPlaces(stream, from, first-1)
	if err != nil {
		return nil, err
	}
	return s.readPlaces(stream, from, slices.Concat(lsns, latest))
}

// readPlaces returns the events at the given lsns, which the index says are the stream's from a version on.
func (s *Store) readPlaces(stream eventstore.StreamID, version uint64, lsns []uint64) ([]eventstore.Recorded, error) {
	events := make([]eventstore.Recorded, len(lsns))
	from := s.eventReader(lsns)
	defer from.close()
	for i := range lsns {
		e := &events[i]
		if err := from.next(e); err != nil {
			return events[:i], err
		}
		if want := version + uint64(i); e.Stream != stream || e.Version != want {
			return events[:i], fmt.Errorf("stream %s, version %d: %w: the index names lsn %d, which holds version %d of %s",
				stream, want, eventstore.ErrCorrupt, lsns[i], e.Version, e.Stream)
		}
	}
	return events, nil
}

// eventReader reads single events, one after the other, from wherever each is found fastest: from memory, from a table
// that is mapped, or else through Pebble.
type eventReader struct {
	store  *Store
	lsns   []uint64 // still to be read
	frames [][]byte // of those among them that were read already, nil for the others
	r      *blockReader
}

// eventReader returns a reader of the events at the given lsns. REQUIRES: they are in the log.
func (s *Store) eventReader(lsns []uint64) *eventReader {
	r := &eventReader{store: s, lsns: lsns}
	if oldest := s.tail.oldest(); len(lsns) > 0 && min(lsns[0], lsns[len(lsns)-1]) < oldest {
		r.frames = s.tables.read(lsns)
	}
	return r
}

// next sets *e to the next event, in memory that it may keep.
func (r *eventReader) next(e *eventstore.Recorded) error {
	lsn := r.lsns[0]
	r.lsns = r.lsns[1:]
	var frame []byte
	if len(r.frames) > 0 {
		frame, r.frames = r.frames[0], r.frames[1:]
	}
	if frame != nil {
		if err := decodeAt(e, lsn, frame, r.store.id.Incarnation); err == nil {
			return nil
		}
		// What is wrong is said by those who read it through Pebble.
	}
	if r.store.tail.get(e, lsn) {
		return nil
	}
	if lsn > r.store.archived.Load().end() {
		r.store.tables.want(lsn)
	} else if r.store.readKept(e, lsn) {
		return nil
	}
	if r.r == nil {
		var err error
		if r.r, err = r.store.blockReader(); err != nil {
			return err
		}
	}
	return r.r.event(e, lsn, r.store.id.Incarnation)
}

func (r *eventReader) close() {
	if r.r != nil {
		r.r.close()
	}
}

// event decodes one event, with memory of its own.
func (r *blockReader) event(e *eventstore.Recorded, lsn uint64, incarnation uint32) error {
	if err := r.seek(lsn); err != nil {
		return err
	}
	i := int(lsn - r.cur.first)
	frame, err := r.cur.frame(i)
	if err != nil {
		return err
	}
	return r.cur.decode(e, i, bytes.Clone(frame), incarnation)
}

// pageLimits says when a page of the log is long enough.
type pageLimits struct {
	events, bytes int  // bytes of memory, about; 0: not limited
	whole         bool // end with a whole batch, even if that is beyond the limits
	chain         bool // fill in Recorded.Chain
}

// readPage appends to page the log's events from one lsn on, at most to another. REQUIRES: from <= to, and both are in
// the log.
func (s *Store) readPage(page []eventstore.Recorded, from, to uint64, limits pageLimits) ([]eventstore.Recorded, error) {
	r, err := s.blockReader()
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.seek(from); err != nil {
		return nil, err
	}
	if page == nil {
		n := min(int(to-from+1), limits.events)
		if limits.bytes > 0 {
			n = min(n, limits.bytes/recordedBytes+1)
		}
		page = make([]eventstore.Recorded, 0, n)
	}
	bytes := 0
	for {
		b := r.cur.clone()
		chain := b.chain
		for i := range b.count {
			lsn := b.first + uint64(i)
			if lsn < from && !limits.chain {
				continue
			}
			frame, err := b.frame(i)
			if err != nil {
				return nil, err
			}
			page = append(page, eventstore.Recorded{})
			e := &page[len(page)-1]
			if err := b.decode(e, i, frame, s.id.Incarnation); err != nil {
				return nil, err
			}
			if limits.chain {
				if chain, err = chainAfter(chain, e, frame); err != nil {
					return nil, err
				}
				e.Chain = chain
			}
			if lsn < from { // was needed for the chain only
				page = page[:len(page)-1]
				continue
			}
			bytes += recordedBytes + len(frame)
			full := len(page) >= limits.events || limits.bytes > 0 && bytes >= limits.bytes
			if lsn == to || full && (!limits.whole || e.EndsBatch()) {
				return page, nil
			}
		}
		next := b.last() + 1
		found, err := r.next()
		if err != nil {
			return nil, err
		}
		if !found || r.cur.first != next {
			return nil, fmt.Errorf("log at lsn %d: %w: no block begins there", next, eventstore.ErrCorrupt)
		}
	}
}

// clone returns the block in memory of its own, so that its events may outlive the reader.
func (b *block) clone() block {
	c := *b
	c.data, c.ends = bytes.Clone(b.data), bytes.Clone(b.ends)
	return c
}

// pageFor is readPage for those who do not hold the databases yet.
func (s *Store) pageFor(ctx context.Context, page []eventstore.Recorded, from, to uint64, limits pageLimits) ([]eventstore.Recorded, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.readPage(page, from, to, limits)
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

// batchesOf cuts a page into the batches that were appended together.
func batchesOf(page []eventstore.Recorded) iter.Seq[[]eventstore.Recorded] {
	return func(yield func([]eventstore.Recorded) bool) {
		start := 0
		for i := range page {
			if page[i].EndsBatch() || i+1 == len(page) {
				if !yield(page[start : i+1]) {
					return
				}
				start = i + 1
			}
		}
	}
}
