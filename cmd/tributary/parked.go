package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// parkedCmd sees to what could not be applied.
type parkedCmd struct {
	List  parkedListCmd  `cmd:"" help:"List events and saga instances that are set aside, with reasons."`
	Retry parkedRetryCmd `cmd:"" help:"Try them again, after what was wrong is mended."`
	Skip  parkedSkipCmd  `cmd:"" help:"Leave an event out of a projection for good; the log keeps it."`
}

type parkedListCmd struct {
	target `set:"stopped=, else the folder is opened if its site has no others"`
}

// Run lists.
func (c *parkedListCmd) Run(ctx context.Context, g *globals) error {
	return c.admin(ctx, g, c.settled, func(admin apiv1.AdminServiceClient) error {
		list, err := admin.ListParked(ctx, &apiv1.ListParkedRequest{})
		if err != nil {
			return fmt.Errorf("list parked: %w", err)
		}
		return g.print(list, func() {
			for _, e := range list.GetEvents() {
				reason := e.GetReason()
				if reason == "" {
					reason = "waits behind another event of its stream"
				}
				fmt.Fprintf(g.out, "%-16s %-10s %s of %s: %s\n", e.GetProjection(), e.GetPosition(), e.GetType(), e.GetStream(), reason)
			}
			for _, i := range list.GetInstances() {
				fmt.Fprintf(g.out, "%-16s instance %s/%s, %d triggers wait: %s\n", i.GetSaga(), i.GetTenant(), i.GetInstance(), i.GetWaiting(), i.GetReason())
			}
			if len(list.GetEvents())+len(list.GetInstances()) == 0 {
				fmt.Fprintln(g.out, "nothing is parked")
			}
		})
	})
}

type parkedRetryCmd struct {
	Name     string     `arg:"" help:"Projection or saga, as the list has it."`
	Stream   streamName `help:"Only this stream of a projection." placeholder:"[TENANT/]CATEGORY/ID"`
	Instance string     `help:"Only this instance of a saga." placeholder:"ID"`
	Tenant   string     `help:"Tenant of the instance." placeholder:"NAME"`
	target
}

// Run retries.
func (c *parkedRetryCmd) Run(ctx context.Context, g *globals) error {
	return c.admin(ctx, g, c.settled, func(admin apiv1.AdminServiceClient) error {
		done, err := admin.RetryParked(ctx, &apiv1.RetryParkedRequest{Name: c.Name, Stream: c.Stream.String(), Instance: c.Instance, Tenant: c.Tenant})
		if err != nil {
			return fmt.Errorf("retry parked: %w", err)
		}
		list, err := admin.ListParked(ctx, &apiv1.ListParkedRequest{})
		if err != nil {
			return fmt.Errorf("list what is parked still: %w", err)
		}
		still := c.still(list)
		return g.print(map[string]any{"name": c.Name, "applied": done.GetApplied(), "parked": still}, func() {
			fmt.Fprintf(g.out, "%s: %d applied\n", c.Name, done.GetApplied())
			if still > 0 {
				fmt.Fprintf(g.out, "%d still parked: tributary parked list says why\n", still)
			}
		})
	})
}

// still counts what is parked of what was tried again.
func (c *parkedRetryCmd) still(list *apiv1.ListParkedResponse) (n int) {
	for _, e := range list.GetEvents() {
		if e.GetProjection() == c.Name && (!c.Stream.given() || e.GetStream() == c.Stream.String()) {
			n++
		}
	}
	for _, i := range list.GetInstances() {
		if i.GetSaga() == c.Name && (c.Instance == "" || i.GetInstance() == c.Instance && i.GetTenant() == cmp.Or(c.Tenant, eventstore.DefaultTenant)) {
			n++
		}
	}
	return n
}

type parkedSkipCmd struct {
	Name     string `arg:"" help:"Projection, as the list has it."`
	Position string `arg:"" help:"Position of the event, as the list has it."`
	target
}

// Run skips.
func (c *parkedSkipCmd) Run(ctx context.Context, g *globals) error {
	return c.admin(ctx, g, c.settled, func(admin apiv1.AdminServiceClient) error {
		if _, err := admin.SkipParked(ctx, &apiv1.SkipParkedRequest{Name: c.Name, Position: c.Position}); err != nil {
			return fmt.Errorf("skip parked: %w", err)
		}
		return g.print(map[string]any{"name": c.Name, "skipped": c.Position}, func() {
			fmt.Fprintf(g.out, "%s: %s is left out for good\n", c.Name, c.Position)
		})
	})
}

// admin runs do with a client of the administration of a session: t.look or t.settled.
func (t *target) admin(ctx context.Context, g *globals, open func(context.Context, *globals) (*session, error), do func(apiv1.AdminServiceClient) error) (err error) {
	s, err := open(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return do(apiv1.NewAdminServiceClient(s.conn))
}
