package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/bench"
)

// benchCmd measures.
type benchCmd struct {
	Append    benchAppendCmd    `cmd:"" help:"Append events, in process or over gRPC; with --raw the same bytes to a raw file with group-commit fdatasync, in the same run."`
	Session   benchSessionCmd   `cmd:"" help:"Append events through one pipelined session of the Go client."`
	Read      benchReadCmd      `cmd:"" help:"Read a whole log, in process or over gRPC."`
	Load      benchLoadCmd      `cmd:"" help:"Load whole streams, in process or over gRPC."`
	Subscribe benchSubscribeCmd `cmd:"" help:"Follow a log live with many subscribers, slow ones among them."`
	Lag       benchLagCmd       `cmd:"" help:"Append at one running site and follow at another: how long until an event is there."`
	Start     benchStartCmd     `cmd:"" help:"Open a large store after kill -9 and after a clean stop."`
	StartSide benchStartSideCmd `cmd:"" hidden:"" help:"The process that bench start starts."`
}

// benchFolder is where a measurement writes.
type benchFolder struct {
	Data string `help:"Folder on the disk to measure; default: the system's folder for temporary files." type:"path"`
}

// with has a measurement done in a folder of its own, which goes with it, and shows its progress in units.
func (f *benchFolder) with(g *globals, what, units string, measure func(dir string, progress func(done, total int)) error) (err error) {
	if f.Data != "" {
		if err := os.MkdirAll(f.Data, 0o700); err != nil {
			return fmt.Errorf("%w: --data: %w", eventstore.ErrInvalid, err)
		}
	}
	dir, err := os.MkdirTemp(f.Data, "tributary-bench-")
	if err != nil {
		return fmt.Errorf("make a folder to measure in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bar := newProgress(g, what, units)
	defer bar.end()
	return measure(dir, func(done, total int) { bar.set(int64(done), int64(total)) })
}

// benchAppendCmd measures appends, with --raw against the limit of the disk.
type benchAppendCmd struct {
	Clients    int           `help:"Clients that append at once, each waiting for its receipt." default:"64"`
	Batch      int           `help:"Events in an append." default:"1"`
	Size       int           `help:"Bytes of an event's payload." default:"512"`
	Streams    int           `help:"Streams that are appended to in turn." default:"100000"`
	Duration   time.Duration `help:"How long is measured." default:"9s"`
	Rounds     int           `help:"Parts of that time, each with a new store; medians are the result." default:"3"`
	Raw        bool          `help:"Write the same bytes to a raw file with group-commit fdatasync too, in turn with the store; with --grpc also make empty calls."`
	GRPC       bool          `name:"grpc" help:"Go through the store API over loopback, an append a call."`
	Addr       string        `help:"With --grpc: gRPC address of a running server, in place of one in this process." placeholder:"HOST:PORT"`
	Condition  bool          `help:"Let each append demand that no event with its client's tag came meanwhile, in turn with appends that do not."`
	Durability string        `help:"Durability of each append: local, kafka, of an embedded broker unless --addr names a server, or peer, of a server that has other sites." enum:"local,kafka,peer" default:"local" placeholder:"CLASS"`
	Rate       float64       `help:"Open loop: so many appends a second, with latencies from the time at which each should have begun; 0 is a closed loop."`
	benchFolder
}

// Run measures and prints rates and latencies, and with --raw their ratio.
func (c *benchAppendCmd) Run(ctx context.Context, g *globals) (err error) {
	load := bench.Load{
		Clients: c.Clients, Batch: c.Batch, Size: c.Size, Streams: c.Streams, Rounds: c.Rounds, Duration: c.Duration, Raw: c.Raw,
		GRPC: c.GRPC, Addr: c.Addr, Condition: c.Condition, Rate: c.Rate,
	}
	if c.Durability != eventstore.Local.String() {
		load.Durability = c.Durability
	}
	if err := load.Validate(); err != nil {
		return fmt.Errorf("%w: bench append: %w", eventstore.ErrInvalid, err)
	}
	var r bench.AppendResult
	err = c.with(g, "bench append", "rounds", func(dir string, progress func(done, total int)) error {
		r, err = bench.Append(ctx, dir, load, progress)
		return err
	})
	if err != nil {
		return err
	}
	return g.print(r, func() {
		rows := [][]string{
			{"", "EVENTS/S", "P50 µS", "P99 µS"},
			{"store (Pebble)", fmt.Sprintf("%.0f", r.Rate), fmt.Sprintf("%.0f", r.P50Micros), fmt.Sprintf("%.0f", r.P99Micros)},
		}
		if c.Raw {
			rows = append(rows, []string{"raw file", fmt.Sprintf("%.0f", r.RawRate), fmt.Sprintf("%.0f", r.RawP50Micros), fmt.Sprintf("%.0f", r.RawP99Micros)})
		}
		g.table(rows)
		fmt.Fprintf(g.out, "%d clients, %d events of %d bytes an append, %d streams, expected version, %s durability; medians of %s\n",
			c.Clients, c.Batch, c.Size, c.Streams, c.Durability, counted(c.Rounds, "round"))
		if c.Raw {
			fmt.Fprintf(g.out, "ratio %.2f, median of the rounds\n", r.Ratio)
		}
		if c.Condition {
			fmt.Fprintf(g.out, "without a condition %.0f a second, ratio %.2f, median of the rounds\n", r.PlainRate, r.PlainRatio)
		}
		if r.EchoRate > 0 {
			fmt.Fprintf(g.out, "empty calls %.0f a second, appends %.2f of them, median of the rounds; empty calls of this server %.0f\n",
				r.EchoRate, r.EchoRatio, r.OwnEchoRate)
			fmt.Fprintf(g.out, "processor time of an append %.1f µs, of an empty call %.1f, of one of this server %.1f; clients and server on %d connections\n",
				r.CPUMicros, r.EchoCPUMicros, r.OwnEchoCPUMicros, r.Connections)
		}
	})
}
