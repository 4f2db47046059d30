package pebblestore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
)

// ArchivedSegment is a segment of the log and the place where it is.
type ArchivedSegment struct {
	Location string
	archive.Segment
}

// Archived returns what of the log is archived, in order.
func (s *Store) Archived() []ArchivedSegment {
	a := s.archived.Load()
	if a == nil {
		return nil
	}
	out := make([]ArchivedSegment, len(a.segments))
	for i, segment := range a.segments {
		out[i] = ArchivedSegment{segment.in.Location(), *segment.Segment}
	}
	return out
}

// ID names the log.
func (s *Store) ID() eventstore.LogID { return s.id }

// First returns the position of the first event that was not dropped, 1 when none was.
func (s *Store) First() eventstore.Position { return s.position(s.dropped.Load() + 1) }

// ArchiveCheck is what VerifyArchive found.
type ArchiveCheck struct {
	Segments int
	Events   uint64
	Bytes    int64
	// Faults names each segment that is damaged or cannot be had, or whose description is not what it should be, and why.
	Faults []string
	// Undescribed are those of the last kind, each with its place in Faults: DescribeArchived writes their descriptions anew.
	Undescribed map[int]ArchivedSegment
	// Unused are objects that lie beside the log's segments and are none of them: what an archiving left that was killed,
	// or what another life of the log has.
	Unused []string
}

// VerifyArchive reads every archived segment past all caches, and checks its SHA-256, each block and event in it, and that the
// hash chain goes through all of them and on into the database; then whether what stands beside it for people says the same. It holds nobody up. The error is for what kept it from looking.
func (s *Store) VerifyArchive(ctx context.Context, progress func(done, total uint64)) (ArchiveCheck, error) {
	var c ArchiveCheck
	a := s.archived.Load()
	if a == nil {
		return c, nil
	}
	for i, segment := range a.segments {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		err := s.verifySegment(ctx, a, i)
		if err == nil {
			if err = segment.in.CheckDescription(ctx, segment.Segment, s.plainMeta()); errors.Is(err, eventstore.ErrCorrupt) {
				if c.Undescribed == nil {
					c.Undescribed = map[int]ArchivedSegment{}
				}
				c.Undescribed[len(c.Faults)] = ArchivedSegment{segment.in.Location(), *segment.Segment}
			}
		}
		if err != nil {
			c.Faults = append(c.Faults, fmt.Sprintf("segment %s, lsn %d to %d: %v", segment.Name, segment.First, segment.Last, err))
		}
		c.Segments++
		c.Events += segment.Events()
		c.Bytes += segment.Bytes
		if progress != nil {
			progress(segment.Last, a.end())
		}
	}
	if err := s.verifySeam(ctx, a); err != nil {
		c.Faults = append(c.Faults, err.Error())
	}
	for _, part := range a.parts {
		unused, err := s.unusedAt(ctx, part.At, a)
		if err != nil {
			c.Faults = append(c.Faults, fmt.Sprintf("list %s: %v", part.At, err))
		}
		c.Unused = append(c.Unused, unused...)
	}
	return c, ctx.Err()
}

// DescribeArchived writes the description of an archived segment anew. ErrNotFound when it is none of the log's, any more.
func (s *Store) DescribeArchived(ctx context.Context, segment *ArchivedSegment) error {
	at := -1
	a := s.archived.Load()
	if a != nil {
		at = slices.IndexFunc(a.segments, func(of archivedSegment) bool { return of.Name == segment.Name })
	}
	if at < 0 {
		return fmt.Errorf("describe segment %s: %w", segment.Name, eventstore.ErrNotFound)
	}
	if err := a.segments[at].in.Describe(ctx, a.segments[at].Segment, s.plainMeta()); err != nil {
		return fmt.Errorf("describe segment %s: %w", segment.Name, err)
	}
	return nil
}

// verifySegment checks the i-th segment.
func (s *Store) verifySegment(ctx context.Context, a *archived, i int) error {
	segment := a.segments[i]
	if err := segment.in.Check(ctx, segment.Segment); err != nil {
		return err
	}
	at := s.history.begin()
	if i > 0 {
		at = (&archived{segments: a.segments[:i]}).head(&s.history)
	}
	check := newLogCheck(&s.history, false)
	check.from(at)
	for next := segment.First; next <= segment.Last; {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, _, err := a.block(next)
		if err != nil {
			return err
		}
		if b.first != next {
			return fmt.Errorf("%w: a block from lsn %d stands where one from %d should", eventstore.ErrCorrupt, b.first, next)
		}
		if _, err := check.block(&b, s.id.Incarnation); err != nil {
			return err
		}
		next = b.last() + 1
	}
	if end := hex.EncodeToString(check.chain[:]); check.seq != segment.LastSeq || end != segment.LastChain {
		return fmt.Errorf("%w: it ends with seq %d and chain %.16s, should with %d and %.16s", eventstore.ErrCorrupt, check.seq, end, segment.LastSeq, segment.LastChain)
	}
	return nil
}

// verifySeam checks that the database goes on where the archive ends.
func (s *Store) verifySeam(ctx context.Context, a *archived) error {
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := s.blockReader()
	if err != nil {
		return err
	}
	defer r.close()
	found, err := r.from(a.end() + 1)
	switch want := a.head(&s.history); {
	case err != nil:
		return fmt.Errorf("behind the archive: %w", err)
	case !found || r.cur.first != want.lsn+1 || r.cur.before != want.seq || r.cur.chain != want.chain:
		return fmt.Errorf("%w: the log does not go on at lsn %d as the archive ends", eventstore.ErrCorrupt, want.lsn+1)
	}
	return nil
}

// unusedAt returns the objects at a place, below the log's name, that are none of its segments.
func (s *Store) unusedAt(ctx context.Context, location string, a *archived) (unused []string, err error) {
	used := map[string]bool{}
	for _, segment := range a.segments {
		if segment.in.Location() == location {
			used[segment.Name], used[archive.DescriptionName(segment.Name)] = true, true
		}
	}
	i := slices.IndexFunc(a.segments, func(s archivedSegment) bool { return s.in.Location() == location })
	for o, err := range a.segments[i].in.Bucket().List(ctx, s.archiveFolder()+"/") {
		if err != nil {
			return unused, errors.Join(eventstore.ErrArchiveUnavailable, err)
		}
		if !used[o.Name] {
			unused = append(unused, o.Name)
		}
	}
	return unused, nil
}
