// Package bench measures the store against the limit of the disk under it.
package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/bench/rawlog"
)

// Load is what a measurement does: Clients append at once, each to a stream of its own with the expected version, Batch
// events of Size bytes at a time, and wait for the receipt.
type Load struct {
	Clients int           `json:"clients"`
	Batch   int           `json:"batch"`
	Size    int           `json:"size"`
	Time    time.Duration `json:"-"`
	Rounds  int           `json:"rounds"`
}

// Side is how one of the two did, medians over the rounds. Rate is in events a second, latencies in milliseconds.
type Side struct {
	Rate float64 `json:"rate"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
}

// AppendResult is what Append found.
type AppendResult struct {
	Load
	Store Side `json:"store"`
	// Raw is a plain file with group commit and one fdatasync a group.
	Raw Side `json:"raw"`
	// Ratio is the median over the rounds of store to raw, each pair measured one right after the other.
	Ratio  float64   `json:"ratio"`
	Ratios []float64 `json:"ratios"`
	Cores  int       `json:"cores"`
}

// Append measures durable appends in process: rounds of the store and of a raw file in turn, on the disk of dir.
func Append(ctx context.Context, dir string, l Load, progress func(done int)) (AppendResult, error) {
	out := AppendResult{Load: l, Cores: runtime.GOMAXPROCS(0)}
	var store, raw []Side
	for round := range l.Rounds {
		s, err := storeRound(ctx, filepath.Join(dir, fmt.Sprintf("store-%d", round)), l)
		if err != nil {
			return out, fmt.Errorf("measure the store: %w", err)
		}
		progress(2*round + 1)
		r, err := rawRound(ctx, filepath.Join(dir, fmt.Sprintf("raw-%d", round)), l)
		if err != nil {
			return out, fmt.Errorf("measure the raw file: %w", err)
		}
		progress(2*round + 2)
		store, raw = append(store, s), append(raw, r)
		out.Ratios = append(out.Ratios, s.Rate/r.Rate)
	}
	out.Store, out.Raw = medianSide(store), medianSide(raw)
	out.Ratio = median(out.Ratios, func(x float64) float64 { return x })
	return out, nil
}

func storeRound(ctx context.Context, dir string, l Load) (_ Side, err error) {
	store, err := pebblestore.Open(dir, nil)
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	payload := make([]byte, l.Size)
	versions := make([]uint64, l.Clients)
	return l.run(ctx, func(client int) error {
		events := make([]eventstore.Event, l.Batch)
		for i := range events {
			events[i] = eventstore.Event{Type: "bench.happened.v1", Payload: payload}
		}
		_, err := store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("bench", fmt.Sprint(client)), Expect: eventstore.Exactly(versions[client]), Events: events,
		}}})
		versions[client] += uint64(l.Batch)
		return err
	})
}

func rawRound(ctx context.Context, path string, l Load) (_ Side, err error) {
	log, err := rawlog.Create(path)
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	record := make([]byte, l.Batch*l.Size)
	return l.run(ctx, func(int) error { return log.Append(record) })
}

// run has all clients append until the time is over.
func (l Load) run(ctx context.Context, appendOnce func(client int) error) (Side, error) {
	histograms := make([]*hdrhistogram.Histogram, l.Clients)
	var appends atomic.Int64
	begin := time.Now()
	end := begin.Add(l.Time)
	g, ctx := errgroup.WithContext(ctx)
	for client := range l.Clients {
		h := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
		histograms[client] = h
		g.Go(func() error {
			for now := begin; now.Before(end); {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := appendOnce(client); err != nil {
					return err
				}
				appends.Add(1)
				next := time.Now()
				if err := h.RecordValue(max(1, next.Sub(now).Microseconds())); err != nil {
					return err
				}
				now = next
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Side{}, err
	}
	took := time.Since(begin).Seconds()
	all := histograms[0]
	for _, h := range histograms[1:] {
		all.Merge(h)
	}
	return Side{
		Rate: float64(appends.Load()) * float64(l.Batch) / took,
		P50:  float64(all.ValueAtQuantile(50)) / 1000, P99: float64(all.ValueAtQuantile(99)) / 1000,
	}, nil
}

func medianSide(sides []Side) Side {
	return Side{
		Rate: median(sides, func(s Side) float64 { return s.Rate }),
		P50:  median(sides, func(s Side) float64 { return s.P50 }),
		P99:  median(sides, func(s Side) float64 { return s.P99 }),
	}
}

func median[T any](values []T, of func(T) float64) float64 {
	sorted := make([]float64, len(values))
	for i, v := range values {
		sorted[i] = of(v)
	}
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
