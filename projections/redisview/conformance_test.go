package redisview_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/projectiontest"
	"github.com/tributary-es/tributary/projections/redisview"
	"github.com/tributary-es/tributary/projections/redisview/embedded"
)

func TestMain(m *testing.M) {
	testenv.Main(m, func() error { return goleak.Find() })
}

// embeddedServer starts an in-process server for one test and returns its address.
func embeddedServer(t testing.TB) string {
	t.Helper()
	s, err := embedded.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Address()
}

func dial(t testing.TB, address string) *redisview.Client {
	t.Helper()
	c, err := redisview.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// storage is one projection's keys on a server that the test has to itself, or shares under a prefix of its own.
func storage(t testing.TB, address, prefix string, lose func(testing.TB)) projectiontest.Storage[projections.Keys] {
	sink := func(t testing.TB, c *redisview.Client, p projections.Projection[projections.Keys]) projections.Sink {
		v := redisview.New(c, p, redisview.Options{Prefix: prefix})
		t.Cleanup(func() { _ = v.Close() })
		return v
	}
	return projectiontest.Storage[projections.Keys]{
		Sink: func(t testing.TB, p projections.Projection[projections.Keys]) projections.Sink {
			return sink(t, dial(t, address), p)
		},
		Crashing: func(t testing.TB, p projections.Projection[projections.Keys], at projectiontest.CrashPoint) projections.Sink {
			c := dial(t, address)
			c.AddHook(&crash{at: at})
			return sink(t, c, p)
		},
		Lose: lose,
	}
}

func TestConformsEmbedded(t *testing.T) {
	projectiontest.RunKeys(t, func(t testing.TB) projectiontest.Storage[projections.Keys] {
		address := embeddedServer(t)
		return storage(t, address, "", func(t testing.TB) { flush(t, address) })
	})
}

// TestConformsReal shows P1, P4, P5 and P6 on a real Redis.
func TestConformsReal(t *testing.T) {
	srv := testenv.Redis(t) // of its own: the suite empties it
	projectiontest.RunKeys(t, func(t testing.TB) projectiontest.Storage[projections.Keys] {
		prefix := testenv.Unique(t)
		return storage(t, srv.Addr(), prefix, func(t testing.TB) { flush(t, srv.Addr()) })
	})
}

// flush empties a server.
func flush(t testing.TB, address string) {
	t.Helper()
	if err := dial(t, address).Raw().FlushAll(context.Background()).Err(); err != nil {
		t.Fatalf("FLUSHALL: %v", err)
	}
}

// crash is a hook that lets some round trips through and then nothing, as if the process died.
type crash struct {
	at    projectiontest.CrashPoint
	steps atomic.Int64
}

// withinStep marks the context of what the driver does to carry out a step, such as greeting the server.
type withinStep struct{}

// step does one round trip, unless the process is dead, or dies at it.
func (c *crash) step(ctx context.Context, do func(context.Context) error) error {
	if ctx.Value(withinStep{}) != nil {
		return do(ctx)
	}
	ctx = context.WithValue(ctx, withinStep{}, true)
	n := int(c.steps.Add(1))
	if n <= c.at.Step {
		return do(ctx)
	}
	if n == c.at.Step+1 && c.at.Sent {
		_ = do(ctx) // the server does it, nobody hears of it
	}
	return projectiontest.ErrCrash
}

func (c *crash) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *crash) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := c.step(ctx, func(ctx context.Context) error { return next(ctx, cmd) })
		cmd.SetErr(err)
		return err
	}
}

func (c *crash) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := c.step(ctx, func(ctx context.Context) error { return next(ctx, cmds) })
		if errors.Is(err, projectiontest.ErrCrash) {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}
