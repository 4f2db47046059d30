package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/bench"
)

// benchStartCmd measures what a large store costs and how soon it opens.
type benchStartCmd struct {
	Events int `help:"Events in the store." default:"10000000"`
	startLoad
	benchFolder
}

// startLoad is how a store is filled.
type startLoad struct {
	Clients int `help:"Clients that append at once." default:"64"`
	Size    int `help:"Bytes of an event's payload." default:"512"`
	Streams int `help:"Streams that are appended to in turn." default:"100000"`
}

func (l *startLoad) load() bench.Load {
	return bench.Load{Clients: l.Clients, Batch: 1, Size: l.Size, Streams: l.Streams, Rounds: 1, Duration: time.Hour}
}

// Run measures and prints bytes written, memory and starts.
func (c *benchStartCmd) Run(ctx context.Context, g *globals) error {
	load := c.load()
	if err := load.Validate(); err != nil {
		return fmt.Errorf("%w: bench start: %w", eventstore.ErrInvalid, err)
	}
	if c.Events < 1 {
		return fmt.Errorf("%w: bench start: --events is at least 1", eventstore.ErrInvalid)
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("%w: bench start reads /proc, which only Linux has", eventstore.ErrUnsupported)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	side := func(ctx context.Context, dir string, fill int) *exec.Cmd {
		return exec.CommandContext(ctx, self, "bench", "start-side", "--data", dir, "--fill", strconv.Itoa(fill),
			"--clients", strconv.Itoa(c.Clients), "--size", strconv.Itoa(c.Size), "--streams", strconv.Itoa(c.Streams))
	}
	var r bench.StartResult
	err = c.with(g, "bench start", "events", func(dir string, progress func(done, total int)) (err error) {
		r, err = bench.Start(ctx, dir, load, c.Events, side, progress)
		return err
	})
	if err != nil {
		return err
	}
	return g.print(r, func() {
		fmt.Fprintf(g.out, "%d events of %d bytes over %d streams, %.0f a second; p50 %.0f µs, p99 %.0f µs\n",
			r.Events, r.Size, r.Streams, r.Rate, r.P50Micros, r.P99Micros)
		fmt.Fprintf(g.out, "%.0f bytes written for each, %.2f times its payload; resident %.0f MB, at most %.0f MB\n", r.WrittenPerEvent, r.Written, r.FilledMB, r.HighestMB)
		fmt.Fprintf(g.out, "open %.0f ms after kill -9, %.0f ms after a clean stop, with %.0f MB\n", r.KilledMillis, r.CleanMillis, r.StartedMB)
	})
}

// benchStartSideCmd is the process that bench start kills.
type benchStartSideCmd struct {
	Data string `required:"" help:"Folder of the store."`
	Fill int    `help:"Events to fill it with; 0 opens it."`
	startLoad
}

// Run fills or opens a store.
func (c *benchStartSideCmd) Run(ctx context.Context) error {
	return bench.StartSide(ctx, c.Data, c.load(), c.Fill, os.Stdin, os.Stdout)
}
