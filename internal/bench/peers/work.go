package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// Work is one row of figures.
type Work struct {
	Name string
	// Clients work at once, each waiting for its answer; Batch events go into one append.
	Clients, Batch int
	run            func(ctx context.Context, p Peer, w Work, s settings) (Figures, error)
}

// Figures are what a work gave. For loads the rate is loads a second, for everything else events a second.
type Figures struct {
	Rate      float64 `json:"rate"`
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
	Events    int64   `json:"events"`
}

// settings hold for all works.
type settings struct {
	duration time.Duration
	size     int // bytes of a payload
	streams  int // that the appends go round over
	loaded   int // streams of loadedEvents events for the loads
}

const loadedEvents = 20

// works in the order of the table. The reads come after the appends, whose events they read.
var works = []Work{
	{Name: "append-1", Clients: 1, Batch: 1, run: appends},
	{Name: "append-64", Clients: 64, Batch: 1, run: appends},
	{Name: "append-256", Clients: 256, Batch: 1, run: appends},
	{Name: "append-1024", Clients: 1024, Batch: 1, run: appends},
	{Name: "append-16x100", Clients: 16, Batch: 100, run: appends},
	{Name: "read-all", Clients: 1, run: readAll},
	{Name: "load", Clients: 64, run: loads},
}

// noise returns a payload that nothing on the way can compress.
func noise(size int, seed byte) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

func appends(ctx context.Context, p Peer, w Work, s settings) (Figures, error) {
	type share struct {
		places  []Place
		next    int
		payload [][]byte
	}
	shares := make([]share, w.Clients)
	for i := range shares {
		shares[i].places = make([]Place, max(1, s.streams/w.Clients))
		shares[i].payload = make([][]byte, w.Batch)
		for j := range shares[i].payload {
			shares[i].payload[j] = noise(s.size, byte(i+j))
		}
	}
	return closedLoop(ctx, w.Clients, w.Batch, s.duration, func(ctx context.Context, client int) error {
		c := &shares[client]
		n := c.next % len(c.places)
		c.next++
		at, err := p.Append(ctx, w.Name+"-"+strconv.Itoa(client)+"-"+strconv.Itoa(n), c.places[n], c.payload)
		c.places[n] = at
		return err
	})
}

func readAll(ctx context.Context, p Peer, _ Work, _ settings) (Figures, error) {
	began := time.Now()
	events, err := p.ReadAll(ctx)
	if err != nil {
		return Figures{}, err
	}
	return Figures{Rate: float64(events) / time.Since(began).Seconds(), Events: int64(events)}, nil
}

// loads fills streams of 20 events, then loads whole streams at random.
func loads(ctx context.Context, p Peer, w Work, s settings) (Figures, error) {
	payloads := make([][]byte, loadedEvents)
	for i := range payloads {
		payloads[i] = noise(s.size, byte(i))
	}
	name := func(n int) string { return "loaded-" + strconv.Itoa(n) }
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range 16 {
		g.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= s.loaded {
					return nil
				}
				if _, err := p.Append(gctx, name(n), Place{}, payloads); err != nil {
					return fmt.Errorf("fill stream: %w", err)
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return Figures{}, err
	}
	randoms := make([]*rand.Rand, w.Clients)
	for i := range randoms {
		randoms[i] = rand.New(rand.NewPCG(1, uint64(i)))
	}
	return closedLoop(ctx, w.Clients, 1, s.duration, func(ctx context.Context, client int) error {
		stream := name(randoms[client].IntN(s.loaded))
		n, err := p.Load(ctx, stream)
		if err == nil && n != loadedEvents {
			err = fmt.Errorf("stream %s has %d events, should have %d", stream, n, loadedEvents)
		}
		return err
	})
}

// closedLoop has all clients call once again and again until the time is over.
func closedLoop(ctx context.Context, clients, events int, d time.Duration, once func(ctx context.Context, client int) error) (Figures, error) {
	histograms := make([]*hdrhistogram.Histogram, clients)
	var calls atomic.Int64
	began := time.Now()
	end := began.Add(d)
	g, ctx := errgroup.WithContext(ctx)
	for client := range clients {
		h := hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)
		histograms[client] = h
		g.Go(func() error {
			for now := began; now.Before(end); {
				if err := once(ctx, client); err != nil {
					return err
				}
				calls.Add(1)
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
		return Figures{}, err
	}
	took := time.Since(began).Seconds()
	for _, h := range histograms[1:] {
		histograms[0].Merge(h)
	}
	n := calls.Load() * int64(events)
	return Figures{
		Rate: float64(n) / took, Events: n,
		P50Micros: float64(histograms[0].ValueAtQuantile(50)), P99Micros: float64(histograms[0].ValueAtQuantile(99)),
	}, nil
}
