package redisview

import (
	"context"
	"strconv"
	"sync"
)

// sweepPage is how many keys are looked at, or deleted, in one round trip.
const sweepPage = 1000

// sweeper deletes in the background, one sweep at a time. The zero value is ready.
type sweeper struct {
	mu      sync.Mutex // guards what follows
	cancel  context.CancelFunc
	running bool
	again   bool // there is more to do than when the sweep under way began
	closed  bool
	owned   sync.WaitGroup
}

// start lets work run soon, once after the call at least.
func (s *sweeper) start(work func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.again = s.running; s.running {
		return
	}
	s.running = true
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.owned.Go(func() {
		defer cancel()
		for more := true; more; {
			work(ctx)
			s.mu.Lock()
			more = s.again && !s.closed
			s.again, s.running = false, more
			s.mu.Unlock()
		}
	})
}

// close ends the work and waits for it.
func (s *sweeper) close() {
	s.mu.Lock()
	s.closed = true
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	s.owned.Wait()
}

// sweep deletes, beside everything else, the keys of generations that are no longer wanted. What it does not get done is
// left to the next sweep.
func (v *View) sweep() {
	v.sweeper.start(func(ctx context.Context) {
		if err := v.sweepAll(ctx); err != nil && ctx.Err() == nil {
			v.logger.Debug("old generations are not swept yet", "projection", v.Name(), "cause", err)
		}
	})
}

func (v *View) sweepAll(ctx context.Context) error {
	garbage, err := v.client.reads.SMembers(ctx, v.names.garbage).Result()
	if err != nil {
		return v.client.unavailable("sweep", err)
	}
	for _, text := range garbage {
		// Numbers are never given twice, so nothing new can be under this one.
		number, err := strconv.ParseInt(text, 10, 64)
		if err == nil {
			err = v.scan(ctx, number, func(keys []string) error {
				return v.client.reads.Unlink(ctx, keys...).Err()
			})
		}
		if err == nil {
			err = v.client.reads.Unlink(ctx, v.names.parked(number)).Err()
		}
		if err == nil {
			err = v.client.reads.SRem(ctx, v.names.garbage, text).Err()
		}
		if err != nil {
			return v.client.unavailable("sweep", err)
		}
	}
	return nil
}

// scan calls visit with the whole keys of a generation's model, some at a time. A key may come twice.
func (v *View) scan(ctx context.Context, generation int64, visit func(keys []string) error) error {
	match := globEscaper.Replace(v.names.model(generation)) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := v.client.reads.Scan(ctx, cursor, match, sweepPage).Result()
		if err != nil {
			return err
		}
		for len(keys) > 0 {
			n := min(len(keys), sweepPage)
			if err := visit(keys[:n]); err != nil {
				return err
			}
			keys = keys[n:]
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}
