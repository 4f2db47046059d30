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
	Append benchAppendCmd `cmd:"" help:"Append events, and the same bytes to a raw file with group-commit fdatasync, in one run."`
}

// benchAppendCmd measures appends in process against the limit of the disk.
type benchAppendCmd struct {
	Clients int           `help:"Clients that append at once, each waiting for its receipt." default:"64"`
	Batch   int           `help:"Events in an append." default:"1"`
	Size    int           `help:"Bytes of an event's payload." default:"512"`
	Time    time.Duration `help:"How long each of the rounds takes." default:"3s"`
	Rounds  int           `help:"Rounds; the median of their ratios is the result." default:"3"`
	Dir     string        `help:"Folder on the disk to measure; default: the system's folder for temporary files." type:"path"`
}

// Run measures and prints rates, latencies and their ratio.
func (c *benchAppendCmd) Run(ctx context.Context, g *globals) (err error) {
	if c.Clients < 1 || c.Batch < 1 || c.Size < 1 || c.Rounds < 1 || c.Time < 100*time.Millisecond {
		return fmt.Errorf("%w: --clients, --batch, --size and --rounds are at least 1, --time at least 100ms", eventstore.ErrInvalid)
	}
	dir, err := os.MkdirTemp(c.Dir, "tributary-bench-")
	if err != nil {
		return fmt.Errorf("make a folder to measure in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bar := newProgress(g, "bench append", "rounds")
	result, err := bench.Append(ctx, dir, bench.Load{Clients: c.Clients, Batch: c.Batch, Size: c.Size, Time: c.Time, Rounds: c.Rounds},
		func(done int) { bar.set(int64(done), int64(2*c.Rounds)) })
	bar.end()
	if err != nil {
		return err
	}
	return g.print(result, func() {
		g.table([][]string{
			{"", "EVENTS/S", "P50 MS", "P99 MS"},
			{"store (Pebble)", fmt.Sprintf("%.0f", result.Store.Rate), fmt.Sprintf("%.2f", result.Store.P50), fmt.Sprintf("%.2f", result.Store.P99)},
			{"raw file", fmt.Sprintf("%.0f", result.Raw.Rate), fmt.Sprintf("%.2f", result.Raw.P50), fmt.Sprintf("%.2f", result.Raw.P99)},
		})
		fmt.Fprintf(g.out, "ratio %.2f (median of %d rounds; %d clients, %d events of %d bytes an append, expected version, local durability)\n",
			result.Ratio, c.Rounds, c.Clients, c.Batch, c.Size)
	})
}
