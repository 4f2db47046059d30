package node

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/schema"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/queries"
	"github.com/tributary-es/tributary/replication"
)

// Domain is what a team brings: its aggregates, what is folded from their events, and how both are reached. Fields that
// are not needed stay empty. Shop is one.
type Domain struct {
	// Name is a lower-case name.
	Name string
	// Register registers the aggregates at the bus.
	Register func(*commands.Bus) error
	// Keys is the read model in Redis; its name must be the node's only one.
	Keys *projections.Projection[projections.Keys]
	// KeysLinger is for how long a commit to Keys waits for more events. It is for what wants nearly every event of the log and
	// nobody waits for: zero, the usual one, is not at all.
	KeysLinger time.Duration
	// SharedKey, when set, returns what of a key of Keys is the same at all sites that have the same events, and whether anything
	// is; nil: all is.
	SharedKey func(key string, v projections.Value) (projections.Value, bool)
	// Rows is the read model in ClickHouse, with its tables.
	Rows *Tables
	// Sagas are run by the node.
	Sagas []Saga
	// Syncers, when set, returns what brings over changes from elsewhere, each under a name that no other has. The node runs them, and keeps
	// in its folder how far each has come. Every site that has the domain runs its own: what has to be brought over once is for one site
	// (Parts.Sites names this one first).
	Syncers func(*Parts) (map[string]replication.Syncer, error)
	// Commands are taken as JSON over HTTP: route ("POST /v1/points/{id}/earn") → a value of the command's type. Fields
	// come from the body and from the path, by their JSON names; the answer is the receipt.
	Commands map[string]any
	// Queries are answered as JSON over HTTP: route ("GET /v1/points/{id}") → the query.
	Queries map[string]Query
	// Services are offered over gRPC and, where their methods have routes, over HTTP.
	Services func(*Parts) []Service
	// Codecs know the protobuf events, so that payloads can be shown as JSON.
	Codecs []commands.Codec[proto.Message]
	// Figures, when set, reads back what the read models hold, for verify and the demo.
	Figures func(ctx context.Context, p *Parts, f *Figures) error
	// Leave, when set, gives to others what only this site may use, since it is about to take part no more, and says in words what was
	// given and what stays. It may be called again after an error.
	Leave func(ctx context.Context, p *Parts, to []string) (given, kept string, err error)
	// Rebalance, when set, gives what only this site may use to other sites as they need it, until ctx ends. It runs where there are
	// others, with Config.Rebalance "auto".
	Rebalance func(ctx context.Context, p *Parts) error
}

// Tables is a read model in ClickHouse.
type Tables struct {
	projections.Projection[projections.Rows]
	// Schema holds the numbered SQL files of its tables, see package schemas/clickhouse.
	Schema fs.FS
	// Shared are queries, by name, of what is the same at all sites that have the same events, in which {db} stands for the database;
	// nil: the rows of all tables, but for where they stand.
	Shared map[string]string
}

// Query answers from the domain's read model in Redis. param returns a variable of the path, or else of the query string.
// A position to read after, as header X-Read-After or parameter read_after, has been waited for.
type Query func(ctx context.Context, model queries.KeyReader, param func(name string) string) (any, error)

// Service is a gRPC service with its implementation.
type Service struct {
	Desc *grpc.ServiceDesc
	Impl any
}

// Parts is what services are made of.
type Parts struct {
	Bus *commands.Bus
	// Log is the log as commands read it.
	Log  eventstore.Reader
	Keys queries.KeyReader
	Rows queries.RowReader
	// KeysProgress and RowsProgress say how far the read models are.
	KeysProgress, RowsProgress queries.Progress
	// Now is the time of day that events are given.
	Now func() time.Time
	// Sites names the sites that take part, this one first, and it alone while the node is being opened; Takers this one and those that are heard and take writes.
	Sites  func() []string
	Takers func(context.Context) ([]string, error)
	// Syncers runs those of all domains: with it they are exchanged, tried and removed while the node runs.
	Syncers *replication.SyncOrchestrator
	// Logger is for what runs by itself.
	Logger *slog.Logger
}

// Receipt is the JSON answer to a command of a Domain's own route.
type Receipt struct {
	Stream     string `json:"stream"`
	Version    uint64 `json:"version"`
	Position   string `json:"position"`
	Durability string `json:"durability"`
	Duplicate  bool   `json:"duplicate"`
	Session    string `json:"session"`
}

func receiptOf(r eventstore.Receipt) Receipt {
	out := Receipt{Position: r.Position.String(), Durability: r.Reached.String(), Duplicate: r.Duplicate, Session: r.Dot.String()}
	if len(r.Streams) > 0 {
		out.Stream, out.Version = r.Streams[0].Stream.String(), r.Streams[0].Last
	}
	return out
}

// add joins a domain with the machinery.
func (n *Node) add(d Domain) error {
	before := n.bus.Messages()
	if d.Register != nil {
		if err := d.Register(n.bus); err != nil {
			return err
		}
	}
	if len(d.Queries) > 0 && d.Keys == nil {
		return fmt.Errorf("%w: domain %s has queries but no read model in Redis to answer them from (Keys)", eventstore.ErrInvalid, d.Name)
	}
	parts := &Parts{Bus: n.bus, Log: n.sealed, Now: n.steady.Now, Sites: n.participants, Takers: n.takers, Syncers: n.syncers, Logger: n.log}
	if d.Keys != nil {
		m, err := n.addKeys(d.Keys, d.KeysLinger)
		if err != nil {
			return err
		}
		m.sharedKey = d.SharedKey
		parts.Keys, parts.KeysProgress = m.redis, m.runner
	}
	if d.Rows != nil && n.click.mode != Off {
		m, err := n.addRows(d.Rows)
		if err != nil {
			return err
		}
		parts.Rows, parts.RowsProgress = m.click, m.runner
	}
	for _, make := range d.Sagas {
		name, runner, err := make(n)
		if err != nil {
			return err
		}
		n.sagas = append(n.sagas, sagaRunner{name, runner})
	}
	if err := n.addSyncers(d, parts); err != nil {
		return err
	}
	if d.Services != nil {
		for _, s := range d.Services(parts) {
			if err := n.server.Register(s.Desc, s.Impl); err != nil {
				return err
			}
		}
	}
	n.domains = append(n.domains, joined{Domain: d, parts: parts, schemas: schemasOf(messagesOf(d, before, n.bus.Messages()))})
	return n.offer(d, parts)
}

// joined is a domain with the parts it was given.
type joined struct {
	Domain
	parts *Parts
	// schemas describe its protobuf events, changed are those that the log has not registered.
	schemas, changed []schema.Schema
}

// offer puts the domain's own routes on the server.
func (n *Node) offer(d Domain, p *Parts) error {
	for route, prototype := range d.Commands {
		take, err := commandRoute(p.Bus, prototype)
		if err != nil {
			return fmt.Errorf("route %s: %w", route, err)
		}
		n.server.Handle(route, take)
	}
	for route, query := range d.Queries {
		n.server.Handle(route, func(ctx context.Context, r *http.Request) (any, error) {
			at, err := awaitPosition(ctx, p.KeysProgress, r)
			if err != nil {
				return nil, err
			}
			answer, err := query(ctx, p.Keys, func(name string) string { return cmp.Or(r.PathValue(name), r.URL.Query().Get(name)) })
			if err != nil {
				return nil, err
			}
			return server.Positioned{Answer: answer, Position: at.String()}, nil
		})
	}
	return nil
}
