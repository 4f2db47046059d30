package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/drill"
)

// steady are clients that write at one site each, and say how long it took no writes while it was up.
type steady struct {
	ledger *drill.Ledger
	up     map[string]*atomic.Bool // by site: whether it is to take writes

	mu      sync.Mutex // guards what follows
	told    map[string]int
	took    []time.Duration // what was done at sites that were up
	refused int             // commands that a site which was up did not take
	said    map[string]int  // what was said of them, how often
	paused  time.Duration   // the longest time from such a command to the next that was done there
}

func newSteady(ledger *drill.Ledger, sites *drill.Sites) *steady {
	s := &steady{ledger: ledger, up: map[string]*atomic.Bool{}, told: map[string]int{}, said: map[string]int{}}
	for _, site := range sites.All() {
		s.up[site.Name] = &atomic.Bool{}
		s.up[site.Name].Store(true)
	}
	return s
}

// write gives commands to a site until ctx ends: do gives the n-th, from 0 on, under a key.
func (s *steady) write(ctx context.Context, site *drill.Site, what string, do func(ctx context.Context, key string, n int) error) {
	up := s.up[site.Name]
	var since time.Time // of the first command that was not taken
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%s/%s/%d", site.Name, what, n)
		was, begun := up.Load(), time.Now()
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := do(attempt, key, n)
		cancel()
		was = was && up.Load()
		switch {
		case err == nil:
			s.done(key, site.Name+"/"+what, site.Name, time.Since(begun), was, since)
			since = time.Time{}
		case ctx.Err() != nil:
		case was:
			s.not(fmt.Sprintf("%s does not do %s: %v", site.Name, what, err))
			if since.IsZero() {
				since = begun
			}
		default:
			since = time.Time{}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *steady) done(key, writer, site string, took time.Duration, up bool, since time.Time) {
	s.ledger.Acknowledge(key, site)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[writer]++
	if up {
		s.took = append(s.took, took)
	}
	if !since.IsZero() {
		s.paused = max(s.paused, time.Since(since))
	}
}

// forget forgets the clients of a site, which have ended.
func (s *steady) forget(site *drill.Site) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.told, func(writer string, _ int) bool { return strings.HasPrefix(writer, site.Name+"/") })
}

func (s *steady) not(said string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused++
	s.said[said]++
}

// comes waits until a site that was started has done something for each of so many clients, and counts it as up from then on.
func (s *steady) comes(t *testing.T, site *drill.Site, clients int) {
	t.Helper()
	of := func() map[string]int {
		s.mu.Lock()
		defer s.mu.Unlock()
		told := maps.Clone(s.told)
		maps.DeleteFunc(told, func(writer string, _ int) bool { return !strings.HasPrefix(writer, site.Name+"/") })
		return told
	}
	before := of()
	eventually(t, "site "+site.Name+" takes writes", func() bool {
		now := of()
		for writer, told := range now {
			if told == before[writer] {
				return false
			}
		}
		return len(now) == clients
	})
	s.up[site.Name].Store(true)
}

// more waits until each of so many clients has done n more commands.
func (s *steady) more(t *testing.T, clients, n int) {
	t.Helper()
	s.mu.Lock()
	before := maps.Clone(s.told)
	s.mu.Unlock()
	eventually(t, fmt.Sprintf("each client has done %d more commands", n), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for writer, told := range s.told {
			if told < before[writer]+n {
				return false
			}
		}
		return len(s.told) == clients
	})
}
