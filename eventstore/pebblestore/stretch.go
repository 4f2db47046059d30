package pebblestore

import (
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// sharedStretch is a piece of the log's end as subscribers that want everything get it. Most of them are at the same place
// when the log grows, so that one piece serves all: copying it for each cost more than all else about them.
type sharedStretch struct {
	after  uint64 // lsn
	events []eventstore.Recorded
}

// stretches keeps the last few.
type stretches struct {
	mu   sync.Mutex // guards what follows
	last [16]sharedStretch
	next int
}

// stretchBytes bounds a stretch, whole batches apart: whoever holds one event of it holds it all.
const stretchBytes = 128 << 10

// stretch returns events after an lsn, whole batches, about most of them; nil when the tail does not have them. They are
// shared and without their chain.
func (t *tail) stretch(lsn uint64, most int) ([]eventstore.Recorded, logState) {
	s := &t.stretches
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.last {
		// Those who are at different places meet in the middle of a stretch, and share what follows.
		if l := &s.last[i]; l.after <= lsn && lsn < l.after+uint64(len(l.events)) {
			return firstOf(l.events[lsn-l.after:], most), t.state()
		}
	}
	batches, durable := t.after(lsn, eventstore.DefaultMaxChunk, stretchBytes)
	if batches == nil {
		return nil, durable
	}
	n := 0
	for _, b := range batches {
		n += len(b)
	}
	events := make([]eventstore.Recorded, 0, n)
	for _, b := range batches {
		for i := range b {
			if b[i].Position.LSN > lsn {
				events = append(events, b[i])
				events[len(events)-1].Chain = eventstore.Hash{}
			}
		}
	}
	s.last[s.next] = sharedStretch{lsn, events}
	s.next = (s.next + 1) % len(s.last)
	return firstOf(events, most), durable
}

// firstOf returns the first whole batches of events, until they are as many as asked for. What is returned cannot be
// appended to in place.
func firstOf(events []eventstore.Recorded, most int) []eventstore.Recorded {
	if len(events) > most {
		for i := most - 1; i < len(events); i++ {
			if events[i].EndsBatch() {
				return events[: i+1 : i+1]
			}
		}
	}
	return events[:len(events):len(events)]
}
