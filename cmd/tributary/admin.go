package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// rebuildCmd rebuilds a read model.
type rebuildCmd struct {
	Projection string `arg:"" help:"Name of the projection, as status shows it, such as shop-redis."`
	target
}

// Run rebuilds, and prints the digests of the model before and after. A model that was wrong before ends with exit code 4.
func (c *rebuildCmd) Run(ctx context.Context, g *globals) (err error) {
	s, err := c.connect(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	stream, err := apiv1.NewAdminServiceClient(s.conn).RebuildProjection(ctx, &apiv1.RebuildProjectionRequest{Name: c.Projection})
	if err != nil {
		return fmt.Errorf("rebuild %s: %w", c.Projection, err)
	}
	bar := newProgress(g, "rebuild "+c.Projection, "events")
	for {
		p, err := stream.Recv()
		if err != nil {
			bar.end()
			return fmt.Errorf("rebuild %s: %w", c.Projection, err)
		}
		bar.set(int64(p.GetDoneEvents()), int64(p.GetTotalEvents()))
		if p.GetDone() {
			bar.end()
			equal := p.GetDigestBefore() == p.GetDigestAfter()
			err := g.print(map[string]any{
				"projection": c.Projection, "events": p.GetDoneEvents(), "rate": p.GetRate(),
				"digest": []string{p.GetDigestBefore(), p.GetDigestAfter()}, "equal": equal,
			}, func() {
				fmt.Fprintf(g.out, "%s rebuilt from %d events at %.0f/s; digest before %s, after %s\n",
					c.Projection, p.GetDoneEvents(), p.GetRate(), p.GetDigestBefore(), p.GetDigestAfter())
			})
			if err == nil && !equal && p.GetDigestBefore() != "" {
				err = fmt.Errorf("%w: the model was not what the log gives; it is now", errFaults)
			}
			return err
		}
	}
}

// verifyCmd verifies.
type verifyCmd struct {
	Part []string `help:"Only these parts: log, kafka, redis, clickhouse." placeholder:"NAME"`
	target
}

// Run verifies and prints the report. Faults end with exit code 4.
func (c *verifyCmd) Run(ctx context.Context, g *globals) (err error) {
	s, err := c.connect(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if s.node != nil {
		if err := settle(ctx, g, s); err != nil {
			g.say("verify goes on although not everything has caught up: %v", err)
		}
	}
	stream, err := apiv1.NewAdminServiceClient(s.conn).Verify(ctx, &apiv1.VerifyRequest{Parts: c.Part})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	last, err := lastProgress(g, stream)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := g.print(json.RawMessage(last.GetReportJson()), func() { printReport(g, last) }); err != nil {
		return err
	}
	if len(last.GetFaults()) > 0 {
		return fmt.Errorf("%w: %d", errFaults, len(last.GetFaults()))
	}
	return nil
}

type verifyStream interface {
	Recv() (*apiv1.VerifyProgress, error)
}

func lastProgress(g *globals, stream verifyStream) (*apiv1.VerifyProgress, error) {
	var bar *progress
	part := ""
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the server ended without a report")
		}
		if err != nil {
			return nil, err
		}
		if p.GetPart() != part || p.GetDone() {
			if bar != nil {
				bar.end()
			}
			part = p.GetPart()
			bar = newProgress(g, "verify "+part, "events")
		}
		if p.GetDone() {
			return p, nil
		}
		bar.set(int64(p.GetDoneSteps()), int64(p.GetTotalSteps()))
	}
}

func printReport(g *globals, p *apiv1.VerifyProgress) {
	var pretty map[string]any
	d := json.NewDecoder(strings.NewReader(p.GetReportJson()))
	d.UseNumber()
	if d.Decode(&pretty) == nil {
		for _, part := range []string{"log", "kafka", "feed", "redis", "clickhouse"} {
			v, ok := pretty[part].(map[string]any)
			if part == "log" && v["verified"] == false && !slices.ContainsFunc(p.GetFaults(), func(f string) bool { return strings.HasPrefix(f, "log: ") }) {
				continue // it was not looked at
			}
			if ok {
				fmt.Fprintf(g.out, "%-11s %s\n", part, inFigures(v))
			}
		}
	}
	if left, ok := pretty["not_compared"].([]any); ok {
		for _, what := range left {
			fmt.Fprintln(g.out, "not compared:", what)
		}
	}
	if len(p.GetFaults()) == 0 {
		fmt.Fprintln(g.out, "no faults")
	}
	for _, f := range p.GetFaults() {
		fmt.Fprintln(g.out, "FAULT", f)
	}
}

// inFigures writes the figures of a part for a person. Of a figure that is broken down it says into how many; --json has them.
func inFigures(part map[string]any) string {
	var single, broken []string
	for _, name := range slices.Sorted(maps.Keys(part)) {
		words := strings.ReplaceAll(name, "_", " ")
		switch v := part[name].(type) {
		case map[string]any:
			broken = append(broken, fmt.Sprintf("%s: %d", words, len(v)))
		case bool:
			if !v {
				words = "not " + words
			}
			single = append(single, words)
		default:
			single = append(single, fmt.Sprintf("%s %v", words, v))
		}
	}
	return strings.Join(append(single, broken...), ", ")
}
