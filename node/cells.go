package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// cellsPart says what this node may write of what is written at one site at a time. It is empty where nothing is.
type cellsPart struct {
	fence *replication.Fence
	owner *replication.Owner
	ring  *replication.Ring
	homed []string
}

// shardOf is the shard of a site: there is one.
func shardOf(site string) replication.Shard { return replication.Shard{Region: site} }

// newCells makes the fence that the store is opened with.
func newCells(c *Config) (*cellsPart, error) {
	p := &cellsPart{homed: c.Homed}
	if len(c.Homed) == 0 {
		return p, nil
	}
	shards := []replication.Shard{shardOf(c.Site)}
	for _, other := range c.Peers {
		shards = append(shards, shardOf(other.Site))
	}
	var err error
	p.ring, err = replication.NewRing(shards...)
	p.fence = replication.NewFence(shardOf(c.Site), func(category string) bool { return slices.Contains(c.Homed, category) })
	return p, err
}

// check returns the store's fence, nil where there is none.
func (p *cellsPart) check() eventstore.Fence {
	if p.fence == nil {
		return nil
	}
	return p.fence.Check
}

// open reads from the log who owns what. REQUIRES: nothing homed is written before.
func (p *cellsPart) open(ctx context.Context, n *Node) (err error) {
	if p.fence != nil {
		p.owner, err = replication.NewOwner(ctx, p.fence, p.ring, n.store, n.log)
	}
	return err
}

// run follows who owns what until ctx ends.
func (p *cellsPart) run(ctx context.Context) error {
	if p.owner == nil {
		return nil
	}
	return p.owner.Run(ctx)
}

// forward sends a call on to the site where its stream is written.
func (n *Node) forward(ctx context.Context, home, method string, request, answer proto.Message) error {
	_, region, _ := strings.Cut(home, "@")
	for i, p := range n.config.Peers {
		if p.Site == region {
			return n.sites.peers[i].Forward(ctx, method, request, answer)
		}
	}
	return fmt.Errorf("%w: no site %q is known here, to which the call should be sent", eventstore.ErrUnavailable, region)
}

// validateHomed says what is wrong with the categories that are homed.
func (c *Config) validateHomed(fault func(format string, args ...any)) {
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
	if len(c.Homed) > 0 && len(c.Peers) == 0 {
		fault("--homed says what is written at one of several sites, and there is no other site (--peer)")
	}
}

// cells implements the service Cells.
type cells struct {
	sitesv1.UnimplementedCellsServer
	part *cellsPart
	site *replication.Site
}

func (c *cells) ready() error {
	if c.part.owner == nil {
		return fmt.Errorf("%w: nothing is written at one site alone here (serve --homed CATEGORY)", eventstore.ErrUnsupported)
	}
	return nil
}

// ListCells says who owns the cells.
func (c *cells) ListCells(_ context.Context, r *sitesv1.ListCellsRequest) (*sitesv1.ListCellsResponse, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if r.GetHome() != "" {
		if _, err := replication.ParseShard(r.GetHome()); err != nil {
			return nil, err
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
	out := &sitesv1.ListCellsResponse{Homed: c.part.homed, Digest: hex.EncodeToString(digest[:])}
	for _, s := range c.part.ring.Shards() {
		out.Shares = append(out.Shares, &sitesv1.CellShare{Home: s.String()})
	}
	for number := range uint16(eventstore.Cells) {
		cell, _ := c.part.fence.Cell(number)
		i := slices.IndexFunc(out.Shares, func(s *sitesv1.CellShare) bool { return s.GetHome() == cell.Home.String() })
		if i < 0 {
			i = len(out.Shares)
			out.Shares = append(out.Shares, &sitesv1.CellShare{Home: cell.Home.String()}) // of a site that this one no longer has
		}
		out.Shares[i].Cells++
		if (r.GetHome() == "" || cell.Home.String() == r.GetHome()) && (only < 0 || only == int(number)) {
			out.Cells = append(out.Cells, cellMessage(cell))
		}
	}
	return out, nil
}

func cellMessage(c replication.Cell) *sitesv1.Cell {
	m := &sitesv1.Cell{Cell: uint32(c.Number), Home: c.Home.String(), Epoch: c.Epoch}
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
	return c.change(r.GetCell(), func(cell uint16) error { return c.part.owner.Move(ctx, cell, to) })
}

// TakeCell takes a cell whose owner is gone.
func (c *cells) TakeCell(ctx context.Context, r *sitesv1.TakeCellRequest) (*sitesv1.Cell, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if r.GetCell() < eventstore.Cells {
		cell, _ := c.part.fence.Cell(uint16(r.GetCell()))
		o, err := c.site.Overview(ctx)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(o.Peers, func(p replication.PeerStatus) bool { return p.Site == cell.Home.Region && p.Up }) {
			return nil, fmt.Errorf("%w: cell %d belongs to %s, which is heard: have it moved there (cells move)", eventstore.ErrInvalid, r.GetCell(), cell.Home)
		}
	}
	return c.change(r.GetCell(), func(cell uint16) error { return c.part.owner.Take(ctx, cell, r.GetReason()) })
}

func (c *cells) change(number uint32, do func(cell uint16) error) (*sitesv1.Cell, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if number >= eventstore.Cells {
		return nil, fmt.Errorf("%w: cell %d; there are %d, from 0 on", eventstore.ErrInvalid, number, eventstore.Cells)
	}
	if err := do(uint16(number)); err != nil {
		return nil, err
	}
	cell, _ := c.part.fence.Cell(uint16(number))
	return cellMessage(cell), nil
}
