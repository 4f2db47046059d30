package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/tributary-es/tributary/internal/engine"
)

// clickPart is ClickHouse: a child that is started and kept up, or a server by address.
type clickPart struct {
	mode           string
	dir            string
	user, password string
	log            *slog.Logger
	started        func() // called when a child serves

	mu      sync.Mutex // guards what follows
	child   *engine.ClickHouse
	problem error // why there is no child
}

// errStarting: the child is on its way.
var errStarting = errors.New("clickhouse is starting")

// startPause is the time between attempts to start an engine that is missing or does not start.
const startPause = 10 * time.Second

func openClickHouse(n *Node) (*clickPart, error) {
	c := &clickPart{mode: n.config.ClickHouse, dir: n.path("clickhouse"), log: n.log, problem: errStarting}
	if c.mode != Embedded {
		return c, nil
	}
	var err error
	c.user, c.password, err = engine.ClickHouseAccount(c.dir)
	return c, err
}

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
			return child.Run(ctx)
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
	if child == nil {
		return nil
	}
	return child.Close()
}
