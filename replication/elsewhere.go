package replication

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// elsewhere is what other sites hold durably, as they have said, and who waits for them to hold more. The goroutine of the core
// writes it.
type elsewhere struct {
	mu        sync.Mutex        // guards all below
	held      eventstore.Vector // by some other site
	lapses    []Lapse
	waits     map[chan struct{}]kept
	followers []follower
}

// kept is what is to be held by another site, to the end of what was recorded with it; homed: some of it is written at one site alone.
type kept struct {
	eventstore.Dot
	homed bool
}

// follower is another site, as it follows the own log. Times are by Instant.Mono.
type follower struct {
	site  string
	heard time.Duration
	ever  bool
	// behind is how many events of the own log it lacked when it spoke last; mark is a seq that the log had at since, which the
	// site did not hold yet: so long at least it is behind, if it is.
	behind, mark uint64
	since        time.Duration
	// warned: it was said that it is behind.
	warned bool
}

// lag returns for how long, at least, the site has been behind.
func (f *follower) lag(now time.Duration) time.Duration {
	if f.behind == 0 {
		return 0
	}
	return now - f.since
}

// UnpeeredError says why no other site can be waited for. It matches eventstore.ErrUnavailable.
type UnpeeredError struct {
	// Mode is the site's: Isolated, or Degraded when sites are heard and too far behind.
	Mode Mode
	Why  string
}

// Error says the mode, and why.
func (e *UnpeeredError) Error() string {
	return fmt.Sprintf("no other site can be waited for, the site is %s: %s", e.Mode, e.Why)
}

// Is makes errors.Is(err, eventstore.ErrUnavailable) true.
func (e *UnpeeredError) Is(target error) bool { return target == eventstore.ErrUnavailable }

// The site keeps, in the sense of package durable, what another site has on its disk. What is recorded here gets there through
// the site's topic alone.

// Available returns nil as long as another site is heard that keeps up with the own log; else an *UnpeeredError, or ErrStopped.
func (s *Site) Available() error {
	select {
	case <-s.ended:
		return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, ErrStopped)
	default:
	}
	e := &s.elsewhere
	e.mu.Lock()
	defer e.mu.Unlock()
	var late []string
	for i := range e.followers {
		f := &e.followers[i]
		now := time.Since(s.start)
		switch lag := f.lag(now); {
		case !f.ever || now-f.heard >= s.o.Suspect:
		case f.behind > s.o.MaxPeerBehind || lag > s.o.MaxPeerLag:
			late = append(late, fmt.Sprintf("%s lacks %d events for %s", f.site, f.behind, lag.Round(time.Millisecond)))
		default:
			return nil
		}
	}
	if len(late) == 0 {
		return &UnpeeredError{Isolated, fmt.Sprintf("none has been heard for %s", s.o.Suspect)}
	}
	return &UnpeeredError{Degraded, strings.Join(late, ", ")}
}

// Keeps reports whether another site holds, durably, what a receipt is of.
func (s *Site) Keeps(r *eventstore.Receipt) bool {
	e := &s.elsewhere
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.holds(s.kept(r))
}

// kept returns what has to be held of what a receipt is of.
func (s *Site) kept(r *eventstore.Receipt) kept {
	homed := func(st eventstore.StreamReceipt) bool { return s.o.Homed != nil && s.o.Homed(st.Stream.Category) }
	return kept{r.Dot, slices.ContainsFunc(r.Streams, homed)}
}

// Await returns when another site holds, durably, what a receipt is of, and all of its log before it. It ends with ctx's error, or with
// ErrStopped.
func (s *Site) Await(ctx context.Context, r *eventstore.Receipt) error {
	d := s.kept(r)
	wait, leave := s.elsewhere.wait(d)
	defer leave()
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another site to hold %s: %w", d.Dot, ctx.Err())
	case <-s.ended:
		return fmt.Errorf("wait for another site to hold %s: %w", d.Dot, ErrStopped)
	}
}

// holds reports whether some other site holds something. The caller holds mu.
func (e *elsewhere) holds(d kept) bool {
	return d.Seq > 0 && e.held.At(d.Log) >= d.Seq && (!d.homed || !lapsed(e.lapses, d.Dot))
}

// wait returns what is closed when some other site holds something.
func (e *elsewhere) wait(d kept) (held <-chan struct{}, leave func()) {
	wait := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.holds(d) {
		close(wait)
		return wait, func() {}
	}
	e.waits[wait] = d
	return wait, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.waits, wait)
	}
}

// noteElsewhere takes what the core has heard of other sites, and wakes those who have waited for it.
func (r *run) noteElsewhere() {
	now, own := r.instant().Mono, r.core.ownHead()
	e := &r.elsewhere
	e.mu.Lock()
	defer e.mu.Unlock()
	e.held, e.lapses = r.core.Elsewhere(), r.core.Lapses()
	for wait, d := range e.waits {
		if e.holds(d) {
			close(wait)
			delete(e.waits, wait)
		}
	}
	for _, p := range r.core.peers {
		i := slices.IndexFunc(e.followers, func(f follower) bool { return f.site == p.name })
		if i < 0 {
			i = len(e.followers)
			e.followers = append(e.followers, follower{site: p.name})
		}
		f := &e.followers[i]
		has := p.heads[own.Log].Seq
		f.heard, f.ever, f.behind = p.heard, p.ever, own.Seq-min(has, own.Seq)
		if has >= f.mark {
			f.mark, f.since = own.Seq, now
		}
		r.warn(f, now)
	}
}

// warn says when a site begins to fall behind, before it is not waited for any more, and when it has caught up.
func (r *run) warn(f *follower, now time.Duration) {
	late := f.ever && (f.behind > r.o.MaxPeerBehind/2 || f.lag(now) > r.o.MaxPeerLag/2)
	if late == f.warned {
		return
	}
	f.warned = late
	others := slices.ContainsFunc(r.elsewhere.followers, func(o follower) bool { return o.site != f.site && o.ever && !o.warned && now-o.heard < r.o.Suspect })
	switch {
	case !late:
		r.log.Info("a site keeps up with this one again", slog.String("site", f.site))
		return
	case others:
		r.log.Info("a site falls behind this one; another one keeps up with it", slog.String("site", f.site), slog.Uint64("events", f.behind), slog.Duration("for", f.lag(now)))
		return
	}
	r.log.Warn("a site falls behind this one, and no other keeps up with it: soon nothing is acknowledged as being there, and appends that ask for it are refused",
		slog.String("site", f.site), slog.Uint64("events", f.behind), slog.Duration("for", f.lag(now)))
}

// sayHeld tells other sites at once that more of a log is durable here: who has recorded it may wait for that.
//
// INVARIANT: nothing is said to be held that the store has not synced.
func (r *run) sayHeld(head eventstore.LogHead) {
	if head.Log.Site == r.own.Site {
		return // of an earlier life no more may be said than is in the topic
	}
	now := r.instant()
	r.spread(Heartbeat{Site: r.o.Config.Site, Log: r.own, Heads: []eventstore.LogHead{head}, Wall: now.Wall, Jump: now.Jump, Direct: true, Partial: true})
}
