package projections

import (
	"context"
	"fmt"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// progress lets readers wait for a position.
type progress struct {
	mu      sync.Mutex // guards what follows
	at      eventstore.Position
	waiters map[*waiter]struct{}
	stopped error // why nobody will be served any more; nil while running
}

type waiter struct {
	want eventstore.Position
	done chan error // buffered
}

// start lets readers wait again after stop.
func (p *progress) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = nil
}

// advance moves the position and wakes those who waited for it. A position of another life of the log, or an earlier one,
// is taken as it is.
func (p *progress) advance(at eventstore.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = at
	for w := range p.waiters {
		if reached, err := reached(at, w.want); reached || err != nil {
			w.done <- err
			delete(p.waiters, w)
		}
	}
}

// stop fails all waiters, and those who come later, with err.
func (p *progress) stop(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = err
	for w := range p.waiters {
		w.done <- err
	}
	clear(p.waiters)
}

func (p *progress) await(ctx context.Context, want eventstore.Position) error {
	if want.IsZero() {
		return nil
	}
	p.mu.Lock()
	ok, err := reached(p.at, want)
	if err == nil && !ok {
		err = p.stopped
	}
	if ok || err != nil {
		p.mu.Unlock()
		return err
	}
	w := &waiter{want: want, done: make(chan error, 1)}
	if p.waiters == nil {
		p.waiters = make(map[*waiter]struct{})
	}
	p.waiters[w] = struct{}{}
	p.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.waiters, w)
		p.mu.Unlock()
		return ctx.Err()
	}
}

// reached reports whether a projection at one position has what stands at another. Positions of two lives of the log
// cannot be compared: ErrWrongIncarnation.
func reached(at, want eventstore.Position) (bool, error) {
	if at.IsZero() {
		return false, nil
	}
	if at.Incarnation != want.Incarnation {
		return false, fmt.Errorf("wait for %s at %s: %w", want, at, eventstore.ErrWrongIncarnation)
	}
	return at.LSN >= want.LSN, nil
}
