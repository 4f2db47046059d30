package node

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/testenv"
)

// TestHungClickHouse freezes the embedded ClickHouse, whose port still takes connections then: it is said to be down, and another
// takes its place.
func TestHungClickHouse(t *testing.T) {
	testenv.Ensure(t, "clickhouse")
	c, err := openClickHouse(&Node{config: Config{Data: t.TempDir(), ClickHouse: Embedded}, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c.watching = watching{every: 100 * time.Millisecond, patience: 2 * time.Second, failures: 2}
	up := make(chan struct{})
	c.started = func() { close(up) }
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	defer running.Wait()
	defer cancel()
	defer func() {
		if err := c.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	<-up
	if err := c.ping(t.Context(), 10*time.Second); err != nil {
		t.Fatalf("a child that serves: %v", err)
	}
	hung := c.pid()
	if err := c.child.Pause(); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Minute)
	for err = nil; err == nil; err = c.ping(t.Context(), time.Second) { // the signal takes a moment on a busy machine
		if time.Now().After(end) {
			t.Fatal("a child that hangs is said to be up")
		}
	}
	if !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a child that hangs: %v, want that it does not answer", err)
	}
	for ; c.pid() == hung || c.ping(t.Context(), time.Second) != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a minute later the child is %d, %d hung", c.pid(), hung)
		}
	}
}
