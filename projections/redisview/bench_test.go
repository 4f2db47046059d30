package redisview_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/projections/redisview"
)

// orders is a projection like that of a shop: an order's fields, its customer's list, counts by status.
func orders() projections.Projection[projections.Keys] {
	return projections.Projection[projections.Keys]{
		Name: "orders", Version: 1, Types: []string{"order.created.v1", "order.confirmed.v1", "order.shipped.v1"},
		Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			id := e.Stream.ID
			switch e.Version {
			case 1:
				w.HashSet("order:"+id, "customer", string(e.Payload))
				w.HashSet("order:"+id, "status", "created")
				w.HashSet("order:"+id, "total", "123.45")
				w.HashSet("order:"+id, "version", "1")
				w.SortedAdd("customer:"+string(e.Payload), id, float64(e.HLC>>16))
				w.HashAdd("status", "created", 1)
			case 2:
				w.HashSet("order:"+id, "status", "confirmed")
				w.HashSet("order:"+id, "version", "2")
				w.HashAdd("status", "created", -1)
				w.HashAdd("status", "confirmed", 1)
			default:
				w.HashSet("order:"+id, "status", "shipped")
				w.HashSet("order:"+id, "version", strconv.FormatUint(e.Version, 10))
				w.HashAdd("status", "confirmed", -1)
				w.HashAdd("status", "shipped", 1)
			}
			return nil
		},
	}
}

// shop returns a log of n orders of three events each, created, confirmed and shipped in waves of a hundred.
func shop(t testing.TB, n int) *memstore.Store {
	t.Helper()
	log := memstore.New(memstore.Options{})
	addOrders(t, log, 0, n)
	return log
}

// addOrders appends the orders from first to end.
func addOrders(t testing.TB, log *memstore.Store, first, end int) {
	t.Helper()
	types := orders().Types
	for wave := first; wave < end; wave += 100 {
		for _, typ := range types {
			var r eventstore.Request
			for i := wave; i < min(end, wave+100); i++ {
				r.Appends = append(r.Appends, eventstore.StreamAppend{
					Stream: eventstore.Stream("order", strconv.Itoa(536365+i)),
					Events: []eventstore.Event{{Type: typ, Payload: []byte(strconv.Itoa(12000 + i%997))}},
				})
			}
			if _, err := log.Append(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// BenchmarkProject folds a shop's log into a sink: one operation is one event.
func BenchmarkProject(b *testing.B) {
	const events = 60_000
	log := shop(b, events/3)
	run := func(b *testing.B, sink projections.Sink) {
		for n := 0; n < b.N; n += events {
			if err := sink.Reset(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := projections.Replay(b.Context(), log, sink, projections.Cursor{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((b.N+events-1)/events*events)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("memory", func(b *testing.B) { run(b, memview.NewKeys(orders())) })
	b.Run("embedded", func(b *testing.B) {
		run(b, redisview.New(dial(b, embeddedServer(b)), orders(), redisview.Options{}))
	})
	b.Run("real", func(b *testing.B) {
		srv := testenv.SharedRedis(b)
		run(b, redisview.New(dial(b, srv.Addr()), orders(), redisview.Options{Prefix: testenv.Unique(b)}))
	})
}

// BenchmarkRead reads an order as an API does, from many goroutines.
func BenchmarkRead(b *testing.B) {
	log := shop(b, 2000)
	run := func(b *testing.B, view *redisview.View) {
		if err := projections.Replay(b.Context(), log, view, projections.Cursor{}); err != nil {
			b.Fatal(err)
		}
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if _, err := view.Hash(b.Context(), fmt.Sprint("order:", 536365+i%2000)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.Run("embedded", func(b *testing.B) {
		run(b, redisview.New(dial(b, embeddedServer(b)), orders(), redisview.Options{}))
	})
	b.Run("real", func(b *testing.B) {
		srv := testenv.SharedRedis(b)
		run(b, redisview.New(dial(b, srv.Addr()), orders(), redisview.Options{Prefix: testenv.Unique(b)}))
	})
}

// BenchmarkVisible appends one event at a time and waits until a reader can see it: one operation is from the one to the
// other, with a log in memory.
func BenchmarkVisible(b *testing.B) {
	run := func(b *testing.B, view *redisview.View) {
		log := shop(b, 100)
		runner := projections.NewRunner(log, view, projections.Options{})
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- runner.Run(ctx) }()
		if err := runner.Await(ctx, eventstore.Position{Incarnation: 1, LSN: 300}); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			r, err := log.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("order", "536365"), Events: []eventstore.Event{{Type: "order.shipped.v1"}},
			}}})
			if err != nil {
				b.Fatal(err)
			}
			if err := runner.Await(ctx, r.Position); err != nil {
				b.Fatal(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.Run("embedded", func(b *testing.B) {
		run(b, redisview.New(dial(b, embeddedServer(b)), orders(), redisview.Options{}))
	})
	b.Run("real", func(b *testing.B) {
		srv := testenv.SharedRedis(b)
		run(b, redisview.New(dial(b, srv.Addr()), orders(), redisview.Options{Prefix: testenv.Unique(b)}))
	})
}

// BenchmarkDigest reads a model of 20,000 orders and some 1,000 customers back: one operation is the whole of it.
func BenchmarkDigest(b *testing.B) {
	log := shop(b, 20_000)
	run := func(b *testing.B, view *redisview.View) {
		if err := projections.Replay(b.Context(), log, view, projections.Cursor{}); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := view.Digest(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("embedded", func(b *testing.B) {
		run(b, redisview.New(dial(b, embeddedServer(b)), orders(), redisview.Options{}))
	})
	b.Run("real", func(b *testing.B) {
		srv := testenv.SharedRedis(b)
		run(b, redisview.New(dial(b, srv.Addr()), orders(), redisview.Options{Prefix: testenv.Unique(b)}))
	})
}
