package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// readStep is how many events a latency of Read is of.
const readStep = 1000

// Read measures how fast one reader that keeps no payload gets the whole log, over and over. Latencies are those of a thousand
// events.
func Read(ctx context.Context, dir string, l Load, events int, progress func(done, total int)) (_ Result, err error) {
	r, err := openFilled(ctx, dir, nil, &l, events, progress)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	var sides []Side
	for range l.Rounds {
		s, err := readRound(ctx, r.readers[0], l.round(), events)
		if err != nil {
			return Result{}, fmt.Errorf("read: %w", err)
		}
		sides = append(sides, s)
	}
	return l.result(sides), nil
}

func readRound(ctx context.Context, from eventstore.Store, d time.Duration, events int) (Side, error) {
	h := newHistogram()
	begin := time.Now()
	total := 0
	for time.Since(begin) < d {
		n, last := 0, time.Now()
		for _, err := range from.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Lent: true}) {
			if err != nil {
				return Side{}, err
			}
			if n++; n%readStep == 0 {
				now := time.Now()
				if err := h.RecordValue(max(1, now.Sub(last).Microseconds())); err != nil {
					return Side{}, err
				}
				last = now
			}
		}
		if n != events {
			return Side{}, fmt.Errorf("%d events came, of %d", n, events)
		}
		total += n
	}
	return sideOf([]*hdrhistogram.Histogram{h}, int64(total), time.Since(begin)), nil
}

// loadCache is the cache of the store whose streams are loaded.
const loadCache = 512 << 20

// Loads measures reading whole streams of length events, chosen at random; over gRPC also calls that are answered at once
// with as many bytes as a stream has.
func Loads(ctx context.Context, dir string, l Load, length int, progress func(done, total int)) (_ Result, err error) {
	r, err := openFilled(ctx, dir, &pebblestore.Options{CacheBytes: loadCache}, &l, l.Streams*length, progress)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	l.Batch = 1
	var sides, echoes []Side
	var ratios []float64
	for range l.Rounds {
		s, err := l.run(ctx, func(client int) error { return loadOne(ctx, r.readers[client%len(r.readers)], l.Streams, length) })
		if err != nil {
			return Result{}, fmt.Errorf("load streams: %w", err)
		}
		sides = append(sides, s)
		if !l.GRPC {
			continue
		}
		e, err := echoRound(ctx, l, wrapperspb.Bytes(noise(l.Size*length)))
		if err != nil {
			return Result{}, fmt.Errorf("measure an empty call: %w", err)
		}
		echoes = append(echoes, e)
		ratios = append(ratios, s.Rate/e.Rate)
	}
	out := l.result(sides)
	if len(echoes) > 0 {
		out.EchoRate, out.EchoRatio = medianSide(echoes).Rate, medianOf(ratios)
	}
	return out, nil
}

func loadOne(ctx context.Context, from eventstore.Store, streams, length int) error {
	n := 0
	for _, err := range from.Read(ctx, benchStream(rand.IntN(streams)), 1) {
		if err != nil {
			return err
		}
		n++
	}
	if n != length {
		return fmt.Errorf("a stream has %d events, want %d", n, length)
	}
	return nil
}
