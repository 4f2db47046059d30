package commands_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// BenchmarkDispatch decides and appends one event in memory.
func BenchmarkDispatch(b *testing.B) {
	for _, c := range []struct {
		name string
		meta func(n int64) commands.Meta
		id   func(n int64) string
	}{
		{"new streams", func(int64) commands.Meta { return commands.Meta{} }, func(n int64) string { return fmt.Sprint(n) }},
		{"warm streams", func(int64) commands.Meta { return commands.Meta{} }, func(n int64) string { return fmt.Sprint(n % 1000) }},
		{"idempotent", func(n int64) commands.Meta { return commands.Meta{ID: fmt.Sprint(n)} }, func(n int64) string { return fmt.Sprint(n % 1000) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			store := memstore.New(memstore.Options{})
			defer store.Close()
			bus := newBank(b, store, commands.Options{})
			var n atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					i := n.Add(1)
					if _, err := bus.Dispatch(context.Background(), c.meta(i), deposit{c.id(i), 1}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// groupCommit answers appends as a disk does: all that came while it was busy together, each time after a sync.
type groupCommit struct {
	eventstore.Store
	sync time.Duration

	mu   sync.Mutex // guards next
	next *group
}

type group struct{ done chan struct{} }

func (g *groupCommit) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	receipt, err := g.Store.Append(ctx, r)
	g.mu.Lock()
	mine := g.next
	if mine == nil {
		mine = &group{done: make(chan struct{})}
		g.next = mine
		time.AfterFunc(g.sync, func() {
			g.mu.Lock()
			g.next = nil
			g.mu.Unlock()
			close(mine.done)
		})
	}
	g.mu.Unlock()
	<-mine.done
	return receipt, err
}

// BenchmarkHotStream has 16 dispatchers write to streams of which one is in every message, on a disk that syncs in a
// millisecond. The hot stream can take one message per sync and no more; what is measured is that it does take those.
func BenchmarkHotStream(b *testing.B) {
	for _, c := range []struct {
		name string
		cmds func(n int64) []any
	}{
		{"one stream", func(int64) []any { return []any{deposit{"hot", 1}} }},
		{"hot and 20 of 4000", func(n int64) []any {
			cmds := []any{deposit{"hot", 1}}
			for i := range int64(20) {
				cmds = append(cmds, deposit{fmt.Sprint((n*7919 + i*104729) % 4000), 1})
			}
			return cmds
		}},
		{"20 of 4000", func(n int64) []any {
			var cmds []any
			for i := range int64(20) {
				cmds = append(cmds, deposit{fmt.Sprint((n*7919 + i*104729) % 4000), 1})
			}
			return cmds
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			store := memstore.New(memstore.Options{})
			defer store.Close()
			bus := newBank(b, &groupCommit{Store: store, sync: time.Millisecond}, commands.Options{})
			var n, slowest atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range 16 {
				wg.Go(func() {
					for {
						i := n.Add(1)
						if i > int64(b.N) {
							return
						}
						start := time.Now()
						if _, err := bus.Dispatch(context.Background(), commands.Meta{}, c.cmds(i)...); err != nil {
							b.Error(err)
						}
						if took := int64(time.Since(start)); took > slowest.Load() {
							slowest.Store(took)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(slowest.Load())/1e6, "slowest-ms")
			b.ReportMetric(float64(bus.Stats().Conflicts), "conflicts")
		})
	}
}

// BenchmarkHotTag has 16 dispatchers decide over one tag, on disk: with a cap, each has to see what the one before it did,
// which is one message per sync; without one they do not wait for each other.
func BenchmarkHotTag(b *testing.B) {
	for _, capped := range []bool{true, false} {
		b.Run(fmt.Sprintf("cap=%v", capped), func(b *testing.B) {
			store, err := pebblestore.Open(b.TempDir(), nil)
			must(b, err)
			defer store.Close()
			bus := newVault(b, store, commands.Options{})
			if capped {
				dispatch(b, bus, commands.Meta{}, setCap{1 << 40})
			}
			var n atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range 16 {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						if _, err := bus.Dispatch(context.Background(), commands.Meta{}, expectDeposit{1}, deposit{fmt.Sprint(i), 1}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(bus.Stats().Conflicts), "conflicts")
		})
	}
}
