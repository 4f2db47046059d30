package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// SyncerStatus is how a syncer is.
type SyncerStatus struct {
	Name string
	// Healthy and Lag are what its HealthCheck says; one that panics is not healthy.
	Healthy bool
	Lag     time.Duration
	// Calls counts the calls of Sync, Failures those that ended with an error other than its context's.
	Calls, Failures uint64
	// FromTS is from where the next call would begin, in Unix nanoseconds.
	FromTS int64
	// LastError is that of the last call, unless the syncer is healthy, that of a HealthCheck that panics, and why it is not kept how far the
	// syncer has come: some 1,000 bytes of UTF-8 at most.
	LastError string
}

// textOf returns what an error says, as far as people read it.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	const most = 1000
	text := err.Error()
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func (s SyncerStatus) err() error {
	if s.LastError == "" {
		return nil
	}
	return errors.New(s.LastError)
}

// running is a syncer that an orchestrator runs.
type running struct {
	name   string
	syncer Syncer
	o      *OrchestratorOptions
	stop   context.CancelFunc // guarded by the orchestrator's mu; nil before it is started
	done   chan struct{}      // closed when run has returned

	mu              sync.Mutex // guards what follows
	from            int64
	calls, failures uint64
	last            error
	// own says that the syncer's health is that of the calls made here: one has returned nil, or it was seen not to be healthy
	// since. Until then it may be that of earlier calls, which had other keys.
	own bool
	// trial is the one that has a part of the keys meanwhile.
	trial *running
	// saved is how far it had come when that was kept last, unkept why it could not be.
	saved  int64
	unkept error
}

// run calls Sync until ctx ends.
func (r *running) run(ctx context.Context) {
	defer close(r.done)
	_, _, _ = r.health() // a syncer that follows is not healthy now, and may be so soon
	backoff := r.o.Backoff
	for ctx.Err() == nil {
		began := r.o.Now()
		r.mu.Lock()
		r.calls++
		from := max(0, r.from-int64(r.o.Overlap))
		r.mu.Unlock()
		err := r.call(ctx, from)
		pause := r.o.Interval
		switch {
		case err == nil:
			r.advance(began.UnixNano())
			backoff = r.o.Backoff
		case ctx.Err() != nil:
			r.learn()
			return
		default:
			r.learn()
			if r.o.Now().Sub(began) > steady {
				backoff = r.o.Backoff
			}
			pause, backoff = backoff, min(2*backoff, r.o.MaxBackoff)
			r.o.Log.Warn("a syncer failed and is called again", slog.String("syncer", r.name), slog.Any("error", err), slog.Duration("after", pause))
		}
		r.mu.Lock()
		r.last = err
		if err != nil {
			r.failures++
		} else {
			r.own = true
		}
		r.mu.Unlock()
		r.save()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// call calls Sync, keeping note meanwhile of how far it is, and takes a panic for an error.
func (r *running) call(ctx context.Context, from int64) (err error) {
	watching, stop := context.WithCancel(ctx)
	var watched sync.WaitGroup
	watched.Go(func() { r.watch(watching) })
	defer watched.Wait()
	defer stop()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return r.syncer.Sync(ctx, from)
}

// watch learns from the health of a syncer that does not return how far it has come.
func (r *running) watch(ctx context.Context) {
	tick := time.NewTicker(r.o.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.learn()
			r.mu.Lock()
			far := r.from-r.saved >= int64(r.o.Overlap/2)
			r.mu.Unlock()
			if far { // so much is asked for again all the same
				r.save()
			}
		}
	}
}

// learn takes how far the syncer has come from what it says of its lag.
func (r *running) learn() {
	now, own := r.o.Now(), r.isOwn() // before it is asked, for the answer may be that of the moment before
	if healthy, lag, _ := r.health(); own && healthy {
		r.advance(now.Add(-lag).UnixNano())
	}
}

// health asks the syncer how it is, and takes a panic for not healthy.
func (r *running) health() (healthy bool, lag time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			healthy, lag, err = false, 0, fmt.Errorf("ask for the health: panic: %v", p)
		}
	}()
	if healthy, lag = r.syncer.HealthCheck(); !healthy {
		r.mu.Lock()
		r.own = true
		r.mu.Unlock()
	}
	return healthy, lag, nil
}

func (r *running) isOwn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own
}

func (r *running) advance(to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = max(r.from, to)
}

func (r *running) progress() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.from
}

// with notes that another has a part of the keys.
func (r *running) with(trial *running) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trial = trial
}

// save keeps how far the syncer has come.
func (r *running) save() {
	if r.o.Progress == nil {
		return
	}
	from := r.progress()
	r.mu.Lock()
	trial := r.trial
	r.mu.Unlock()
	if trial != nil {
		from = min(from, trial.progress()) // whoever goes on alone has to go on for both
	}
	err := r.o.Progress.Save(r.name, from)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.saved = from
	} else if err = fmt.Errorf("how far it has come is not kept: %w", err); r.unkept == nil {
		r.o.Log.Warn("how far a syncer has come is not kept", slog.String("syncer", r.name), slog.Any("error", err))
	}
	r.unkept = err
}

func (r *running) status() SyncerStatus {
	healthy, lag, err := r.health()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := SyncerStatus{Name: r.name, Healthy: healthy, Lag: lag, Calls: r.calls, Failures: r.failures, FromTS: r.from}
	if !healthy {
		err = errors.Join(r.last, err)
	}
	s.LastError = textOf(errors.Join(err, r.unkept))
	return s
}
