package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Comparison holds one log, as it is here, against the same at another site, at the last event that both have.
type Comparison struct {
	Log  eventstore.LogID
	Site string
	// Here and There are how far each has it, both by their seq.
	Here, There uint64
	// ChainHere and ChainThere are the log's chain after the last event that both have.
	ChainHere, ChainThere eventstore.Hash
	// Away says that the site is not there to be compared with, or that what is here cannot be read now; Err what else kept the two from
	// being compared.
	Away string
	Err  error
	// Dropped says that one of the two has dropped the event by a policy: there is nothing to compare.
	Dropped bool
}

// Equal reports whether both have the same, as far as both have it.
func (c *Comparison) Equal() bool {
	return c.Err == nil && c.Away == "" && (c.Dropped || c.ChainHere == c.ChainThere)
}

// Compare compares every log that is held here, or at another site, with what each other site says of it in its last
// heartbeat. The chains are read from both stores. That a site lags is no difference; the caller sees it.
func (s *Site) Compare(ctx context.Context) ([]Comparison, error) {
	overview, err := s.Overview(ctx)
	if err != nil {
		return nil, err
	}
	heads, err := s.o.Store.Heads(ctx)
	if err != nil {
		return nil, fmt.Errorf("compare logs: %w", err)
	}
	var all []Comparison
	for _, p := range overview.Peers {
		if !p.Up {
			when := "has not been heard since this one started"
			if p.Heard >= 0 {
				when = fmt.Sprintf("was heard last %s ago", p.Heard.Round(time.Second))
			}
			at := slices.IndexFunc(heads, func(h eventstore.LogHead) bool { return h.Log == s.own })
			here := uint64(0)
			if at >= 0 {
				here = heads[at].Seq
			}
			all = append(all, Comparison{Log: s.own, Here: here, Site: p.Site, Away: fmt.Sprintf("site %s %s: what it holds can be compared when it is back", p.Site, when)})
			continue
		}
		logs := map[eventstore.LogID]*Comparison{}
		of := func(log eventstore.LogID) *Comparison {
			if logs[log] == nil {
				logs[log] = &Comparison{Log: log, Site: p.Site}
			}
			return logs[log]
		}
		for _, h := range heads {
			of(h.Log).Here = h.Seq
		}
		for _, h := range p.Heads {
			of(h.Log).There = h.Seq
		}
		rows := make([]Comparison, 0, len(logs))
		for _, c := range logs {
			s.compare(ctx, c)
			rows = append(rows, *c)
		}
		slices.SortFunc(rows, func(a, b Comparison) int { return a.Log.Compare(b.Log) })
		all = append(all, rows...)
	}
	return all, nil
}

// compare reads both chains at the last common event.
func (s *Site) compare(ctx context.Context, c *Comparison) {
	at := Pull{Site: c.Site, Log: c.Log, After: min(c.Here, c.There), Through: min(c.Here, c.There)}
	if c.ChainHere, _, c.Err = s.o.Store.ChainAt(ctx, c.Log, at.After); c.Err != nil {
		c.unread("what is here cannot be read now")
		return
	}
	_, peer := s.other(c.Site)
	if peer == nil {
		c.Err = fmt.Errorf("site %s: %w: it takes part no more", c.Site, eventstore.ErrNotFound)
		return
	}
	if c.ChainThere, _, c.Err = peer.Pull(ctx, at); c.Err != nil {
		c.unread("site " + c.Site + " does not answer")
	}
}

// unread takes the error of a chain that could not be read: what cannot be had at present, or was dropped, is no difference.
func (c *Comparison) unread(away string) {
	switch {
	case errors.Is(c.Err, eventstore.ErrTruncated):
		c.Dropped, c.Err = true, nil
	case eventstore.ClassOf(c.Err) == eventstore.Transient:
		c.Away, c.Err = fmt.Sprintf("%s: %v", away, c.Err), nil
	}
}
