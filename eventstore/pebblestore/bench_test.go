package pebblestore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/bench/rawlog"
)

const payloadBytes = 512

// BenchmarkAppend appends with an expected version, each client to a stream of its own, and does the same against a raw
// file with group-commit fdatasync right after: "raw/s" is the file's rate, "ratio" ours as a share of it. With a condition,
// each client's events carry a tag of its own, and no other event may have come with it since the client's last.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		clients, events int
		condition       bool
	}{{1, 1, false}, {64, 1, false}, {64, 1, true}, {1024, 1, false}, {16, 100, false}} {
		b.Run(fmt.Sprintf("clients=%d/events=%d/condition=%t", c.clients, c.events, c.condition), func(b *testing.B) {
			store := openBench(b, nil)
			ours, cpu := load{clients: c.clients, events: c.events, n: b.N}, cpuTime()
			versions := make([]uint64, c.clients)
			after := make([]eventstore.Position, c.clients)
			b.ResetTimer()
			ours.run(b, func(client int) error {
				events := make([]eventstore.Event, c.events)
				for i := range events {
					events[i] = eventstore.Event{Type: "bench.happened.v1", Payload: payload}
				}
				r := eventstore.Request{Appends: []eventstore.StreamAppend{{
					Stream: benchStream(client), Expect: eventstore.Exactly(versions[client]), Events: events,
				}}}
				if c.condition {
					tags := []string{fmt.Sprint("client:", client)}
					for i := range events {
						events[i].Tags = tags
					}
					r.Condition = &eventstore.Condition{Query: eventstore.Query{{Tags: tags}}, After: after[client]}
				}
				receipt, err := store.Append(context.Background(), r)
				versions[client] += uint64(c.events)
				after[client] = receipt.Position
				return err
			})
			b.StopTimer()
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N*c.events), "cpu-ns/event")

			raw, err := rawlog.Create(filepath.Join(b.TempDir(), "raw"))
			if err != nil {
				b.Fatal(err)
			}
			defer raw.Close()
			record := make([]byte, c.events*payloadBytes)
			theirs := load{clients: c.clients, events: c.events, n: b.N}
			theirs.run(b, func(int) error { return raw.Append(record) })

			b.ReportMetric(ours.rate(), "events/s")
			b.ReportMetric(ours.p99(), "p99-ms")
			b.ReportMetric(theirs.rate(), "raw/s")
			b.ReportMetric(theirs.p99(), "raw-p99-ms")
			b.ReportMetric(ours.rate()/theirs.rate(), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// load is n calls by many clients at once.
type load struct {
	clients, events, n int
	took               time.Duration
	latencies          *hdrhistogram.Histogram // microseconds
}

func (l *load) run(b *testing.B, call func(client int) error) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(l.n))
	l.latencies = hdrhistogram.New(1, 60_000_000, 3)
	// A histogram is 200 KB: one for each of a thousand clients would be a quarter of the processor time, for memory that no
	// cache has.
	const together = 64
	shared := make([]struct {
		sync.Mutex
		*hdrhistogram.Histogram
	}, (l.clients+together-1)/together)
	for i := range shared {
		shared[i].Histogram = hdrhistogram.New(1, 60_000_000, 3)
	}
	start := time.Now()
	for client := range l.clients {
		wg.Go(func() {
			own := &shared[client/together]
			for left.Add(-1) >= 0 {
				began := time.Now()
				if err := call(client); err != nil {
					b.Error(err)
					return
				}
				took := time.Since(began)
				own.Lock()
				_ = own.RecordValue(took.Microseconds())
				own.Unlock()
			}
		})
	}
	wg.Wait()
	l.took = time.Since(start)
	for i := range shared {
		l.latencies.Merge(shared[i].Histogram)
	}
}

func (l *load) rate() float64 { return float64(l.n*l.events) / l.took.Seconds() }
func (l *load) p99() float64  { return float64(l.latencies.ValueAtQuantile(99)) / 1000 }

// BenchmarkReadAll reads a whole log of 512-byte events, whose payloads may be kept or are lent.
func BenchmarkReadAll(b *testing.B) {
	const events = 500_000
	store := openBench(b, nil)
	fill(b, store, events, 1)
	for _, lent := range []bool{false, true} {
		b.Run(fmt.Sprintf("events=%d/lent=%t", events, lent), func(b *testing.B) {
			n, cpu := 0, cpuTime()
			for b.Loop() {
				for _, err := range store.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{Lent: lent}) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			if n != events*b.N {
				b.Fatalf("read %d events of %d", n, events*b.N)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(n), "cpu-ns/event")
		})
	}
}

// BenchmarkLoad reads whole streams of 20 events out of 50,000 that were written in turn, with 64 clients.
func BenchmarkLoad(b *testing.B) {
	const streams, length = 50_000, 20
	dir := b.TempDir()
	for _, mb := range []int64{32, 512} {
		store := openBenchIn(b, dir, &pebblestore.Options{CacheBytes: mb << 20})
		if state, err := store.Log(context.Background()); err != nil || state.Seq == 0 {
			fill(b, store, streams*length, streams)
		}
		b.Run(fmt.Sprintf("cache=%dMB", mb), func(b *testing.B) {
			l, cpu := load{clients: 64, events: 1, n: b.N}, cpuTime()
			l.run(b, func(int) error {
				n := 0
				for _, err := range store.Read(context.Background(), benchStream(rand.IntN(streams)), 1) {
					if err != nil {
						return err
					}
					n++
				}
				if n != length {
					return fmt.Errorf("stream has %d events, want %d", n, length)
				}
				return nil
			})
			b.ReportMetric(l.rate(), "loads/s")
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-us/load")
			b.ReportMetric(l.p99(), "p99-ms")
		})
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime is what the process has used of its processors. On a machine that others use too, it tells more than a clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var payload = func() []byte {
	p := make([]byte, payloadBytes)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return p
}()

func benchStream(i int) eventstore.StreamID {
	return eventstore.Stream("bench", fmt.Sprintf("stream-%06d", i))
}

func openBench(b *testing.B, o *pebblestore.Options) *pebblestore.Store {
	b.Helper()
	return openBenchIn(b, b.TempDir(), o)
}

func openBenchIn(b *testing.B, dir string, o *pebblestore.Options) *pebblestore.Store {
	b.Helper()
	if o == nil {
		o = &pebblestore.Options{}
	}
	o.Logger = quiet
	store, err := pebblestore.Open(dir, o)
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

// fill appends events to streams in turn, 5,000 with a request.
func fill(b *testing.B, store *pebblestore.Store, events, streams int) {
	b.Helper()
	const together = 5000
	for done := 0; done < events; {
		var r eventstore.Request
		for range min(together, events-done) {
			e := eventstore.Event{Type: "bench.happened.v1", Payload: payload}
			if streams == 1 && len(r.Appends) == 1 {
				r.Appends[0].Events = append(r.Appends[0].Events, e)
			} else {
				r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: benchStream(done % streams), Events: []eventstore.Event{e}})
			}
			done++
		}
		if _, err := store.Append(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}
