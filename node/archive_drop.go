package node

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// DropReport says what was dropped.
type DropReport struct {
	Events   uint64 `json:"events"`
	Segments int    `json:"segments"`
	// Freed is by how many bytes the archive has become smaller.
	Freed int64 `json:"freed"`
	// First is the position of the first event that is left.
	First  string `json:"first"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// DropEvents implements server.Archiving.
func (a archiving) DropEvents(ctx context.Context, r *apiv1.DropArchivedRequest, send func(*apiv1.ArchiveProgress) error) error {
	o := pebblestore.DropOptions{DryRun: r.GetDryRun(), Progress: archiveProgress(send)}
	if r.GetBefore() == "" && r.GetOlderThanSeconds() == 0 {
		return fmt.Errorf("%w: say what to drop: before a position, or what is older than some time", eventstore.ErrInvalid)
	}
	var err error
	if r.GetBefore() != "" {
		if o.Before, err = eventstore.ParsePosition(r.GetBefore()); err != nil {
			return err
		}
	}
	if seconds := r.GetOlderThanSeconds(); seconds != 0 {
		if o.Until, err = ago(seconds); err != nil {
			return err
		}
	}
	done, err := a.node.drop(ctx, o)
	if err != nil {
		return err
	}
	report := DropReport{Events: done.Events, Segments: done.Segments, Freed: done.Freed, First: done.First.String(), DryRun: o.DryRun}
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return send(&apiv1.ArchiveProgress{Done: true, DoneEvents: report.Events, TotalEvents: report.Events, ReportJson: string(body)})
}

// drop drops what nothing that follows the log still has to read.
func (n *Node) drop(ctx context.Context, o pebblestore.DropOptions) (pebblestore.DropReport, error) {
	var err error
	if o.Followers, err = n.logFollowers(ctx); err != nil {
		return pebblestore.DropReport{}, err
	}
	report, err := n.local.Drop(ctx, o)
	if report.Events > 0 && !o.DryRun {
		n.log.Warn("archived events are dropped for good", "first", report.First.String(), "events", report.Events, "freed", report.Freed)
	}
	return report, err
}

// filledAtStart is why nothing may be dropped beside the embedded Redis.
const filledAtStart = "is filled from the first event at each start, for the embedded Redis keeps it in memory; serve with a Redis that keeps its data (--redis HOST:PORT), then drop"

// logFollowers are those who read the log on and on, and how far they are.
func (n *Node) logFollowers(ctx context.Context) ([]pebblestore.Follower, error) {
	var out []pebblestore.Follower
	if n.kafka.mirror != nil {
		out = append(out, pebblestore.Follower{Name: "the mirror to Kafka", At: n.kafka.mirror.Status().Position})
	}
	if n.kafka.feed != nil {
		out = append(out, pebblestore.Follower{Name: "the feed's mirror to Kafka", At: n.kafka.feed.Status().Position})
	}
	for _, m := range n.models {
		f := pebblestore.Follower{Name: "projection " + m.name, At: m.runner.Status().Position}
		if m.redis != nil && n.redis.mode == Embedded {
			f.Keeps = filledAtStart
		}
		out = append(out, f)
	}
	for _, s := range n.sagas {
		out = append(out, pebblestore.Follower{Name: "saga " + s.name, At: s.Position()})
	}
	all, err := n.groups.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("look where the groups are: %w", err)
	}
	for _, g := range all {
		out = append(out, pebblestore.Follower{Name: "group " + g.Name, At: g.Checkpointed})
	}
	return out, nil
}
