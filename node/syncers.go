package node

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/replication"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// syncersFile has how far the syncers of the domains have come.
const syncersFile = "syncers.json"

// syncerPrefix begins what health calls a syncer that fails.
const syncerPrefix = "syncer "

// newSyncers returns what runs the syncers of the domains.
func (n *Node) newSyncers(ctx context.Context) (*replication.SyncOrchestrator, error) {
	log, err := n.local.Log(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the store: %w", err)
	}
	progress := replication.NewProgressFile(n.path(syncersFile))
	if _, err := progress.Load(""); err != nil && !n.config.Look {
		aside := n.path(syncersFile + ".damaged")
		n.log.Warn("the syncers of the domains begin anew", slog.Any("why", err), slog.String("kept as", aside))
		if err := os.Rename(n.path(syncersFile), aside); err != nil {
			return nil, fmt.Errorf("put aside what cannot be read: %w", err)
		}
	}
	return replication.NewSyncOrchestrator(replication.OrchestratorOptions{
		Log: n.log, Now: n.steady.Now, Progress: lifeProgress{progress, log.ID.Incarnation},
	}), nil
}

// lifeProgress is how far syncers have come in one life of the log: what was brought over in an earlier one may be lost with it, and all
// is brought over again.
type lifeProgress struct {
	replication.SyncProgress
	life uint32
}

func (p lifeProgress) key(name string) string { return fmt.Sprintf("%s, life %d", name, p.life) }

// Load implements replication.SyncProgress.
func (p lifeProgress) Load(name string) (int64, error) { return p.SyncProgress.Load(p.key(name)) }

// Save implements replication.SyncProgress.
func (p lifeProgress) Save(name string, fromTS int64) error {
	return p.SyncProgress.Save(p.key(name), fromTS)
}

// runSyncers runs the syncers of the domains until ctx ends, once the site has all that was born here in earlier lives of its log: what they
// have done in one is known then, and not done again.
func (n *Node) runSyncers(ctx context.Context) error {
	defer n.followers.wait(syncersFile, nil)
	if err := n.sites.awaitWhole(ctx, func(why error) { n.followers.wait(syncersFile, why) }); err != nil {
		return err
	}
	n.followers.wait(syncersFile, nil)
	return n.syncers.Run(ctx)
}

// addSyncers has the node run the syncers of a domain, unless it only looks.
func (n *Node) addSyncers(d Domain, p *Parts) error {
	if d.Syncers == nil || n.config.Look {
		return nil
	}
	syncers, err := d.Syncers(p)
	if err != nil {
		return fmt.Errorf("syncers: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(syncers)) {
		if strings.HasPrefix(name, replication.LinkName("")) {
			return fmt.Errorf("%w: syncer %q is called as the link to a site is: give it another name", eventstore.ErrInvalid, name)
		}
		if err := n.syncers.Add(name, syncers[name]); err != nil {
			return err
		}
	}
	return nil
}

// allSyncers says how the links to other sites and the syncers of the domains are.
func (n *Node) allSyncers(ctx context.Context) []replication.SyncerStatus {
	var all []replication.SyncerStatus
	if n.sites.site != nil {
		ctx, cancel := context.WithTimeout(ctx, healthTimeout)
		defer cancel()
		all = n.sites.site.Syncers(ctx)
	}
	domains := n.syncers.Status()
	if why := n.followers.waiting(syncersFile); why != nil {
		for i := range domains {
			domains[i].LastError = "it waits for what it did in an earlier life of the log: " + why.Error()
		}
	}
	return append(all, domains...)
}

func (n *Node) syncerStatus(ctx context.Context) (out []*apiv1.SyncerStatus) {
	for _, s := range n.allSyncers(ctx) {
		status := &apiv1.SyncerStatus{
			Name: s.Name, Healthy: s.Healthy, LagSeconds: s.Lag.Seconds(), Calls: s.Calls, Failures: s.Failures, LastError: s.LastError,
		}
		if s.FromTS > 0 {
			status.From = timestamppb.New(time.Unix(0, s.FromTS))
		}
		out = append(out, status)
	}
	return out
}

func (n *Node) syncerSamples(ctx context.Context) (out []server.SyncerSample) {
	for _, s := range n.allSyncers(ctx) {
		out = append(out, server.SyncerSample{Name: s.Name, Healthy: s.Healthy, LagSeconds: s.Lag.Seconds(), Calls: s.Calls, Failures: s.Failures})
	}
	return out
}

// failingSyncers names the syncers of the domains that do not do their work, or do not keep how far it is done. Of links the sites tell.
func (n *Node) failingSyncers() (out []server.Dependency) {
	for _, s := range n.syncers.Status() {
		if s.LastError != "" {
			out = append(out, server.Dependency{Name: syncerPrefix + s.Name, Mode: "domain", Problem: s.LastError + "; it is tried again"})
		}
	}
	return out
}
