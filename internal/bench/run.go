package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// run has all clients do their work until the time is over.
func (l Load) run(ctx context.Context, once func(client int) error) (Side, error) {
	times := newLatencies(l.Clients)
	var works, arrivals atomic.Int64
	cpu, err := cpuTime()
	if err != nil {
		return Side{}, err
	}
	begin := time.Now()
	end := begin.Add(l.round())
	g, ctx := errgroup.WithContext(ctx)
	for client := range l.Clients {
		g.Go(func() error {
			for due := begin; ; {
				if l.Rate > 0 {
					due = begin.Add(time.Duration(float64(arrivals.Add(1)-1) / l.Rate * float64(time.Second)))
				}
				if !due.Before(end) || l.enough != nil && l.enough() {
					return nil
				}
				if err := sleepUntil(ctx, due); err != nil {
					return err
				}
				if err := once(client); err != nil {
					return err
				}
				works.Add(1)
				now := time.Now()
				if err := times.record(client, now.Sub(due)); err != nil {
					return err
				}
				due = now
			}
		})
	}
	if err := g.Wait(); err != nil {
		return Side{}, err
	}
	took := time.Since(begin)
	used, err := cpuTime()
	if err != nil {
		return Side{}, err
	}
	side := sideOf(times.all(), works.Load()*int64(l.Batch), took)
	side.CPU = float64((used - cpu).Microseconds()) / float64(max(1, works.Load()))
	return side, nil
}

// cpuTime returns the processor time that this process has taken, in the system's calls too. Unlike a clock it says the
// same on a machine that others use as well.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("ask for processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// sleepUntil returns at a time, at once when that has passed.
func sleepUntil(ctx context.Context, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// latencies are those of all clients. A histogram for each of them would be the simple way: they are 200 KB each, and with a
// thousand clients every record went to memory that no cache has: a twelfth of the processor time of a session's appends.
type latencies []*sharedHistogram

// clientsTogether share a histogram.
const clientsTogether = 64

type sharedHistogram struct {
	mu sync.Mutex // guards h
	h  *hdrhistogram.Histogram
}

func newLatencies(clients int) latencies {
	all := make(latencies, (clients+clientsTogether-1)/clientsTogether)
	for i := range all {
		all[i] = &sharedHistogram{h: newHistogram()}
	}
	return all
}

func (l latencies) record(client int, d time.Duration) error {
	s := l[client/clientsTogether]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.h.RecordValue(max(1, d.Microseconds()))
}

// all returns the histograms. REQUIRES: nobody records any more.
func (l latencies) all() []*hdrhistogram.Histogram {
	out := make([]*hdrhistogram.Histogram, len(l))
	for i, s := range l {
		out[i] = s.h
	}
	return out
}

// newHistogram counts microseconds.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
}

func sideOf(histograms []*hdrhistogram.Histogram, events int64, took time.Duration) Side {
	all := histograms[0]
	for _, h := range histograms[1:] {
		all.Merge(h)
	}
	return Side{
		Rate: float64(events) / took.Seconds(), Events: events,
		P50: float64(all.ValueAtQuantile(50)), P99: float64(all.ValueAtQuantile(99)),
	}
}
