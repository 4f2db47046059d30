package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
)

// demoCmd imports retail files into a fresh folder, waits until every read model has caught up, and shows what became of
// them, each figure read back from the place that it names. With sites it has several of them take the orders at once.
type demoCmd struct {
	Input []string `help:"Retail file, plain or gz; may be repeated. With --sites the default is the sample that comes with the program." placeholder:"FILE" type:"path" sep:"none"`
	Data  string   `help:"Data folder, new or empty; default: a throwaway one." placeholder:"DIR" type:"path"`
	Once  bool     `help:"End when the figures are printed, instead of serving on."`
	drillFlags
	listenFlags
	engineFlags
}

// demoAnswer is what a demo prints.
type demoAnswer struct {
	node.Figures
	Rebuild rebuildFigures `json:"rebuild"`
	Seconds demoSeconds    `json:"seconds"`
}

type rebuildFigures struct {
	Redis           []string `json:"redis"`
	ClickHouse      []string `json:"clickhouse"`
	RedisEqual      bool     `json:"redis_equal"`
	ClickHouseEqual bool     `json:"clickhouse_equal"`
}

type demoSeconds struct {
	Import  float64 `json:"import"`
	CatchUp float64 `json:"catch_up"`
	Rebuild float64 `json:"rebuild"`
}

// Run runs the demo. The input is checked whole before anything is started or written.
func (c *demoCmd) Run(ctx context.Context, g *globals) (err error) {
	if len(c.Sites) > 0 {
		return c.sites(ctx, g)
	}
	if err := c.drillFlags.refuse(); err != nil {
		return err
	}
	if len(c.Input) == 0 {
		return fmt.Errorf("%w: name retail files with --input", eventstore.ErrInvalid)
	}
	set, err := retail.Read(ctx, c.Input...)
	if err != nil {
		return err
	}
	dir, remove, err := c.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	config := c.config(g, dir)
	if config.Kafka == node.Off || config.ClickHouse == node.Off {
		return fmt.Errorf("%w: the demo reads its figures back from Kafka, Redis and ClickHouse; none can be switched off", eventstore.ErrInvalid)
	}
	if err := node.RequireEngines(ctx, config); err != nil {
		return err
	}
	config.HTTP, config.GRPC = c.HTTP, c.GRPC
	if c.Once {
		config.HTTP, config.GRPC = "127.0.0.1:0", "127.0.0.1:0"
	}
	s, err := startSession(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if !c.Once { // it can be looked at while it is filled
		awaitClickHouse(ctx, s.node)
		if err := announce(g, s.node, "are in "+dir); err != nil {
			return err
		}
	}
	answer, err := demo(ctx, g, s, set)
	if err != nil {
		return err
	}
	if err := g.print(answer, func() { printDemo(g, answer) }); err != nil || c.Once {
		return err
	}
	return s.wait(ctx)
}

// folder returns the folder for the data, which is new or empty, and what removes it again if it is a throwaway one.
func (c *demoCmd) folder() (dir string, remove func() error, err error) {
	if c.Data != "" {
		return c.Data, func() error { return nil }, requireEmpty(c.Data)
	}
	if dir, err = os.MkdirTemp("", "tributary-demo-"); err != nil {
		return "", nil, fmt.Errorf("make a throwaway folder: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

func demo(ctx context.Context, g *globals, s *session, set *retail.Set) (demoAnswer, error) {
	var out demoAnswer
	imported, err := importSet(ctx, g, s, set)
	if err != nil {
		return out, err
	}
	out.Seconds.Import = imported.Seconds
	begin := time.Now()
	if err := settle(ctx, g, s); err != nil {
		return out, err
	}
	out.Seconds.CatchUp = time.Since(begin).Seconds()
	if out.Figures, err = s.node.Figures(ctx); err != nil {
		return out, fmt.Errorf("read the figures back: %w", err)
	}
	begin = time.Now()
	if out.Rebuild, err = rebuildBoth(ctx, g, s.node); err != nil {
		return out, err
	}
	out.Seconds.Rebuild = time.Since(begin).Seconds()
	return out, nil
}

func rebuildBoth(ctx context.Context, g *globals, n *node.Node) (rebuildFigures, error) {
	var out rebuildFigures
	digests := map[string][]string{}
	for _, name := range []string{node.RedisProjection, node.ClickHouseProjection} {
		bar := newProgress(g, "rebuild "+name, "events")
		before, after, err := n.Rebuild(ctx, name, func(done, total uint64) { bar.set(int64(done), int64(total)) })
		bar.end()
		if err != nil {
			return out, fmt.Errorf("rebuild %s: %w", name, err)
		}
		digests[name] = []string{before, after}
	}
	out.Redis, out.ClickHouse = digests[node.RedisProjection], digests[node.ClickHouseProjection]
	out.RedisEqual = out.Redis[0] == out.Redis[1]
	out.ClickHouseEqual = out.ClickHouse[0] == out.ClickHouse[1]
	return out, nil
}

func printDemo(g *globals, a demoAnswer) {
	g.table(figureRows(a.Figures))
	fmt.Fprintf(g.out, "\nRead models dropped and rebuilt from the log in %.1f s: Redis equal %t, ClickHouse equal %t.\n",
		a.Seconds.Rebuild, a.Rebuild.RedisEqual, a.Rebuild.ClickHouseEqual)
	fmt.Fprintf(g.out, "Import %.1f s, then caught up in %.1f s.\n", a.Seconds.Import, a.Seconds.CatchUp)
}
