package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// members runs do with a client of a running server that knows who takes part.
func (t *siteTarget) members(ctx context.Context, do func(sitesv1.MembersClient) error) (err error) {
	s, err := runningServer(ctx, t.Addr, t.Data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return do(sitesv1.NewMembersClient(s.conn))
}

type sitesRosterCmd struct{ siteTarget }

// Run asks.
func (c *sitesRosterCmd) Run(ctx context.Context, g *globals) error {
	return c.members(ctx, func(members sitesv1.MembersClient) error {
		roster, err := members.GetRoster(ctx, &sitesv1.GetRosterRequest{})
		if err != nil {
			return fmt.Errorf("ask who takes part: %w", err)
		}
		return g.print(roster, func() { g.roster(roster) })
	})
}

func (g *globals) roster(r *sitesv1.Roster) {
	if r.GetCluster() == "" {
		fmt.Fprintln(g.out, "No system of sites is founded yet.")
		return
	}
	fmt.Fprintf(g.out, "System %s, founded by %s; homed: %s.\n", r.GetCluster(), strings.Join(r.GetFounders(), ", "), orDash(strings.Join(r.GetHomed(), ", ")))
	rows := [][]string{{"SITE", "GRPC", "KAFKA"}}
	for _, m := range r.GetMembers() {
		rows = append(rows, []string{m.GetSite(), orDash(m.GetGrpc()), orDash(m.GetKafka())})
	}
	for _, site := range r.GetLeft() {
		rows = append(rows, []string{site, "has left", ""})
	}
	g.table(rows)
}

type sitesJoinCmd struct {
	Peer string `arg:"" help:"The new site, and where the others find it." placeholder:"SITE=GRPC_ADDR,KAFKA_ADDR"`
	siteTarget
}

// Run puts the site on record, and says how it is started.
func (c *sitesJoinCmd) Run(ctx context.Context, g *globals) error {
	joins, err := node.ParsePeers([]string{c.Peer})
	if err != nil || len(joins) != 1 {
		return fmt.Errorf("%w: %q: name the new site with its addresses, SITE=GRPC_ADDR,KAFKA_ADDR, both as HOST:PORT; those of a site that has left are not kept, and have to be named again", eventstore.ErrInvalid, c.Peer)
	}
	if joins[0].Site == "" {
		return fmt.Errorf("%w: the name of the new site is missing: SITE=GRPC_ADDR,KAFKA_ADDR", eventstore.ErrInvalid)
	}
	m := &sitesv1.Member{Site: joins[0].Site, Grpc: joins[0].GRPC, Kafka: joins[0].Kafka}
	return c.members(ctx, func(members sitesv1.MembersClient) error {
		before, err := members.GetRoster(ctx, &sitesv1.GetRosterRequest{})
		if err != nil {
			return fmt.Errorf("ask who takes part: %w", err)
		}
		roster, err := members.JoinSite(ctx, &sitesv1.JoinSiteRequest{Member: m})
		if err != nil {
			return fmt.Errorf("have site %s take part: %w", m.GetSite(), err)
		}
		return g.print(roster, func() {
			g.roster(roster)
			if slices.Contains(before.GetLeft(), m.GetSite()) {
				fmt.Fprintf(g.out, "Site %s takes part again, with the folder that it has: if its server runs it goes on by itself, else start it as before.\n", m.GetSite())
				return
			}
			fmt.Fprint(g.out, startLines(m, roster))
		})
	})
}

// startLines say how a site is started that is on record: with an embedded Kafka where that may be what is at its address, or with a real one.
func startLines(m *sitesv1.Member, roster *sitesv1.Roster) string {
	flags := ""
	for _, other := range roster.GetMembers() {
		if other.GetSite() != m.GetSite() {
			flags += " --peer " + other.GetSite() + "=" + other.GetGrpc() + "," + other.GetKafka()
		}
	}
	for _, category := range roster.GetHomed() {
		flags += " --homed " + category
	}
	start := fmt.Sprintf("  tributary serve --site %s --data %s --http 127.0.0.1:0 --grpc %s", m.GetSite(), m.GetSite(), m.GetGrpc())
	out := fmt.Sprintf("Start it with an empty folder, and an HTTP port of your choice (0: a free one); with brokers that run at %s:\n%s --kafka %s%s\n", m.GetKafka(), start, m.GetKafka(), flags)
	if host, port, err := net.SplitHostPort(m.GetKafka()); err == nil && !strings.Contains(host, ",") {
		out += fmt.Sprintf("or with the embedded Kafka:\n%s --kafka-port %s%s\n", start, port, flags)
	}
	return out
}

type sitesFoundCmd struct {
	Without []string `help:"A site that is gone for good, and runs no more; once for each." required:"" placeholder:"SITE"`
	Reason  string   `help:"Why it is thought to be gone, for the record." required:"" placeholder:"TEXT"`
	siteTarget
}

// Run says it.
func (c *sitesFoundCmd) Run(ctx context.Context, g *globals) error {
	return c.members(ctx, func(members sitesv1.MembersClient) error {
		roster, err := members.FoundSystem(ctx, &sitesv1.FoundSystemRequest{Without: c.Without, Reason: c.Reason})
		if err != nil {
			return fmt.Errorf("found the system without %s: %w", strings.Join(c.Without, ", "), err)
		}
		return g.print(roster, func() {
			g.roster(roster)
			for _, site := range c.Without {
				fmt.Fprintf(g.out, "Take the cells of site %s next (sites promote --from %s), then have it leave (sites leave %s).\n", site, site, site)
			}
		})
	})
}

type sitesLeaveCmd struct {
	Site   string `arg:"" help:"The site that leaves: the one that is asked, or one that is gone for good."`
	Reason string `help:"Why, for the record." required:"" placeholder:"TEXT"`
	Keep   bool   `help:"Do not give away what only the site may use, such as units of stock: it is lost to the others."`
	siteTarget
}

// leavePause is how long the cells that are on their way are waited for before the site is asked again.
const leavePause = 100 * time.Millisecond

// Run asks until the site has left.
func (c *sitesLeaveCmd) Run(ctx context.Context, g *globals) error {
	if c.Site == "" {
		return fmt.Errorf("%w: the name of the site that leaves is missing", eventstore.ErrInvalid)
	}
	return c.members(ctx, func(members sitesv1.MembersClient) error { return c.leave(ctx, g, members) })
}

// leave asks until the site has left. How many cells it still has is told where anything is homed: else nobody has heard of cells.
func (c *sitesLeaveCmd) leave(ctx context.Context, g *globals, members sitesv1.MembersClient) error {
	roster, err := members.GetRoster(ctx, &sitesv1.GetRosterRequest{})
	if err != nil {
		return fmt.Errorf("ask who takes part: %w", err)
	}
	for said := uint32(0); ; {
		r, err := members.LeaveSite(ctx, &sitesv1.LeaveSiteRequest{Site: c.Site, Reason: c.Reason, Keep: c.Keep})
		if err != nil {
			return fmt.Errorf("have site %s leave: %w", c.Site, err)
		}
		if r.GetLeft() {
			return g.print(r, func() {
				for _, what := range r.GetGiven() {
					fmt.Fprintln(g.out, "given to the other sites:", what)
				}
				for _, what := range r.GetKept() {
					fmt.Fprintln(g.out, "stays with the site:", what)
				}
				fmt.Fprintf(g.out, "Site %s has left. What it has written stays at all sites. Its server may be stopped when they have its log up to here, as sites status says there; what it still records of itself nobody needs.\n", c.Site)
			})
		}
		if r.GetCells() != said && len(roster.GetHomed()) > 0 && !g.JSON {
			fmt.Fprintf(g.out, "%d cells are still to be given away, or to be opened by others\n", r.GetCells())
		}
		said = r.GetCells()
		select {
		case <-time.After(leavePause):
		case <-ctx.Done():
			return fmt.Errorf("have site %s leave, which goes on when it is asked again: %w", c.Site, ctx.Err())
		}
	}
}

type sitesPromoteCmd struct {
	From   string `help:"The site that is gone." required:"" placeholder:"SITE"`
	Reason string `help:"Why it is thought to be gone, for the record." required:"" placeholder:"TEXT"`
	siteTarget
}

// Run takes over.
func (c *sitesPromoteCmd) Run(ctx context.Context, g *globals) error {
	if c.From == "" {
		return fmt.Errorf("%w: the name of the site that is gone is missing (--from)", eventstore.ErrInvalid)
	}
	return c.members(ctx, func(members sitesv1.MembersClient) error {
		r, err := members.PromoteSite(ctx, &sitesv1.PromoteSiteRequest{Site: c.From, Reason: c.Reason})
		if err != nil {
			return fmt.Errorf("take over from site %s: %w", c.From, err)
		}
		return g.print(r, func() {
			fmt.Fprintf(g.out, "%d cells of site %s are taken; %d of them go on to other sites.\n", r.GetTaken(), c.From, r.GetGiven())
			if n := r.GetElsewhere(); n > 0 {
				fmt.Fprintf(g.out, "Somebody else has taken over from it at the same time, %d of its cells: see who has which now (cells list).\n", n)
			}
		})
	})
}

type sitesReadonlyCmd struct {
	Off    string `arg:"" optional:"" help:"off: take writes again."`
	Reason string `help:"Why the site takes no writes, for those who are refused." placeholder:"TEXT"`
	siteTarget
}

// Run says it.
func (c *sitesReadonlyCmd) Run(ctx context.Context, g *globals) error {
	if c.Off != "" && c.Off != "off" || (c.Off == "") == (c.Reason == "") {
		return fmt.Errorf("%w: say why the site is to take no writes with --reason TEXT, or off to have it take them again", eventstore.ErrInvalid)
	}
	return c.members(ctx, func(members sitesv1.MembersClient) error {
		r, err := members.SetReadOnly(ctx, &sitesv1.SetReadOnlyRequest{Reason: c.Reason})
		if err != nil {
			return fmt.Errorf("say whether the site takes writes: %w", err)
		}
		return g.print(r, func() {
			if c.Off != "" {
				fmt.Fprintln(g.out, "The site takes writes again.")
				return
			}
			fmt.Fprintf(g.out, "The site takes no writes: %s\n", c.Reason)
		})
	})
}
