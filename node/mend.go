package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/replication"
)

// comparer returns what compares the store with those of the other sites.
func (n *Node) comparer(site *replication.Site) *replication.Comparer {
	return replication.NewComparer(site, replication.ComparerOptions{Every: n.config.CompareEvery, Mend: n.mend, Logger: n.log})
}

// compare has the stores of the sites compared now and then until ctx ends.
func (n *Node) compare(ctx context.Context) error {
	if n.sites.site == nil {
		return nil
	}
	return n.sites.comparer.Run(ctx)
}

// mend puts right the events of a log that are not what the hash chains say, or cannot be read, with what Kafka and the other sites
// have (replication.ComparerOptions.Mend).
func (n *Node) mend(ctx context.Context, log eventstore.LogID, after, through uint64) (left string, err error) {
	o, err := n.scrubOptions()
	if err != nil {
		return "", err
	}
	report, err := n.local.Mend(ctx, log, after, through, o)
	switch {
	case errors.Is(err, eventstore.ErrArchiveDamaged): // no scrub looks there
		return err.Error() + ": put it back from a copy of the bucket; tributary archive verify names what else is damaged there", nil
	case errors.Is(err, eventstore.ErrCorrupt): // the way to the events is damaged too
		report, err = n.local.Scrub(ctx, o)
	}
	if err != nil {
		return "", err
	}
	for i := range report.Faults {
		if f := &report.Faults[i]; !f.Repaired {
			return f.String(), nil
		}
	}
	if len(report.Faults) > 0 {
		n.log.Warn("events were damaged, or were not those of the log, and are again: what was made of them is to be checked",
			slog.String("log", log.String()), slog.Uint64("first", after+1), slog.Uint64("last", through), slog.String("do", "tributary verify"))
	}
	return "", nil
}

// holders are the other sites, as far as they give back what the store has lost.
func (p *sitesPart) holders() (out []pebblestore.Holder) {
	if p == nil || p.site == nil {
		return nil
	}
	for _, h := range p.site.Holders() {
		out = append(out, h)
	}
	return out
}

// comparisonHealth says where the store differs from those of other sites, as long as it does.
func (n *Node) comparisonHealth() []server.Dependency {
	state := n.sites.comparer.State()
	left := state.Left()
	if len(left) == 0 {
		return nil
	}
	f := &left[0]
	d := server.Dependency{Name: "comparison of stores", Mode: "replicated", Problem: fmt.Sprintf("%s, site %s: %s", f.Log, f.Site, f.String())}
	if more := len(left) - 1; more > 0 {
		d.Problem += fmt.Sprintf(" (and %d more: tributary sites status)", more)
	}
	return []server.Dependency{d}
}

// comparisonSample is what /metrics says of the comparisons; nil before the first has ended.
func (n *Node) comparisonSample() *server.ComparisonSample {
	state := n.sites.comparer.State()
	if state.Ended.IsZero() {
		return nil
	}
	return &server.ComparisonSample{Age: time.Since(state.Ended), Events: state.Events, Left: len(state.Left()), Repaired: state.Repaired}
}
