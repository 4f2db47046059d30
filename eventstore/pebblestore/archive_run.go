package pebblestore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
)

// ArchiveOptions say what of the log to archive, and where. What several of Before, Until and KeepLast leave is archived.
type ArchiveOptions struct {
	// To is the folder, or the URL of what Options.OpenArchive opens.
	To string
	// Before, when not zero, is the position of the first event to keep in the log.
	Before eventstore.Position
	// Until, when not zero, keeps what happened later.
	Until time.Time
	// KeepLast is how many events to keep in the log at least.
	KeepLast uint64
	// SegmentBytes is the size of a segment, which is built in memory; zero means 64 MiB.
	SegmentBytes int64
	// WholeSegments leaves in the log what does not fill a segment: for those who archive again and again.
	WholeSegments bool
	// DryRun says what would be archived, and does nothing.
	DryRun bool
	// Progress, when not nil, is called now and then with events.
	Progress func(done, total uint64)
}

// defaultSegmentBytes is what a segment has when the options do not say.
const defaultSegmentBytes = 64 << 20

// ArchiveReport says what was archived.
type ArchiveReport struct {
	// Location is where.
	Location string
	// First and Last are the positions of the first and the last event that was archived; both zero when nothing was.
	First, Last eventstore.Position
	Events      uint64
	Segments    int
	Bytes       int64
	// Archived is the position up to which the log is archived now.
	Archived eventstore.Position
}

// Archive moves the log's oldest blocks out of the database into an archive, where they stay part of the log: whatever reads
// it reads on through both. It holds nobody up.
//
// A segment of blocks is checked as Verify checks it, written, and read back. Then the log's own record of it and the removal
// of its blocks from the database become durable in one step: at no moment is an event in neither place. Killed anywhere, it
// goes on where it was when called again; what it had written and not recorded is written again under the same name, or stays
// in the bucket without harm. The last block of the log always stays, and a segment ends with a whole batch.
//
// Once an event is archived the store needs the archive to read it, and for nothing else: versions, places and ids are in the
// index, which is brought up to date before.
//
// Errors: eventstore.ErrInvalid; eventstore.ErrWrongIncarnation for a position that is not of this log;
// eventstore.ErrReadOnly; eventstore.ErrCorrupt when the log or what was read back is damaged; *eventstore.ArchiveError. What was
// archived before the error stays so, and is in the report.
func (s *Store) Archive(ctx context.Context, o ArchiveOptions) (ArchiveReport, error) {
	select {
	case s.archiving <- struct{}{}:
		defer func() { <-s.archiving }()
	case <-ctx.Done():
		return ArchiveReport{}, fmt.Errorf("archive: wait for the one that is under way: %w", ctx.Err())
	}
	x := &archiving{store: s, o: o}
	err := x.run(ctx)
	x.report.Archived = s.position(s.archived.Load().end())
	if err != nil {
		err = fmt.Errorf("archive to %s: %w", x.report.Location, err)
	}
	return x.report, err
}

// archiving is an archiving under way.
type archiving struct {
	store  *Store
	o      ArchiveOptions
	to     *archive.Archive
	target uint64 // lsn up to which to archive
	begun  uint64 // lsn up to which all was archived before
	report ArchiveReport

	writer archive.Writer
}

func (x *archiving) run(ctx context.Context) (err error) {
	s := x.store
	if x.report.Location, err = archive.Location(x.o.To); err != nil {
		return err
	}
	if x.o.SegmentBytes <= 0 {
		x.o.SegmentBytes = defaultSegmentBytes
	}
	if err := s.writable(); err != nil {
		return err
	}
	if x.target, err = x.findTarget(ctx); err != nil {
		return err
	}
	x.begun = s.archived.Load().end()
	x.to = s.archiveAt(x.report.Location)
	if err := s.archived.Load().reach(ctx, x.to); err != nil {
		return err
	}
	for at := s.archived.Load().head(&s.history); at.lsn < x.target; {
		next, err := x.segment(ctx, at)
		if err != nil || next.lsn == at.lsn {
			return errors.Join(err, x.free(ctx))
		}
		at = next
	}
	return x.free(ctx)
}

// archiveFolder returns below which name the log's segments are in a bucket.
func (s *Store) archiveFolder() string {
	return path.Join(s.id.Site, fmt.Sprintf("shard-%02d", s.id.Shard))
}

// findTarget returns the lsn of the last event that may be archived.
func (x *archiving) findTarget(ctx context.Context) (uint64, error) {
	s, o := x.store, &x.o
	state, err := s.Log(ctx)
	if err != nil {
		return 0, err
	}
	target := state.Durable.LSN
	if o.Before != (eventstore.Position{}) {
		if err := o.Before.Check(state.Durable); err != nil {
			return 0, err
		}
		target = min(target, max(o.Before.LSN, 1)-1)
	}
	if !o.Until.IsZero() {
		at, err := s.PositionAt(ctx, o.Until)
		if err != nil {
			return 0, err
		}
		target = min(target, at.LSN)
	}
	return min(target, max(state.Durable.LSN, o.KeepLast)-o.KeepLast), nil
}

// fillWholeIndex has the index hold all there is now, on disk: a start then needs nothing that is archived.
func (s *Store) fillWholeIndex(ctx context.Context) error {
	filled := make(chan struct{})
	for sent := false; !sent || filled != nil; {
		all := s.indexer.all
		if sent {
			all = nil
		}
		select {
		case all <- filled:
			sent = true
		case <-filled:
			filled = nil
		case <-s.indexer.done:
			return eventstore.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.index.hold(); err != nil {
		return err
	}
	defer s.index.letGo()
	if err := s.index.db.Flush(); err != nil {
		return fmt.Errorf("flush index: %w", err)
	}
	return nil
}

// segment archives what follows a head, as much as makes a segment, and returns where that ends; the head itself when what
// is left makes none.
func (x *archiving) segment(ctx context.Context, at logHead) (logHead, error) {
	next, info, err := x.collect(ctx, at)
	if err != nil || next.lsn == at.lsn {
		return next, err
	}
	s := x.store
	body := x.writer.Seal(s.archiveFolder(), info)
	if !x.o.DryRun {
		if x.report.Segments == 0 {
			if err := s.fillWholeIndex(ctx); err != nil {
				return at, err
			}
		}
		description, err := info.Description(s.plainMeta())
		if err != nil {
			return at, err
		}
		if err := x.to.Put(ctx, info, body, description); err != nil {
			return at, err
		}
		if err := x.commit(ctx, *info); err != nil {
			return at, err
		}
	}
	r := &x.report
	if r.Segments == 0 {
		r.First = s.position(info.First)
	}
	r.Last = s.position(info.Last)
	r.Events += info.Events()
	r.Bytes += info.Bytes
	r.Segments++
	if x.o.Progress != nil {
		x.o.Progress(info.Last-x.begun, x.target-x.begun)
	}
	return next, nil
}

// collect puts blocks that follow a head into the writer, until they make a segment or nothing is left, and checks them. They
// end with a whole batch.
func (x *archiving) collect(ctx context.Context, at logHead) (end logHead, info *archive.Segment, err error) {
	s := x.store
	release, err := s.useFor(ctx)
	if err != nil {
		return at, nil, err
	}
	defer release()
	r, err := s.blockReader()
	if err != nil {
		return at, nil, err
	}
	defer r.close()
	if _, err := r.last(); err != nil {
		return at, nil, err
	}
	target := min(x.target, r.cur.first-1) // the last block is where the log goes on from
	info = &archive.Segment{First: at.lsn + 1, Before: hex.EncodeToString(at.chain[:])}
	check := newLogCheck(&s.history, false)
	check.from(at)
	x.writer.Reset()
	end, whole := at, 0
	for next := at.lsn + 1; next <= target && (x.writer.Bytes() < x.o.SegmentBytes || whole == 0); next = r.cur.last() + 1 {
		if err := ctx.Err(); err != nil {
			return at, nil, err
		}
		found, err := r.from(next)
		if err == nil && (!found || r.cur.first != next) {
			err = fmt.Errorf("log at lsn %d: %w: no block begins there", next, eventstore.ErrCorrupt)
		}
		if err != nil {
			return at, nil, err
		}
		if r.cur.last() > target {
			break
		}
		if next == info.First {
			first, err := r.time(s.id.Incarnation)
			if err != nil {
				return at, nil, err
			}
			info.FirstTime = first
		}
		last, err := check.block(&r.cur, s.id.Incarnation)
		if err != nil {
			return at, nil, err
		}
		x.writer.Add(r.cur.last(), r.raw)
		if last.EndsBatch() {
			whole, info.LastTime = x.writer.Blocks(), last.Time()
			end = logHead{lsn: r.cur.last(), seq: check.seq, chain: check.chain}
		}
	}
	if x.o.WholeSegments && x.writer.Bytes() < x.o.SegmentBytes {
		return at, info, nil
	}
	x.writer.Cut(whole)
	info.Last, info.LastSeq, info.LastChain = end.lsn, end.seq, hex.EncodeToString(end.chain[:])
	return end, info, nil
}

// time returns when the first event of the block happened.
func (r *blockReader) time(incarnation uint32) (time.Time, error) {
	var e eventstore.Recorded
	frame, err := r.cur.frame(0)
	if err == nil {
		err = r.cur.decode(&e, 0, frame, incarnation)
	}
	return e.Time(), err
}

// commit records a segment that is in the archive, and removes its blocks from the database, in one step that is durable when
// it returns.
//
// INVARIANT: readers know where the blocks are before they are gone.
func (x *archiving) commit(ctx context.Context, segment archive.Segment) error {
	s := x.store
	return s.record(ctx, s.archived.Load().with(segment, x.to), s.dropped.Load(), func(b *pebble.Batch) error {
		if err := x.keep(b, segment.First, segment.Last); err != nil {
			return err
		}
		if err := b.DeleteRange(firstBlock, blockKey(segment.Last+1), nil); err != nil {
			return fmt.Errorf("remove archived blocks: %w", err)
		}
		return nil
	})
}

// free gives the space of what is archived back to the disk: until then the removed blocks are still in their tables.
func (x *archiving) free(ctx context.Context) error {
	s := x.store
	end := s.archived.Load().end()
	if x.o.DryRun || end == s.freed || ctx.Err() != nil {
		return nil
	}
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.log.Flush(); err != nil {
		return fmt.Errorf("free the space of archived blocks: %w", err)
	}
	if err := s.log.Compact(ctx, bytes.Clone(firstBlock), blockKey(end+1), false); err != nil {
		return fmt.Errorf("free the space of archived blocks: %w", corrupted(err))
	}
	s.freed = end
	return nil
}
