package pebblestore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// audience is many subscribers of one store, each on a goroutine of its own.
type audience struct {
	work   sync.WaitGroup
	stop   context.CancelFunc
	seen   atomic.Uint64 // events, by all of them
	chunks atomic.Uint64
}

// subscribers follows the store from its end. Those whose number is divisible by stalled take one chunk and then no more.
func subscribers(tb testing.TB, s *pebblestore.Store, n, stalled int, look func(subscriber int, c eventstore.Chunk)) *audience {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	a := &audience{stop: cancel}
	state, err := s.Log(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		sub, err := s.Subscribe(ctx, state.Durable, eventstore.Filter{MaxChunk: 64})
		if err != nil {
			tb.Fatal(err)
		}
		a.work.Go(func() {
			defer sub.Close()
			for {
				c, err := sub.Next(ctx)
				if err != nil {
					return
				}
				a.chunks.Add(1)
				a.seen.Add(uint64(len(c.Events)))
				look(i, c)
				if stalled > 0 && i%stalled == 0 {
					<-ctx.Done()
				}
				runtime.KeepAlive(c)
			}
		})
	}
	return a
}

func (a *audience) leave() {
	a.stop()
	a.work.Wait()
}

// BenchmarkAppendBeforeAnAudience measures appends while many follow the log, one in ten of them stalled.
func BenchmarkAppendBeforeAnAudience(b *testing.B) {
	for _, n := range []int{0, 100, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, err := pebblestore.Open(filepath.Join(b.TempDir(), "store"), &pebblestore.Options{Logger: quiet})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			a := subscribers(b, s, n, 10, func(int, eventstore.Chunk) {})
			defer a.leave()
			const clients = 64
			payload := make([]byte, 512)
			var next atomic.Int64
			var writers sync.WaitGroup
			b.ResetTimer()
			began := time.Now()
			for w := range clients {
				writers.Go(func() {
					for next.Add(1) <= int64(b.N) {
						_, err := s.Append(b.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
							Stream: eventstore.Stream("order", fmt.Sprint(w)), Events: []eventstore.Event{{Type: "order.changed.v1", Payload: payload}},
						}}})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			took := time.Since(began).Seconds()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/took, "events/s")
			if n > 0 {
				b.ReportMetric(float64(a.chunks.Load())/float64(n)/took, "wakes/s/sub")
				b.ReportMetric(float64(a.seen.Load())/took, "seen/s")
			}
		})
	}
}

// TestThousandsOfSubscribers shows S8 and S9 for 5,000 at once, one in ten of which are stalled: those that follow see every
// event once, in order, and none takes more memory than a chunk and its goroutine.
func TestThousandsOfSubscribers(t *testing.T) {
	const count, stalled, appends, each = 5000, 10, 100, 3
	s, err := pebblestore.Open(filepath.Join(t.TempDir(), "store"), &pebblestore.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before := heap()
	at := make([]uint64, count)
	var left atomic.Int64
	left.Store(count - count/stalled)
	done := make(chan struct{})
	a := subscribers(t, s, count, stalled, func(i int, c eventstore.Chunk) {
		for j := range c.Events {
			if e := &c.Events[j]; e.Position.LSN != at[i]+1 {
				t.Errorf("subscriber %d has %s after lsn %d", i, e.Position, at[i])
			}
			at[i]++
		}
		if at[i] == appends*each && i%stalled != 0 && left.Add(-1) == 0 {
			close(done)
		}
	})
	defer a.leave()
	payload := make([]byte, 512)
	for range appends {
		r := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("order", "1")}}}
		for range each {
			r.Appends[0].Events = append(r.Appends[0].Events, eventstore.Event{Type: "order.changed.v1", Payload: payload})
		}
		if _, err := s.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%d subscribers have not seen everything", left.Load())
	}
	if taken := (heap() - before) / count; taken > 256<<10 {
		t.Errorf("a subscriber takes %d bytes, want at most 256 KiB", taken)
	} else {
		t.Logf("a subscriber takes %d bytes", taken)
	}
}

// A subscriber that stands still has no more than 256 KiB in its hands, whatever the size of the events and wherever they
// come from, unless it asked for more. Shows S9.
func TestStalledSubscribersHoldLittle(t *testing.T) {
	const count = 100
	for _, size := range []int{10, 500, 8 << 10} {
		for from, tail := range map[string]int{"disk": 1, "memory": 64 << 20} {
			s, err := pebblestore.Open(filepath.Join(t.TempDir(), "store"), &pebblestore.Options{Logger: quiet, TailBytes: tail})
			if err != nil {
				t.Fatal(err)
			}
			r := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("order", "1"), Events: make([]eventstore.Event, 10)}}}
			for range 200 {
				for i := range r.Appends[0].Events {
					r.Appends[0].Events[i] = eventstore.Event{Type: "order.changed.v1", Payload: make([]byte, size)}
				}
				if _, err := s.Append(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			before, held, events := heap(), make([]eventstore.Chunk, count), 0
			for i := range held {
				// The second has a filter, and so nothing that is shared.
				sub, err := s.Subscribe(t.Context(), eventstore.Position{}, eventstore.Filter{Categories: []string{"order", "other"}[:2*(i%2)]})
				if err != nil {
					t.Fatal(err)
				}
				defer sub.Close()
				if held[i], err = sub.Next(t.Context()); err != nil {
					t.Fatal(err)
				}
				events += len(held[i].Events)
			}
			if taken := (heap() - before) / count; taken > 256<<10 || events < 10*count {
				t.Errorf("events of %d bytes from %s: a subscriber holds %d bytes for %d events, want at most 256 KiB", size, from, taken, events/count)
			} else {
				t.Logf("events of %d bytes from %s: a subscriber holds %d bytes for %d events", size, from, taken, events/count)
			}
			runtime.KeepAlive(held)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// heap returns the bytes of the heap and of the stacks after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
