package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

const (
	archiveSoon  = time.Minute // after the start
	archiveEvery = time.Hour
)

// archivePolicy has a node archive what has become old enough.
type archivePolicy struct {
	mu    sync.Mutex // guards what follows
	ended time.Time  // of the last try
	err   error      // that it ended with
	// unfit is why nothing can be archived to the policy's place, as far as is known.
	unfit error
}

func (p *archivePolicy) unfitFor() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unfit
}

func (p *archivePolicy) notFit(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unfit = err
}

// checkArchivePolicy says what of a policy cannot be.
func (c *Config) checkArchivePolicy() error {
	switch {
	case c.ArchiveTo == "" && c.ArchiveAfter == 0 && c.DropAfter == 0:
		return nil
	case c.ArchiveTo == "" || c.ArchiveAfter <= 0:
		return fmt.Errorf("%w: to archive by itself a node has to know where to, and after what time: --archive-to and --archive-after belong together", eventstore.ErrInvalid)
	}
	if c.DropAfter != 0 && c.DropAfter < c.ArchiveAfter {
		return fmt.Errorf("%w: events cannot be dropped after %s, for they are archived after %s", eventstore.ErrInvalid, c.DropAfter, c.ArchiveAfter)
	}
	if c.DropAfter != 0 && c.Redis == Embedded {
		for _, d := range c.Domains {
			if d.Keys != nil {
				return fmt.Errorf("%w: --drop-after: projection %s-redis %s", eventstore.ErrInvalid, d.Keys.Name, filledAtStart)
			}
		}
	}
	location, err := archivePlace(c.ArchiveTo, c.Data, c.Keys)
	if err != nil {
		return err
	}
	c.ArchiveTo = location
	return nil
}

// keepArchiving archives now and then what is older than the policy says, until ctx ends. An archive that cannot be reached
// is tried again the next time.
func (n *Node) keepArchiving(ctx context.Context) error {
	if n.config.ArchiveTo == "" {
		return nil
	}
	for wait := archiveSoon; ; wait = archiveEvery {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		err := n.archiveOld(ctx)
		if ctx.Err() != nil || errors.Is(err, eventstore.ErrClosed) {
			return nil
		}
		p := &n.archivePolicy
		p.mu.Lock()
		p.ended, p.err = time.Now(), err
		p.mu.Unlock()
	}
}

// archiveOld archives and drops what is older than the policy says, in whole segments: tries that come every hour would leave a
// segment each.
func (n *Node) archiveOld(ctx context.Context) error {
	report, err := n.local.Archive(ctx, pebblestore.ArchiveOptions{
		To: n.config.ArchiveTo, Until: time.Now().Add(-n.config.ArchiveAfter), WholeSegments: true, SegmentBytes: n.config.archiveSegment,
	})
	if err != nil && ctx.Err() == nil {
		n.log.Error("old events could not be archived; it is tried again", slog.String("to", n.config.ArchiveTo), slog.Any("error", err))
	}
	if report.Events > 0 {
		n.log.Info("old events are archived", "to", report.Location, "last", report.Last.String(), "events", report.Events, "bytes", report.Bytes)
	}
	if err != nil || n.config.DropAfter == 0 {
		return err
	}
	if _, err = n.drop(ctx, pebblestore.DropOptions{Until: time.Now().Add(-n.config.DropAfter)}); err != nil && ctx.Err() == nil {
		n.log.Error("archived events could not be dropped; it is tried again", slog.Any("error", err))
	}
	return err
}

// archiveStatus says what is archived, and how the policy is kept; nil when there is neither.
func (n *Node) archiveStatus() *apiv1.ArchiveStatus {
	archived := archivedSegments(n.local)
	segments := archived.GetSegments()
	if len(segments) == 0 && n.config.ArchiveTo == "" {
		return nil
	}
	out := &apiv1.ArchiveStatus{Archived: archived.GetArchived(), Segments: uint64(len(segments)), To: n.config.ArchiveTo, AfterSeconds: int64(n.config.ArchiveAfter / time.Second),
		DropAfterSeconds: int64(n.config.DropAfter / time.Second), First: archived.GetFirst()}
	for _, s := range segments {
		out.Events += s.GetEvents()
		out.Bytes += s.GetBytes()
	}
	p := &n.archivePolicy
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended.IsZero() {
		out.EndedAt = timestamppb.New(p.ended)
	}
	out.LastError = errorText(p.err)
	return out
}
