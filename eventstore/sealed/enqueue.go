package sealed

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/tributary-es/tributary/eventstore"
)

var _ eventstore.Enqueuer = (*Store)(nil)

// Enqueue implements eventstore.Enqueuer. Requests that bring personal data are sealed side by side, and then take their
// places among the others.
func (s *Store) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	errs := make([]error, len(requests))
	personal, refused := false, false
	for i := range requests {
		errs[i] = unsealed(&requests[i])
		refused = refused || errs[i] != nil
		personal = personal || s.concerns(&requests[i])
	}
	if !personal && !refused {
		eventstore.Enqueue(ctx, s.Store, requests, done)
		return
	}
	recorded := func() {}
	if personal {
		recorded = s.sealAll(ctx, requests, errs)
	}
	taken, places := requests[:0:0], []int(nil)
	for i := range requests {
		if errs[i] != nil {
			done(i, eventstore.Answer{Err: errs[i]})
			continue
		}
		taken, places = append(taken, requests[i]), append(places, i)
	}
	var left atomic.Int64
	left.Store(int64(len(taken)) + 1)
	leave := func() {
		if left.Add(-1) == 0 {
			recorded()
		}
	}
	eventstore.Enqueue(ctx, s.Store, taken, func(i int, a eventstore.Answer) {
		leave() // what is still waited for holds up no erasure: the event has its place in the log
		done(places[i], a)
	})
	leave()
}

// sealAll seals the requests that errs has no error for, and adds to errs. No subject is erased until recorded is called,
// by whatever goroutine: when the requests are in the log.
func (s *Store) sealAll(ctx context.Context, requests []eventstore.Request, errs []error) (recorded func()) {
	s.appending.RLock() // once for all: with an erasure waiting, a second would wait for the first
	var sealing sync.WaitGroup
	for i := range requests {
		if errs[i] == nil && s.concerns(&requests[i]) {
			sealing.Go(func() { errs[i] = s.seal(ctx, &requests[i]) })
		}
	}
	sealing.Wait()
	return s.appending.RUnlock
}
