package pebblestore

import (
	"context"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// A stream is revised when it has an event that was received behind others which it stands before in canonical order. Its
// places in the index are in the order of the log, and its events are sorted each time it is read. One that is not larger than a
// page is read once; of a larger one the names and times are read first, and then the events as they are wanted.

// canonicalPlace is where an event stands in the log, and by what it stands in canonical order.
type canonicalPlace struct {
	eventTop
	seq, lsn uint64
}

// readRevised yields the events of a revised stream, of which there are count, from a place in canonical order on; backwards,
// down from there, where 0 is the last.
func (s *Store) readRevised(ctx context.Context, stream eventstore.StreamID, count, from uint64, back bool, yield func(eventstore.Recorded, error) bool) {
	yield = s.given(yield)
	places, page, err := s.canonical(ctx, stream, count)
	if err != nil {
		yield(eventstore.Recorded{}, err)
		return
	}
	switch {
	case !back:
		places = places[min(max(from, 1)-1, count):]
	case from > 0:
		places = places[:min(from, count)]
		fallthrough
	default:
		slices.Reverse(places)
	}
	if page != nil {
		for i := range places {
			if !yield(page[places[i].lsn], nil) {
				return
			}
		}
		return
	}
	lsns := make([]uint64, 0, streamPage)
	for next := range slices.Chunk(places, streamPage) {
		lsns = lsns[:0]
		for i := range next {
			lsns = append(lsns, next[i].lsn)
		}
		for len(lsns) > 0 {
			events, err := s.readLSNsFor(ctx, lsns)
			for i := range events {
				if !yield(events[i], nil) {
					return
				}
			}
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			lsns = lsns[len(events):]
		}
	}
}

// canonical returns where a stream's events are, in canonical order, and the events by their lsns if they make one page.
func (s *Store) canonical(ctx context.Context, stream eventstore.StreamID, count uint64) (places []canonicalPlace, page map[uint64]eventstore.Recorded, err error) {
	places = make([]canonicalPlace, 0, count)
	if count <= streamPage {
		page = make(map[uint64]eventstore.Recorded, count)
	}
	for from := uint64(1); from <= count; from += streamPage {
		events, err := s.placesFor(ctx, stream, from, min(count, from+streamPage-1))
		if err != nil {
			return nil, nil, err
		}
		for i := range events {
			e := &events[i]
			places = append(places, canonicalPlace{eventTop{e.HLC, e.Dot.Log}, e.Dot.Seq, e.Position.LSN})
			if page != nil {
				page[e.Position.LSN] = *e
			}
		}
	}
	slices.SortFunc(places, func(a, b canonicalPlace) int {
		x, y := eventstore.Recorded{HLC: a.hlc, Dot: eventstore.Dot{Log: a.log, Seq: a.seq}}, eventstore.Recorded{HLC: b.hlc, Dot: eventstore.Dot{Log: b.log, Seq: b.seq}}
		return x.CompareCanonical(&y)
	})
	return places, page, nil
}

// placesFor returns a stream's events in the order of the log, from one to another, for those who do not hold the databases.
func (s *Store) placesFor(ctx context.Context, stream eventstore.StreamID, from, to uint64) ([]eventstore.Recorded, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	lsns, err := s.streamPlaces(stream, nil, from, to)
	if err != nil {
		return nil, err
	}
	events := make([]eventstore.Recorded, len(lsns))
	r := s.eventReader(lsns)
	defer r.close()
	for i := range events {
		if _, err := r.next(&events[i]); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// readLSNsFor is readLSNs for those who do not hold the databases.
func (s *Store) readLSNsFor(ctx context.Context, lsns []uint64) ([]eventstore.Recorded, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.readLSNs(ctx, lsns)
}

// readRevisedFrames is ReadStreamFrames of a revised stream.
func (s *Store) readRevisedFrames(ctx context.Context, stream eventstore.StreamID, count, from uint64, size int, yield func(eventstore.Frames, error) bool) {
	var p streamEvents
	pass := func() bool {
		more := p.pieces(s.id.Incarnation, size, func(f eventstore.Frames) bool { return yield(f, nil) })
		p = streamEvents{}
		return more
	}
	more := true
	s.readRevised(ctx, stream, count, from, false, func(e eventstore.Recorded, err error) bool {
		if err != nil {
			if more = pass(); more {
				more = yield(eventstore.Frames{}, err)
			}
			return false
		}
		p.lsns, p.events = append(p.lsns, e.Position.LSN), append(p.events, e)
		if len(p.events) == streamPage {
			more = pass()
		}
		return more
	})
	if more && len(p.events) > 0 {
		pass()
	}
}
