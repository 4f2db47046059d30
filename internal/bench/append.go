// Package bench measures the store against the limit of the disk under it.
package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/bench/rawlog"
)

// Load is what a measurement does: Clients append at once, each waiting for its receipt, Batch events of Size bytes at a
// time, with a request id, the expected version and metadata. They go round over Streams streams, which every client has
// its own share of.
type Load struct {
	Clients int `json:"clients"`
	Batch   int `json:"batch"`
	Size    int `json:"size"`
	Streams int `json:"streams"`
	// Rounds share Duration evenly.
	Rounds   int           `json:"rounds"`
	Duration time.Duration `json:"-"`
	// Raw has a raw file with group commit and one fdatasync a group measured too, in turn with the store.
	Raw bool `json:"-"`
}

// Validate says what is wrong with a load.
func (l *Load) Validate() error {
	switch {
	case l.Clients < 1 || l.Batch < 1 || l.Size < 1 || l.Rounds < 1:
		return errors.New("--clients, --batch, --size and --rounds are at least 1")
	case l.Streams < l.Clients:
		return fmt.Errorf("--streams %d is too few for --clients %d, of which each has its own", l.Streams, l.Clients)
	case l.round() < 50*time.Millisecond:
		return fmt.Errorf("--duration %s is too short for --rounds %d of 50 ms at least", l.Duration, l.Rounds)
	}
	return nil
}

func (l *Load) round() time.Duration { return l.Duration / time.Duration(l.Rounds) }

// Side is how one of the two did: rate and latencies are medians over the rounds, events their sum.
type Side struct {
	Rate   float64 // events a second
	P50    float64 // microseconds
	P99    float64 // microseconds
	Events int64
}

// AppendResult is what Append found. The fields of the raw file are left out where it was not measured.
type AppendResult struct {
	Load
	Rate      float64 `json:"rate"` // events a second
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
	Events    int64   `json:"events"`

	RawRate      float64 `json:"raw_rate,omitempty"`
	RawP50Micros float64 `json:"raw_p50_us,omitempty"`
	RawP99Micros float64 `json:"raw_p99_us,omitempty"`
	// Ratio is the median over the rounds of store to raw, each pair measured one right after the other.
	Ratio  float64   `json:"ratio,omitempty"`
	Ratios []float64 `json:"ratios,omitempty"`

	Seconds float64 `json:"seconds"` // measured of each side
	Cores   int     `json:"cores"`
}

// Append measures durable appends in process on the disk of dir.
func Append(ctx context.Context, dir string, l Load, progress func(done, total int)) (AppendResult, error) {
	out := AppendResult{Load: l, Seconds: l.Duration.Seconds(), Cores: runtime.GOMAXPROCS(0)}
	steps, done := l.Rounds, 0
	if l.Raw {
		steps *= 2
	}
	step := func() { done++; progress(done, steps) }
	var store, raw []Side
	for round := range l.Rounds {
		s, err := storeRound(ctx, filepath.Join(dir, fmt.Sprintf("store-%d", round)), l)
		if err != nil {
			return out, fmt.Errorf("measure the store: %w", err)
		}
		step()
		store = append(store, s)
		if !l.Raw {
			continue
		}
		r, err := rawRound(ctx, filepath.Join(dir, fmt.Sprintf("raw-%d", round)), l)
		if err != nil {
			return out, fmt.Errorf("measure the raw file: %w", err)
		}
		step()
		raw = append(raw, r)
		out.Ratios = append(out.Ratios, s.Rate/r.Rate)
	}
	s := medianSide(store)
	out.Rate, out.P50Micros, out.P99Micros, out.Events = s.Rate, s.P50, s.P99, s.Events
	if l.Raw {
		r := medianSide(raw)
		out.RawRate, out.RawP50Micros, out.RawP99Micros = r.Rate, r.P50, r.P99
		out.Ratio = median(out.Ratios, func(x float64) float64 { return x })
	}
	return out, nil
}

// writer is a client that appends to its share of the streams.
type writer struct {
	store    *pebblestore.Store
	name     string
	load     *Load
	payload  []byte
	versions []uint64
	sent     int
}

func newWriter(store *pebblestore.Store, client int, l *Load) *writer {
	w := &writer{store: store, name: strconv.Itoa(client), load: l, payload: make([]byte, l.Size), versions: make([]uint64, l.Streams/l.Clients)}
	// Noise, so that nothing on the way can compress it.
	random := rand.NewChaCha8([32]byte{byte(client), byte(client >> 8)})
	_, _ = random.Read(w.payload) // never fails
	return w
}

func (w *writer) append(ctx context.Context) error {
	n := w.sent % len(w.versions)
	w.sent++
	events := make([]eventstore.Event, w.load.Batch)
	for i := range events {
		events[i] = eventstore.Event{Type: "bench.happened.v1", Payload: w.payload}
	}
	id := w.name + "-" + strconv.Itoa(w.sent)
	_, err := w.store.Append(ctx, eventstore.Request{
		ID: id, Metadata: eventstore.Metadata{Causation: id, Correlation: id, Actor: "bench"},
		Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("bench", w.name+"-"+strconv.Itoa(n)), Expect: eventstore.Exactly(w.versions[n]), Events: events,
		}},
	})
	w.versions[n] += uint64(w.load.Batch)
	return err
}

func storeRound(ctx context.Context, dir string, l Load) (_ Side, err error) {
	store, err := pebblestore.Open(dir, nil)
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	writers := make([]*writer, l.Clients)
	for client := range writers {
		writers[client] = newWriter(store, client, &l)
	}
	return l.run(ctx, func(client int) error { return writers[client].append(ctx) })
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
	end := begin.Add(l.round())
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
	events := appends.Load() * int64(l.Batch)
	return Side{
		Rate: float64(events) / took, Events: events,
		P50: float64(all.ValueAtQuantile(50)), P99: float64(all.ValueAtQuantile(99)),
	}, nil
}

func medianSide(sides []Side) Side {
	var events int64
	for _, s := range sides {
		events += s.Events
	}
	return Side{
		Events: events,
		Rate:   median(sides, func(s Side) float64 { return s.Rate }),
		P50:    median(sides, func(s Side) float64 { return s.P50 }),
		P99:    median(sides, func(s Side) float64 { return s.P99 }),
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
