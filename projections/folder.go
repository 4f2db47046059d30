package projections

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/tributary-es/tributary/eventstore"
)

// committer is what a Sink and a Generation have in common.
type committer interface {
	Commit(ctx context.Context, from, to Cursor, events []eventstore.Recorded) ([]Parked, error)
}

// folder carries the log into one model, from a cursor on. It is used by one goroutine.
type folder struct {
	name   string
	source Source
	log    eventstore.LogID
	wants  wanted
	into   committer
	opts   *Options

	// at is what the model holds, committed is where its stored cursor stands: behind at when only entries that the
	// projection does not want lie between.
	at, committed Cursor

	// troubled: the last call failed. retrying, recovered and parked, when set, are told of an error that is about to be
	// retried, of the first success after it, and of parked events; unseen of a commit that may have parked some and whose
	// answer was lost.
	troubled  bool
	retrying  func(err error, sink bool)
	recovered func()
	parked    func([]Parked)
	unseen    func()
	// patient: a log whose files are damaged is tried again rather than given up.
	patient bool
	// rest waits before another attempt; an error of it ends the folding.
	rest func(ctx context.Context, failures int) error
}

// newFolder returns what carries a log into a model of a sink.
func newFolder(source Source, log eventstore.LogID, sink Sink, into committer, at Cursor, opts *Options) *folder {
	return &folder{
		name: sink.Name(), source: source, log: log, wants: wantedBy(sink), into: into, opts: opts, at: at, committed: at, rest: opts.pause,
	}
}

// final reports whether an error ends the folding rather than being retried.
func final(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	for _, e := range []error{
		ErrOrder, ErrBadWrite, ErrNoCursor, ErrCursorMoved, eventstore.ErrWrongIncarnation, eventstore.ErrCorrupt, eventstore.ErrTruncated,
		errReopen,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// commit applies a batch, again and again while the sink cannot be reached, in parts where it writes more than the sink takes at once. The
// cursor alone is not stored: see flush.
func (f *folder) commit(ctx context.Context, b *batch) error {
	for done, most := 0, len(b.events); done < len(b.events); {
		n, to := len(b.events), b.to
		if done+most < n {
			n = done + most
			for n < len(b.events) && together(&b.events[n-1], &b.events[n]) {
				n++
			}
		}
		if n < len(b.events) {
			to = Cursor{Position: b.events[n-1].Position, Seq: b.seqs[n-1]}
		}
		var much *TooMuchError
		switch err := f.store(ctx, to, b.events[done:n]); {
		case errors.As(err, &much) && much.Fits > 0 && much.Fits < n-done:
			most = much.Fits
			continue
		case err != nil:
			return err
		}
		f.at, done, most = to, n, 2*most
	}
	f.at = b.to
	f.well()
	return nil
}

// flush stores the cursor when it is behind.
func (f *folder) flush(ctx context.Context) error {
	if f.committed == f.at {
		return nil
	}
	return f.store(ctx, f.at, nil)
}

// tryFlush is flush without another attempt.
func (f *folder) tryFlush(ctx context.Context) error {
	if f.committed == f.at {
		return nil
	}
	if _, err := f.into.Commit(ctx, f.committed, f.at, nil); err != nil {
		return fmt.Errorf("commit %s up to %s: %w", f.name, f.at, err)
	}
	f.committed = f.at
	return nil
}

func (f *folder) store(ctx context.Context, to Cursor, events []eventstore.Recorded) error {
	for failures := 0; ; failures++ {
		parked, err := f.into.Commit(ctx, f.committed, to, events)
		if err != nil && failures > 0 && errors.Is(err, ErrCursorMoved) && f.wentThrough(ctx, to) {
			err = nil // the answer to an earlier attempt was lost, and with it what was parked
			if len(events) > 0 && f.unseen != nil {
				f.unseen()
			}
		}
		if err == nil {
			f.committed = to
			f.told(parked)
			f.well()
			return nil
		}
		err = fmt.Errorf("commit %s up to %s: %w", f.name, to, err)
		if much := (*TooMuchError)(nil); final(ctx, err) || errors.As(err, &much) {
			return err
		}
		f.tell(err, true)
		if err := f.rest(ctx, failures); err != nil {
			return err
		}
	}
}

// wentThrough reports whether the model stands at the cursor, as far as it can be asked.
func (f *folder) wentThrough(ctx context.Context, to Cursor) bool {
	r, ok := f.into.(CursorReader)
	if !ok {
		return false
	}
	at, err := r.Cursor(ctx)
	return err == nil && at == to
}

// well notes that a call succeeded.
func (f *folder) well() {
	if f.troubled && f.recovered != nil {
		f.recovered()
	}
	f.troubled = false
}

// tell notes that a call failed and is about to be repeated.
func (f *folder) tell(err error, sink bool) {
	f.troubled = true
	if f.retrying != nil {
		f.retrying(err, sink)
	}
}

func (f *folder) told(parked []Parked) {
	if len(parked) == 0 {
		return
	}
	for i := range parked {
		f.opts.Logger.Warn("event is parked", "projection", f.name, "stream", parked[i].Stream.String(),
			"position", parked[i].Position.String(), "type", parked[i].Type, "reason", parked[i].Reason)
	}
	if f.opts.OnParked != nil {
		f.opts.OnParked(parked)
	}
	if f.parked != nil {
		f.parked(parked)
	}
}

// start begins to read behind what is folded.
func (f *folder) start(ctx context.Context) *feed {
	return startFeed(ctx, f.source, f.log, f.name, f.wants, f.at, 2*f.opts.MaxBatch)
}

// upTo folds the log exactly up to the target, which is where a chunk of it ended once, and stores the cursor. progress,
// when not nil, is called after each batch.
func (f *folder) upTo(ctx context.Context, target Cursor, progress func(at Cursor)) error {
	for failures := 0; f.at.Position.Compare(target.Position) < 0; {
		before := f.at
		err := f.stretch(ctx, target, progress)
		if err == nil {
			break
		}
		waits := f.patient && ctx.Err() == nil && errors.Is(err, eventstore.ErrDamaged)
		if final(ctx, err) && !waits {
			return err
		}
		if f.at != before {
			failures = 0
		}
		f.tell(err, false)
		if err := f.rest(ctx, failures); err != nil {
			return err
		}
		failures++
	}
	return f.flush(ctx)
}

// stretch folds up to the target as long as the source can be read.
func (f *folder) stretch(ctx context.Context, target Cursor, progress func(at Cursor)) error {
	if target.Position.LSN == 0 {
		return nil // before the first event, which may never come
	}
	feed := f.start(ctx)
	defer feed.stop()
	for f.at.Position.Compare(target.Position) < 0 {
		b, ok, err := feed.take(f.opts.MaxBatch)
		if err != nil {
			return err
		}
		if !ok {
			select {
			case <-feed.arrived:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		b.cut(target)
		if err := f.commit(ctx, &b); err != nil {
			return err
		}
		if progress != nil {
			progress(f.at)
		}
	}
	return nil
}

// cut drops what lies beyond the target.
func (b *batch) cut(target Cursor) {
	if b.to.Position.Compare(target.Position) <= 0 {
		return
	}
	n := sort.Search(len(b.events), func(i int) bool { return b.events[i].Position.Compare(target.Position) > 0 })
	b.events, b.seqs, b.to = b.events[:n], b.seqs[:n], target
}

// fits reports whether a cursor can be of the log: of its incarnation and not beyond its head.
func fits(c Cursor, log eventstore.LogState) bool {
	if c.Position.IsZero() {
		return true
	}
	return c.Position.Incarnation == log.ID.Incarnation && c.Position.LSN <= log.Durable.LSN && c.Seq <= log.Seq
}

// headOf returns the cursor of a reader that has everything.
func headOf(log eventstore.LogState) Cursor { return Cursor{Position: log.Durable, Seq: log.Seq} }
