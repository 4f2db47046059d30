package replication

import (
	"context"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// pace holds links back: what they bring is kept in memory until the store has it, and a store that is slower than a topic,
// or waits for what is missing, must not fill the memory with it.
type pace struct {
	events, bytes int

	mu   sync.Mutex // guards logs
	logs map[eventstore.LogID]*ahead
}

// ahead is what was brought of a log, and is not received yet.
type ahead struct {
	pieces        []piece // in order
	events, bytes int
	room          chan struct{} // closed and replaced when something was received
}

// piece is what a link brought at once.
type piece struct {
	last          uint64 // seq
	events, bytes int
}

func newPace(events, bytes int) *pace {
	return &pace{events: events, bytes: bytes, logs: map[eventstore.LogID]*ahead{}}
}

// wait returns when there is room for events of one log, and counts them in.
func (p *pace) wait(ctx context.Context, events []eventstore.Recorded) error {
	size := 0
	for i := range events {
		size += len(events[i].Payload)
	}
	log := events[0].Dot.Log
	for {
		p.mu.Lock()
		a := p.logs[log]
		if a == nil {
			a = &ahead{room: make(chan struct{})}
			p.logs[log] = a
		}
		if a.events == 0 || a.events+len(events) <= p.events && a.bytes+size <= p.bytes {
			a.pieces = append(a.pieces, piece{events[len(events)-1].Dot.Seq, len(events), size})
			a.events += len(events)
			a.bytes += size
			p.mu.Unlock()
			return nil
		}
		room := a.room
		p.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// received counts out what the store has.
func (p *pace) received(head eventstore.LogHead) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.logs[head.Log]
	if a == nil {
		return
	}
	kept := a.pieces[:0]
	for _, piece := range a.pieces {
		if piece.last > head.Seq {
			kept = append(kept, piece)
			continue
		}
		a.events -= piece.events
		a.bytes -= piece.bytes
	}
	a.pieces = kept
	close(a.room)
	a.room = make(chan struct{})
}

// forget makes room for all of a log to be brought again.
func (p *pace) forget(log eventstore.LogID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.logs[log]; a != nil {
		a.pieces, a.events, a.bytes = nil, 0, 0
		close(a.room)
		a.room = make(chan struct{})
	}
}
