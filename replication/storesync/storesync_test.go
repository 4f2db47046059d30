package storesync_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/storesync"
)

// target has each event once.
type target struct {
	mu   sync.Mutex
	dots map[eventstore.Dot]int
	last map[eventstore.StreamID]uint64
	fail int
}

func (g *target) apply(_ context.Context, events []eventstore.Recorded) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range events {
		if g.fail--; g.fail == 0 {
			return errors.New("the target is away")
		}
		if g.dots[e.Dot]++; g.dots[e.Dot] == 1 && e.Version != g.last[e.Stream]+1 {
			return fmt.Errorf("%s came after version %d of %s", e.Dot, g.last[e.Stream], e.Stream)
		}
		g.last[e.Stream] = max(g.last[e.Stream], e.Version)
	}
	return nil
}

func (g *target) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.dots)
}

// A store is followed over gRPC, through a failing target and a server that stops and starts again; every event comes.
func TestStoreIsFollowedOverGRPC(t *testing.T) {
	store := memstore.New(memstore.Options{})
	defer store.Close()
	addr, stop := serve(t, "127.0.0.1:0", store)
	from, err := client.Dial(t.Context(), addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	g := &target{dots: map[eventstore.Dot]int{}, last: map[eventstore.StreamID]uint64{}, fail: 150}
	s, err := storesync.New(storesync.Options{From: from, Apply: g.apply, Quiet: 10 * time.Millisecond, Filter: eventstore.Filter{MaxChunk: 10}})
	if err != nil {
		t.Fatal(err)
	}
	o := replication.NewSyncOrchestrator(replication.OrchestratorOptions{Interval: time.Millisecond, Backoff: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err := o.Add("order-sync", s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = o.Run(ctx) }) // ends with ctx's error
	defer running.Wait()
	defer cancel()

	total := 0
	for round := range 3 {
		for range 100 {
			if _, err := store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("order", fmt.Sprint(total%7)), Events: []eventstore.Event{{Type: "order.changed.v1"}, {Type: "order.changed.v1"}},
			}}}); err != nil {
				t.Fatal(err)
			}
			total += 2
		}
		if round == 1 {
			stop()
			_, stop = serve(t, addr, store)
		}
	}
	eventually(t, "all have come", func() bool { return g.count() == total })
	eventually(t, "the syncer says that it is up to date", func() bool {
		healthy, lag := s.HealthCheck()
		return healthy && lag < 5*time.Second
	})
	if status := o.Status()[0]; status.Failures == 0 {
		t.Error("the target's failure was not counted")
	}
	cancel()
	running.Wait()
	if healthy, _ := s.HealthCheck(); healthy {
		t.Error("a syncer that was stopped is healthy")
	}
	stop()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}

func serve(t *testing.T, addr string, store eventstore.Store) (at string, stop func()) {
	t.Helper()
	s := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: addr})
	if err := s.Register(&storeapi.ServiceDesc, &storeapi.Service{Store: store, Failure: s.Failure}); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return s.GRPCAddr(), sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
