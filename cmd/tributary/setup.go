package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/engine"
)

// setupCmd fetches engines. Without names it fetches what the embedded default needs.
type setupCmd struct {
	Engines []string `arg:"" optional:"" help:"clickhouse, redis, kafka, or all; default: what the embedded default needs."`
}

// engineStatus is the JSON form of an engine's status.
type engineStatus struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	State   string `json:"state"`
	Path    string `json:"path,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
	Bytes   int64  `json:"fetch_bytes"`
	Disk    int64  `json:"disk_bytes"`
	Hint    string `json:"hint,omitempty"`
}

func statusOf(s engine.Status) engineStatus {
	p := s.Package
	return engineStatus{
		Name: p.Name, Version: p.Version, State: string(s.State), Path: s.Path, SHA256: p.SHA256(),
		Bytes: p.FetchSize, Disk: p.DiskSize, Hint: s.Hint,
	}
}

// Run fetches the engines.
func (c *setupCmd) Run(ctx context.Context, g *globals) error {
	packages, err := c.packages()
	if err != nil {
		return err
	}
	cache, err := engine.CacheDir()
	if err != nil {
		return err
	}
	var got []engineStatus
	var faults []error
	for _, p := range packages {
		bar := newProgress(g, p.Title, "B")
		status, err := p.Fetch(ctx, cache, engine.FetchOptions{Out: g.err, Progress: func(pr engine.Progress) { bar.set(pr.Done, pr.Total) }})
		bar.end()
		faults = append(faults, err)
		status.Package = p
		got = append(got, statusOf(status))
	}
	err = g.print(map[string]any{"cache": cache, "engines": got}, func() { g.table(engineRows(got)) })
	return errors.Join(append(faults, err)...)
}

func (c *setupCmd) packages() ([]*engine.Package, error) {
	if len(c.Engines) == 0 {
		return []*engine.Package{engine.Lookup("clickhouse")}, nil
	}
	var out []*engine.Package
	for _, name := range c.Engines {
		if name == "all" {
			return engine.Catalogue(), nil
		}
		p := engine.Lookup(name)
		if p == nil {
			return nil, fmt.Errorf("%w: engine %q is unknown, use clickhouse, redis, kafka or all", eventstore.ErrInvalid, name)
		}
		out = append(out, p)
	}
	return out, nil
}

// doctorCmd says what is missing.
type doctorCmd struct{}

// Run looks at every engine. It fails with exit code 3 when the embedded default lacks something.
func (c *doctorCmd) Run(ctx context.Context, g *globals) error {
	cache, err := engine.CacheDir()
	if err != nil {
		return err
	}
	var found []engineStatus
	var missing error
	for _, p := range engine.Catalogue() {
		s := p.Status(ctx, cache)
		found = append(found, statusOf(s))
		if p.Name == "clickhouse" {
			missing = s.Err()
		}
	}
	if err := g.print(map[string]any{"cache": cache, "engines": found}, func() { g.table(engineRows(found)) }); err != nil {
		return err
	}
	return missing
}

func engineRows(engines []engineStatus) [][]string {
	rows := [][]string{{"ENGINE", "VERSION", "STATE", "WHAT TO DO"}}
	for _, e := range engines {
		hint := e.Hint
		if hint == "" {
			hint = "nothing"
		}
		rows = append(rows, []string{e.Name, e.Version, e.State, hint})
	}
	return rows
}
