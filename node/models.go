package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/redisview"
	"github.com/tributary-es/tributary/queries"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Names of the shop's read models, as status and rebuild have them.
const (
	RedisProjection      = "shop-redis"
	ClickHouseProjection = "shop-clickhouse"
)

// model is a read model: a projection in a sink, kept up by a runner.
type model struct {
	name   string // projection-sink
	sink   string // redis or clickhouse
	runner *projections.Runner
	keys   *projections.Projection[projections.Keys]
	redis  *redisview.View
	click  rowsView
	// sharedKey and sharedRows say what of it is the same at all sites (Domain.SharedKey, Tables.Shared).
	sharedKey  func(key string, v projections.Value) (projections.Value, bool)
	sharedRows map[string]string
}

// parking returns the model's sink as what operators see to parked events with.
func (m *model) parking() projections.Parking {
	if m.redis != nil {
		return m.redis
	}
	return m.click
}

// rowsView is what the node asks of a view in ClickHouse.
type rowsView interface {
	projections.Sink
	projections.CursorReader
	projections.Parking
	queries.RowReader
	// Diff compares the tables with a fold of the log and names the rows that differ.
	Diff(ctx context.Context, source projections.Source) ([]string, error)
	// SharedDigests returns digests of what of the tables is the same at all sites.
	SharedDigests(ctx context.Context, queries map[string]string) ([]projections.PartDigest, error)
}

// ClickHouse pays for each commit, so that its runner waits a little for more; Redis does only where a domain says so.
const (
	clickHouseLinger = 200 * time.Millisecond
	clickHouseBatch  = 20_000
)

// modelLog is the log of what fills a model, and names it: a projection may fill more than one.
func modelLog(log *slog.Logger, name string) *slog.Logger {
	return log.With(slog.String("model", name))
}

func (n *Node) addKeys(p *projections.Projection[projections.Keys], linger time.Duration) (*model, error) {
	source, err := n.opened()
	if err != nil {
		return nil, err
	}
	opening := *p
	opening.Open = func(e *eventstore.Recorded) error { return n.sealed.Open(context.Background(), e) }
	opening.History = n.history(withheld{dropping{n.sealed, n.local}}, p.Categories)
	opening.Unknown = n.unknown()
	view := redisview.New(n.redis.client, opening, redisview.Options{Logger: n.log})
	m := &model{
		name: p.Name + "-redis", sink: "redis", keys: &opening, redis: view,
		runner: projections.NewRunner(source, view, projections.Options{Logger: modelLog(n.log, p.Name+"-redis"), Linger: linger}),
	}
	n.models = append(n.models, m)
	return m, nil
}

// model returns the read model of a name.
func (n *Node) model(name string) (*model, error) {
	known := make([]string, 0, len(n.models))
	for _, m := range n.models {
		if m.name == name {
			return m, nil
		}
		known = append(known, m.name)
	}
	return nil, fmt.Errorf("%w: projection %q; there are %v", eventstore.ErrNotFound, name, known)
}

// Rebuild folds the whole log into a new model beside the live one, replaces it, and returns the digests of both.
func (n *Node) Rebuild(ctx context.Context, name string, progress func(done, total uint64)) (before, after string, err error) {
	m, err := n.model(name)
	if err != nil {
		return "", "", err
	}
	return n.rebuild(ctx, m, func(p *apiv1.RebuildProgress) { progress(p.GetDoneEvents(), p.GetTotalEvents()) })
}

// rebuild rebuilds a model. What would have to be filled from events that were dropped is refused before it is touched.
func (n *Node) rebuild(ctx context.Context, m *model, report func(*apiv1.RebuildProgress)) (before, after string, err error) {
	before, after, err = m.runner.Rebuild(ctx, func(p projections.RebuildProgress) {
		report(&apiv1.RebuildProgress{DoneEvents: p.Done, TotalEvents: p.Total, Rate: p.Rate, EtaSeconds: p.ETA.Seconds()})
	})
	if errors.Is(err, projections.ErrDropped) {
		err = server.Dropped(strings.TrimPrefix(n.stuckHint(err), "; "), "%v; nothing was changed", err)
	}
	return before, after, err
}
