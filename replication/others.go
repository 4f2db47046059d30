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

// With has the site replicate with another one from now on, in place of one of that name. Before Run it waits for it.
func (s *Site) With(ctx context.Context, name string, link Link, peer Peer) error {
	return s.changeOthers(ctx, name, func() { s.o.Links[name], s.o.Peers[name] = link, peer })
}

// Without has the site replicate with another one no more. What it has of that stays. The two are for one goroutine.
func (s *Site) Without(ctx context.Context, name string) error {
	return s.changeOthers(ctx, name, func() { delete(s.o.Links, name); delete(s.o.Peers, name) })
}

func (s *Site) changeOthers(ctx context.Context, name string, change func()) error {
	var others []string
	err := s.askRun(ctx, func(r *run) {
		if end := r.with[name]; end != nil {
			end()
		}
		s.mu.Lock()
		change()
		delete(s.apart, name)
		delete(s.troubles, [2]string{name, siteAt})
		delete(s.troubles, [2]string{name, linkTo})
		delete(s.spoken, name)
		others = slices.Collect(maps.Keys(s.o.Peers))
		s.mu.Unlock()
		r.carryOther(name)
	})
	if err != nil {
		return err
	}
	return s.put(ctx, Others{others})
}

// others returns the names of those that links come from, or that can be asked.
func (s *Site) others() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.AppendSeq(slices.Collect(maps.Keys(s.o.Links)), maps.Keys(s.o.Peers))
	slices.Sort(all)
	return slices.Compact(all)
}

// other returns how a site is reached; nil is not at all.
func (s *Site) other(name string) (link Link, peer Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.o.Links[name], s.o.Peers[name]
}

// What is kept going with each other site: its topic is followed, and it is met itself.
const (
	linkTo = "link"
	siteAt = "site"
)

// carryOther starts what carries from and to a site, if there is such a one.
func (r *run) carryOther(name string) {
	link, peer := r.other(name)
	ctx, cancel := context.WithCancel(r.ctx)
	r.with[name] = cancel
	if link != nil {
		syncer := Syncer(&linkSyncer{r.Site, name})
		r.keep(ctx, linkTo, name, func(ctx context.Context) error { return syncer.Sync(ctx, 0) })
	}
	if peer != nil {
		r.keep(ctx, siteAt, name, func(ctx context.Context) error {
			beats, leave := r.subscribe()
			defer leave()
			return peer.Meet(ctx, beats, func(ctx context.Context, h Heartbeat) error {
				if h.Site != name {
					return errors.New("site " + h.Site + " answers where " + name + " should")
				}
				return r.listen(ctx, h)
			})
		})
	}
}

// listen takes what a site says of itself, unless it is of another system.
func (s *Site) listen(ctx context.Context, h Heartbeat) error {
	if s.o.Accord != nil && h.Terms != nil {
		err := s.o.Accord.Heard(h.Site, h.Terms)
		s.mu.Lock()
		s.apart[h.Site] = err
		again := s.again[h.Site]
		s.mu.Unlock()
		if err != nil {
			if again != nil {
				(*again)() // nothing more of its topic is taken
			}
			return err
		}
	}
	return s.put(ctx, h)
}

// mayFollow returns when what a site publishes may be taken: it is of this system, as it has said itself, now or when what there
// is of it was taken.
func (s *Site) mayFollow(ctx context.Context, name string) error {
	if s.o.Accord == nil {
		return nil
	}
	heads, err := s.o.Store.Heads(ctx)
	if err != nil {
		return fmt.Errorf("ask the store: %w", err)
	}
	known := slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log.Site == name && h.Seq > 0 })
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		err, heard := s.apart[name]
		s.mu.Unlock()
		if heard || known {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
