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

// What the store received from another site after a moment is given to who follows it from that moment on, although the events
// themselves are older, and the store has recorded nothing of its own meanwhile.
func TestEventsReceivedFromOthersAreFollowed(t *testing.T) {
	far := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "far", Incarnation: 1}})
	near := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "near", Incarnation: 1}})
	defer far.Close()
	defer near.Close()
	add := func(s *memstore.Store) {
		t.Helper()
		if _, err := s.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("order", "1"), Expect: eventstore.Any, Events: []eventstore.Event{{Type: "order.changed.v1"}},
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	var taken uint64
	receive := func() {
		t.Helper()
		var events []eventstore.Recorded
		for e, err := range far.ReadLog(t.Context(), eventstore.LogID{Site: "far", Incarnation: 1}, taken) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		if _, err := near.Receive(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		taken += uint64(len(events))
	}
	moment := func() int64 { // no event is of the same millisecond, nor of the one before
		now := time.Now().UnixNano()
		time.Sleep(3 * time.Millisecond)
		return now + int64(2*time.Millisecond)
	}
	// follow returns how many events come from a moment on, until one that is recorded last.
	follow := func(from int64) int {
		t.Helper()
		add(near)
		state, err := near.Log(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := 0
		s, err := storesync.New(storesync.Options{From: near, Quiet: 10 * time.Millisecond, Apply: func(_ context.Context, events []eventstore.Recorded) error {
			if got += len(events); events[len(events)-1].Position == state.Durable {
				cancel()
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(ctx, from); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		return got
	}
	add(far)
	receive()
	first := moment()
	add(far)
	receive()
	if got := follow(first); got != 3 {
		t.Errorf("%d events came of a store without one of its own, want all 3", got)
	}
	second := moment()
	for range 5 {
		add(far)
	}
	receive()
	if got := follow(second); got != 6 {
		t.Errorf("%d events came of the 6 that the store has taken in since", got)
	}
	third := moment()
	if got := follow(third); got != 1 {
		t.Errorf("%d events came of the 1 that the store has recorded since", got)
	}
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
