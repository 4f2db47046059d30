package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// schemasCmd shows and checks the schemas of events.
type schemasCmd struct {
	List  schemasListCmd  `cmd:"" help:"List the schemas that the log was written with."`
	Show  schemasShowCmd  `cmd:"" help:"Show the schemas of one type of event, with their fields."`
	Check schemasCheckCmd `cmd:"" help:"Say whether this program reads the log as it was meant; changes nothing."`
}

type schemasListCmd struct {
	target `set:"stopped=, else the folder is shown as it is"`
}

// Run lists.
func (c *schemasListCmd) Run(ctx context.Context, g *globals) error {
	return c.admin(ctx, g, c.look, func(admin apiv1.AdminServiceClient) error {
		list, err := admin.ListSchemas(ctx, &apiv1.ListSchemasRequest{})
		if err != nil {
			return fmt.Errorf("list schemas: %w", err)
		}
		return g.print(list, func() {
			for _, s := range list.GetSchemas() {
				g.schemaLine(s)
			}
		})
	})
}

func (g *globals) schemaLine(s *apiv1.EventSchema) {
	old := ""
	if !s.GetCurrent() {
		old = ", not written by the program that runs"
	}
	fmt.Fprintf(g.out, "%-32s revision %d, %s, from %s%s\n", s.GetName(), s.GetRevision(), s.GetMessage(), s.GetFirstPosition(), old)
}

type schemasShowCmd struct {
	Name   string `arg:"" help:"Wire name, such as order.created.v1."`
	target `set:"stopped=, else the folder is shown as it is"`
}

// Run shows.
func (c *schemasShowCmd) Run(ctx context.Context, g *globals) error {
	return c.admin(ctx, g, c.look, func(admin apiv1.AdminServiceClient) error {
		list, err := admin.ListSchemas(ctx, &apiv1.ListSchemasRequest{Name: c.Name})
		if err != nil {
			return fmt.Errorf("show schema: %w", err)
		}
		return g.print(list, func() {
			for _, s := range list.GetSchemas() {
				g.schemaLine(s)
				fmt.Fprintln(g.out, "  "+strings.Join(s.GetFields(), "\n  "))
			}
		})
	})
}

type schemasCheckCmd struct {
	target `set:"stopped=, else the folder is shown as it is"`
}

// Run checks, and ends with exit code 4 when the program would misread the log.
func (c *schemasCheckCmd) Run(ctx context.Context, g *globals) error {
	report, err := c.check(ctx, g)
	if err != nil {
		return err
	}
	err = g.print(report, func() {
		for _, f := range report.Faults {
			fmt.Fprintln(g.out, f)
		}
		for what, names := range map[string][]string{"new, to be registered": report.New, "older than the log's, read and not written": report.Older} {
			if len(names) > 0 {
				fmt.Fprintf(g.out, "%s: %s\n", what, strings.Join(names, " "))
			}
		}
		fmt.Fprintf(g.out, "%d schemas, %d faults\n", report.Known, len(report.Faults))
	})
	if err == nil && len(report.Faults) > 0 {
		err = fmt.Errorf("%w: this program would misread the log", errFaults)
	}
	return err
}

func (c *schemasCheckCmd) check(ctx context.Context, g *globals) (report node.SchemaReport, err error) {
	config := c.config(g, c.Data)
	_, running, err := node.FindServer(ctx, c.Data)
	if err != nil {
		return report, err
	}
	if c.Addr == "" && !running {
		if !node.HasData(c.Data) {
			return report, fmt.Errorf("%w: there is no data in %s and no server is named", eventstore.ErrInvalid, c.Data)
		}
		return node.CheckSchemas(ctx, config)
	}
	s, err := c.connect(ctx, g)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	admin := apiv1.NewAdminServiceClient(s.conn)
	list, err := admin.ListSchemas(ctx, &apiv1.ListSchemasRequest{})
	if err != nil {
		return report, fmt.Errorf("list schemas: %w", err)
	}
	var all []*apiv1.EventSchema
	seen := map[string]bool{}
	for _, l := range list.GetSchemas() {
		if seen[l.GetName()] {
			continue
		}
		seen[l.GetName()] = true
		shown, err := admin.ListSchemas(ctx, &apiv1.ListSchemasRequest{Name: l.GetName()})
		if err != nil {
			return report, fmt.Errorf("show schema of %s: %w", l.GetName(), err)
		}
		all = append(all, shown.GetSchemas()...)
	}
	return node.CheckSchemasOf(all, config)
}
