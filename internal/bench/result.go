package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
)

// Result is what a measurement other than Append's found.
type Result struct {
	// Rate is in events a second; for loads in loads.
	Rate      float64 `json:"rate"`
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
	Events    int64   `json:"events"`
	// CPUMicros is the processor time of this process for each append or load, clients and server
	// together; left out where it was not measured.
	CPUMicros float64 `json:"cpu_us,omitempty"`
	// EchoRate is in calls a second that are answered at once with as many bytes, EchoRatio what Rate is of it; both are
	// medians over the rounds, and left out where they were not measured.
	EchoRate  float64 `json:"echo_rate,omitempty"`
	EchoRatio float64 `json:"echo_ratio,omitempty"`
	GRPC      bool    `json:"grpc,omitempty"`
	Seconds   float64 `json:"seconds"`
	Cores     int     `json:"cores"`
}

func (l *Load) result(sides []Side) Result {
	s := medianSide(sides)
	return Result{
		Rate: s.Rate, P50Micros: s.P50, P99Micros: s.P99, CPUMicros: s.CPU, Events: s.Events,
		GRPC: l.GRPC, Seconds: l.Duration.Seconds(), Cores: runtime.GOMAXPROCS(0),
	}
}

// reading is a store that readers share, itself or through clients of a server.
type reading struct {
	store   *pebblestore.Store
	readers []eventstore.Store
	close   func() error
}

// openFilled opens a store in dir with events of size bytes, which go over the streams in turn.
func openFilled(ctx context.Context, dir string, o *pebblestore.Options, l *Load, events int, progress func(done, total int)) (*reading, error) {
	store, err := pebblestore.Open(filepath.Join(dir, "store"), o)
	if err != nil {
		return nil, err
	}
	if err := fill(ctx, store, events, l.Streams, l.Size, progress); err != nil {
		return nil, errors.Join(fmt.Errorf("fill the store: %w", err), store.Close())
	}
	return l.readers(ctx, store)
}

func (l *Load) readers(ctx context.Context, store *pebblestore.Store) (*reading, error) {
	r := &reading{store: store, readers: []eventstore.Store{store}, close: store.Close}
	if !l.GRPC {
		return r, nil
	}
	serving, err := serveStore(ctx, store, store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	r.readers = nil
	r.close = func() error {
		var errs []error
		for _, c := range r.readers {
			errs = append(errs, c.Close())
		}
		return errors.Join(append(errs, serving.close(), store.Close())...)
	}
	for range connections {
		c, err := client.Dial(ctx, serving.addr, nil)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.readers = append(r.readers, c)
	}
	return r, nil
}

// fillTogether is how many events one request fills in with.
const fillTogether = 5000

func fill(ctx context.Context, store *pebblestore.Store, events, streams, size int, progress func(done, total int)) error {
	payload := noise(size)
	for done := 0; done < events; progress(done, events) {
		var r eventstore.Request
		for range min(fillTogether, events-done, streams) {
			e := eventstore.Event{Type: "bench.happened.v1", Payload: payload}
			r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: benchStream(done % streams), Events: []eventstore.Event{e}})
			done++
		}
		if _, err := store.Append(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func benchStream(i int) eventstore.StreamID {
	return eventstore.Stream("bench", fmt.Sprintf("stream-%06d", i))
}
