package replication

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// OrchestratorOptions of a SyncOrchestrator. The zero value is good.
type OrchestratorOptions struct {
	// Interval is the pause after a Sync that returned nil, Backoff the first one after an error, doubled up to MaxBackoff.
	// Zero means 1 s, 200 ms and 30 s.
	Interval, Backoff, MaxBackoff time.Duration
	// Overlap is how much of what was brought over is asked for again, against clocks that differ; zero means 10 s.
	Overlap time.Duration
	// Patience is how long the successor of a syncer may take to become healthy before the exchange is given up; zero means 30 s.
	Patience time.Duration
	// Progress keeps how far the syncers have come; nil: each begins at 0 when the program starts.
	Progress SyncProgress
	// Now is the time of day; nil means that of the start, with what has passed since: the machine's may jump.
	Now func() time.Time
	Log *slog.Logger
}

func (o OrchestratorOptions) withDefaults() OrchestratorOptions {
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&o.Interval, time.Second}, {&o.Backoff, 200 * time.Millisecond}, {&o.MaxBackoff, 30 * time.Second},
		{&o.Overlap, 10 * time.Second}, {&o.Patience, 30 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Time { return start.Add(time.Since(start)) }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// SyncOrchestrator runs syncers side by side, each under a name. They can be added, removed, exchanged and tried while it
// runs. A syncer that fails is called again, with growing pauses, from where it had come to; one that panics is taken for
// failed. Its methods are safe for concurrent use, but for those that wait for a syncer to stop (Remove, Swap, Promote, Abandon): they
// are not for its Sync, or for what that calls, such as an Apply.
type SyncOrchestrator struct {
	o OrchestratorOptions

	changes sync.Mutex // held while syncers are exchanged: one change at a time

	mu      sync.Mutex // guards what follows
	ctx     context.Context
	ended   bool
	syncers map[string]*running
	running sync.WaitGroup
}

// NewSyncOrchestrator returns an orchestrator without syncers.
func NewSyncOrchestrator(o OrchestratorOptions) *SyncOrchestrator {
	return &SyncOrchestrator{o: o.withDefaults(), syncers: map[string]*running{}}
}

// Run runs the syncers until ctx ends, and returns when all have stopped. It can be called once.
func (o *SyncOrchestrator) Run(ctx context.Context) error {
	o.mu.Lock()
	if o.ctx != nil {
		o.mu.Unlock()
		return errors.New("the orchestrator has been run before")
	}
	o.ctx = ctx
	for _, r := range o.syncers {
		o.start(r)
	}
	o.mu.Unlock()
	<-ctx.Done()
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	o.running.Wait()
	return ctx.Err()
}

// Add runs a syncer under a name, from where the last one of the name had come to.
func (o *SyncOrchestrator) Add(name string, s Syncer) error {
	o.changes.Lock()
	defer o.changes.Unlock()
	r, err := o.newRunning(name, s, false)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return fmt.Errorf("add syncer %s: %w", name, eventstore.ErrClosed)
	}
	if o.syncers[name] != nil {
		return fmt.Errorf("add syncer %s: %w: there is one of that name; exchange it", name, eventstore.ErrInvalid)
	}
	o.syncers[name] = r
	o.start(r)
	return nil
}

// newRunning returns a syncer that has not been started.
func (o *SyncOrchestrator) newRunning(name string, s Syncer, trial bool) (*running, error) {
	if strings.HasSuffix(name, trialOf("")) && !trial {
		return nil, fmt.Errorf("%w: syncer %q is called as a trial is: give it another name", eventstore.ErrInvalid, name)
	}
	if name == "" || s == nil {
		return nil, fmt.Errorf("%w: a syncer needs a name and an implementation", eventstore.ErrInvalid)
	}
	r := &running{name: name, syncer: s, o: &o.o, done: make(chan struct{})}
	if o.o.Progress != nil {
		from, err := o.o.Progress.Load(name)
		if err != nil {
			return nil, fmt.Errorf("how far syncer %s had come: %w", name, err)
		}
		if now := o.o.Now().UnixNano(); from > now { // a clock was wrong then, or is now: nothing is known
			o.o.Log.Warn("a syncer begins anew: how far it had come is kept as a time that is still to come", slog.String("syncer", name), slog.Time("time", time.Unix(0, from)))
			from = 0
		}
		r.from = from
	}
	return r, nil
}

// start lets a syncer run, if the orchestrator does. REQUIRES: mu is held.
func (o *SyncOrchestrator) start(r *running) {
	if o.ctx == nil || o.ended {
		return
	}
	ctx, stop := context.WithCancel(o.ctx)
	r.stop = stop
	o.running.Go(func() { r.run(ctx) })
}

// halt stops a syncer and waits for it.
func (o *SyncOrchestrator) halt(r *running) {
	o.mu.Lock()
	stop := r.stop
	o.mu.Unlock()
	if stop != nil {
		stop()
		<-r.done
	}
}

// Remove stops the syncer of a name, and its trial, and returns when they have stopped. Where it had come to is kept.
func (o *SyncOrchestrator) Remove(name string) error {
	o.changes.Lock()
	defer o.changes.Unlock()
	for _, n := range []string{trialOf(name), name} {
		o.mu.Lock()
		r := o.syncers[n]
		delete(o.syncers, n)
		o.mu.Unlock()
		if r != nil {
			o.halt(r)
		} else if n == name {
			return fmt.Errorf("syncer %s: %w", name, eventstore.ErrNotFound)
		}
	}
	return nil
}

// Swap exchanges the syncer of a name for another while it runs. The successor begins where the other has come to, beside
// it, and the other is stopped when the successor is healthy and no further behind; both being idempotent, what both bring
// over is there once. If that does not come about within Patience, the successor is stopped, the other goes on, and the
// error says so. Before Run there is nothing to wait for. While a trial is on (Try), it is refused.
func (o *SyncOrchestrator) Swap(ctx context.Context, name string, s Syncer) error {
	o.changes.Lock()
	defer o.changes.Unlock()
	old, err := o.find(name)
	if err != nil {
		return err
	}
	if _, err := o.find(trialOf(name)); err == nil {
		return fmt.Errorf("%w: a trial of %s is on: promote or abandon it first", eventstore.ErrInvalid, name)
	}
	return o.exchange(ctx, old, s, old.progress())
}

func (o *SyncOrchestrator) find(name string) (*running, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return nil, fmt.Errorf("syncer %s: %w", name, eventstore.ErrClosed)
	}
	if r := o.syncers[name]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("syncer %s: %w", name, eventstore.ErrNotFound)
}

// exchange puts a successor, which begins at from, in the place of a syncer. REQUIRES: changes is held.
func (o *SyncOrchestrator) exchange(ctx context.Context, old *running, s Syncer, from int64) error {
	next, err := o.newRunning(old.name, s, false)
	if err != nil {
		return err
	}
	next.from = from
	o.mu.Lock()
	o.start(next)
	waits := next.stop != nil
	o.mu.Unlock()
	if waits {
		if err := o.untilHealthy(ctx, next, old); err != nil {
			o.halt(next)
			return fmt.Errorf("exchange syncer %s: %w; the one before goes on", old.name, err)
		}
	}
	o.mu.Lock()
	o.syncers[old.name] = next
	o.mu.Unlock()
	o.halt(old)
	return nil
}

// untilHealthy waits until a successor does its work as well as the one before. What was tried comes with the health that it
// had as a trial, with fewer keys: that does not count.
func (o *SyncOrchestrator) untilHealthy(ctx context.Context, next, old *running) error {
	ctx, cancel := context.WithTimeout(ctx, o.o.Patience)
	defer cancel()
	tick := time.NewTicker(min(o.o.Interval, 50*time.Millisecond))
	defer tick.Stop()
	for {
		own := next.isOwn()
		healthy, lag, _ := next.health()      // its status has the error
		oldHealthy, oldLag, _ := old.health() // one that panics is not healthy
		if own && healthy && (!oldHealthy || lag <= max(oldLag, o.o.Interval)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w: the successor is not healthy, or further behind (%s)", eventstore.ErrUnavailable, lag), next.status().err())
		case <-tick.C:
		}
	}
}

// trialOf is the name under which a syncer is tried.
func trialOf(name string) string { return name + " (trial)" }

// Try lets another syncer bring over a share of the keys of a name, between 0 and 1, by their hash; the present one brings
// over the others. Promote or Abandon ends the trial. Both have to be Sharers.
func (o *SyncOrchestrator) Try(name string, s Sharer, share float64) error {
	if !(share > 0 && share < 1) {
		return fmt.Errorf("%w: a share of %v; use one between 0 and 1", eventstore.ErrInvalid, share)
	}
	if strings.HasSuffix(name, trialOf("")) {
		return fmt.Errorf("%w: %s is a trial itself", eventstore.ErrInvalid, name)
	}
	o.changes.Lock()
	defer o.changes.Unlock()
	old, err := o.find(name)
	if err != nil {
		return err
	}
	present, ok := old.syncer.(Sharer)
	if !ok {
		return fmt.Errorf("%w: syncer %s cannot be limited to some keys; exchange it", eventstore.ErrUnsupported, name)
	}
	if _, err := o.find(trialOf(name)); err == nil {
		return fmt.Errorf("%w: there is a trial of %s already", eventstore.ErrInvalid, name)
	}
	next, err := o.newRunning(trialOf(name), s, true)
	if err != nil {
		return err
	}
	next.from = old.progress()
	old.with(next)
	s.Share(func(key string) bool { return inShare(key, share) })
	o.mu.Lock()
	defer o.mu.Unlock()
	o.syncers[next.name] = next
	o.start(next)
	present.Share(func(key string) bool { return !inShare(key, share) })
	return nil
}

// inShare reports whether a key belongs to the share that is tried.
func inShare(key string, share float64) bool {
	sum := sha256.Sum256([]byte(key)) // keys with running numbers are to be spread as well
	return float64(binary.BigEndian.Uint32(sum[:])) < share*math.MaxUint32
}

// Promote ends a trial: the syncer that was tried takes over all keys, beginning where both have come to. If it is not
// healthy with all of them within Patience, the trial is abandoned, and the error says so.
func (o *SyncOrchestrator) Promote(ctx context.Context, name string) error {
	o.changes.Lock()
	defer o.changes.Unlock()
	present, trial, from, err := o.endTrial(name)
	if err != nil {
		return err
	}
	trial.Share(nil)
	if err := o.exchange(ctx, present, trial, from); err != nil {
		o.whole(present, from)
		return err
	}
	return nil
}

// Abandon ends a trial: the syncer of the name takes over all keys again, beginning where both have come to.
func (o *SyncOrchestrator) Abandon(name string) error {
	o.changes.Lock()
	defer o.changes.Unlock()
	present, _, from, err := o.endTrial(name)
	if err != nil {
		return err
	}
	o.whole(present, from)
	return nil
}

// endTrial stops the syncer that is tried, and returns it, the present one, and where both had come to.
func (o *SyncOrchestrator) endTrial(name string) (present *running, tried Sharer, from int64, err error) {
	if present, err = o.find(name); err != nil {
		return nil, nil, 0, err
	}
	trial, err := o.find(trialOf(name))
	if err != nil {
		return nil, nil, 0, fmt.Errorf("%w: a trial of %s is begun with Try", err, name)
	}
	o.mu.Lock()
	delete(o.syncers, trial.name)
	o.mu.Unlock()
	o.halt(trial)
	return present, trial.syncer.(Sharer), min(present.progress(), trial.progress()), nil
}

// whole gives a syncer all keys again, from where another has come to that had some of them.
func (o *SyncOrchestrator) whole(present *running, from int64) {
	o.halt(present) // it has to ask again for the keys that it did not have
	present.syncer.(Sharer).Share(nil)
	again := &running{name: present.name, syncer: present.syncer, o: &o.o, done: make(chan struct{}), from: from}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.syncers[present.name] = again
	o.start(again)
}

// Status returns how the syncers are, in the order of their names.
func (o *SyncOrchestrator) Status() []SyncerStatus {
	o.mu.Lock()
	all := make([]*running, 0, len(o.syncers))
	for _, r := range o.syncers {
		all = append(all, r)
	}
	o.mu.Unlock()
	statuses := make([]SyncerStatus, len(all))
	for i, r := range all {
		statuses[i] = r.status()
	}
	slices.SortFunc(statuses, func(a, b SyncerStatus) int { return strings.Compare(a.Name, b.Name) })
	return statuses
}
