package node

import (
	"cmp"
	"strings"

	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/clickview"
)

func (n *Node) addRows(t *Tables) (*model, error) {
	options, err := n.click.options()
	if err != nil {
		return nil, err
	}
	options.Logger = n.log
	if t.Name != views.Name { // a view has its database to itself; the shop's keeps the plain name
		options.Database = cmp.Or(options.Database, "tributary") + "_" + strings.ReplaceAll(t.Name, "-", "_")
	}
	projection := t.Projection
	projection.History, projection.Unknown = n.history(n.local, t.Categories), n.unknown()
	view, err := clickview.New(projection, t.Schema, options)
	if err != nil {
		return nil, err
	}
	source, err := n.source()
	if err != nil {
		return nil, err
	}
	m := &model{
		name: t.Name + "-clickhouse", sink: "clickhouse", click: view, sharedRows: t.Shared,
		runner: projections.NewRunner(source, view, projections.Options{Logger: modelLog(n.log, t.Name+"-clickhouse"), Linger: clickHouseLinger, MaxBatch: clickHouseBatch}),
	}
	n.models = append(n.models, m)
	return m, nil
}

// options says how to reach ClickHouse.
func (c *clickPart) options() (clickview.Options, error) {
	if c.mode == Embedded {
		return clickview.Options{Dial: c.dial, User: c.user, Password: c.password}, nil
	}
	return clickHouseAddress(c.mode)
}
