package replication

import (
	"context"
	"errors"
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
	following, leave := l.following(ctx, l.site)
	defer leave()
	err := link.Follow(following, l.o.Store.Heads, l.brought, func(ctx context.Context, head eventstore.LogHead) error {
		return l.put(ctx, Heartbeat{Site: l.site, Log: head.Log, Heads: []eventstore.LogHead{head}})
	})
	if following.Err() != nil && ctx.Err() == nil {
		return nil // it is to begin again, at what the store has
	}
	return err
}

// HealthCheck implements Syncer: healthy while the topic of the site is followed. The lag is that of its logs (Overview.Lag).
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
// count since the link was made; FromTS is not used.
func (s *Site) Syncers(ctx context.Context) ([]SyncerStatus, error) {
	o, err := s.Overview(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.o.Links))
	s.mu.Unlock()
	all := make([]SyncerStatus, len(names))
	for i, name := range names {
		all[i] = s.linkStatus(&o, name)
	}
	return all, nil
}

func (s *Site) linkStatus(o *Overview, site string) SyncerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.troubles[[2]string{site, linkTo}]
	err := s.unfollowed(site)
	out := SyncerStatus{Name: "link " + site, Healthy: err == nil && s.again[site] != nil, Calls: t.calls, Failures: t.failures}
	if err != nil {
		out.LastError = err.Error()
	}
	for log, lag := range o.Lag {
		if log.Site == site {
			out.Lag = max(out.Lag, lag)
		}
	}
	return out
}

// following returns the context of a link that follows its topic until it is to be read again; leave ends that.
func (s *Site) following(ctx context.Context, site string) (following context.Context, leave func()) {
	following, again := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again[site] = &again
	return following, func() {
		again()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.again[site] == &again { // not that of a link that came in its place
			delete(s.again, site)
		}
	}
}
