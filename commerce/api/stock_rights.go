package api

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/eventstore"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// GetStockRights returns which site may sell how many units of a stock code, as the log has it now: what another site has given away or
// sold since is not here yet.
func (q *Queries) GetStockRights(ctx context.Context, r *commerceapiv1.GetStockRightsRequest) (*commerceapiv1.StockRights, error) {
	if _, err := callOf(ctx); err != nil {
		return nil, err
	}
	code := r.GetStockCode()
	if err := eventstore.Stream(inventory.Category, code).Validate(); err != nil {
		return nil, err
	}
	s, version, at, err := commands.LoadHere(ctx, q.Rules.Bus, inventory.Aggregate(), "", code)
	if err == nil && version == 0 {
		err = eventstore.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("stock %q: %w", code, err)
	}
	out := &commerceapiv1.StockRights{StockCode: code, Position: at.String()}
	books := s.Books()
	for _, row := range books.Rows() {
		out.Sites = append(out.Sites, &commerceapiv1.SiteRights{Site: row.Site, Available: books.Available(row.Site), Held: row.Held, Used: row.Used})
	}
	return out, nil
}
