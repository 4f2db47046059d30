package replication

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Overview is how a site stands with the others, with what its carriers know.
type Overview struct {
	Status
	// Log is the site's own log, Mirrored the seq up to which it is in its topic.
	Log      eventstore.LogID
	Mirrored uint64
	// Writable is nil when the site takes writes, else what keeps it from that.
	Writable error
	// Lease is the one under which the site writes what is homed.
	Lease LeaseStatus
	// Lag is, for each log, how old its last event was when it had been received, 0 when that is long ago, and at least for how long events
	// have been missing.
	Lag map[eventstore.LogID]time.Duration
	// Unmet says of other sites why they are not met, else why their topics are not followed, where the last attempt has failed.
	Unmet map[string]error
	// Alarms are the last ones, in order.
	Alarms []Alarm
}

// Overview returns how the site stands with the others. Before Run it waits for it, after Run it returns ErrStopped.
func (s *Site) Overview(ctx context.Context) (Overview, error) {
	var o Overview
	if err := s.ask(ctx, func(c *Core) {
		o = Overview{Status: c.Status(s.instant()), Log: s.own, Mirrored: s.mayLeave(s.own), Writable: c.Writable(), Lease: c.LeaseStatus(s.instant())}
	}); err != nil {
		return Overview{}, fmt.Errorf("ask the site: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Alarms, o.Lag = slices.Clone(s.alarms), make(map[eventstore.LogID]time.Duration, len(o.Logs))
	for _, l := range o.Logs {
		o.Lag[l.Log] = max(l.Missing, s.came[l.Log].lag(time.Now()))
	}
	o.Unmet = map[string]error{}
	for _, p := range o.Peers {
		if err := s.unmet(p); err != nil {
			o.Unmet[p.Site] = err
		}
	}
	return o, nil
}

// unmet returns why another site is not met, else why its topic is not followed. REQUIRES: s.mu is held.
func (s *Site) unmet(p PeerStatus) error {
	met := s.troubles[[2]string{p.Site, siteAt}]
	if err := met.persists(); err != nil && !p.Up {
		return err
	}
	return s.unfollowed(p.Site)
}

// unfollowed returns why the topic of another site is not followed; nil when it is, or will be at once. REQUIRES: s.mu is held.
func (s *Site) unfollowed(site string) error {
	if link, ok := s.o.Links[site].(interface{ Problem() error }); ok && link.Problem() != nil {
		return link.Problem()
	}
	follows := s.troubles[[2]string{site, linkTo}]
	return follows.persists()
}

// came says when the last event of a log was received, and how old it was then.
type came struct {
	at  time.Time
	age time.Duration
}

// quiet is after what time nothing is said any more of how old the last event was.
const quiet = 5 * time.Second

// lag returns how old it was, or 0 when that is long ago.
func (c came) lag(now time.Time) time.Duration {
	if now.Sub(c.at) > quiet {
		return 0
	}
	return c.age
}

// ask has the goroutine of the core do something.
func (s *Site) ask(ctx context.Context, do func(*Core)) error {
	return s.askRun(ctx, func(r *run) { do(r.core) })
}

// askRun is ask, for what is to be done to more than the core.
func (s *Site) askRun(ctx context.Context, do func(*run)) error {
	done := make(chan struct{})
	select {
	case s.asks <- func(r *run) { do(r); close(done) }:
		<-done // it is under way
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ended:
		return ErrStopped
	}
}

// Writable returns nil when the site may record events of its own, else what keeps it from that.
func (s *Site) Writable() error { return *s.writable.Load() }

// Whole returns nil when the site has all that was born there in earlier lives of its log, else what is missing (Core.Whole).
func (s *Site) Whole() error { return *s.whole.Load() }

// setTaken notes what keeps the site from writing, and from deciding on what it alone decides.
func (s *Site) setTaken(writable, whole error) {
	s.writable.Store(&writable)
	s.whole.Store(&whole)
}

// What an answer to a pull has at most, whatever is asked for; the last batch may exceed it. An event takes pullEventBytes, about, beside
// its content.
const (
	maxPullBytes   = 4 << 20
	maxPullEvents  = 8192
	pullEventBytes = 96
)

// Pull implements Peer: it answers a pull of another site from what is durable here.
//
// INVARIANT: nothing of the site's own log is given that is not in its topic (Mirrored).
func (s *Site) Pull(ctx context.Context, p Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error) {
	select {
	case <-s.begun:
	default:
		return chain, nil, ErrStopped
	}
	last := s.mayLeave(p.Log)
	through, size := min(p.Through, last), 0
	chain, held, err := s.o.Store.ChainAt(ctx, p.Log, p.After)
	if err != nil {
		return chain, nil, fmt.Errorf("chain of %s after seq %d: %w", p.Log, p.After, err)
	}
	if !held {
		return chain, nil, fmt.Errorf("seq %d of %s: %w", p.After, p.Log, eventstore.ErrNotFound)
	}
	if p.After >= through {
		return chain, nil, nil
	}
	var content []byte
	for e, err := range s.o.Store.ReadLog(ctx, p.Log, p.After) {
		if err != nil {
			return chain, nil, fmt.Errorf("read %s after seq %d: %w", p.Log, p.After, err)
		}
		begins := e.Batch.FirstSeq == e.Dot.Seq
		if end := e.Batch.FirstSeq + uint64(e.Batch.Count) - 1; begins && (e.Dot.Seq > through || end > last || size >= maxPullBytes || len(events) >= maxPullEvents) {
			break
		}
		content = eventstore.AppendContent(content[:0], &e)
		size += pullEventBytes + len(content)
		events = append(events, e)
	}
	return chain, events, nil
}

// publish notes that the topic has a life of the own log up to an event.
func (s *Site) publish(d eventstore.Dot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topic.add(s.own, d)
}

// mayLeave returns up to which seq a log may leave the site.
func (s *Site) mayLeave(log eventstore.LogID) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topic.mayLeave(s.own, log)
}

// Meet implements Peer: another site tells what comes from beats, and is told what this one says.
func (s *Site) Meet(ctx context.Context, beats <-chan Heartbeat, heard func(context.Context, Heartbeat) error) error {
	own, leave := s.subscribe()
	defer leave()
	for {
		var err error
		select {
		case h, more := <-beats:
			if !more {
				return nil
			}
			err = s.listen(ctx, h)
		case h := <-own:
			err = heard(ctx, h)
		case <-ctx.Done():
			err = ctx.Err()
		case <-s.ended:
			err = ErrStopped
		}
		if err != nil {
			return err
		}
	}
}

// subscribe returns a channel that has the last heartbeat that was not taken from it yet.
func (s *Site) subscribe() (beats chan Heartbeat, leave func()) {
	beats = make(chan Heartbeat, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beats[beats] = true
	return beats, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.beats, beats)
	}
}

// spread gives a heartbeat to all who listen. What was not taken in time goes with it.
//
// INVARIANT: a grant that was withdrawn is not told again, in whatever order those come here who have something to say: it is looked up when
// it is said, by one at a time.
func (s *Site) spread(h Heartbeat) {
	if s.o.Accord != nil && !h.Partial {
		terms := s.o.Accord.Terms()
		h.Terms = &terms
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.Grants = *s.grants.Load()
	for beats := range s.beats {
		next := h
		select {
		case before := <-beats:
			next = before.and(&h)
		default:
		}
		beats <- next // spread alone fills it, one at a time
	}
}

// and returns what a heartbeat and a later one of the same site say together: what it holds only grows while it runs, and a lease is
// acknowledged where both do.
func (h *Heartbeat) and(later *Heartbeat) Heartbeat {
	both := *later
	both.Partial = h.Partial && later.Partial
	if both.Terms == nil {
		both.Terms = h.Terms
	}
	if later.Partial { // it answers nothing
		both.Sent, both.Echoes = h.Sent, h.Echoes
	}
	both.Grants = slices.DeleteFunc(slices.Clone(later.Grants), func(site string) bool { return !slices.Contains(h.Grants, site) })
	both.Heads = slices.Clone(later.Heads)
	for _, head := range h.Heads {
		i, found := slices.BinarySearchFunc(both.Heads, head, func(a, b eventstore.LogHead) int { return a.Log.Compare(b.Log) })
		switch {
		case !found:
			both.Heads = slices.Insert(both.Heads, i, head)
		case both.Heads[i].Seq < head.Seq:
			both.Heads[i] = head
		}
	}
	return both
}
