package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// The benchmarks tell processor time for each event, client and server together: on a machine that others use too, it
// says more than a clock.

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func openBench(b *testing.B) *pebblestore.Store {
	b.Helper()
	store, err := pebblestore.Open(b.TempDir(), &pebblestore.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return store
}

// appends has 256 goroutines share b.N appends to streams of their own.
func appends(b *testing.B, do func(r *eventstore.Request) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	payload := make([]byte, 512)
	var wg sync.WaitGroup
	cpu := cpuTime()
	b.ResetTimer()
	for w := range 256 {
		wg.Go(func() {
			for v := uint64(0); left.Add(-1) >= 0; v++ {
				err := do(&eventstore.Request{ID: fmt.Sprint(w, "-", v), Appends: []eventstore.StreamAppend{{
					Stream: eventstore.Stream("bench", fmt.Sprint(w)), Expect: eventstore.Exactly(v),
					Events: []eventstore.Event{{Type: "bench.happened.v1", Payload: payload}},
				}}})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N)/1000, "cpu-us/append")
}

func BenchmarkAppend(b *testing.B) {
	b.Run("in process", func(b *testing.B) {
		store := openBench(b)
		appends(b, func(r *eventstore.Request) error {
			_, err := store.Append(context.Background(), *r)
			return err
		})
	})
	b.Run("session", func(b *testing.B) {
		c := dial(b, serve(b, "127.0.0.1:0", openBench(b)).addr, nil)
		appends(b, func(r *eventstore.Request) error {
			_, err := c.Append(context.Background(), *r)
			return err
		})
	})
	b.Run("unary", func(b *testing.B) {
		conn, err := grpc.NewClient(serve(b, "127.0.0.1:0", openBench(b)).addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := conn.Close(); err != nil {
				b.Error(err)
			}
		})
		api := storev1.NewEventStoreClient(conn)
		appends(b, func(r *eventstore.Request) error {
			_, err := api.Append(context.Background(), wire.EncodeRequest(r))
			return err
		})
	})
}

func BenchmarkReadAll(b *testing.B) {
	const events = 200_000
	store := openBench(b)
	r := eventstore.Request{}
	for n := range events {
		r.Appends = append(r.Appends, eventstore.StreamAppend{
			Stream: eventstore.Stream("bench", fmt.Sprint(n)), Events: []eventstore.Event{{Type: "bench.happened.v1", Payload: make([]byte, 512)}},
		})
		if len(r.Appends) == 5000 {
			if _, err := store.Append(context.Background(), r); err != nil {
				b.Fatal(err)
			}
			r = eventstore.Request{}
		}
	}
	for name, from := range map[string]eventstore.Reader{"in process": store, "client": dial(b, serve(b, "127.0.0.1:0", store).addr, &client.Options{})} {
		b.Run(name, func(b *testing.B) {
			n, cpu := 0, cpuTime()
			for b.Loop() {
				for _, err := range from.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			if n != events*b.N {
				b.Fatalf("read %d events of %d", n, events*b.N)
			}
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(n), "cpu-ns/event")
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	const streams, length = 5000, 20
	store := openBench(b)
	for n := range streams {
		events := make([]eventstore.Event, length)
		for i := range events {
			events[i] = eventstore.Event{Type: "bench.happened.v1", Payload: make([]byte, 512)}
		}
		r := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("bench", fmt.Sprint(n)), Events: events}}}
		if _, err := store.Append(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
	for name, from := range map[string]eventstore.Reader{"in process": store, "client": dial(b, serve(b, "127.0.0.1:0", store).addr, nil)} {
		b.Run(name, func(b *testing.B) {
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			cpu := cpuTime()
			b.ResetTimer()
			for range 64 {
				wg.Go(func() {
					for {
						k := left.Add(-1)
						if k < 0 {
							return
						}
						n := 0
						for _, err := range from.Read(context.Background(), eventstore.Stream("bench", fmt.Sprint(k%streams)), 1) {
							if err != nil {
								b.Error(err)
								return
							}
							n++
						}
						if n != length {
							b.Errorf("a stream has %d events, want %d", n, length)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N)/1000, "cpu-us/load")
		})
	}
}
