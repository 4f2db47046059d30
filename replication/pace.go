package replication

import (
	"context"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// pace holds links back: what they bring is kept in memory until the store has it, and a store that is slower than a topic,
// or waits for what is missing, must not fill the memory with it. What is not kept, since the store has it or the log is
// broken off, needs no room.
type pace struct {
	events, bytes int

	mu   sync.Mutex // guards logs
	logs map[eventstore.LogID]*ahead
}

// ahead is what was brought of a log, and is not received yet.
type ahead struct {
	held          uint64  // seq up to which the store has it
	broken        bool    // nothing of it is kept any more
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
	for {
		room := p.take(events)
		if room == nil {
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take counts events of one log in, and returns nil; or, when there is no room for them, what is closed when there may be.
func (p *pace) take(events []eventstore.Recorded) (room <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(events[0].Dot.Log)
	var in piece
	for i := range events {
		if e := &events[i]; e.Dot.Seq > a.held && !a.broken {
			in.last = max(in.last, e.Dot.Seq)
			in.events++
			in.bytes += len(e.Payload)
		}
	}
	switch {
	case in.events == 0:
		return nil
	case a.events > 0 && (a.events+in.events > p.events || a.bytes+in.bytes > p.bytes):
		return a.room
	}
	a.pieces = append(a.pieces, in)
	a.events += in.events
	a.bytes += in.bytes
	return nil
}

// of returns what was brought of a log. The caller holds mu.
func (p *pace) of(log eventstore.LogID) *ahead {
	if p.logs[log] == nil {
		p.logs[log] = &ahead{room: make(chan struct{})}
	}
	return p.logs[log]
}

// received counts out what the store has.
func (p *pace) received(head eventstore.LogHead) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(head.Log)
	a.held = max(a.held, head.Seq)
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
	a.wake()
}

// forget makes room for all of a log to be brought again.
func (p *pace) forget(log eventstore.LogID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(log).drop()
}

// pass lets all of a log through from now on: it is broken off.
func (p *pace) pass(log eventstore.LogID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(log)
	a.broken = true
	a.drop()
}

// drop counts out all there is.
func (a *ahead) drop() {
	a.pieces, a.events, a.bytes = nil, 0, 0
	a.wake()
}

// wake has those who wait for room look again.
func (a *ahead) wake() {
	close(a.room)
	a.room = make(chan struct{})
}
