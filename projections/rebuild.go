package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// RebuildProgress tells how far a rebuild is.
type RebuildProgress struct {
	// Done of Total entries of the log are folded; Total grows while the log does.
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
	// Rate is in entries a second since the start, ETA what is left at that rate.
	Rate    float64       `json:"rate"`
	ETA     time.Duration `json:"eta"`
	Elapsed time.Duration `json:"elapsed"`
}

// rebuildMeter makes RebuildProgress of positions.
type rebuildMeter struct {
	started time.Time
	from    uint64
	report  func(RebuildProgress)
}

func (m *rebuildMeter) tell(at, target Cursor) {
	if m.report == nil {
		return
	}
	p := RebuildProgress{
		Done: at.Position.LSN, Total: max(at.Position.LSN, target.Position.LSN), Elapsed: time.Since(m.started),
	}
	if s := p.Elapsed.Seconds(); s > 0 {
		p.Rate = float64(p.Done-m.from) / s
	}
	if p.Rate > 0 {
		p.ETA = time.Duration(float64(p.Total-p.Done) / p.Rate * float64(time.Second))
	}
	m.report(p)
}

// Rebuild folds the log from its beginning into a new model of a sink that no runner uses, and puts it in place of the old
// one. A Generations goes on answering reads from the old model until then. Both digests are of the same position, the
// old model's; before is empty when there was none that can be compared. Afterwards the sink has all that was durable
// when Rebuild was called. ErrDropped, and nothing is touched, when the log has not its first events any more.
//
// To rebuild the sink of a running Runner, use Runner.Rebuild.
func Rebuild(ctx context.Context, source Source, sink Sink, o Options, report func(RebuildProgress)) (before, after string, err error) {
	o = o.withDefaults()
	log, err := source.Log(ctx)
	if err != nil {
		return "", "", fmt.Errorf("rebuild %s: read the log's head: %w", sink.Name(), err)
	}
	if err := beginning(ctx, source, log); err != nil {
		return "", "", fmt.Errorf("rebuild %s: %w", sink.Name(), err)
	}
	meter := &rebuildMeter{started: time.Now(), report: report}
	old, err := sink.Open(ctx)
	known := err == nil && fits(old, log)
	if err != nil && !errors.Is(err, ErrNoCursor) {
		return "", "", fmt.Errorf("rebuild %s: %w", sink.Name(), err)
	}
	if !known {
		old = headOf(log)
	}
	f, g, err := begin(ctx, source, log.ID, sink, &o, func() (err error) {
		if known {
			before, err = sink.Digest(ctx)
		}
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("rebuild %s: %w", sink.Name(), err)
	}
	tell := func(at Cursor) { meter.tell(at, headOf(log)) }
	if err := f.upTo(ctx, old, tell); err != nil {
		return "", "", fmt.Errorf("rebuild %s: %w", sink.Name(), err)
	}
	if after, err = g.Digest(ctx); err != nil {
		return "", "", fmt.Errorf("rebuild %s: %w", sink.Name(), err)
	}
	if err := g.Promote(ctx, old); err != nil {
		return "", "", fmt.Errorf("rebuild %s: %w", sink.Name(), err)
	}
	f.into = sink
	if err := f.upTo(ctx, headOf(log), tell); err != nil {
		return "", "", fmt.Errorf("rebuild %s: catch up: %w", sink.Name(), err)
	}
	tell(f.at)
	return before, after, nil
}

// begin prepares an empty model to be filled: a generation beside the live one where the sink can, else the sink itself
// after a Reset. last is called while the old model is still whole.
func begin(ctx context.Context, source Source, log eventstore.LogID, sink Sink, o *Options, last func() error) (*folder, Generation, error) {
	if err := last(); err != nil {
		return nil, nil, err
	}
	var g Generation
	if s, ok := sink.(Generations); ok {
		var err error
		if g, err = s.Beside(ctx); err != nil {
			return nil, nil, fmt.Errorf("begin a generation: %w", err)
		}
	} else {
		if err := sink.Reset(ctx); err != nil {
			return nil, nil, fmt.Errorf("reset: %w", err)
		}
		g = inPlace{sink}
	}
	f := newFolder(source, log, sink, g, Cursor{}, o)
	// The beginning of this log, so that one without events is at its end already.
	f.at.Position.Incarnation = log.Incarnation
	return f, g, nil
}

// inPlace is the generation of a sink that has but one: the sink itself.
type inPlace struct{ Sink }

// Promote has nothing to do: the model is where it should be.
func (g inPlace) Promote(context.Context, Cursor) error { return nil }

// Discard leaves the half-filled model, from which a runner goes on.
func (g inPlace) Discard(context.Context) error { return nil }

// Cursor asks the sink, as far as it can be asked.
func (g inPlace) Cursor(ctx context.Context) (Cursor, error) {
	if r, ok := g.Sink.(CursorReader); ok {
		return r.Cursor(ctx)
	}
	return g.Open(ctx)
}

// Replay folds the log into a sink from where it stands exactly up to a position; the zero position means all that is
// durable now. It is how verify and tests make a model as of a position. The position must be one at which an append
// ended, such as a receipt's or a cursor's.
func Replay(ctx context.Context, source Source, sink Sink, upTo Cursor) error {
	o := Options{}.withDefaults()
	log, err := source.Log(ctx)
	if err != nil {
		return fmt.Errorf("replay %s: read the log's head: %w", sink.Name(), err)
	}
	if upTo.Position.IsZero() {
		upTo = headOf(log)
	}
	if !fits(upTo, log) {
		return fmt.Errorf("replay %s up to %s: %w: %s ends at %s", sink.Name(), upTo, eventstore.ErrWrongIncarnation, log.ID, log.Durable)
	}
	at, err := sink.Open(ctx)
	if errors.Is(err, ErrNoCursor) {
		at, err = Cursor{}, sink.Reset(ctx)
	}
	if err != nil {
		return fmt.Errorf("replay %s: %w", sink.Name(), err)
	}
	f := newFolder(source, log.ID, sink, sink, at, &o)
	if err := f.upTo(ctx, upTo, nil); err != nil {
		return fmt.Errorf("replay %s: %w", sink.Name(), err)
	}
	return nil
}
