package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/replication"
)

// commandTimeout bounds the handling of one message, however long its caller would wait.
const commandTimeout = 30 * time.Second

// Node is a shard at a site, with all that follows its log.
type Node struct {
	config  Config
	log     *slog.Logger
	started time.Time
	run     string      // a random id of this run
	folder  string      // identifies the data folder
	steady  *hlc.Steady // the time of day
	clock   *hlc.Clock  // over it, of the store and the mirror
	// verifying is held by the verification that is under way.
	verifying chan struct{}

	local     *pebblestore.Store
	store     eventstore.Store // local, with durability Kafka and Peer where they are kept; personal fields are sealed in it
	groups    *groups.Groups
	keys      *keyPart
	sealed    *sealed.Store // store, which seals and opens them
	bus       *commands.Bus
	snapshots *pebblestore.Snapshots // nil when they could not be opened
	kafka     *kafkaPart
	sites     *sitesPart
	cells     *cellsPart
	redis     *redisPart
	click     *clickPart
	sagas     []sagaRunner
	models    []*model
	domains   []joined
	followers followers
	// life ends when the followers end, for what they call that is given no context; end ends it.
	life context.Context
	end  context.CancelFunc

	syncers       *replication.SyncOrchestrator
	archivePolicy archivePolicy
	server        *server.Server

	erasures sync.Mutex // guards keys.last

	closeOnce sync.Once
	closeErr  error
}

// Open opens the data folder, connects or starts what the configuration names, and takes the ports. What is down or
// missing is tried again while the node runs; only the store must be there. The caller must Close the node.
func Open(ctx context.Context, config Config) (_ *Node, err error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	if err := refuseBackup(config.Data); err != nil {
		return nil, err
	}
	if err := config.expectLog(); err != nil {
		return nil, err
	}
	if err := config.portsFree(ctx); err != nil {
		return nil, err
	}
	if err := makeDataFolder(config.Data); err != nil {
		return nil, err
	}
	n := &Node{config: config, log: config.Logger, started: time.Now(), run: uuid.NewString(), steady: newSteady(config.Logger), verifying: make(chan struct{}, 1)}
	n.clock = hlc.New(n.steady.Now)
	if n.folder, err = folderIdentity(config.Data); err != nil {
		return nil, err
	}
	n.life, n.end = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.cells, err = newCells(n); err != nil {
		return nil, err
	}
	if config.Life != 0 {
		if err := pebblestore.BeginLife(n.path(storeFolder), config.Life, n.storeOptions()); err != nil {
			return nil, err
		}
	}
	if n.local, err = n.openStore(ctx); err != nil {
		if b, ok, findErr := FindServer(ctx, config.Data); findErr == nil && ok {
			return nil, fmt.Errorf("%w: a server with process id %d serves it on %s", err, b.PID, b.HTTP)
		}
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := n.warnOfFuture(ctx); err != nil {
		return nil, err
	}
	if n.kafka, err = openKafka(n); err != nil {
		return nil, err
	}
	if err := n.joinOthers(ctx); err != nil {
		return nil, err
	}
	// What is kept for the next time; recall changes what the node itself uses.
	config.Peers, config.Homed = slices.Clone(n.config.Peers), n.config.Homed
	if err := n.recall(ctx); err != nil {
		return nil, err
	}
	if err := n.openFeed(); err != nil {
		return nil, err
	}
	if n.sites, err = openSites(n); err != nil {
		return nil, err
	}
	n.store = n.sites.guarded(n.durable(n.local))
	if n.keys, err = openKeys(ctx, n); err != nil {
		return nil, err
	}
	if n.sealed, err = n.keys.seal(ctx, n.store, n.log); err != nil {
		return nil, err
	}
	if n.groups, err = groups.Open(ctx, n.store, groups.Options{Log: n.log}); err != nil {
		return nil, err
	}
	if n.redis, err = openRedis(n); err != nil {
		return nil, err
	}
	if n.click, err = openClickHouse(n); err != nil {
		return nil, err
	}
	options := commands.Options{Log: n.log, Decidable: n.sites.decidable, Middleware: []commands.Middleware{
		commands.Logging(n.log), commands.Recovery(), commands.Timeout(commandTimeout), commands.Validation(),
	}}
	if n.snapshots, err = pebblestore.OpenSnapshots(n.path("snapshots"), &pebblestore.SnapshotOptions{Logger: n.log, Room: n.local.Writable}); err != nil {
		n.log.Warn("no snapshots are kept until the next start", slog.Any("error", err))
	} else {
		options.Snapshots = n.snapshots
	}
	n.bus = commands.NewBus(n.sealed, options)
	if n.syncers, err = n.newSyncers(ctx); err != nil {
		return nil, err
	}
	n.server = server.New(server.Options{
		HTTPAddr: config.HTTP, GRPCAddr: config.GRPC, MaxStreams: config.MaxStreams, Durability: config.durability(), Logger: n.log, Version: config.Version, Run: n.run, Folder: n.folder,
		Health: n.health, Sample: n.sample, Page: n.page(), Forward: n.forward, Head: n.head, Locate: n.locate, Session: n.sites.session(n.local),
		Refuse: n.refusesMore(),
	})
	if err := n.assemble(); err != nil {
		return nil, err
	}
	if err := n.refuseHomed(n.bus); err != nil && !config.Look {
		return nil, err
	}
	n.sites.escrows(n.bus.Resolvers())
	if err := n.openRegistrar(ctx); err != nil {
		return nil, err
	}
	if !config.Look {
		if err := n.registerSchemas(ctx); err != nil {
			return nil, err
		}
	}
	if err := n.server.Listen(ctx); err != nil {
		return nil, err
	}
	if config.Look {
		return n, nil
	}
	if _, err := os.Stat(n.path(configFile)); config.Remember || errors.Is(err, fs.ErrNotExist) {
		if err := unlessFull(n.log, "what the folder is used with is not kept for the next time", config.save()); err != nil {
			return nil, err
		}
	}
	n.click.started = func() {
		if err := n.lightBeacon(); err != nil {
			n.log.Warn("could not say where clickhouse is", slog.Any("error", err))
		}
	}
	if err := unlessFull(n.log, "commands do not find this server by its folder, use --addr", n.lightBeacon()); err != nil {
		return nil, err
	}
	return n, nil
}

// lookPatience is how long a folder is waited for that another process has open, and no server: whoever looks at it is done soon.
const lookPatience = 3 * time.Second

// openStore opens the log, when whoever looks at the folder just now is done.
func (n *Node) openStore(ctx context.Context) (*pebblestore.Store, error) {
	for end := time.Now().Add(lookPatience); ; {
		s, err := pebblestore.Open(n.path(storeFolder), n.storeOptions())
		if !errors.Is(err, pebblestore.ErrLocked) || time.Now().After(end) {
			return s, err
		}
		if _, served, findErr := FindServer(ctx, n.config.Data); findErr != nil || served {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (n *Node) storeOptions() *pebblestore.Options {
	c := &n.config
	return &pebblestore.Options{
		Site: c.Site, Logger: n.log, Clock: n.clock, Fence: n.cells.check(),
		CacheBytes: c.CacheBytes, MinFreeBytes: c.MinFreeBytes, BallastBytes: c.BallastBytes, StallAfter: c.StallAfter,
		OpenArchive: openBucket, Checkpoints: checkpointTypes,
	}
}

// assemble joins the domains with the machinery.
func (n *Node) assemble() error {
	for _, d := range n.config.Domains {
		if err := n.add(d); err != nil {
			return fmt.Errorf("domain %s: %w", d.Name, err)
		}
	}
	conflicts, err := n.conflicts()
	if err != nil {
		return err
	}
	if err := n.add(conflicts); err != nil {
		return err
	}
	return n.registerOwn()
}

// Run serves until ctx ends, then drains: no new calls, then sagas, read models and mirror stop where they are; all of
// them go on from there the next time. It returns early when something that cannot be repaired by waiting fails, and with a
// *LifeError when the log has to go on in another life.
func (n *Node) Run(ctx context.Context) error {
	if n.config.Look {
		return n.show(ctx)
	}
	// Followers outlive the listeners, so that calls under way are still answered.
	followers, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(followers)
	defer context.AfterFunc(gctx, n.end)()
	g.Go(func() error { return ignoreCancel(n.kafka.run(gctx, n.sites.mayMirror)) })
	g.Go(func() error { return n.supervise(gctx, "roster", n.cells.registrar.Run) })
	g.Go(func() error { return n.supervise(gctx, "cells", n.cells.run) })
	g.Go(func() error { return ignoreCancel(n.sites.run(gctx, n.recordChangedSchemas)) })
	g.Go(func() error { return ignoreCancel(n.click.run(gctx)) })
	g.Go(func() error { return n.supervise(gctx, "erasures", n.followErasures) })
	g.Go(func() error { return n.supervise(gctx, "scrub", n.scrub) })
	g.Go(func() error { return n.supervise(gctx, "comparison of stores", n.compare) })
	g.Go(func() error { return n.supervise(gctx, "archive", n.keepArchiving) })
	g.Go(func() error { return n.watchArchives(gctx) })
	for _, m := range n.models {
		g.Go(func() error { return n.supervise(gctx, projectionPrefix+m.name, m.runner.Run) })
	}
	for _, s := range n.sagas {
		g.Go(func() error {
			return n.supervise(gctx, sagaPrefix+s.name, func(ctx context.Context) error { return n.runSaga(ctx, s) })
		})
	}
	g.Go(func() error { return ignoreCancel(n.runSyncers(gctx)) })
	for _, d := range n.domains {
		if d.Rebalance != nil && n.config.Rebalance == RebalanceAuto && n.sites.site != nil {
			g.Go(func() error {
				return n.supervise(gctx, "rebalancing of "+d.Name, func(ctx context.Context) error { return d.Rebalance(ctx, d.parts) })
			})
		}
	}
	g.Go(func() error {
		defer stop()
		serving, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(gctx, cancel)()
		return n.server.Run(serving)
	})
	return g.Wait()
}

// Close stops what Open started. It comes after Run has returned, and is safe to call twice.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.end()
		var errs []error
		if n.server != nil {
			errs = append(errs, n.douseBeacon(), n.server.Close())
		}
		if n.groups != nil {
			errs = append(errs, n.groups.Close())
		}
		for _, m := range n.models {
			errs = append(errs, m.runner.Sink().Close())
		}
		for _, c := range []interface{ close() error }{n.click, n.redis, n.sites, n.kafka} {
			errs = append(errs, c.close())
		}
		if n.snapshots != nil {
			errs = append(errs, n.snapshots.Close())
		}
		if n.local != nil {
			errs = append(errs, n.local.Close())
		}
		errs = append(errs, n.keys.close())
		n.closeErr = errors.Join(errs...)
	})
	return n.closeErr
}

// HTTPAddr and GRPCAddr return where the node listens; Data is its folder.
func (n *Node) HTTPAddr() string { return n.server.HTTPAddr() }

// GRPCAddr returns where gRPC listens.
func (n *Node) GRPCAddr() string { return n.server.GRPCAddr() }

// Data returns the node's folder.
func (n *Node) Data() string { return n.config.Data }

func (n *Node) path(parts ...string) string {
	return filepath.Join(append([]string{n.config.Data}, parts...)...)
}

// expectLog returns an error where there has to be a log, and is none: a new one in its place would give its positions a second time.
func (c *Config) expectLog() error {
	if HasData(c.Data) {
		return nil
	}
	if c.Look {
		return fmt.Errorf("%w: there is no log in %s", eventstore.ErrInvalid, c.Data)
	}
	if _, err := os.Stat(filepath.Join(c.Data, configFile)); err != nil {
		return nil //nolint:nilerr // the folder was never used
	}
	return fmt.Errorf("%w: the folder %s was used before, and its log is gone: there is nothing in %s; see whether its disk is mounted, restore it (see Restore in docs/operations.md), or remove %s to begin with an empty log",
		eventstore.ErrInvalid, c.Data, filepath.Join(c.Data, storeFolder), filepath.Join(c.Data, configFile))
}

// HasData reports whether a folder holds a log.
func HasData(dir string) bool { return pebblestore.IsStore(filepath.Join(dir, storeFolder)) }

func ignoreCancel(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
