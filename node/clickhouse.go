package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/projections/clickview"
)

// clickPart is ClickHouse: a child that is started and kept up, or a server by address.
type clickPart struct {
	mode           string
	dir            string
	user, password string
	log            *slog.Logger
	started        func()           // called when a child serves
	probe          *clickview.Probe // nil when it is off
	watching       watching

	mu      sync.Mutex // guards what follows
	child   *engine.ClickHouse
	problem error // why there is no child
}

// errStarting: the child is on its way.
var errStarting = errors.New("clickhouse is starting")

// startPause is the time between attempts to start an engine that is missing or does not start.
const startPause = 10 * time.Second

func openClickHouse(n *Node) (*clickPart, error) {
	c := &clickPart{mode: n.config.ClickHouse, dir: n.path("clickhouse"), log: n.log, problem: errStarting, watching: watchChild}
	if c.mode == Off {
		return c, nil
	}
	var err error
	if c.mode == Embedded {
		if c.user, c.password, err = engine.ClickHouseAccount(c.dir); err != nil {
			return c, err
		}
	}
	options, err := c.options()
	if err != nil {
		return c, err
	}
	c.probe, err = clickview.NewProbe(options)
	return c, err
}

// watching says when a child that is alive and answers nothing is ended, so that another takes its place. It has to be long:
// a machine that is too busy for an answer is no reason.
type watching struct {
	every, patience time.Duration // between two pings, and for each
	failures        int           // in a row
}

var watchChild = watching{every: 5 * time.Second, patience: 5 * time.Second, failures: 8}

// run starts the child and keeps it up until ctx ends. An engine that is missing is looked for again and again, so that
// analytics begin when it appears.
func (c *clickPart) run(ctx context.Context) error {
	if c.mode != Embedded {
		return nil
	}
	for said := ""; ; {
		child, err := engine.StartClickHouse(ctx, engine.ClickHouseOptions{Dir: c.dir, Logger: c.log})
		if err == nil {
			c.set(child, nil)
			c.started()
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return child.Run(ctx) })
			g.Go(func() error {
				c.watch(ctx, child)
				return nil
			})
			return g.Wait()
		}
		if ctx.Err() != nil {
			return nil
		}
		c.set(nil, errors.New(engineProblem(err)))
		if text := engineProblem(err); text != said {
			said = text
			c.log.Warn("analytics are off until clickhouse can be started", slog.String("problem", text))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(startPause):
		}
	}
}

// watch ends a child that hangs, until ctx ends.
func (c *clickPart) watch(ctx context.Context, child *engine.ClickHouse) {
	tick := time.NewTicker(c.watching.every)
	defer tick.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pid := child.PID()
		err := c.ping(ctx, c.watching.patience)
		if pid == 0 || err == nil {
			failures = 0
			continue
		}
		if failures++; failures >= c.watching.failures && pid == child.PID() {
			c.log.Error("clickhouse hangs, it is ended and started again", slog.Int("pid", pid), slog.Any("error", err))
			child.Kill()
			failures = 0
		}
	}
}

// ping says whether ClickHouse answers within a time.
func (c *clickPart) ping(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := c.probe.Ping(ctx)
	if err != nil && c.mode == Embedded && c.pid() != 0 {
		return fmt.Errorf("the child with process id %d does not answer: %w", c.pid(), err)
	}
	return err
}

// pid returns the child's process id, 0 when none runs.
func (c *clickPart) pid() int {
	c.mu.Lock()
	child := c.child
	c.mu.Unlock()
	if child == nil {
		return 0
	}
	return child.PID()
}

func (c *clickPart) set(child *engine.ClickHouse, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.child, c.problem = child, problem
}

// dial connects to where the child serves just now, or says why it does not.
func (c *clickPart) dial(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	child, problem := c.child, c.problem
	c.mu.Unlock()
	if child == nil {
		return nil, fmt.Errorf("embedded clickhouse: %w", problem)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", child.TCPAddr())
}

// ClickHouseStarts reports whether an embedded ClickHouse is on its way: neither up nor known not to come up.
func (n *Node) ClickHouseStarts() bool {
	c := n.click
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode == Embedded && c.child == nil && errors.Is(c.problem, errStarting)
}

// address returns where SQL is taken over HTTP, or the address of the server; empty when there is none.
func (c *clickPart) address() string {
	switch c.mode {
	case Off:
		return ""
	case Embedded:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.child == nil {
			return ""
		}
		return c.child.HTTPAddr()
	}
	return withoutPassword(c.mode)
}

func (c *clickPart) close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	child := c.child
	c.mu.Unlock()
	var errs []error
	if c.probe != nil {
		errs = append(errs, c.probe.Close())
	}
	if child != nil {
		errs = append(errs, child.Close())
	}
	return errors.Join(errs...)
}
