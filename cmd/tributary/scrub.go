package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/vbauerster/mpb/v8/decor"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// scrubCmd looks for rot in the store's files.
type scrubCmd struct {
	Repair  bool  `help:"Repair what can be repaired: the index from the log, the log from Kafka and from other sites."`
	Rate    int64 `help:"Read no more than this many MiB a second; 0: as fast as it goes." placeholder:"MIB"`
	StandIn bool  `help:"Where a table of the log of a stopped folder is gone: put an empty one in its place, so that the server starts, and refills it from Kafka and from other sites."`
	target
}

// Run scrubs and prints the report. Faults that are left end with exit code 4.
func (c *scrubCmd) Run(ctx context.Context, g *globals) (err error) {
	if c.Rate < 0 {
		return fmt.Errorf("%w: --rate must not be less than 0", eventstore.ErrInvalid)
	}
	if c.StandIn {
		return c.standIn(g)
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

// standIn has a stopped folder open again where tables of its log are gone.
func (c *scrubCmd) standIn(g *globals) error {
	names, err := node.StandIn(c.Data, g.log)
	if err != nil {
		return fmt.Errorf("put tables in the place of those that are gone: %w", err)
	}
	return g.print(map[string][]string{"tables": append([]string{}, names...)}, func() {
		if len(names) == 0 {
			fmt.Fprintln(g.out, "No table of the log is gone.")
			return
		}
		fmt.Fprintf(g.out, "%s of the log: empty files stand in their places. Start the server: it refills them with what Kafka and the other sites have.\n", strings.Join(names, ", "))
	})
}
