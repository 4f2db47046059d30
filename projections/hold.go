package projections

import (
	"context"
	"fmt"
	"time"
)

// hold makes a runner stand still between two commits until it is released.
type hold struct {
	standing chan standing // buffered
	release  chan bool     // buffered; true: the sink was changed and is to be opened again
}

// standing is what a hold is told: where the model stands, or why it never will.
type standing struct {
	at  Cursor
	err error
}

// holds are what a runner can be asked to stand still for.
type holds struct {
	// pause and reset are answered also while the runner waits to try again: nothing is written then, although it is not
	// known exactly where the sink is. Pauses share one standing still.
	pause, reset chan *hold
	// exact is answered when the sink's stored cursor is all that the runner has folded; with the fault of the log while that
	// is damaged.
	exact chan *hold
}

func newHolds() holds {
	return holds{pause: make(chan *hold), reset: make(chan *hold), exact: make(chan *hold)}
}

// standExactly serves a hold once the sink's cursor is stored. An error that ends the folding is the hold's too.
func (r *Runner) standExactly(ctx context.Context, f *folder, h *hold) error {
	if err := f.flush(ctx); err != nil {
		h.standing <- standing{err: err}
		return err
	}
	return r.stand(ctx, f.at, h, nil)
}

// standFlushed serves a pause or a reset of a runner that follows. The cursor is stored if that can be done at once.
func (r *Runner) standFlushed(ctx context.Context, f *folder, h *hold, shared <-chan *hold) error {
	err := f.tryFlush(ctx)
	if err != nil && final(ctx, err) {
		h.standing <- standing{err: err}
		return err
	}
	if err != nil {
		f.tell(err, true)
	}
	return r.stand(ctx, f.committed, h, shared)
}

// stand serves a hold, and those that come by shared meanwhile, until all of them are released.
func (r *Runner) stand(ctx context.Context, at Cursor, h *hold, shared <-chan *hold) error {
	var was State
	r.board.update(func(s *Status) { was, s.State = s.State, Paused })
	h.standing <- standing{at: at}
	reopen := false
	for held := []*hold{h}; len(held) > 0; {
		select {
		case changed := <-held[0].release:
			reopen = reopen || changed
			held = held[1:]
		case h := <-shared:
			h.standing <- standing{at: at}
			held = append(held, h)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.board.update(func(s *Status) { s.State = was })
	if reopen {
		return errReopen
	}
	return nil
}

// rest waits before the attempt after the given number of failures, and stands still meanwhile when asked to.
func (r *Runner) rest(ctx context.Context, failures int) error {
	t := time.NewTimer(r.opts.wait(failures))
	defer t.Stop()
	var exact chan *hold
	damage := r.board.damage()
	if damage != nil {
		exact = r.holds.exact
	}
	for {
		var err error
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case h := <-r.holds.pause:
			err = r.stand(ctx, Cursor{}, h, r.holds.pause)
		case h := <-r.holds.reset:
			err = r.stand(ctx, Cursor{}, h, nil)
		case h := <-exact:
			h.standing <- standing{err: damage}
		}
		if err != nil {
			return err
		}
	}
}

// hold asks by one of the runner's holds and waits until the runner stands still, and returns where. Before Run it waits
// for that too.
func (r *Runner) hold(ctx context.Context, ask chan<- *hold) (*hold, Cursor, error) {
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	h := &hold{standing: make(chan standing, 1), release: make(chan bool, 1)}
	select {
	case ask <- h:
	case <-ended:
		return nil, Cursor{}, r.stopped()
	case <-ctx.Done():
		return nil, Cursor{}, fmt.Errorf("wait for the projection to stand still: %w", ctx.Err())
	}
	select {
	case s := <-h.standing:
		if s.err != nil {
			return nil, Cursor{}, fmt.Errorf("wait for the projection to stand still: %w", s.err)
		}
		return h, s.at, nil
	case <-ended:
		return nil, Cursor{}, r.stopped()
	case <-ctx.Done():
		h.release <- false // for a runner that gets there later
		return nil, Cursor{}, fmt.Errorf("wait for the projection to stand still: %w", ctx.Err())
	}
}

// stopped is the error of who asks something of a runner that has stopped: ErrStopped, with what has stopped it.
func (r *Runner) stopped() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why != nil {
		return fmt.Errorf("%w: %w", ErrStopped, r.why)
	}
	return ErrStopped
}

// Pause makes the runner stand still until Resume; it returns when it does, also while source or sink cannot be reached.
// A model that is being filled is waited for. Pauses are counted: the runner goes on when there were as many Resumes. ErrStopped when
// Run has returned; the error that makes the runner start again, when that comes first. All pauses end with Run.
func (r *Runner) Pause(ctx context.Context) error {
	h, _, err := r.hold(ctx, r.holds.pause)
	if err != nil {
		return fmt.Errorf("pause %s: %w", r.sink.Name(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.ended:
		return fmt.Errorf("pause %s: %w", r.sink.Name(), ErrStopped)
	default:
	}
	r.paused = append(r.paused, h)
	return nil
}

// Resume takes one Pause back, the last of which lets the runner go on; it does nothing when it is not paused.
func (r *Runner) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.paused); n > 0 {
		r.paused[n-1].release <- false
		r.paused = r.paused[:n-1]
	}
}
