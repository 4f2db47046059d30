package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vbauerster/mpb/v8/decor"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// scrubCmd looks for rot in the store's files.
type scrubCmd struct {
	Repair bool  `help:"Repair what can be repaired: the index from the log, the log from Kafka."`
	Rate   int64 `help:"Read no more than this many MiB a second; 0: as fast as it goes." placeholder:"MIB"`
	target
}

// Run scrubs and prints the report. Faults that are left end with exit code 4.
func (c *scrubCmd) Run(ctx context.Context, g *globals) (err error) {
	if c.Rate < 0 {
		return fmt.Errorf("%w: --rate must not be less than 0", eventstore.ErrInvalid)
	}
	s, err := c.connect(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	stream, err := apiv1.NewAdminServiceClient(s.conn).Scrub(ctx, &apiv1.ScrubRequest{Repair: c.Repair, BytesPerSecond: c.Rate << 20})
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	bar := newProgress(g, "scrub", "bytes")
	for {
		p, err := stream.Recv()
		if err != nil {
			bar.end()
			return fmt.Errorf("scrub: %w", err)
		}
		bar.set(p.GetDoneBytes(), p.GetTotalBytes())
		if !p.GetDone() {
			continue
		}
		bar.end()
		err = g.print(json.RawMessage(p.GetReportJson()), func() {
			fmt.Fprintf(g.out, "read % .1f\n", decor.SizeB1024(p.GetDoneBytes()))
			for _, f := range p.GetFaults() {
				fmt.Fprintln(g.out, "FAULT", f)
			}
			if len(p.GetFaults()) == 0 {
				fmt.Fprintln(g.out, "no faults")
			}
		})
		if n := p.GetUnrepaired(); err == nil && n > 0 {
			hint := ""
			if !c.Repair {
				hint = "; --repair repairs what can be repaired"
			}
			err = fmt.Errorf("%w: %d are left%s", errFaults, n, hint)
		}
		return err
	}
}
