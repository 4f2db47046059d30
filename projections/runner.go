package projections

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Runner keeps one sink up to date with a source. It is a queries.Progress.
//
//	open ─► has the sink a model of this log? ─no─► fill one (beside the live one, where the sink can) ─► promote
//	 ▲                  │yes                                                                        │
//	 └── cursor moved ──┴──────────────► follow: read ahead, commit, answer holds, look after the sink ◄┘
//
// It reads and checks ahead of the commits in a second goroutine. It goes on for ever while source or sink cannot be
// reached, or the log's files are damaged where they have to be read, in bounded memory. A model that is lost is noticed
// within Options.CheckEvery and rebuilt. One runner is meant for a model: a second one, in another process, does no harm to
// what is counted, but the two hinder each other.
//
// All methods are safe for concurrent use; Run is called once at a time, and may be called again after it has returned.
type Runner struct {
	source Source
	sink   Sink
	opts   Options

	board    board
	progress progress
	holds    holds
	// triedParked: what was found parked has been applied again, as far as that goes. It is Run's.
	triedParked bool
	// rebuilding is held by the one rebuild that an operator may run at a time.
	rebuilding sync.Mutex

	mu     sync.Mutex // guards what follows
	ended  chan struct{}
	why    error   // what has ended the last Run; nil: its context
	paused []*hold // those that are standing and not resumed
}

// NewRunner returns a runner that carries the source's log into the sink. Call Run.
func NewRunner(source Source, sink Sink, o Options) *Runner {
	r := &Runner{source: source, sink: sink, opts: o.withDefaults(), holds: newHolds()}
	r.board.status = Status{Name: sink.Name(), State: Starting}
	if v, ok := sink.(Versioned); ok {
		r.board.status.Version = v.Version()
	}
	return r
}

// Status returns what the runner does and how far it is.
func (r *Runner) Status() Status { return r.board.read() }

// Sink returns the sink that the runner keeps.
func (r *Runner) Sink() Sink { return r.sink }

// Position returns how far the model is. ErrRebuilding while there is none to read from; ErrUnavailable when its server
// cannot be reached or was not reached yet.
func (r *Runner) Position(context.Context) (eventstore.Position, error) {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	s := &r.board.status
	switch {
	case r.board.sinkDown:
		return s.Position, fmt.Errorf("projection %s: %w: %s", s.Name, ErrUnavailable, s.LastError)
	case s.State == Rebuilding:
		return s.Position, fmt.Errorf("projection %s: %w", s.Name, ErrRebuilding)
	case !r.board.known && s.State == Stopped && s.LastError != "":
		return s.Position, fmt.Errorf("projection %s: %w: it has stopped: %s", s.Name, ErrUnavailable, s.LastError)
	case !r.board.known:
		return s.Position, fmt.Errorf("projection %s: %w: it is %s", s.Name, ErrUnavailable, s.State)
	}
	return s.Position, nil
}

// Await returns when the model holds the log up to p, or with ctx's error. ErrWrongIncarnation when p is of another life
// of the log, ErrStopped when Run has returned.
func (r *Runner) Await(ctx context.Context, p eventstore.Position) error {
	return r.progress.await(ctx, p)
}

// Run keeps the sink up to date until ctx ends, then it returns nil. Any other return is final: the source is out of order
// (ErrOrder) or corrupt, it has dropped what is still to be read (ErrDropped), or the projection's code writes nonsense
// (ErrBadWrite); Status says Stopped and why. A log whose
// files are damaged (eventstore.ErrDamaged) is tried again like one that cannot be reached, for it may be repaired: Status
// says Damaged meanwhile.
func (r *Runner) Run(ctx context.Context) error {
	ended := make(chan struct{})
	r.mu.Lock()
	r.ended, r.why = ended, nil
	r.mu.Unlock()
	defer func() {
		close(ended)
		r.mu.Lock()
		r.paused = nil
		r.mu.Unlock()
	}()
	r.progress.start()
	r.board.update(func(s *Status) { s.State = Starting })

	err := r.run(ctx)
	if ctx.Err() != nil {
		r.board.update(func(s *Status) { s.State = Stopped })
		r.progress.stop(ErrStopped)
		return nil
	}
	r.mu.Lock()
	r.why = err
	r.mu.Unlock()
	r.board.fault(Stopped, err)
	r.progress.stop(fmt.Errorf("projection %s: %w: %w", r.sink.Name(), ErrStopped, err))
	return fmt.Errorf("projection %s: %w", r.sink.Name(), err)
}

// run opens and follows until an error is final.
func (r *Runner) run(ctx context.Context) error {
	for failures := 0; ; {
		before, began := r.Status().Events, time.Now()
		err := r.session(ctx)
		overtaken := errors.Is(err, ErrCursorMoved) && r.Status().Rebuild != nil && r.Status().Events != before
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrOrder), errors.Is(err, ErrBadWrite), errors.Is(err, eventstore.ErrCorrupt) && !errors.Is(err, eventstore.ErrDamaged):
			return err
		case errors.Is(err, eventstore.ErrTruncated):
			// Not wrapped: a query that is refused because of this has not asked for the events that are gone.
			return fmt.Errorf("%w: %s", ErrDropped, err.Error())
		case errors.Is(err, errReopen):
			continue
		case errors.Is(err, ErrNoCursor), errors.Is(err, ErrCursorMoved):
			r.opts.Logger.Warn("projection starts again from what its sink holds", "projection", r.sink.Name(), "cause", err)
			r.board.fault(Starting, err)
		default:
			r.retrying(err, false)
		}
		if r.Status().Events != before && !overtaken {
			failures = 0
		}
		until := time.Now()
		if overtaken {
			// Two that fill a model each drop what the other has begun: for as long as this one was at it the other is left alone, more or less.
			until = until.Add(min(time.Duration(2*rand.Float64()*float64(time.Since(began))), overtakenAtMost)) //nolint:gosec // not for secrets
		}
		for more := true; more; more = time.Now().Before(until) {
			if err := r.rest(ctx, failures); err != nil && !errors.Is(err, errReopen) {
				return err
			}
		}
		failures++
	}
}

// overtakenAtMost bounds for how long a runner leaves the model to another one that has begun to fill it anew, beside the usual pause.
const overtakenAtMost = 10 * time.Second

// errReopen ends a session that an operator's action has made stale.
var errReopen = errors.New("the sink was changed")

// session opens the sink, makes sure that it has a model, and follows the log until something goes wrong.
func (r *Runner) session(ctx context.Context) error {
	log, err := r.source.Log(ctx)
	if err != nil {
		return fmt.Errorf("read the log's head: %w", err)
	}
	r.board.head(log.Durable, time.Time{})
	at, err := r.sink.Open(ctx)
	placed := error(nil)
	if err == nil {
		placed = place(r.source, at, log)
	}
	switch {
	case errors.Is(err, ErrNoCursor):
		at, err = r.refill(ctx, log)
	case errors.Is(placed, ErrSourceBehind):
		if _, err := r.Position(ctx); err != nil {
			r.opened(ctx, at) // it can be read meanwhile
		}
		return placed
	case placed != nil:
		r.opts.Logger.Warn("model is of another log, it is rebuilt", "projection", r.sink.Name(),
			"cursor", at.String(), "log", log.ID.String(), "durable", log.Durable.String())
		// It speaks of events that the log does not have: nobody must read it meanwhile.
		if err = r.sink.Reset(ctx); err == nil {
			at, err = r.refill(ctx, log)
		}
	}
	if err != nil {
		if !final(ctx, err) {
			r.sinkDown(err)
		}
		return err
	}
	r.opened(ctx, at)
	r.tryParked(ctx)
	f := r.folder(log.ID, r.sink, at)
	f.troubled = r.board.damage() != nil // until something was read again
	return r.follow(ctx, f)
}

func (r *Runner) folder(log eventstore.LogID, into committer, at Cursor) *folder {
	f := newFolder(r.source, log, r.sink, into, at, &r.opts)
	f.retrying, f.recovered, f.parked, f.unseen, f.rest = r.retrying, r.recovered, r.parked, r.unseen, r.rest
	return f
}

// opened notes that the sink has a model that stands at a cursor.
func (r *Runner) opened(ctx context.Context, at Cursor) {
	r.countParked(ctx)
	r.board.mu.Lock()
	r.board.known, r.board.sinkDown = true, false
	if r.board.status.Rebuild = nil; r.board.status.State != Damaged {
		r.board.status.State = Live
	}
	r.board.mu.Unlock()
	r.board.folded(at.Position, 0, time.Time{})
	r.progress.advance(at.Position)
}

// refill fills an empty model with all that is durable and returns where it stands.
func (r *Runner) refill(ctx context.Context, log eventstore.LogState) (Cursor, error) {
	meter := &rebuildMeter{started: time.Now(), report: func(p RebuildProgress) {
		r.board.update(func(s *Status) { s.Rebuild = &p })
	}}
	r.board.mu.Lock()
	r.board.known, r.board.sinkDown = false, false
	r.board.status.State, r.board.status.Position = Rebuilding, eventstore.Position{}
	r.board.mu.Unlock()
	r.progress.advance(eventstore.Position{})

	f, g, err := begin(ctx, r.source, log.ID, r.sink, &r.opts, func() error { return nil })
	if err != nil {
		return Cursor{}, err
	}
	f.retrying, f.recovered, f.parked, f.unseen = r.retrying, r.recovered, r.parked, r.unseen
	f.rest, f.patient = r.rest, true
	r.board.update(func(s *Status) { s.Parked = 0 })
	target := headOf(log)
	meter.tell(f.at, target)
	for {
		last := f.at
		err := f.upTo(ctx, target, func(at Cursor) {
			meter.tell(at, target)
			r.board.folded(eventstore.Position{}, at.Position.LSN-last.Position.LSN, time.Time{})
			last = at
		})
		if err != nil {
			return Cursor{}, err
		}
		// What came meanwhile is less each time; the last of it is for follow.
		if log, err = r.source.Log(ctx); err != nil || log.Durable.LSN < target.Position.LSN+uint64(r.opts.MaxBatch) {
			break
		}
		target = headOf(log)
	}
	if err := g.Promote(ctx, f.at); err != nil {
		return Cursor{}, fmt.Errorf("promote: %w", err)
	}
	r.board.update(func(s *Status) { s.Rebuilds++ })
	r.opts.Logger.Info("model is filled", "projection", r.sink.Name(), "position", f.at.Position.String(),
		"seconds", time.Since(meter.started).Seconds())
	return f.at, nil
}

// follow folds what the source gives into the sink, for ever.
func (r *Runner) follow(ctx context.Context, f *folder) error {
	feed := f.start(ctx)
	defer feed.stop()
	check := time.NewTicker(r.opts.CheckEvery)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h := <-r.holds.pause:
			if err := r.standFlushed(ctx, f, h, r.holds.pause); err != nil {
				return err
			}
		case h := <-r.holds.reset:
			if err := r.standFlushed(ctx, f, h, nil); err != nil {
				return err
			}
		case h := <-r.holds.exact:
			if err := r.standExactly(ctx, f, h); err != nil {
				return err
			}
		case <-check.C:
			if err := r.lookAfter(ctx, f); err != nil {
				return err
			}
		case <-feed.arrived:
			if err := r.linger(ctx, feed); err != nil {
				return err
			}
			b, ok, err := feed.take(r.opts.MaxBatch)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			r.board.head(b.durable, oldestOf(&b, feed))
			if err := f.commit(ctx, &b); err != nil {
				return err
			}
			r.board.folded(f.at.Position, b.read, feed.oldest())
			r.progress.advance(f.at.Position)
			if _, more := feed.waiting(); more {
				signal(feed.arrived)
			}
		}
	}
}

// linger waits for more events to be committed with those that are queued.
func (r *Runner) linger(ctx context.Context, feed *feed) error {
	if r.opts.Linger <= 0 {
		return nil
	}
	t := time.NewTimer(r.opts.Linger)
	defer t.Stop()
	for {
		if n, _ := feed.waiting(); n == 0 || n >= r.opts.MaxBatch {
			return nil
		}
		select {
		case <-feed.arrived:
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func oldestOf(b *batch, feed *feed) time.Time {
	if len(b.events) > 0 {
		return b.events[0].Time()
	}
	return feed.oldest()
}

// lookAfter is done now and then: it stores a cursor that only moved over unwanted entries, asks the sink whether its
// model is still there, and the source whether the log is still the one.
func (r *Runner) lookAfter(ctx context.Context, f *folder) error {
	if err := f.flush(ctx); err != nil {
		return err
	}
	at, down := inPlace{r.sink}.Cursor(ctx)
	switch {
	case errors.Is(down, ErrNoCursor) && f.committed == Cursor{}:
		down = nil // a sink that keeps no cursor before the first commit
	case down != nil && final(ctx, down):
		return fmt.Errorf("look after the sink: %w", down)
	case down != nil:
		r.retrying(fmt.Errorf("look after the sink: %w", down), true)
	case at != f.committed:
		return fmt.Errorf("look after the sink: %w: at %s, it was left at %s", ErrCursorMoved, at, f.committed)
	}
	if down == nil {
		r.answered()
	}
	log, err := r.head(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && down == nil:
		r.retrying(fmt.Errorf("read the log's head: %w", err), false)
	case err != nil:
		// One fault at a time: two that take turns would be told of anew at each check.
	case log.ID != f.log:
		return fmt.Errorf("%w: the projection is at %s of %s, the source is %s", eventstore.ErrWrongIncarnation, f.at, f.log, log.ID)
	case place(r.source, f.at, log) != nil:
		return place(r.source, f.at, log)
	default:
		r.board.head(log.Durable, time.Time{})
		if down == nil {
			r.recovered()
		}
	}
	if down == nil && r.mayHaveParked() {
		r.countParked(ctx)
	}
	return nil
}

// headTimeout bounds how long a runner that follows waits for the source to say how far the log is: holds and commits
// wait with it.
const headTimeout = 2 * time.Second

// head asks the source how far the log is.
func (r *Runner) head(ctx context.Context) (eventstore.LogState, error) {
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	return r.source.Log(ctx)
}

// mayHaveParked reports whether the sink has parked events, or may have some that nobody has counted.
func (r *Runner) mayHaveParked() bool {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	return r.board.uncounted || r.board.status.Parked > 0
}

// countParked asks the sink for its parked events. When it does not answer the number stays as it was, uncounted.
func (r *Runner) countParked(ctx context.Context) {
	p, ok := r.sink.(Parking)
	if !ok {
		return
	}
	list, err := p.Parked(ctx)
	if err != nil {
		r.unseen()
		return
	}
	n := len(list)
	r.board.mu.Lock()
	before := r.board.status.Parked
	missed := r.board.uncounted && n > before
	r.board.status.Parked, r.board.uncounted = n, false
	r.board.mu.Unlock()
	if missed {
		r.opts.Logger.Warn("events are parked that were not told of, for an answer of the sink was lost",
			"projection", r.sink.Name(), "events", n-before)
	}
}

// tryParked applies once what an earlier run has parked: the program may be a newer one, which knows what to do with it.
func (r *Runner) tryParked(ctx context.Context) {
	p, ok := r.sink.(Parking)
	if !ok || r.triedParked || !r.mayHaveParked() {
		return
	}
	applied, err := p.Retry(ctx, eventstore.StreamID{})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.opts.Logger.Warn("parked events could not be tried again, and are when the sink is opened the next time", "projection", r.sink.Name(), "error", err)
		return
	}
	r.triedParked = true
	if applied > 0 {
		r.opts.Logger.Info("parked events are applied", "projection", r.sink.Name(), "events", applied)
	}
	r.countParked(ctx)
}

// retrying notes that a call failed and is repeated.
func (r *Runner) retrying(err error, sink bool) {
	known := r.Status()
	state := Retrying
	if !sink && errors.Is(err, eventstore.ErrDamaged) {
		state = Damaged
	}
	if known.State != state || known.LastError != err.Error() {
		r.opts.Logger.Warn("projection tries again", "projection", r.sink.Name(), "cause", err)
	}
	if sink {
		r.sinkDown(err)
		return
	}
	r.board.fault(state, err)
}

func (r *Runner) sinkDown(err error) {
	r.board.fault(Retrying, err)
	r.board.mu.Lock()
	r.board.sinkDown = true
	r.board.mu.Unlock()
}

// answered notes that the sink can be reached, which says nothing of the source.
func (r *Runner) answered() {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.board.sinkDown = false
}

// recovered notes that what failed before goes well again.
func (r *Runner) recovered() {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.board.sinkDown = false
	if s := r.board.status.State; s == Retrying || s == Damaged {
		r.board.status.State = Live
		if !r.board.known {
			r.board.status.State = Rebuilding
		}
	}
}

func (r *Runner) parked(p []Parked) {
	r.board.update(func(s *Status) { s.Parked += len(p) })
}

// unseen notes that events may be parked that nobody has counted.
func (r *Runner) unseen() {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.board.uncounted = true
}
