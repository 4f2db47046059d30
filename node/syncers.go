package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

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
	return replication.NewSyncOrchestrator(replication.OrchestratorOptions{
		Log: n.log, Progress: lifeProgress{replication.NewProgressFile(n.path(syncersFile)), log.ID.Incarnation},
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
		all, _ = n.sites.site.Syncers(ctx) // a site that is about to run, or begins another life, has none yet
	}
	return append(all, n.syncers.Status()...)
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

// failingSyncers names the syncers of the domains that do not do their work. Of links the sites tell.
func (n *Node) failingSyncers() (out []server.Dependency) {
	for _, s := range n.syncers.Status() {
		if !s.Healthy && s.LastError != "" {
			out = append(out, server.Dependency{Name: syncerPrefix + s.Name, Mode: "domain", Problem: s.LastError + "; it is tried again"})
		}
	}
	return out
}
