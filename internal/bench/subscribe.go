package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// Subscribers is who follows the log in a measurement of Subscribe.
type Subscribers struct {
	// Live follow as fast as they can; Slow ones rest SlowPause after every chunk.
	Live, Slow int
}

// SlowPause is how long a slow subscriber rests.
const SlowPause = 100 * time.Millisecond

// Subscribe measures how long it takes from an append's call until each live subscriber has its event, while slow ones
// follow too. Clients append in an open loop of Rate a second, an event of at least 8 bytes each.
func Subscribe(ctx context.Context, dir string, l Load, who Subscribers, progress func(done, total int)) (_ Result, err error) {
	store, err := pebblestore.Open(filepath.Join(dir, "store"), nil)
	if err != nil {
		return Result{}, err
	}
	r, err := l.readers(ctx, store)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	following, stop := context.WithCancel(ctx)
	defer stop()
	g, following := errgroup.WithContext(following)
	histograms := make([]*hdrhistogram.Histogram, who.Live+who.Slow)
	subs := make([]eventstore.Subscription, 0, len(histograms))
	defer func() {
		for _, sub := range subs {
			sub.Close()
		}
	}()
	for i := range histograms {
		sub, err := r.readers[i%len(r.readers)].Subscribe(ctx, eventstore.Position{}, eventstore.Filter{})
		if err != nil {
			return Result{}, fmt.Errorf("subscribe: %w", err)
		}
		subs = append(subs, sub)
		histograms[i] = newHistogram()
		g.Go(func() error { return follow(following, sub, histograms[i], i >= who.Live) })
	}
	l.Batch, l.Rounds = 1, 1
	appended, err := l.run(ctx, func(client int) error {
		payload := binary.BigEndian.AppendUint64(make([]byte, 0, l.Size), uint64(time.Now().UnixNano()))
		_, err := store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: benchStream(client), Events: []eventstore.Event{{Type: "bench.happened.v1", Payload: payload[:max(8, l.Size)]}},
		}}})
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("append: %w", err)
	}
	progress(1, 1)
	stop()
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return Result{}, fmt.Errorf("follow: %w", err)
	}
	took := time.Duration(float64(appended.Events) / appended.Rate * float64(time.Second))
	events := int64(0)
	for _, h := range histograms[:who.Live] {
		events += h.TotalCount()
	}
	return l.result([]Side{sideOf(histograms[:who.Live], events, took)}), nil
}

func follow(ctx context.Context, sub eventstore.Subscription, h *hdrhistogram.Histogram, slow bool) error {
	for {
		chunk, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		now := time.Now().UnixNano()
		for i := range chunk.Events {
			called := int64(binary.BigEndian.Uint64(chunk.Events[i].Payload))
			if err := h.RecordValue(max(1, (now-called)/int64(time.Microsecond))); err != nil {
				return err
			}
		}
		if !slow {
			continue
		}
		if err := sleepUntil(ctx, time.Now().Add(SlowPause)); err != nil {
			return err
		}
	}
}
