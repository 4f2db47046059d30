package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// run has all clients do their work until the time is over.
func (l Load) run(ctx context.Context, once func(client int) error) (Side, error) {
	histograms := make([]*hdrhistogram.Histogram, l.Clients)
	var works, arrivals atomic.Int64
	cpu, err := cpuTime()
	if err != nil {
		return Side{}, err
	}
	begin := time.Now()
	end := begin.Add(l.round())
	g, ctx := errgroup.WithContext(ctx)
	for client := range l.Clients {
		h := newHistogram()
		histograms[client] = h
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
				if err := h.RecordValue(max(1, now.Sub(due).Microseconds())); err != nil {
					return err
				}
				due = now
			}
		})
	}
	if err := g.Wait(); err != nil {
		return Side{}, err
	}
	side := sideOf(histograms, works.Load()*int64(l.Batch), time.Since(begin))
	used, err := cpuTime()
	if err != nil {
		return Side{}, err
	}
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
