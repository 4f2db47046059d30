package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/bench"
)

// benchSessionCmd measures a pipelined session.
type benchSessionCmd struct {
	InFlight int           `help:"Appends in flight." default:"256"`
	Batch    int           `help:"Events in an append." default:"1"`
	Size     int           `help:"Bytes of an event's payload." default:"512"`
	Streams  int           `help:"Streams that are appended to in turn." default:"100000"`
	Duration time.Duration `help:"How long is measured." default:"9s"`
	Rounds   int           `help:"Parts of that time, each with a new store; medians are the result." default:"3"`
	Addr     string        `help:"gRPC address of a running server, in place of one in this process." placeholder:"HOST:PORT"`
	Rate     float64       `help:"Open loop: so many appends a second; 0 is a closed loop."`
	benchFolder
}

// Run measures and prints rate and latencies.
func (c *benchSessionCmd) Run(ctx context.Context, g *globals) error {
	load := bench.Load{
		Clients: c.InFlight, Batch: c.Batch, Size: c.Size, Streams: c.Streams, Rounds: c.Rounds, Duration: c.Duration,
		GRPC: true, Addr: c.Addr, Rate: c.Rate,
	}
	return measured(g, &c.benchFolder, "session", "rounds", load, "append", func(dir string, progress func(done, total int)) (bench.Result, error) {
		return bench.Session(ctx, dir, load, progress)
	})
}

// benchReadCmd measures a full read.
type benchReadCmd struct {
	Events   int           `help:"Events in the log." default:"500000"`
	Size     int           `help:"Bytes of an event's payload." default:"512"`
	Streams  int           `help:"Streams of the log." default:"100000"`
	Duration time.Duration `help:"How long is measured." default:"9s"`
	Rounds   int           `help:"Parts of that time; medians are the result." default:"3"`
	GRPC     bool          `name:"grpc" help:"Read with the Go client over loopback."`
	benchFolder
}

// Run measures and prints rate and latencies.
func (c *benchReadCmd) Run(ctx context.Context, g *globals) error {
	load := bench.Load{Clients: 1, Batch: 1, Size: c.Size, Streams: c.Streams, Rounds: c.Rounds, Duration: c.Duration, GRPC: c.GRPC}
	return measured(g, &c.benchFolder, "read", "events", load, "1,000 events", func(dir string, progress func(done, total int)) (bench.Result, error) {
		return bench.Read(ctx, dir, load, c.Events, progress)
	})
}

// benchLoadCmd measures loads of streams.
type benchLoadCmd struct {
	Clients  int           `help:"Clients that load at once." default:"64"`
	Length   int           `help:"Events of a stream." default:"20"`
	Size     int           `help:"Bytes of an event's payload." default:"512"`
	Streams  int           `help:"Streams of the log." default:"50000"`
	Duration time.Duration `help:"How long is measured." default:"9s"`
	Rounds   int           `help:"Parts of that time; medians are the result." default:"3"`
	GRPC     bool          `name:"grpc" help:"Load with the Go client over loopback, in turn with calls that answer as many bytes at once."`
	benchFolder
}

// Run measures and prints rate and latencies.
func (c *benchLoadCmd) Run(ctx context.Context, g *globals) error {
	load := bench.Load{Clients: c.Clients, Batch: 1, Size: c.Size, Streams: c.Streams, Rounds: c.Rounds, Duration: c.Duration, GRPC: c.GRPC}
	return measured(g, &c.benchFolder, "load", "events", load, "load", func(dir string, progress func(done, total int)) (bench.Result, error) {
		return bench.Loads(ctx, dir, load, c.Length, progress)
	})
}

// benchSubscribeCmd measures subscriptions.
type benchSubscribeCmd struct {
	Subscribers int           `help:"Subscribers that follow as fast as they can; they are measured." default:"100"`
	Slow        int           `help:"Subscribers that rest 100 ms after every chunk." default:"10"`
	Clients     int           `help:"Clients that append." default:"16"`
	Rate        float64       `help:"Appends a second." default:"2000"`
	Size        int           `help:"Bytes of an event's payload." default:"512"`
	Duration    time.Duration `help:"How long is measured." default:"5s"`
	GRPC        bool          `name:"grpc" help:"Subscribe with the Go client over loopback."`
	benchFolder
}

// Run measures and prints how many events the subscribers got, and how long after the append's call.
func (c *benchSubscribeCmd) Run(ctx context.Context, g *globals) error {
	load := bench.Load{Clients: c.Clients, Batch: 1, Size: c.Size, Streams: c.Clients, Rounds: 1, Duration: c.Duration, GRPC: c.GRPC, Rate: c.Rate}
	if c.Subscribers < 1 || c.Slow < 0 {
		return fmt.Errorf("%w: bench subscribe: --subscribers is at least 1, --slow not negative", eventstore.ErrInvalid)
	}
	return measured(g, &c.benchFolder, "subscribe", "rounds", load, "event", func(dir string, progress func(done, total int)) (bench.Result, error) {
		return bench.Subscribe(ctx, dir, load, bench.Subscribers{Live: c.Subscribers, Slow: c.Slow}, progress)
	})
}

// benchLagCmd measures how long events take from site to site.
type benchLagCmd struct {
	From     string        `help:"gRPC address of the server that is appended to." placeholder:"HOST:PORT" required:""`
	To       string        `help:"gRPC address of the server at which the log is followed." placeholder:"HOST:PORT" required:""`
	Clients  int           `help:"Clients that append, each to a stream of its own." default:"64"`
	Rate     float64       `help:"Appends a second." default:"2000"`
	Size     int           `help:"Bytes of an event's payload, at least 24." default:"512"`
	Duration time.Duration `help:"How long is measured." default:"10s"`
}

// Run measures and prints. What it has appended stays in the logs of the sites, in the category bench.
func (c *benchLagCmd) Run(ctx context.Context, g *globals) error {
	load := bench.Load{Clients: c.Clients, Batch: 1, Size: c.Size, Streams: c.Clients, Rounds: 1, Duration: c.Duration, GRPC: true, Rate: c.Rate}
	if err := load.Validate(); err != nil {
		return fmt.Errorf("%w: bench lag: %w", eventstore.ErrInvalid, err)
	}
	if c.Rate == 0 {
		return fmt.Errorf("%w: bench lag: --rate is above 0: as fast as can be, a queue would be measured", eventstore.ErrInvalid)
	}
	r, err := bench.Lag(ctx, c.From, c.To, load)
	if err != nil {
		return err
	}
	return g.print(r, func() {
		fmt.Fprintf(g.out, "%d events of %d bytes, %.0f a second: at the other site after p50 %.1f ms, p99 %.1f ms; appended after p50 %.1f ms, p99 %.1f ms\n",
			r.Events, max(c.Size, 24), r.Rate, r.P50Micros/1000, r.P99Micros/1000, r.AppendP50Micros/1000, r.AppendP99Micros/1000)
	})
}

// measured has a measurement done and prints what came of it; of says what a latency is of.
func measured(g *globals, f *benchFolder, name, units string, load bench.Load, of string,
	measure func(dir string, progress func(done, total int)) (bench.Result, error),
) error {
	if err := load.Validate(); err != nil {
		return fmt.Errorf("%w: bench %s: %w", eventstore.ErrInvalid, name, err)
	}
	var r bench.Result
	err := f.with(g, "bench "+name, units, func(dir string, progress func(done, total int)) (err error) {
		r, err = measure(dir, progress)
		return err
	})
	if err != nil {
		return err
	}
	return g.print(r, func() {
		fmt.Fprintf(g.out, "%.0f a second; of one %s p50 %.0f µs, p99 %.0f µs; %d events of %d bytes\n", r.Rate, of, r.P50Micros, r.P99Micros, r.Events, load.Size)
		if r.EchoRate > 0 {
			fmt.Fprintf(g.out, "calls with as long an answer %.0f a second, ratio %.2f, median of the rounds\n", r.EchoRate, r.EchoRatio)
		}
	})
}
