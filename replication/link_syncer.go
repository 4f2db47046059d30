package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// linkSyncer is the Syncer that brings what another site publishes: its Link, into the store. Run calls it.
type linkSyncer struct {
	*Site
	site string
}

// errNoLink: the site is one of the others no more.
var errNoLink = errors.New("there is no link to it")

// Sync implements Syncer. Where to begin the store tells better than a time: it ends with the same from any fromTS.
func (l *linkSyncer) Sync(ctx context.Context, _ int64) error {
	link, peer := l.other(l.site)
	if link == nil {
		return errNoLink
	}
	if peer != nil {
		if err := l.mayFollow(ctx, l.site); err != nil {
			return err
		}
	}
	following, leave, err := l.following(ctx, l.site)
	if err != nil {
		return err
	}
	defer leave()
	err = link.Follow(following, l.o.Store.Heads, func(ctx context.Context, events []eventstore.Recorded) error {
		defer l.spoke(l.site)
		return l.brought(ctx, events)
	}, func(ctx context.Context, head eventstore.LogHead) error {
		l.spoke(l.site)
		return l.put(ctx, Heartbeat{Site: l.site, Log: head.Log, Heads: []eventstore.LogHead{head}})
	})
	if following.Err() != nil && ctx.Err() == nil {
		return nil // it is to begin again, at what the store has
	}
	return err
}

// spoke notes that a topic has brought something just now. Its site has it say something all the time.
func (s *Site) spoke(site string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spoken[site] = time.Now()
}

// silent is after what time a topic that brings nothing is taken for silent: what happens at its site is not known meanwhile.
const silent = 2 * time.Second

// HealthCheck implements Syncer: healthy while the topic of the site is followed. The lag is that of its logs (Overview.Lag), for which it
// waits until the core has done what it is at, or for how long the topic has been silent.
func (l *linkSyncer) HealthCheck() (healthy bool, lag time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	o, err := l.Overview(ctx)
	if err != nil {
		return false, 0
	}
	s := l.linkStatus(&o, l.site)
	return s.Healthy, s.Lag
}

// Syncers returns how the links to other sites are, each of which Run calls as a Syncer, in the order of the sites. Calls and Failures
// count since the link was made; FromTS is not used. When ctx ends before the site has answered, and while it does not run, none is healthy.
func (s *Site) Syncers(ctx context.Context) []SyncerStatus {
	o, unknown := s.Overview(ctx)
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.o.Links))
	s.mu.Unlock()
	all := make([]SyncerStatus, len(names))
	for i, name := range names {
		if all[i] = s.linkStatus(&o, name); unknown != nil {
			all[i].Healthy, all[i].LastError = false, textOf(unknown)
		}
	}
	return all
}

func (s *Site) linkStatus(o *Overview, site string) SyncerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.troubles[[2]string{site, linkTo}]
	err := s.unfollowed(site)
	follows := s.again[site] != nil
	if err == nil && !follows {
		err = fmt.Errorf("its topic is about to be followed, once site %s has been heard", site)
	}
	out := SyncerStatus{Name: LinkName(site), Healthy: err == nil, Calls: t.calls, Failures: t.failures, LastError: textOf(err)}
	if last, ever := s.spoken[site]; ever && time.Since(last) > silent {
		out.Lag = time.Since(last)
	}
	for log, lag := range o.Lag {
		if log.Site == site {
			out.Lag = max(out.Lag, lag)
		}
	}
	return out
}

// LinkName returns what the link to a site is called among syncers.
func LinkName(site string) string { return "link " + site }

// following returns the context of a link that follows its topic until it is to be read again; leave ends that. Of a site that is not to be
// followed any more it returns why.
func (s *Site) following(ctx context.Context, site string) (following context.Context, leave func(), err error) {
	following, again := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(ctx.Err(), s.apart[site]); err != nil { // that may have come about since it was looked at
		again()
		return nil, nil, err
	}
	s.again[site] = &again
	return following, func() {
		again()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.again[site] == &again { // not that of a link that came in its place
			delete(s.again, site)
		}
	}, nil
}
