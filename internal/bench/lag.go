package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
)

// lagHeader is what an event of Lag begins with: which measurement it is of, and when its append was called.
const lagHeader = 16 + 8

// lagPatience is how long Lag waits for an event that does not come.
const lagPatience = 30 * time.Second

// LagResult is what Lag found. The latencies of Result are from an append's call at one site until its event is with a reader
// at the other.
type LagResult struct {
	Result

	// AppendP50Micros and AppendP99Micros are from an append's call until its receipt.
	AppendP50Micros float64 `json:"append_p50_us"`
	AppendP99Micros float64 `json:"append_p99_us"`
}

// Lag appends at the server with the gRPC address from, in an open loop of l.Rate a second, an event each, and follows the log at
// the server with the address to. Both are measured by this process's clock. Every event has to come, once.
func Lag(ctx context.Context, from, to string, l Load) (_ LagResult, err error) {
	writer, err := client.Dial(ctx, from, nil)
	if err != nil {
		return LagResult{}, fmt.Errorf("connect to %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	reader, err := client.Dial(ctx, to, nil)
	if err != nil {
		return LagResult{}, fmt.Errorf("connect to %s: %w", to, err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	state, err := reader.Log(ctx)
	if err != nil {
		return LagResult{}, fmt.Errorf("ask %s where its log ends: %w", to, err)
	}
	sub, err := reader.Subscribe(ctx, state.Durable, eventstore.Filter{Categories: []string{lagCategory}})
	if err != nil {
		return LagResult{}, fmt.Errorf("follow the log of %s: %w", to, err)
	}
	defer sub.Close()

	a := arrivals{sub: sub, times: newLatencies(1)}
	if _, err := rand.Read(a.run[:]); err != nil {
		return LagResult{}, fmt.Errorf("draw a name: %w", err)
	}
	l.Batch, l.Rounds = 1, 1
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	appending, end := context.WithCancel(ctx)
	var appended Side
	g.Go(func() (err error) {
		defer end()
		appended, err = l.run(ctx, func(c int) error {
			payload := noise(max(l.Size, lagHeader)) // nothing on the way can compress it
			copy(payload, a.run[:])
			binary.BigEndian.PutUint64(payload[len(a.run):], uint64(time.Now().UnixNano()))
			_, err := writer.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream(lagCategory, fmt.Sprintf("%x-%d", a.run[:4], c)),
				Events: []eventstore.Event{{Type: "bench.lagged.v1", Payload: payload}},
			}}})
			return err
		})
		if err != nil {
			return fmt.Errorf("append at %s: %w", from, err)
		}
		return nil
	})
	g.Go(func() error {
		// How many there are to wait for is known when all are appended.
		for appending.Err() == nil {
			if err := a.next(appending); err != nil && appending.Err() == nil {
				return err
			}
		}
		for ctx.Err() == nil && a.events < appended.Events {
			waiting, cancel := context.WithTimeout(ctx, lagPatience)
			err := a.next(waiting)
			nothing := waiting.Err() != nil && ctx.Err() == nil
			cancel()
			if err != nil && nothing {
				return fmt.Errorf("of %d events %d have come, and nothing for %s: do the two servers replicate (tributary sites status)?", appended.Events, a.events, lagPatience)
			}
			if err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err := g.Wait(); err != nil {
		return LagResult{}, err
	}
	if a.events != appended.Events {
		return LagResult{}, fmt.Errorf("%d events came of %d that were appended", a.events, appended.Events)
	}
	r := l.result([]Side{sideOf(a.times.all(), a.events, time.Since(began))})
	r.GRPC = true
	return LagResult{r, appended.P50, appended.P99}, nil
}

// lagCategory has the streams of Lag.
const lagCategory = "bench"

// arrivals are the events of a measurement as they come to a reader.
type arrivals struct {
	run    [16]byte
	sub    eventstore.Subscription
	times  latencies
	events int64
}

// next takes what comes next. What ends ctx leaves it to come again.
func (a *arrivals) next(ctx context.Context) error {
	chunk, err := a.sub.Next(ctx)
	if err != nil {
		return fmt.Errorf("follow the other site's log: %w", err)
	}
	now := time.Now().UnixNano()
	for i := range chunk.Events {
		p := chunk.Events[i].Payload
		if len(p) < lagHeader || !bytes.Equal(p[:len(a.run)], a.run[:]) {
			continue // of somebody else
		}
		called := int64(binary.BigEndian.Uint64(p[len(a.run):]))
		if err := a.times.record(0, time.Duration(now-called)); err != nil {
			return err
		}
		a.events++
	}
	return nil
}
