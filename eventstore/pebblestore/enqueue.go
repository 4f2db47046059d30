package pebblestore

import (
	"context"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

var _ eventstore.Enqueuer = (*Store)(nil)

// preparedTogether is how many requests a goroutine prepares. Several goroutines share the processors, and the waiting for
// the disk where what a request rests on is not in memory.
const preparedTogether = 16

// Enqueue implements eventstore.Enqueuer. The requests are prepared side by side and join the queue in their order.
func (s *Store) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	ready := make([]*pending, len(requests)) // nil: it is answered
	prepare := func(begin, end int) {
		for i := begin; i < end; i++ {
			r := requests[i] // of which a copy is filled in: what lasts is in p
			p, receipt, err := s.ready(ctx, &r)
			if p == nil {
				done(i, eventstore.Answer{Receipt: receipt, Err: err})
				continue
			}
			p.place, p.answered = i, done
			ready[i] = p
		}
	}
	var others sync.WaitGroup
	begin := 0
	for ; len(requests)-begin > preparedTogether; begin += preparedTogether {
		first := begin
		others.Go(func() { prepare(first, first+preparedTogether) })
	}
	prepare(begin, len(requests))
	others.Wait()
	s.putAll(ctx, ready)
}

// putAll queues requests in their order, as many at once as there is room for: each time that the sequencer is woken has its
// price.
func (s *Store) putAll(ctx context.Context, ready []*pending) {
	together := ready[:0]
	for _, p := range ready {
		if p == nil {
			continue
		}
		if !p.tryEnter(s.room, s.opts.MaxQueueBytes) {
			s.put(together...) // they make room when they are done
			together = together[:0]
			if err := s.stall.enter(ctx, p, s.room, s.opts.MaxQueueBytes); err != nil {
				p.answered(p.place, eventstore.Answer{Err: err})
				continue
			}
		}
		together = append(together, p)
	}
	s.put(together...)
}
