package projections

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// hold makes a runner stand still between two commits, its sink at an exact cursor, until it is released.
type hold struct {
	standing chan Cursor // buffered
	release  chan bool   // buffered; true: the sink was changed and is to be opened again
}

// stand serves a hold.
func (r *Runner) stand(ctx context.Context, f *folder, h *hold) error {
	if err := f.flush(ctx); err != nil {
		return err
	}
	h.standing <- f.at
	r.board.update(func(s *Status) { s.State = Paused })
	select {
	case reopen := <-h.release:
		r.board.update(func(s *Status) { s.State = Live })
		if reopen {
			return errReopen
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hold waits until the runner stands still, and returns where. Before Run it waits for that too.
func (r *Runner) hold(ctx context.Context) (*hold, Cursor, error) {
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	h := &hold{standing: make(chan Cursor, 1), release: make(chan bool, 1)}
	select {
	case r.holds <- h:
	case <-ended:
		return nil, Cursor{}, ErrStopped
	case <-ctx.Done():
		return nil, Cursor{}, fmt.Errorf("wait for the projection to stand still: %w", ctx.Err())
	}
	select {
	case at := <-h.standing:
		return h, at, nil
	case <-ended:
		return nil, Cursor{}, ErrStopped
	case <-ctx.Done():
		h.release <- false // for a runner that gets there later
		return nil, Cursor{}, fmt.Errorf("wait for the projection to stand still: %w", ctx.Err())
	}
}

// Pause makes the runner stand still until Resume; it returns when it does. A runner that is paused already stays so.
// ErrStopped when Run has returned. The pause ends with Run.
func (r *Runner) Pause(ctx context.Context) error {
	r.mu.Lock()
	paused := r.paused != nil
	r.mu.Unlock()
	if paused {
		return nil
	}
	h, _, err := r.hold(ctx)
	if err != nil {
		return fmt.Errorf("pause %s: %w", r.sink.Name(), err)
	}
	r.mu.Lock()
	r.paused = h
	r.mu.Unlock()
	return nil
}

// Resume lets a paused runner go on; it does nothing when it is not paused.
func (r *Runner) Resume() {
	r.mu.Lock()
	h := r.paused
	r.paused = nil
	r.mu.Unlock()
	if h != nil {
		h.release <- false
	}
}

// Reset drops the model, which the runner then fills again from the beginning of the log. Reads answer ErrRebuilding until
// it is filled. It returns when the model is dropped.
func (r *Runner) Reset(ctx context.Context) error {
	h, _, err := r.hold(ctx)
	if err != nil {
		return fmt.Errorf("reset %s: %w", r.sink.Name(), err)
	}
	err = r.sink.Reset(ctx)
	h.release <- true
	if err != nil {
		return fmt.Errorf("reset %s: %w", r.sink.Name(), err)
	}
	return nil
}

// ErrRebuildUnderWay: a rebuild of this projection is running already.
var ErrRebuildUnderWay = errors.New("a rebuild is under way")

// Rebuild folds the log from its beginning into a new model and puts it in place of the live one at an exact position P:
// the old model stops at P, the new one is live from the entry after P. The runner goes on meanwhile, and so do reads,
// but for the moment of the switch, when the runner stands still; where the sink is no Generations it stands still all
// along and reads answer ErrRebuilding. report, when not nil, is called now and then.
//
// The digests are those of the old and the new model, both at P; they are equal unless one of them is wrong or events
// were parked. After an error the old model stays, where the sink is a Generations.
func (r *Runner) Rebuild(ctx context.Context, report func(RebuildProgress)) (before, after string, err error) {
	if !r.rebuilding.TryLock() {
		return "", "", fmt.Errorf("rebuild %s: %w", r.sink.Name(), ErrRebuildUnderWay)
	}
	defer r.rebuilding.Unlock()
	before, after, err = r.rebuild(ctx, report)
	r.board.update(func(s *Status) {
		s.Rebuild = nil
		if err == nil {
			s.Rebuilds++
		}
	})
	if err != nil {
		return "", "", fmt.Errorf("rebuild %s: %w", r.sink.Name(), err)
	}
	return before, after, nil
}

func (r *Runner) rebuild(ctx context.Context, report func(RebuildProgress)) (before, after string, err error) {
	meter := &rebuildMeter{started: time.Now(), report: func(p RebuildProgress) {
		r.board.update(func(s *Status) { s.Rebuild = &p })
		if report != nil {
			report(p)
		}
	}}
	// The digest of a sink with one generation is taken before that is dropped, and nothing may be written in between.
	_, beside := r.sink.(Generations)
	h, at, err := r.hold(ctx)
	if err != nil {
		return "", "", err
	}
	reopen := false
	defer func() {
		if h != nil {
			h.release <- reopen
		}
	}()
	log, err := r.source.Log(ctx)
	if err != nil {
		return "", "", fmt.Errorf("read the log's head: %w", err)
	}
	f, g, err := begin(ctx, r.source, log.ID, r.sink, &r.opts, func() (err error) {
		if !beside {
			before, err = r.sink.Digest(ctx)
			reopen = true
			r.standRebuilding()
		}
		return err
	})
	if err != nil {
		return "", "", err
	}
	if beside {
		h.release <- false
		h = nil
		defer func() {
			if err != nil {
				_ = g.Discard(context.WithoutCancel(ctx)) // the error that led here is the one to tell
			}
		}()
		if err := r.approach(ctx, f, at, meter); err != nil {
			return "", "", err
		}
		if h, at, err = r.hold(ctx); err != nil {
			return "", "", err
		}
		if before, err = r.sink.Digest(ctx); err != nil {
			return "", "", fmt.Errorf("digest of the live model: %w", err)
		}
	}
	if err := f.upTo(ctx, at, func(c Cursor) { meter.tell(c, at) }); err != nil {
		return "", "", err
	}
	if after, err = g.Digest(ctx); err != nil {
		return "", "", fmt.Errorf("digest of the new model: %w", err)
	}
	if err = g.Promote(ctx, at); err != nil {
		return "", "", fmt.Errorf("promote: %w", err)
	}
	reopen = true
	meter.tell(at, at)
	return before, after, nil
}

// approach fills a generation until it is close behind the live model.
func (r *Runner) approach(ctx context.Context, f *folder, target Cursor, meter *rebuildMeter) error {
	meter.tell(f.at, target)
	for {
		if err := f.upTo(ctx, target, func(c Cursor) { meter.tell(c, target) }); err != nil {
			return err
		}
		live, err := inPlace{r.sink}.Cursor(ctx)
		if err != nil {
			return fmt.Errorf("cursor of the live model: %w", err)
		}
		if !f.at.before(live) {
			return nil
		}
		if live.Position.LSN < f.at.Position.LSN+uint64(r.opts.MaxBatch) {
			return nil
		}
		target = live
	}
}

// before reports whether c lies before d in the same life of the log.
func (c Cursor) before(d Cursor) bool {
	return c.Position.LSN < d.Position.LSN && (c.Position.IsZero() || c.Position.Incarnation == d.Position.Incarnation)
}

// standRebuilding notes that a runner that stands still has no model to read from.
func (r *Runner) standRebuilding() {
	r.board.mu.Lock()
	r.board.known, r.board.status.State = false, Rebuilding
	r.board.mu.Unlock()
	r.progress.advance(Cursor{}.Position)
}
