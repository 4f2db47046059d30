package projections

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Limits of what is in memory, in bytes as weigh counts them. A chunk is taken whole, however large the source made it.
const (
	maxQueued = 16 << 20
	maxBatch  = 8 << 20
)

// piece is a chunk that was checked, with only the events that the projection wants.
type piece struct {
	events []eventstore.Recorded
	// seqs are those of the log's own events at each of the events (Cursor.Seq).
	seqs    []uint64
	bytes   int
	to      Cursor
	durable eventstore.Position
}

// weigh returns about how much memory events take.
func weigh(events []eventstore.Recorded) (bytes int) {
	const envelope = 512
	for i := range events {
		bytes += envelope + len(events[i].Payload)
	}
	return bytes
}

// batch is what is committed at once.
type batch struct {
	piece
	// read is the number of the log's entries that the batch covers, wanted or not.
	read uint64
}

// feed reads a source ahead of its consumer: one goroutine subscribes, checks the order, drops the events that are not
// wanted and queues the rest; the consumer takes it in batches. The queue is bounded by events and bytes, so that a
// consumer that cannot go on costs bounded memory.
type feed struct {
	limit int
	// arrived has a token when there may be something to take; room has one when the queue may have shrunk.
	arrived, room chan struct{}
	cancel        context.CancelFunc
	done          chan struct{}

	mu     sync.Mutex // guards what follows
	queue  []piece
	events int // in the queue
	bytes  int // in the queue
	taken  Cursor
	err    error // why the reading ended
}

// startFeed begins to read behind a cursor. log is the source's, wants the events to keep.
func startFeed(ctx context.Context, source Source, log eventstore.LogID, name string, wants wanted, after Cursor, limit int) *feed {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{
		limit: limit, arrived: make(chan struct{}, 1), room: make(chan struct{}, 1),
		cancel: cancel, done: make(chan struct{}), taken: after,
	}
	go func() {
		defer close(f.done)
		err := f.read(ctx, source, log, newSequence(name, log, after), wants)
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
		signal(f.arrived)
	}()
	return f
}

// stop ends the reading and waits for it.
func (f *feed) stop() {
	f.cancel()
	<-f.done
}

func (f *feed) read(ctx context.Context, source Source, log eventstore.LogID, order *sequence, wants wanted) error {
	// Nothing is filtered by the source: only so can every gap be seen.
	sub, err := source.Subscribe(ctx, order.at.Position, eventstore.Filter{MaxChunk: f.limit / 2})
	if err != nil {
		return fmt.Errorf("subscribe after %s: %w", order.at.Position, err)
	}
	defer sub.Close()
	for {
		c, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("read after %s: %w", order.at.Position, err)
		}
		seq := order.at.Seq
		if err := order.check(&c); err != nil {
			return err
		}
		p := piece{events: wants.of(c.Events), to: Cursor{Position: c.Position, Seq: c.Seq}, durable: c.Durable}
		p.seqs = seqsAt(p.events, c.Events, log, seq)
		p.bytes = weigh(p.events)
		if err := f.put(ctx, p); err != nil {
			return err
		}
	}
}

// seqsAt returns the seqs of the log's own events at some of the events that it has behind a seq.
func seqsAt(some, all []eventstore.Recorded, log eventstore.LogID, seq uint64) []uint64 {
	seqs := make([]uint64, 0, len(some))
	for i := range all {
		if all[i].Dot.Log == log {
			seq = all[i].Dot.Seq
		}
		if n := len(seqs); n < len(some) && some[n].Position == all[i].Position {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// wanted says which events a sink wants.
type wanted struct {
	types map[string]bool // none are all
	// touches, when set, says of events of other types whether they are wanted all the same.
	touches func(e *eventstore.Recorded) bool
}

func wantedBy(sink Sink) wanted {
	w := wanted{types: make(map[string]bool)}
	for _, t := range sink.Types() {
		w.types[t] = true
	}
	if c, ok := sink.(Correcting); ok {
		w.touches = c.Touches
	}
	return w
}

func (w *wanted) has(e *eventstore.Recorded) bool {
	return w.types[e.Type] || w.touches != nil && w.touches(e)
}

// of returns the events that are wanted, a slice of its own unless it is all of them.
func (w *wanted) of(events []eventstore.Recorded) []eventstore.Recorded {
	if len(w.types) == 0 {
		return events
	}
	n := 0
	for i := range events {
		if w.has(&events[i]) {
			n++
		}
	}
	switch n {
	case 0:
		return nil // rather than nothing of a large array
	case len(events):
		return events
	}
	out := make([]eventstore.Recorded, 0, n)
	for i := range events {
		if w.has(&events[i]) {
			out = append(out, events[i])
		}
	}
	return out
}

// put queues a piece, waiting while the queue is full.
func (f *feed) put(ctx context.Context, p piece) error {
	for {
		f.mu.Lock()
		if f.events < f.limit && f.bytes < maxQueued {
			f.events += len(p.events)
			f.bytes += p.bytes
			if n := len(f.queue); n > 0 && len(p.events) == 0 {
				f.queue[n-1].to, f.queue[n-1].durable = p.to, p.durable
			} else {
				f.queue = append(f.queue, p)
			}
			f.mu.Unlock()
			signal(f.arrived)
			return nil
		}
		f.mu.Unlock()
		select {
		case <-f.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waiting returns the number of queued events, and whether there is something to take or to tell.
func (f *feed) waiting() (events int, something bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events, len(f.queue) > 0 || f.err != nil
}

// oldest returns the time of the first queued event; the zero time when there is none.
func (f *feed) oldest() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.queue {
		if len(f.queue[i].events) > 0 {
			return f.queue[i].events[0].Time()
		}
	}
	return time.Time{}
}

// take returns what is queued as one batch: as many whole pieces as have up to limit events and maxBatch bytes, at least
// one. ok is false when nothing is queued. The error says why reading ended, once all that came before is taken.
func (f *feed) take(limit int) (b batch, ok bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		return batch{}, false, f.err
	}
	n, events, bytes := 1, len(f.queue[0].events), f.queue[0].bytes
	for n < len(f.queue) && events+len(f.queue[n].events) <= limit && bytes+f.queue[n].bytes <= maxBatch {
		events += len(f.queue[n].events)
		bytes += f.queue[n].bytes
		n++
	}
	b.piece = f.queue[n-1]
	if n > 1 {
		b.events, b.seqs = make([]eventstore.Recorded, 0, events), make([]uint64, 0, events)
		for _, p := range f.queue[:n] {
			b.events, b.seqs = append(b.events, p.events...), append(b.seqs, p.seqs...)
		}
	}
	b.read = b.to.Position.LSN - f.taken.Position.LSN
	f.taken = b.to
	f.events -= events
	f.bytes -= bytes
	clear(f.queue[:n])
	f.queue = f.queue[n:]
	if len(f.queue) == 0 {
		f.queue = nil
	}
	signal(f.room)
	return b, true, nil
}

// signal leaves a token in c unless one is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
