package node

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// statusTimeout bounds how long another site may take to say how it is.
const statusTimeout = 2 * time.Second

// says returns what another site says of itself; nil when it does not.
func (p *sitesPart) says(ctx context.Context, site string) *sitesv1.SitesStatus {
	other, known := p.other(site)
	if !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s, err := other.peer.Status(ctx)
	if err != nil {
		return nil // who is away is given cells as well: they are taken from it if it does not come back
	}
	return s
}

// takesCells returns an error when another site says that it takes no writes, and so would not open a cell that it is given, nor could
// anybody write what is in it then; or that it is asked to leave, and would give it on. One that does not say is not known to refuse.
func (p *sitesPart) takesCells(ctx context.Context, site string) error {
	return refusesCells(site, p.says(ctx, site))
}

// refusesCells returns why a site takes no cells, by what it says of itself.
func refusesCells(site string, s *sitesv1.SitesStatus) error {
	switch {
	case s.GetLeaving():
		return fmt.Errorf("%w: site %s is asked to leave, and would give on what it is given: name another site, or have it stay (end its sites leave, then tributary sites readonly off, asked there)",
			eventstore.ErrInvalid, site)
	case s.GetWritesRefused() == "":
		return nil
	case s.GetMode() == string(replication.ReadOnly):
		return fmt.Errorf("%w: site %s takes no writes, and nobody could write the cells that it is given: have it take them first (where an operator has said it: tributary sites readonly off, asked there), or name another site: %s",
			eventstore.ErrInvalid, site, s.GetWritesRefused())
	}
	return fmt.Errorf("%w: site %s takes no writes at present (%s), and nobody could write the cells that it is given: ask again when it does (tributary sites status, asked there): %s",
		eventstore.ErrUnavailable, site, s.GetMode(), s.GetWritesRefused())
}
