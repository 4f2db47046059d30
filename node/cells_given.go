package node

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// statusTimeout bounds how long another site may take to say how it is.
const statusTimeout = 2 * time.Second

// takesCells returns an error when another site says that it takes no writes, and so would not open a cell that it is given: nobody could
// write what is in it then. One that does not say is not known to refuse.
func (p *sitesPart) takesCells(ctx context.Context, site string) error {
	other, known := p.other(site)
	if !known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s, err := other.peer.Status(ctx)
	switch {
	case err != nil || s.GetWritesRefused() == "":
		return nil //nolint:nilerr // who is away is given cells as well: they are taken from it if it does not come back
	case s.GetMode() == string(replication.ReadOnly):
		return fmt.Errorf("%w: site %s takes no writes, and nobody could write the cells that it is given: have it take them first (where an operator has said it: tributary sites readonly off, asked there), or name another site: %s",
			eventstore.ErrInvalid, site, s.GetWritesRefused())
	}
	return fmt.Errorf("%w: site %s takes no writes at present (%s), and nobody could write the cells that it is given: ask again when it does (tributary sites status, asked there): %s",
		eventstore.ErrUnavailable, site, s.GetMode(), s.GetWritesRefused())
}
