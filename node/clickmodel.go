package node

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/eventstore"
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
	view, err := clickview.New(t.Projection, t.Schema, options)
	if err != nil {
		return nil, err
	}
	source, err := n.source()
	if err != nil {
		return nil, err
	}
	m := &model{
		name: t.Name + "-clickhouse", sink: "clickhouse", click: view,
		runner: projections.NewRunner(source, view, projections.Options{Logger: n.log, Linger: clickHouseLinger, MaxBatch: clickHouseBatch}),
	}
	n.models = append(n.models, m)
	return m, nil
}

// options says how to reach ClickHouse.
func (c *clickPart) options() (clickview.Options, error) {
	if c.mode == Embedded {
		return clickview.Options{Dial: c.dial, User: c.user, Password: c.password}, nil
	}
	addr := c.mode
	if !strings.Contains(addr, "://") {
		addr = "clickhouse://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Scheme != "clickhouse" || u.Host == "" {
		return clickview.Options{}, fmt.Errorf("%w: --clickhouse %s: use embedded, off, or clickhouse://USER:PASSWORD@HOST:PORT/DATABASE",
			eventstore.ErrInvalid, withoutPassword(c.mode))
	}
	password, _ := u.User.Password()
	host := u.Host
	if u.Port() == "" {
		host += ":9000"
	}
	return clickview.Options{Addr: host, User: u.User.Username(), Password: password, Database: strings.Trim(u.Path, "/")}, nil
}

// ping says whether ClickHouse answers.
func (c *clickPart) ping(ctx context.Context) error {
	if c.mode == Embedded {
		conn, err := c.dial(ctx)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	options, err := c.options()
	if err != nil {
		return err
	}
	return reach(ctx, options.Addr)
}
