package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/peers"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// cellsPart says what this node may write of what is written at one site at a time. Without a fence nothing is.
type cellsPart struct {
	n         *Node
	fence     *replication.Fence
	wanted    bool // there is, or was, another site, or something homed
	registrar *replication.Registrar
	owned     atomic.Pointer[ownedCells] // nil before the sites' system is founded
	leaving   leaving
}

// ownedCells are the cells as they are on record.
type ownedCells struct {
	owner *replication.Owner
	ring  *replication.Ring
}

// shardOf is the shard of a site: there is one.
func shardOf(site string) replication.Shard { return replication.Shard{Region: site} }

// newCells makes the fence that the store is opened with.
func newCells(n *Node) (*cellsPart, error) {
	_, told, err := lastWords(n.path(wordsFile))
	return &cellsPart{
		n: n, wanted: told || len(n.config.Peers)+len(n.config.Homed) > 0 || n.config.Join != "",
		fence: replication.NewFence(shardOf(n.config.Site), func(category string) bool { return slices.Contains(n.config.Homed, category) }),
	}, err
}

// check returns the store's fence, nil where there is none.
func (p *cellsPart) check() eventstore.Fence {
	if !p.wanted {
		return nil
	}
	return p.fence.Check
}

// begin reads from the log who owns what. REQUIRES: the sites' system is founded.
func (p *cellsPart) begin(ctx context.Context) error {
	var shards []replication.Shard
	for _, site := range p.registrar.Roster().Founders {
		shards = append(shards, shardOf(site))
	}
	ring, err := replication.NewRing(shards...)
	if err != nil {
		return fmt.Errorf("ring of the sites on record: %w", err)
	}
	owner, err := replication.NewOwner(ctx, p.fence, ring, p.n.store, p.n.log)
	if err != nil {
		return err
	}
	if p.n.sites.site != nil {
		owner.Told = p.n.sites.site.OnRecord
	}
	p.owned.Store(&ownedCells{owner, ring})
	return nil
}

// Enter implements replication.Recorder.
func (p *cellsPart) Enter(ctx context.Context, e replication.Entry) error {
	owned := p.owned.Load()
	if owned == nil {
		return fmt.Errorf("%w: it is not known yet who owns the cells", eventstore.ErrUnavailable)
	}
	return owned.owner.Enter(ctx, e)
}

// run follows who owns what, once that can be known, until ctx ends.
func (p *cellsPart) run(ctx context.Context) error {
	select {
	case <-p.registrar.Founded():
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.owned.Load() == nil {
		if err := p.begin(ctx); err != nil {
			return err
		}
	}
	return p.owned.Load().owner.Run(ctx)
}

// takeovers returns those that are on record.
func (p *cellsPart) takeovers() []replication.Takeover {
	if owned := p.owned.Load(); owned != nil {
		return owned.owner.Takeovers()
	}
	return nil
}

// shards returns the shards of the sites that take part.
func (p *cellsPart) shards() (out []replication.Shard) {
	for _, m := range p.registrar.Roster().Members {
		out = append(out, shardOf(m.Site))
	}
	for _, site := range p.n.sites.names() {
		if s := shardOf(site); !slices.Contains(out, s) && !slices.Contains(p.registrar.Roster().Left, site) {
			out = append(out, s)
		}
	}
	return out
}

// participants names the sites that take part, this one first.
func (n *Node) participants() []string {
	out := []string{n.config.Site}
	if n.cells.registrar == nil { // the node is being opened
		return out
	}
	for _, s := range n.cells.shards() {
		if s.Region != n.config.Site {
			out = append(out, s.Region)
		}
	}
	return out
}

// takers names the sites that take part, are heard, take writes and are not asked to leave, this one first: others could not use what they
// are given, or would give it on.
func (n *Node) takers(ctx context.Context) ([]string, error) {
	take, _, err := n.heardOthers(ctx)
	return append([]string{n.config.Site}, take...), err
}

// validateHomed says what is wrong with the categories that are homed.
func (c *Config) validateHomed(fault func(format string, args ...any)) {
	if len(c.Homed) == 1 && c.Homed[0] == Off {
		c.Homed = []string{}
	}
	slices.Sort(c.Homed)
	for i, category := range c.Homed {
		stream := eventstore.Stream(category, "1")
		switch {
		case stream.Validate() != nil || eventstore.IsSystemCategory(category):
			fault("--homed %s: it is not a category of streams", category)
		case i > 0 && category == c.Homed[i-1]:
			fault("--homed %s is given twice", category)
		}
	}
}

// refuseHomed refuses to home what every site has to write: with it, no site could bring to an end what it has begun. bus has the
// domains' aggregates; what sagas record is known when they are made.
func (n *Node) refuseHomed(bus *commands.Bus) error {
	fixed := bus.AtEverySite()
	var faults []error
	for _, category := range n.config.Homed {
		why := fixed[category]
		if slices.ContainsFunc(n.sagas, func(s sagaRunner) bool { return category == s.name || strings.HasPrefix(category, s.name+".") }) {
			why = "each site records there what its sagas have done"
		}
		if why != "" {
			faults = append(faults, fmt.Errorf("%w: --homed %s: it is written at every site: %s; start all sites with a list without it (--homed off: nothing)",
				eventstore.ErrInvalid, category, why))
		}
	}
	return errors.Join(faults...)
}

// refuseHomedEarly is refuseHomed before there is a bus: before another site puts this one on record.
func (n *Node) refuseHomedEarly() error {
	bus := commands.NewBus(eventstore.Store(nil), commands.Options{})
	for _, d := range n.config.Domains {
		if d.Register != nil {
			if err := d.Register(bus); err != nil {
				return fmt.Errorf("domain %s: %w", d.Name, err)
			}
		}
	}
	return n.refuseHomed(bus)
}

// cells implements the service Cells.
type cells struct {
	sitesv1.UnimplementedCellsServer
	part *cellsPart
}

// ready returns the cells, when it is known whose they are.
func (c *cells) ready() (*ownedCells, error) {
	owned := c.part.owned.Load()
	switch {
	case owned != nil:
		return owned, nil
	case len(c.part.n.config.Homed) == 0 && c.part.n.sites.site == nil && c.part.registrar.Roster().Epoch == 0:
		return nil, fmt.Errorf("%w: nothing is written at one site alone here (serve --homed CATEGORY)", eventstore.ErrUnsupported)
	}
	_, blocked := c.part.registrar.Differences()
	return nil, fmt.Errorf("%w: it is not known yet who owns the cells: %s", eventstore.ErrUnavailable, strings.Join(blocked.Reasons(), "; "))
}

// ListCells says who owns the cells.
func (c *cells) ListCells(ctx context.Context, r *sitesv1.ListCellsRequest) (*sitesv1.ListCellsResponse, error) {
	owned, err := c.ready()
	if err != nil {
		return nil, err
	}
	if r.GetHome() != "" {
		home, err := replication.ParseShard(r.GetHome())
		if err != nil {
			return nil, err
		}
		if all := c.known(owned); !slices.Contains(all, home) {
			return nil, fmt.Errorf("%w: there is no shard %s; there are %v", eventstore.ErrNotFound, home, all)
		}
	}
	only := -1
	if r.GetStream() != "" {
		stream, err := eventstore.ParseStreamID(r.GetStream())
		if err != nil {
			return nil, err
		}
		only = int(eventstore.CellOf(stream))
	}
	digest := c.part.fence.Digest()
	out := &sitesv1.ListCellsResponse{Homed: c.part.n.config.Homed, Digest: hex.EncodeToString(digest[:])}
	if site := c.part.n.sites.site; site != nil {
		o, err := site.Overview(ctx)
		if err != nil {
			return nil, err
		}
		out.Lease = peers.LeaseMessage(o.Lease)
	}
	for _, s := range owned.ring.Shards() {
		out.Shares = append(out.Shares, &sitesv1.CellShare{Home: s.String()})
	}
	for number := range uint16(eventstore.Cells) {
		cell, _ := c.part.fence.Cell(number)
		i := slices.IndexFunc(out.Shares, func(s *sitesv1.CellShare) bool { return s.GetHome() == cell.Home.String() })
		if i < 0 {
			i = len(out.Shares)
			out.Shares = append(out.Shares, &sitesv1.CellShare{Home: cell.Home.String()}) // of a site that came later
		}
		out.Shares[i].Cells++
		if (r.GetHome() == "" || cell.Home.String() == r.GetHome()) && (only < 0 || only == int(number)) {
			out.Cells = append(out.Cells, cellMessage(cell))
		}
	}
	return out, nil
}

// known returns the shards that take part, and those that have or had cells although they do not.
func (c *cells) known(owned *ownedCells) []replication.Shard {
	out := append(c.part.shards(), owned.ring.Shards()...)
	for number := range uint16(eventstore.Cells) {
		cell, _ := c.part.fence.Cell(number)
		out = append(out, cell.Home)
	}
	for _, site := range c.part.registrar.Roster().Left {
		out = append(out, shardOf(site))
	}
	slices.SortFunc(out, func(a, b replication.Shard) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(out)
}

func cellMessage(c replication.Cell) *sitesv1.Cell {
	m := &sitesv1.Cell{Cell: uint32(c.Number), Home: c.Home.String(), Epoch: c.Epoch}
	m.Taken = c.Taken
	if c.Sealed {
		m.MovingTo = c.Next.String()
	}
	return m
}

// MoveCell gives a cell away.
func (c *cells) MoveCell(ctx context.Context, r *sitesv1.MoveCellRequest) (*sitesv1.Cell, error) {
	to, err := replication.ParseShard(r.GetTo())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(c.part.shards(), to) {
		return nil, fmt.Errorf("%w: there is no shard %s; there are %v", eventstore.ErrInvalid, to, c.part.shards())
	}
	if err := c.part.n.sites.takesCells(ctx, to.Region); err != nil {
		return nil, err
	}
	return c.change(r.GetCell(), func(o *replication.Owner, cell uint16) error { return o.Move(ctx, cell, to) })
}

// TakeCell takes a cell whose owner is gone.
func (c *cells) TakeCell(ctx context.Context, r *sitesv1.TakeCellRequest) (*sitesv1.Cell, error) {
	if err := checkReason(r.GetReason(), "say why the cell is taken"); err != nil {
		return nil, err
	}
	return c.change(r.GetCell(), func(o *replication.Owner, number uint16) error {
		cell, _ := c.part.fence.Cell(number)
		return o.Take(ctx, number, cell.Home, r.GetReason(), c.part.n.sites.hears)
	})
}

func (c *cells) change(number uint32, do func(o *replication.Owner, cell uint16) error) (*sitesv1.Cell, error) {
	owned, err := c.ready()
	if err != nil {
		return nil, err
	}
	if number >= eventstore.Cells {
		return nil, fmt.Errorf("%w: cell %d; there are %d, from 0 on", eventstore.ErrInvalid, number, eventstore.Cells)
	}
	if err := do(owned.owner, uint16(number)); err != nil {
		return nil, err
	}
	cell, _ := c.part.fence.Cell(uint16(number))
	return cellMessage(cell), nil
}
