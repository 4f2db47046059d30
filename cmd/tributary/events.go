package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// eventsCmd reads the log.
type eventsCmd struct {
	Read eventsReadCmd `cmd:"" help:"Read the log, or one stream, and end."`
	Tail eventsTailCmd `cmd:"" help:"Follow what is appended from now on, until interrupted; --after 1-0 begins at the start. It needs a running server."`
}

// logFilter chooses events.
type logFilter struct {
	After    string   `help:"Position after which to begin, such as 1-42." placeholder:"POSITION"`
	Category []string `help:"Only these categories." placeholder:"NAME"`
	Type     []string `help:"Only these event types." placeholder:"NAME"`
	Limit    uint64   `help:"Stop after so many events; 0 means no limit."`
	System   bool     `help:"Also what Tributary records for itself, such as checkpoints."`
	readAfterFlag
	target
}

func (f *logFilter) list(ctx context.Context, g *globals, follow bool, asOf string) (err error) {
	ctx = f.readAfterFlag.context(ctx)
	open := f.look
	if follow {
		open = f.running
	}
	s, err := open(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	after := f.After
	if follow && after == "" {
		now, err := apiv1.NewAdminServiceClient(s.conn).GetStatus(ctx, &apiv1.GetStatusRequest{})
		if err != nil {
			return fmt.Errorf("ask where the log ends: %w", err)
		}
		after = now.GetDurable()
	}
	stream, err := apiv1.NewStreamServiceClient(s.conn).ListEvents(ctx, &apiv1.ListEventsRequest{
		After: after, Follow: follow, Categories: f.Category, Types: f.Type, Limit: f.Limit, Until: asOf, System: f.System,
	})
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	for {
		e, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF), follow && (ctx.Err() != nil || status.Code(err) == codes.Canceled):
			return nil
		case err != nil:
			return fmt.Errorf("read log: %w", err)
		}
		if err := printEvent(g, e); err != nil {
			return err
		}
	}
}

// printEvent prints a line for an event, and in it what became of the event since. That it is void is known where its stream is read.
func printEvent(g *globals, e *apiv1.Event) error {
	return g.print(e, func() {
		marks := ""
		if e.GetErased() {
			marks = "  (personal data erased)"
		}
		if e.GetVoided() {
			marks += "  (void: " + e.GetVoidReason() + ")"
		}
		fmt.Fprintf(g.out, "%-12s %s %-28s %s/%s@%d %s%s\n", e.GetPosition(), e.GetRecordedAt().AsTime().Format("2006-01-02T15:04:05.000Z"),
			e.GetType(), e.GetCategory(), e.GetStreamId(), e.GetVersion(), e.GetPayloadJson(), marks)
	})
}

// eventsReadCmd reads and ends.
type eventsReadCmd struct {
	Stream    streamName `help:"Only this stream; only so is it said which events are void." placeholder:"[TENANT/]CATEGORY/ID"`
	AsOf      string     `help:"Only what was there at a position, such as 1-42, or at a time, such as 2026-11-24T08:26:00Z." placeholder:"POSITION|TIME"`
	logFilter `set:"stopped=, else the folder is shown as it is"`
}

// Run prints the events, one a line.
func (c *eventsReadCmd) Run(ctx context.Context, g *globals) error {
	if !c.Stream.given() {
		return c.list(ctx, g, false, c.AsOf)
	}
	return c.stream(ctx, g)
}

func (c *eventsReadCmd) stream(ctx context.Context, g *globals) (err error) {
	if c.After != "" || len(c.Category)+len(c.Type) > 0 {
		return fmt.Errorf("%w: --stream reads one stream whole; leave out --after, --category and --type, or --stream", eventstore.ErrInvalid)
	}
	s, err := c.look(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	ctx = metadata.AppendToOutgoingContext(c.readAfterFlag.context(ctx), "x-tenant", c.Stream.Tenant)
	client := apiv1.NewStreamServiceClient(s.conn)
	for from, left := uint64(1), c.Limit; from > 0; {
		page, err := client.ReadStream(ctx, &apiv1.ReadStreamRequest{Category: c.Stream.Category, Id: c.Stream.ID, FromVersion: from, Limit: 500, AsOf: c.AsOf})
		if err != nil {
			return fmt.Errorf("read stream %s: %w", &c.Stream, err)
		}
		if from == 1 && len(page.GetEvents()) == 0 {
			return fmt.Errorf("%w: stream %s has no events", eventstore.ErrNotFound, &c.Stream)
		}
		for _, e := range page.GetEvents() {
			if err := printEvent(g, e); err != nil {
				return err
			}
			if left--; left == 0 { // a limit of 0 wraps around and never ends
				return nil
			}
		}
		from = page.GetNextFromVersion()
	}
	return nil
}

// eventsTailCmd follows.
type eventsTailCmd struct {
	logFilter `set:"stopped="`
}

// Run prints events as they become durable, one a line.
func (c *eventsTailCmd) Run(ctx context.Context, g *globals) error { return c.list(ctx, g, true, "") }
