package redisview_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/redisview"
)

// TestRedisOutOfMemory: a server that takes no more writes refuses a commit as a whole, and the projection goes on when
// there is room again.
func TestRedisOutOfMemory(t *testing.T) {
	srv := testenv.Redis(t)
	log := shop(t, 100)
	c := dial(t, srv.Addr())
	view := newView(t, c, orders())
	runner := projections.NewRunner(log, view, projections.Options{
		CheckEvery: 20 * time.Millisecond, RetryMax: 50 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	await := func(lsn uint64) {
		t.Helper()
		waiting, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		if err := runner.Await(waiting, eventstore.Position{Incarnation: 1, LSN: lsn}); err != nil {
			t.Fatalf("%v; status %+v", err, runner.Status())
		}
	}
	await(300)
	if err := c.Raw().ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	addOrders(t, log, 100, 200)
	until(t, runner, "refused", func(s projections.Status, _ int) bool {
		return s.State == projections.Retrying && strings.Contains(s.LastError, "maxmemory")
	})
	if at, err := view.Cursor(ctx); err != nil || at.Position.LSN != 300 {
		t.Errorf("the cursor is %s, %v, want where it was", at, err)
	}
	if err := c.Raw().ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	await(600)
	same(t, log, view)
	if n := runner.Status().Rebuilds; n != 1 {
		t.Errorf("the model was filled %d times, want once", n)
	}
}

func TestWarnsOfEviction(t *testing.T) {
	srv := testenv.Redis(t)
	var said bytes.Buffer
	open := func() string {
		t.Helper()
		said.Reset()
		v := redisview.New(dial(t, srv.Addr()), orders(), redisview.Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
		_, _ = v.Open(t.Context()) // there is no model yet
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		return said.String()
	}
	raw := dial(t, srv.Addr()).Raw()
	if err := raw.ConfigSet(t.Context(), "maxmemory", "100mb").Err(); err != nil {
		t.Fatal(err)
	}
	if text := open(); text != "" {
		t.Errorf("a server that does not evict is warned of: %s", text)
	}
	if err := raw.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	if text := open(); !strings.Contains(text, "noeviction") || !strings.Contains(text, srv.Addr()) {
		t.Errorf("a server that evicts is warned of with %q", text)
	}
}
