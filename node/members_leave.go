package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// moveAtOnce is how many cells a site gives away for one call of LeaveSite, or takes with one write.
const moveAtOnce = 64

// FoundSystem has the system begin without sites that are gone.
func (m members) FoundSystem(ctx context.Context, r *sitesv1.FoundSystemRequest) (*sitesv1.Roster, error) {
	if err := checkReason(r.GetReason(), "say why the sites are thought to be gone"); err != nil {
		return nil, err
	}
	roster, err := m.n.cells.registrar.Found(ctx, r.GetWithout(), r.GetReason())
	if err != nil {
		return nil, err
	}
	m.n.log.Warn("an operator has said that the sites' system begins without some", "gone", r.GetWithout(), "reason", r.GetReason())
	return m.rosterMessage(roster), nil
}

// LeaveSite has a site take part no more.
func (m members) LeaveSite(ctx context.Context, r *sitesv1.LeaveSiteRequest) (*sitesv1.LeaveSiteResponse, error) {
	if r.GetSite() == "" {
		return nil, fmt.Errorf("%w: the name of the site that leaves is missing (site)", eventstore.ErrInvalid)
	}
	if err := checkReason(r.GetReason(), "say why the site leaves"); err != nil {
		return nil, err
	}
	if r.GetSite() == m.n.config.Site {
		return m.leave(ctx, r)
	}
	heard, err := m.n.sites.hears(ctx, r.GetSite())
	if err != nil {
		return nil, err
	}
	if heard {
		return nil, fmt.Errorf("%w: site %s is heard: have it leave by itself (sites leave, asked there)", eventstore.ErrInvalid, r.GetSite())
	}
	if left, coming := len(m.n.cells.of(r.GetSite())), len(m.n.cells.comingTo(r.GetSite())); left+coming > 0 {
		return nil, fmt.Errorf("%w: site %s has %d cells, and %d are on their way to it: take them first (sites promote --from %s)",
			eventstore.ErrInvalid, r.GetSite(), left, coming, r.GetSite())
	}
	if _, err := m.n.cells.registrar.Leave(ctx, r.GetSite(), r.GetReason()); err != nil {
		return nil, err
	}
	return &sitesv1.LeaveSiteResponse{Left: true}, nil
}

// leave gives away some of this site's cells; when it has none any more it takes no writes from then on, gives away what it alone may use,
// and has it put on record that it has left. It takes no writes first, for the others must not give to it what it gives away: what it has
// when it has left, nobody can use any more.
func (m members) leave(ctx context.Context, r *sitesv1.LeaveSiteRequest) (*sitesv1.LeaveSiteResponse, error) {
	c := m.n.cells
	switch roster := c.registrar.Roster(); {
	case roster.Has(m.n.config.Site), m.n.sites.site == nil:
	case slices.Contains(roster.Left, m.n.config.Site):
		return &sitesv1.LeaveSiteResponse{Left: true}, nil
	default: // others may know more than it does
		return nil, fmt.Errorf("%w: site %s does not know yet that it takes part, nor which cells it has been given: ask again when it has what the others have (sites status)",
			eventstore.ErrUnavailable, m.n.config.Site)
	}
	if !c.leaving.now() { // one that cannot leave in any case keeps no other from leaving
		if _, _, err := m.successors(ctx); err != nil {
			return nil, err
		}
	}
	// INVARIANT: a site is known to leave before it asks who could take its place: of two that begin at once, one at least sees the other.
	defer c.leaving.begin()()
	take, leave, err := m.successors(ctx)
	if err != nil {
		return nil, err
	}
	if left, err := m.giveCells(ctx, take, leave); err != nil || left > 0 {
		return &sitesv1.LeaveSiteResponse{Cells: left}, err
	}
	out := &sitesv1.LeaveSiteResponse{Left: true}
	if err := m.n.sites.retire(ctx, r.GetReason(), c.registrar.Roster); err != nil {
		return nil, err
	}
	if !slices.Contains(c.registrar.Roster().Left, m.n.config.Site) {
		if err := pause(ctx, giftsArrive); err != nil {
			return nil, fmt.Errorf("wait for what others have given to this site: %w (%s)", err, stillMember)
		}
		if left, err := m.giveCells(ctx, take, leave); err != nil || left > 0 {
			return &sitesv1.LeaveSiteResponse{Cells: left}, err
		}
		if !r.GetKeep() {
			if err := m.giveAway(ctx, out, take); err != nil {
				return nil, fmt.Errorf("give away what only this site may use: %w (%s; without giving anything away it leaves with --keep)", err, stillMember)
			}
		}
	}
	if _, err := c.registrar.Leave(ctx, m.n.config.Site, r.GetReason()); err != nil {
		return nil, fmt.Errorf("put on record that the site has left: %w (%s)", err, stillMember)
	}
	c.leaving.over()
	state, err := m.n.local.Log(ctx)
	if err != nil {
		return nil, err
	}
	return out, m.n.sites.toldAll(ctx, state.Seq)
}

// giveCells gives some of the site's cells to those who take them, and returns how many it has still to give, or others to open.
func (m members) giveCells(ctx context.Context, take, leave []string) (left uint32, err error) {
	c := m.n.cells
	if err := c.stuck(append(slices.Clone(leave), take...)); err != nil {
		return 0, err
	}
	ring, err := replication.NewRing(shardsOf(take)...)
	if err != nil {
		return 0, err
	}
	moved := 0
	for _, cell := range c.of(m.n.config.Site) {
		if cell.Sealed {
			continue
		}
		if moved++; moved > moveAtOnce {
			break
		}
		if err := c.owned.Load().owner.Move(ctx, cell.Number, ring.Of(cell.Number)); err != nil {
			return 0, err
		}
	}
	return uint32(len(c.of(m.n.config.Site)) + len(c.comingTo(m.n.config.Site))), nil
}

// stillMember says where a site stands that has not left when it was to.
const stillMember = "the site still takes part, and takes no writes: sites leave, asked again, goes on; sites readonly off has it stay"

// retire has the site take no writes, since it leaves, and has the others know.
func (p *sitesPart) retire(ctx context.Context, reason string, roster func() replication.Roster) error {
	if err := p.readOnly.set(hasLeft + reason); err != nil {
		return err
	}
	if p.site == nil {
		return nil
	}
	return p.takePart(ctx, roster)
}

// giftsArrive is how long a site that leaves waits for what was given to it by those who asked whether it takes writes before it took none.
// They may have been kept waiting by others that they asked as well.
const giftsArrive = statusTimeout

// pause returns after a while; with ctx's error when that ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveAway has the domains give to others what only this site may use. REQUIRES: the site has retired. Nothing else writes then.
func (m members) giveAway(ctx context.Context, out *sitesv1.LeaveSiteResponse, to []string) error {
	for _, d := range m.n.domains {
		if d.Leave == nil {
			continue
		}
		given, kept, err := d.Leave(givesAway(ctx), d.parts, to)
		if err != nil {
			return err
		}
		if given != "" {
			out.Given = append(out.Given, given)
		}
		if kept != "" {
			out.Kept = append(out.Kept, kept)
		}
	}
	return nil
}

// of returns the cells of a site, as far as it is known; those too that it has sealed and nobody has opened yet.
func (p *cellsPart) of(site string) (out []replication.Cell) {
	for number := range uint16(eventstore.Cells) {
		if cell, known := p.fence.Cell(number); known && cell.Home.Region == site {
			out = append(out, cell)
		}
	}
	return out
}

// comingTo returns the cells that others have sealed for a site, and that it has not opened.
func (p *cellsPart) comingTo(site string) (out []replication.Cell) {
	for number := range uint16(eventstore.Cells) {
		if cell, known := p.fence.Cell(number); known && cell.Sealed && cell.Next.Region == site {
			out = append(out, cell)
		}
	}
	return out
}

// shardsOf returns the shards of sites.
func shardsOf(sites []string) (out []replication.Shard) {
	for _, site := range sites {
		out = append(out, shardOf(site))
	}
	return out
}

// tellTimeout bounds how long a site that leaves waits for the others to have its log.
const tellTimeout = 5 * time.Second

// toldAll returns when all other sites that are heard have the site's log up to a seq, or hear it no more because they know that it has left.
func (p *sitesPart) toldAll(ctx context.Context, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		o, err := p.site.Overview(ctx)
		if err != nil {
			return err
		}
		if o.Mirrored >= seq && !slices.ContainsFunc(o.Peers, func(other replication.PeerStatus) bool { return other.Up && other.Behind > 0 }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // they come for it when they can
		}
	}
}

// PromoteSite takes over from a site that is gone: its cells, and those that were on their way to it. Those that it has given to a site
// that is heard are left to that.
func (m members) PromoteSite(ctx context.Context, r *sitesv1.PromoteSiteRequest) (*sitesv1.PromoteSiteResponse, error) {
	if r.GetSite() == "" {
		return nil, fmt.Errorf("%w: the name of the site that is gone is missing (site)", eventstore.ErrInvalid)
	}
	if err := checkReason(r.GetReason(), "say why the site is thought to be gone"); err != nil {
		return nil, err
	}
	c := m.n.cells
	owned := c.owned.Load()
	cells := append(c.of(r.GetSite()), c.comingTo(r.GetSite())...)
	switch heard, err := m.n.sites.hears(ctx, r.GetSite()); {
	case err != nil:
		return nil, err
	case owned == nil:
		return nil, fmt.Errorf("%w: the sites' system is not founded yet: first say that it begins without site %s (sites found --without %s)", eventstore.ErrUnavailable, r.GetSite(), r.GetSite())
	case r.GetSite() == m.n.config.Site || len(cells) == 0 && !slices.Contains(c.shards(), shardOf(r.GetSite())):
		return nil, fmt.Errorf("site %q: %w: it is none of the others that take part here", r.GetSite(), eventstore.ErrNotFound)
	case heard:
		return nil, fmt.Errorf("%w: site %s is heard: have it give its cells away (sites leave, or cells move, asked there)", eventstore.ErrInvalid, r.GetSite())
	}
	goOn, err := m.n.takers(ctx) // this one too
	if err != nil {
		return nil, err
	}
	ring, err := replication.NewRing(shardsOf(goOn)...)
	if err != nil {
		return nil, err
	}
	out := &sitesv1.PromoteSiteResponse{}
	for some := range slices.Chunk(cells, moveAtOnce) {
		numbers := make([]uint16, len(some))
		for i := range some {
			numbers[i] = some[i].Number
		}
		left, err := owned.owner.TakeAll(ctx, numbers, shardOf(r.GetSite()), r.GetReason(), m.n.sites.hears)
		if err != nil {
			return out, err
		}
		for _, number := range numbers {
			if left[number] != nil { // somebody else has it, or is about to
				out.Elsewhere++
				continue
			}
			out.Taken++
			to := ring.Of(number)
			if to == shardOf(m.n.config.Site) {
				continue
			}
			switch err := owned.owner.Move(ctx, number, to); {
			case err == nil, errors.Is(err, replication.ErrMoving):
				out.Given++
			case errors.Is(err, eventstore.ErrConflict), errors.Is(err, eventstore.ErrNotHome): // somebody else has it by now
				out.Taken--
				out.Elsewhere++
			default:
				return out, err
			}
		}
	}
	return out, nil
}
