package main

import (
	"context"
	"errors"
	"fmt"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// eraseCmd erases the personal data of a subject.
type eraseCmd struct {
	Subject string `required:"" help:"Reference to the person, as events have it: the customer id of orders." placeholder:"ID"`
	Reason  string `required:"" help:"Why, for those who audit. It stays in the log for good, so no personal data." placeholder:"TEXT"`
	Actor   string `help:"Who asks, as a reference." placeholder:"NAME"`
	Tenant  string `help:"Tenant of the subject." placeholder:"NAME"`
	Advance bool   `name:"in-advance" help:"Also a subject of whom no personal data were ever recorded: none will be."`
	target
}

// Run erases, and prints what has confirmed it. It cannot be undone. An erasure that is on record but not done yet in a
// read model is no failure: the answer says what it waits for.
func (c *eraseCmd) Run(ctx context.Context, g *globals) (err error) {
	s, err := c.connect(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if s.node != nil {
		if err := settle(ctx, g, s); err != nil {
			g.say("erase goes on although not everything has caught up: %v", err)
		}
	}
	e, err := apiv1.NewSubjectServiceClient(s.conn).EraseSubject(ctx, &apiv1.EraseSubjectRequest{
		Id: c.Subject, Tenant: c.Tenant, Reason: c.Reason, Actor: c.Actor, InAdvance: c.Advance,
	})
	if err != nil {
		return fmt.Errorf("erase %s: %w", c.Subject, err)
	}
	return g.print(e, func() {
		fmt.Fprintf(g.out, "%s: erasure %s, recorded at %s; key destroyed: %v\n", e.GetId(), e.GetState(), e.GetEvent(), e.GetKeyDestroyed())
		for _, m := range e.GetModels() {
			if m.GetConfirmed() {
				fmt.Fprintf(g.out, "  %-16s holds nothing of it, at %s\n", m.GetName(), m.GetPosition())
			} else {
				fmt.Fprintf(g.out, "  %-16s waits for %s\n", m.GetName(), m.GetWaitsFor())
			}
		}
	})
}
