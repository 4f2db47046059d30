package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/node"
)

// drillFlags have several sites take the orders of a demo.
type drillFlags struct {
	Sites []string `help:"Names of sites that take the orders, all at once; one of them is cut off meanwhile." placeholder:"SITE,…"`
	Cut   string   `help:"With --sites: which one is cut off; default: the seed decides." placeholder:"SITE"`
	How   string   `help:"With --sites: how it is cut off: reset, silent or deaf; default: the seed decides." placeholder:"HOW"`
	Kill  string   `help:"With --sites: one that is killed, with all that belongs to it, and comes back." placeholder:"SITE"`
	Seed  uint64   `help:"With --sites: decides what is not said; default: another one each time." placeholder:"N"`
	Real  bool     `help:"With --sites: each site runs a Kafka, a Redis and a ClickHouse of its own, as servers beside it."`
}

// refuse refuses flags that are for several sites.
func (f *drillFlags) refuse() error {
	if f.Cut != "" || f.How != "" || f.Kill != "" || f.Seed != 0 || f.Real {
		return fmt.Errorf("%w: --cut, --how, --kill, --seed and --real go with --sites", eventstore.ErrInvalid)
	}
	return nil
}

// check validates flags of a demo of several sites. All faults are joined.
func (c *demoCmd) check() error {
	var faults []error
	fault := func(holds bool, format string, args ...any) {
		if !holds {
			faults = append(faults, fmt.Errorf("%w: "+format, append([]any{eventstore.ErrInvalid}, args...)...))
		}
	}
	fault(len(c.Sites) >= 2, "--sites %s: there must be two at least", strings.Join(c.Sites, ","))
	for i, name := range c.Sites {
		if err := eventstore.ValidateSite(name); err != nil {
			faults = append(faults, fmt.Errorf("--sites: %w", err))
		}
		fault(!slices.Contains(c.Sites[:i], name), "--sites names %s twice", name)
	}
	for flag, name := range map[string]string{"--cut": c.Cut, "--kill": c.Kill} {
		fault(name == "" || slices.Contains(c.Sites, name), "%s %s: it is none of the sites", flag, name)
	}
	fault(c.How == "" || slices.Contains(drill.Hows, drill.How(c.How)), "--how %s: use reset, silent or deaf", c.How)
	fault(c.Site+c.Kafka+c.Redis+c.Source+c.Feed == "", "--site, --kafka, --redis, --source and --feed are for one site; with --sites all is embedded, or --real")
	fault(c.HTTP+c.GRPC+c.Keys+c.MasterKeyFile == "", "--http, --grpc, --keys and --master-key-file are for one site; with --sites each has ports of its own, and tells them")
	fault(c.ClickHouse == "" || c.ClickHouse == node.Off && !c.Real, "--clickhouse can only be off with --sites, and not with --real")
	return errors.Join(faults...)
}

// sites runs the demo of several sites: each is a server of its own, started and ended from here.
func (c *demoCmd) sites(ctx context.Context, g *globals) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	set, err := c.retail(ctx)
	if err != nil {
		return err
	}
	if !c.Real {
		if err := node.RequireEngines(ctx, node.Config{ClickHouse: c.ClickHouse}); err != nil {
			return err
		}
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, to start sites: %w", err)
	}
	dir, remove, err := c.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	seed := cmp.Or(c.Seed, uint64(time.Now().UnixNano())%1_000_000)
	g.say("Seed %d. Sites %s are started in %s.", seed, strings.Join(c.Sites, ", "), dir)
	sites, err := drill.Open(ctx, drill.Options{
		Program: program, Dir: dir, Names: c.Sites, Kafka: c.Real, Redis: c.Real, ClickHouse: c.Real, NoClickHouse: c.ClickHouse == node.Off,
		Logger: g.log.WithGroup("drill"),
	})
	if err != nil {
		return fmt.Errorf("%w; logs of the sites are in their folders", err)
	}
	defer func() { err = errors.Join(err, sites.Close()) }()
	bar := newProgress(g, "demo", "commands")
	report, err := sites.Run(ctx, drill.Plan{
		Input: set, Seed: seed, Cut: c.Cut, How: drill.How(c.How), Kill: c.Kill, Say: g.say,
		Progress: func(done, total int) { bar.set(int64(done), int64(total)) },
	})
	bar.end()
	if err != nil {
		return fmt.Errorf("demo with seed %d: %w", seed, err)
	}
	if err := g.print(report, func() { g.drillReport(report) }); err != nil {
		return err
	}
	if len(report.Faults) > 0 {
		return fmt.Errorf("%w: seed %d: %s", errFaults, seed, strings.Join(report.Faults, "; "))
	}
	if c.Once {
		return nil
	}
	for _, one := range sites.All() {
		g.say("Site %s serves on http://%s/, its data are in %s. Ctrl-C stops all.", one.Name, one.HTTP, one.Data)
	}
	<-ctx.Done()
	return nil
}

// retail reads the files that were named, else the sample.
func (c *demoCmd) retail(ctx context.Context) (*retail.Set, error) {
	if len(c.Input) > 0 {
		return retail.Read(ctx, c.Input...)
	}
	return readSample(ctx)
}

// drillReport shows what a demo of several sites has found.
func (g *globals) drillReport(r *drill.Report) {
	rows := [][]string{
		{"WHAT", "FIGURE"},
		{"cut off, how, seconds", fmt.Sprintf("%s, %s, %.1f", r.Cut, r.How, r.Seconds.Apart)},
		{"all had what any had, seconds after", fmt.Sprintf("%.2f", r.Seconds.Converge)},
	}
	if r.Killed != "" {
		rows = append(rows, []string{"killed, takes commands again, seconds after", fmt.Sprintf("%s, %.1f", r.Killed, r.Seconds.Down)})
	}
	c, s := r.Commands, r.Stock
	rows = append(rows, [][]string{
		{"commands acknowledged, refused", fmt.Sprintf("%d, %d", c.Acknowledged, c.Refused)},
		{"  found at every site, lost, duplicated, phantom", fmt.Sprintf("%d, %d, %d, %d", c.Found, c.Lost, c.Duplicated, c.Phantom)},
		{"events", fmt.Sprint(r.Events)},
		{"units stocked, sold, promised, oversold", fmt.Sprintf("%d, %d, %d, %d", s.Stocked, s.Sold, s.Held, s.Oversold)},
		{"conflicts, the same at all sites", fmt.Sprintf("%d, %t", r.Conflicts.Total, r.Conflicts.Equal)},
	}...)
	g.table(rows)
	rows = [][]string{{"CONFLICTS IN", "KIND", "RESOLVER", "VERDICT", "COUNT"}}
	for _, k := range r.Conflicts.By {
		rows = append(rows, []string{k.Category, k.Kind, k.Resolver, k.Verdict, fmt.Sprint(k.Count)})
	}
	fmt.Fprintln(g.out)
	g.table(rows)
	rows = [][]string{{"LOG", "EVENTS", "DIGEST", "THE SAME AT ALL SITES"}}
	for _, l := range r.Logs {
		rows = append(rows, []string{l.Log, fmt.Sprint(l.Events[r.Sites[0]]), l.Digest[r.Sites[0]][:min(16, len(l.Digest[r.Sites[0]]))], fmt.Sprint(l.Equal)})
	}
	fmt.Fprintln(g.out)
	g.table(rows)
	rows = [][]string{{"READ MODELS OF", "ORDERS", "UNITS ON HAND", "NET SALES BY MONTH", "PARKED"}}
	for _, site := range r.Sites {
		m := r.ReadModels[site]
		rows = append(rows, []string{site, pairs(m.Orders), fmt.Sprint(m.OnHand), pairs(m.Sales), fmt.Sprint(m.Parked)})
	}
	fmt.Fprintln(g.out)
	g.table(rows)
	fmt.Fprintf(g.out, "\nCompared one by one: %s.\n", pairs(r.ReadModels[r.Sites[0]].Compared))
	if r.Different > 0 {
		fmt.Fprintf(g.out, "\n%d things are shown differently, such as:\n%s\n", r.Different, strings.Join(r.Differences, "\n"))
	}
	if len(r.Faults) == 0 {
		fmt.Fprintln(g.out, "\nNothing was lost, nothing sold twice, and all sites hold the same.")
	}
}

// pairs writes a map in a line, by key.
func pairs[V any](m map[string]V) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %v", k, m[k]))
	}
	return orDash(strings.Join(out, ", "))
}
