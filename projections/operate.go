package projections

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reset drops the model, which the runner then fills again from the beginning of the log. Reads answer ErrRebuilding until
// it is filled. It returns when the model is dropped.
func (r *Runner) Reset(ctx context.Context) error {
	h, _, err := r.hold(ctx, r.holds.reset)
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
// but from P on until the switch: then the runner stands still, and the live model does not move, for as long as the last
// few entries, two digests (each reads a whole model) and the switch take. Where the sink is no Generations it stands
// still all along and reads answer ErrRebuilding. report, when not nil, is called now and then.
//
// The digests are those of the old and the new model, both at P; they are equal unless one of them is wrong or events
// were parked. After an error the old model stays, where the sink is a Generations; and always after ErrDropped, which says that the log
// has not its first events any more. ErrStopped, with why, when the runner has.
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
	log, err := r.source.Log(ctx)
	if err != nil {
		return "", "", fmt.Errorf("read the log's head: %w", err)
	}
	if err := beginning(ctx, r.source, log); err != nil {
		return "", "", err
	}
	// The digest of a sink with one generation is taken before that is dropped, and nothing may be written in between.
	_, beside := r.sink.(Generations)
	h, at, err := r.hold(ctx, r.holds.exact)
	if err != nil {
		return "", "", err
	}
	reopen := false
	defer func() {
		if h != nil {
			h.release <- reopen
		}
	}()
	if log, err = r.source.Log(ctx); err != nil {
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
		if h, at, err = r.hold(ctx, r.holds.exact); err != nil {
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
