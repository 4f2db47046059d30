package groups

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// readPause is how long the reader waits after an error that may pass.
const readPause = 500 * time.Millisecond

// read reads the log into the window until ctx ends. What is broken ends the run of the group: its members are told.
func (g *group) read(ctx context.Context, epoch uint64, shrunk <-chan struct{}) {
	for {
		err := g.follow(ctx, epoch, shrunk)
		if ctx.Err() != nil || err == nil {
			return
		}
		if eventstore.ClassOf(err) != eventstore.Transient || errors.Is(err, eventstore.ErrClosed) {
			g.fault(epoch, err)
			return
		}
		g.report(epoch, err)
		if !pause(ctx, readPause) {
			return
		}
	}
}

// follow reads one subscription until it fails; nil when the coordinator is no more.
func (g *group) follow(ctx context.Context, epoch uint64, shrunk <-chan struct{}) error {
	sub, err := g.owner.store.Subscribe(ctx, g.owner.position(g.from()), g.filter)
	if err != nil {
		return fmt.Errorf("group %s: subscribe: %w", g.name, err)
	}
	defer sub.Close()
	for {
		if !g.awaitRoom(ctx, shrunk) {
			return ctx.Err()
		}
		chunk, err := sub.Next(ctx)
		if err != nil {
			return fmt.Errorf("group %s: read the log: %w", g.name, err)
		}
		if !g.add(epoch, &chunk) {
			return nil
		}
	}
}

func (g *group) from() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.readTo
}

// awaitRoom waits until the window takes more.
func (g *group) awaitRoom(ctx context.Context, shrunk <-chan struct{}) bool {
	for {
		g.mu.Lock()
		room := len(g.window) < g.owner.options.Window && g.bytes < g.owner.options.WindowBytes
		g.mu.Unlock()
		if room {
			return true
		}
		select {
		case <-shrunk:
		case <-ctx.Done():
			return false
		}
	}
}

// report notes what keeps the group from going on for now.
func (g *group) report(epoch uint64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.epoch == epoch {
		g.problem = err.Error()
	}
}

// fault ends the run of the group: its members leave with the error, and joining again begins a new run.
func (g *group) fault(epoch uint64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.epoch != epoch {
		return
	}
	if !errors.Is(err, eventstore.ErrClosed) {
		g.owner.options.Log.Error("group has stopped", slog.String("group", g.name), slog.Any("error", err))
	}
	g.stop()
	g.problem = err.Error()
	for _, m := range g.members {
		m.leave(err)
	}
}

// pause waits; false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
