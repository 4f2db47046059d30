package node

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
	"github.com/tributary-es/tributary/eventstore/archive/s3"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// ArchiveReport says what was archived.
type ArchiveReport struct {
	To string `json:"to"`
	// First and Last are the positions of the first and the last event that was; empty when none was.
	First    string `json:"first,omitempty"`
	Last     string `json:"last,omitempty"`
	Events   uint64 `json:"events"`
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
	// Archived is the position up to which the log is archived.
	Archived string `json:"archived"`
	DryRun   bool   `json:"dry_run,omitempty"`
}

// ArchiveFindings say how what is archived is.
type ArchiveFindings struct {
	Segments int    `json:"segments"`
	Events   uint64 `json:"events"`
	Bytes    int64  `json:"bytes"`
	// Faults are those that are left, Repaired those that were.
	Faults   []string `json:"faults"`
	Repaired []string `json:"repaired,omitempty"`
	// Unused are objects at the log's places that are none of its segments.
	Unused []string `json:"unused"`
}

// Archive is the store of a data folder that no server runs on, for what is done with its archive.
type Archive struct {
	store *pebblestore.Store
	own   []string // the node's folders
}

// OpenArchive opens the store of a data folder, and nothing else of it.
func OpenArchive(data string, log *slog.Logger) (*Archive, error) {
	last, err := lastConfig(data)
	if err != nil {
		return nil, err
	}
	s, err := pebblestore.Open(filepath.Join(data, storeFolder), &pebblestore.Options{Site: last.Site, Logger: log, OpenArchive: openBucket, Checkpoints: checkpointTypes})
	if err != nil {
		return nil, err
	}
	return &Archive{s, []string{data, last.Keys}}, nil
}

// Close closes the store.
func (a *Archive) Close() error { return a.store.Close() }

// Archive archives what a request says.
func (a *Archive) Archive(ctx context.Context, r *apiv1.ArchiveRequest, progress func(done, total uint64)) (ArchiveReport, error) {
	return archiveBlocks(ctx, a.store, r, progress, a.own...)
}

// List lists what is archived.
func (a *Archive) List() *apiv1.ListArchiveResponse { return archivedSegments(a.store) }

// Verify checks what is archived. repair writes anew what follows from the log's own record of it.
func (a *Archive) Verify(ctx context.Context, repair bool, progress func(done, total uint64)) (ArchiveFindings, error) {
	return verifyArchive(ctx, a.store, repair, progress)
}

// checkpointTypes are the system events that are soon superseded.
var checkpointTypes = []string{groups.CheckpointType, saga.CheckpointType}

// openBucket opens a place of archived events.
func openBucket(location string) (archive.Bucket, error) {
	if strings.HasPrefix(location, s3.Scheme) {
		return s3.Open(location)
	}
	return archive.OpenFolder(location)
}

// archiveBlocks archives what a request says, and not into the node's own folders.
func archiveBlocks(ctx context.Context, s *pebblestore.Store, r *apiv1.ArchiveRequest, progress func(done, total uint64), own ...string) (_ ArchiveReport, err error) {
	o := pebblestore.ArchiveOptions{To: r.GetTo(), KeepLast: r.GetKeepLast(), DryRun: r.GetDryRun(), Progress: progress}
	if !filepath.IsAbs(o.To) && !strings.Contains(o.To, "://") {
		return ArchiveReport{}, fmt.Errorf("%w: %q is neither an absolute path of a folder on the server's machine nor the URL of a bucket", eventstore.ErrInvalid, o.To)
	}
	if o.To, err = archivePlace(o.To, own...); err != nil {
		return ArchiveReport{}, err
	}
	if r.GetBefore() == "" && r.GetOlderThanSeconds() == 0 && r.GetKeepLast() == 0 {
		return ArchiveReport{}, fmt.Errorf("%w: say what to archive: before a position, what is older than some time, or all but the last events", eventstore.ErrInvalid)
	}
	if r.GetBefore() != "" {
		if o.Before, err = eventstore.ParsePosition(r.GetBefore()); err != nil {
			return ArchiveReport{}, err
		}
	}
	if seconds := r.GetOlderThanSeconds(); seconds != 0 {
		if o.Until, err = ago(seconds); err != nil {
			return ArchiveReport{}, err
		}
	}
	done, err := s.Archive(ctx, o)
	return archiveReport(done, o.DryRun), err
}

func archiveReport(r pebblestore.ArchiveReport, dry bool) ArchiveReport {
	out := ArchiveReport{To: r.Location, Events: r.Events, Segments: r.Segments, Bytes: r.Bytes, Archived: r.Archived.String(), DryRun: dry}
	if r.Events > 0 {
		out.First, out.Last = r.First.String(), r.Last.String()
	}
	return out
}

func archivedSegments(s *pebblestore.Store) *apiv1.ListArchiveResponse {
	log := s.ID()
	at := func(lsn uint64) string {
		return eventstore.Position{Incarnation: log.Incarnation, LSN: lsn}.String()
	}
	out := &apiv1.ListArchiveResponse{Archived: at(0), First: s.First().String()}
	for _, segment := range s.Archived() {
		out.Segments = append(out.Segments, &apiv1.ArchivedSegment{
			Location: segment.Location, Name: segment.Name, First: at(segment.First), Last: at(segment.Last), FirstEvent: timestamppb.New(segment.FirstTime),
			LastEvent: timestamppb.New(segment.LastTime), Events: segment.Events(), Bytes: segment.Bytes, Sha256: segment.SHA256, Chain: segment.LastChain,
		})
		out.Archived = at(segment.Last)
	}
	return out
}

func verifyArchive(ctx context.Context, s *pebblestore.Store, repair bool, progress func(done, total uint64)) (ArchiveFindings, error) {
	c, err := s.VerifyArchive(ctx, progress)
	out := ArchiveFindings{Segments: c.Segments, Events: c.Events, Bytes: c.Bytes, Faults: []string{}, Unused: c.Unused}
	for i, fault := range c.Faults {
		segment, undescribed := c.Undescribed[i]
		switch {
		case undescribed && !repair:
			fault += "; the log knows what it should say: tributary archive verify --repair writes it anew"
		case undescribed:
			failed := s.DescribeArchived(ctx, &segment)
			if failed == nil {
				out.Repaired = append(out.Repaired, fault)
				continue
			}
			fault = fmt.Sprintf("%s; it could not be written anew: %v", fault, failed)
		}
		out.Faults = append(out.Faults, fault)
	}
	if out.Unused == nil {
		out.Unused = []string{}
	}
	return out, err
}

// archiving is what the administration does with the archive.
type archiving struct{ node *Node }

// ArchiveEvents implements server.Archiving.
func (a archiving) ArchiveEvents(ctx context.Context, r *apiv1.ArchiveRequest, send func(*apiv1.ArchiveProgress) error) error {
	report, err := archiveBlocks(ctx, a.node.local, r, archiveProgress(send), a.node.config.Data, a.node.config.Keys)
	if err != nil {
		return err
	}
	if report.Events > 0 && !report.DryRun {
		a.node.log.Info("old events are archived", "to", report.To, "last", report.Last, "events", report.Events, "bytes", report.Bytes)
	}
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return send(&apiv1.ArchiveProgress{Done: true, DoneEvents: report.Events, TotalEvents: report.Events, ReportJson: string(body)})
}

// ListSegments implements server.Archiving.
func (a archiving) ListSegments() *apiv1.ListArchiveResponse { return archivedSegments(a.node.local) }

// VerifySegments implements server.Archiving.
func (a archiving) VerifySegments(ctx context.Context, r *apiv1.VerifyArchiveRequest, send func(*apiv1.ArchiveProgress) error) error {
	findings, err := verifyArchive(ctx, a.node.local, r.GetRepair(), archiveProgress(send))
	if err != nil {
		return err
	}
	body, err := json.Marshal(findings)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return send(&apiv1.ArchiveProgress{Done: true, DoneEvents: findings.Events, TotalEvents: findings.Events, ReportJson: string(body), Faults: findings.Faults})
}

func archiveProgress(send func(*apiv1.ArchiveProgress) error) func(done, total uint64) {
	return func(done, total uint64) {
		_ = send(&apiv1.ArchiveProgress{DoneEvents: done, TotalEvents: total}) // a client that is gone ends ctx
	}
}
