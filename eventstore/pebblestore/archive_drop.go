package pebblestore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
)

// DropOptions say what of the archived events to give up. What both of Before and Until leave is dropped.
type DropOptions struct {
	// Before, when not zero, is the position of the first event to keep.
	Before eventstore.Position
	// Until, when not zero, keeps what happened later.
	Until time.Time
	// Followers are those who still read the log. One that has not come as far as what would be dropped keeps it from being.
	Followers []Follower
	// DryRun says what would be dropped, and does nothing.
	DryRun bool
	// Progress, when not nil, is called now and then with events.
	Progress func(done, total uint64)
}

// Follower is a reader of the log and the position that it has come to.
type Follower struct {
	Name string
	At   eventstore.Position
	// Keeps, when not empty, is why it needs the log from its first event on, wherever it is now, and what to do about that.
	Keeps string
}

// DropReport says what was dropped.
type DropReport struct {
	Events   uint64
	Segments int
	// Freed is by how much the archive has become smaller.
	Freed int64
	// First is the position of the first event that was not dropped, now or earlier.
	First eventstore.Position
}

// Drop gives up the contents of archived events for good, segment by segment: each is replaced by one whose events have no
// payload any more, and then removed. What was dropped cannot be read: reads that would have to yield it end with a
// *eventstore.TruncatedError. All else of it stays, since the log rests on it: versions, tags and times, the ids and receipts of
// requests, and the hashes of the contents, by which the chain is still proved from the first event on. System events stay whole.
//
// Whole segments are dropped, and nothing that is not archived. Killed anywhere, it goes on where it was when called again.
//
// Errors: eventstore.ErrInvalid, naming the followers that are behind; eventstore.ErrWrongIncarnation; eventstore.ErrReadOnly;
// eventstore.ErrCorrupt; *eventstore.ArchiveError.
func (s *Store) Drop(ctx context.Context, o DropOptions) (DropReport, error) {
	select {
	case s.archiving <- struct{}{}:
		defer func() { <-s.archiving }()
	case <-ctx.Done():
		return DropReport{}, fmt.Errorf("drop archived events: wait for what is under way: %w", ctx.Err())
	}
	x := &dropping{store: s, o: o}
	err := x.run(ctx)
	x.report.First = s.First()
	if err != nil {
		err = fmt.Errorf("drop archived events: %w", err)
	}
	return x.report, err
}

// dropping is a dropping under way.
type dropping struct {
	store  *Store
	o      DropOptions
	report DropReport
}

func (x *dropping) run(ctx context.Context) error {
	s := x.store
	if err := s.writable(); err != nil {
		return err
	}
	target, err := (&archiving{store: s, o: ArchiveOptions{Before: x.o.Before, Until: x.o.Until}}).findTarget(ctx)
	if err != nil {
		return err
	}
	begun := s.dropped.Load()
	end := begun
	a := s.archived.Load()
	if a == nil {
		return nil
	}
	for _, segment := range a.segments {
		if segment.Last <= target {
			end = max(end, segment.Last)
		}
	}
	if err := x.behind(end); err != nil && end > begun {
		return err
	}
	if !x.o.DryRun {
		if err := x.removeLeft(ctx); err != nil {
			return err
		}
	}
	for i := range a.segments {
		segment := a.segments[i]
		if segment.Last <= begun || segment.Last > end {
			continue
		}
		if err := x.segment(ctx, i); err != nil {
			return err
		}
		x.report.Segments++
		x.report.Events += segment.Events()
		if x.o.Progress != nil {
			x.o.Progress(segment.Last-begun, end-begun)
		}
	}
	if x.o.DryRun {
		return nil
	}
	return x.removeLeft(ctx)
}

// behind names the followers that have not come as far as an lsn, or need what is before it whatever they have read.
func (x *dropping) behind(lsn uint64) error {
	var names, keepers []string
	for _, f := range x.o.Followers {
		switch {
		case f.Keeps != "":
			keepers = append(keepers, fmt.Sprintf("%s %s", f.Name, f.Keeps))
		case f.At.LSN < lsn:
			names = append(names, fmt.Sprintf("%s is at %s", f.Name, f.At))
		}
	}
	if len(keepers) > 0 {
		return fmt.Errorf("%w: events up to %s are still needed: %s", eventstore.ErrInvalid, x.store.position(lsn), strings.Join(keepers, "; "))
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%w: events up to %s are still needed: %s; wait until they have come further, or drop less", eventstore.ErrInvalid,
		x.store.position(lsn), strings.Join(names, ", "))
}

// segment puts a segment without contents in the place of the i-th.
func (x *dropping) segment(ctx context.Context, i int) error {
	s := x.store
	old := s.archived.Load().segments[i]
	if err := s.verifySegment(ctx, s.archived.Load(), i); err != nil {
		return err
	}
	var w archive.Writer
	var slim blockWriter
	for next := old.First; next <= old.Last; {
		b, _, err := s.archived.Load().block(next)
		if err != nil {
			return err
		}
		raw, err := b.slim(&slim, s.id.Incarnation)
		if err != nil {
			return err
		}
		w.Add(b.last(), raw)
		next = b.last() + 1
	}
	fresh := *old.Segment
	body := w.Seal(s.archiveFolder(), &fresh)
	x.report.Freed += old.Bytes - fresh.Bytes
	if x.o.DryRun {
		return nil
	}
	description, err := fresh.Description(s.plainMeta())
	if err != nil {
		return err
	}
	if err := old.in.Put(ctx, &fresh, body, description); err != nil {
		return err
	}
	return x.commit(ctx, i, fresh)
}

// commit records that a segment has taken another's place.
//
// INVARIANT: that events are dropped is known before anybody can come upon one without its content.
func (x *dropping) commit(ctx context.Context, i int, fresh archive.Segment) error {
	s := x.store
	next := s.archived.Load().replaced(i, fresh)
	return s.record(ctx, next, max(s.dropped.Load(), fresh.Last), nil)
}

// removeLeft removes the segments that others have taken the place of.
func (x *dropping) removeLeft(ctx context.Context) error {
	s := x.store
	a := s.archived.Load()
	left := false
	for _, part := range a.parts {
		in := s.archiveAt(part.At)
		for _, name := range part.Left {
			left = true
			if err := in.Remove(ctx, &archive.Segment{Name: name}); err != nil {
				return err
			}
		}
	}
	if !left {
		return nil
	}
	return s.record(ctx, a.withoutLeft(), s.dropped.Load(), nil)
}

// record makes what is archived and dropped durable, with what else has to be done in the same step, and lets readers know of
// it before.
func (s *Store) record(ctx context.Context, next *archived, dropped uint64, also func(*pebble.Batch) error) error {
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.writable(); err != nil {
		return err
	}
	s.rewriting.Lock()
	defer s.rewriting.Unlock()
	value, err := metaOf(s.history, next, dropped, s.noted.Load()).encode()
	if err != nil {
		return err
	}
	b := s.log.NewBatch()
	defer b.Close()
	if err := b.Set(logMetaKey, value, nil); err != nil {
		return fmt.Errorf("record what is archived: %w", err)
	}
	if also != nil {
		if err := also(b); err != nil {
			return err
		}
	}
	s.dropped.Store(dropped)
	s.archived.Store(next)
	if err := b.Commit(pebble.Sync); err != nil {
		return s.fail(fmt.Errorf("record what is archived: %w", err))
	}
	return nil
}

// replaced returns what is archived with a segment in the i-th's place, which is noted as left over.
func (a *archived) replaced(i int, s archive.Segment) *archived {
	next := &archived{parts: slices.Clone(a.parts), segments: slices.Clone(a.segments)}
	old := a.segments[i]
	next.segments[i].Segment = &s
	for p := range next.parts {
		part := &next.parts[p]
		if at := slices.IndexFunc(part.Segments, func(o archive.Segment) bool { return o.First == s.First }); at >= 0 {
			part.Segments = slices.Clone(part.Segments)
			part.Segments[at] = s
			part.Left = append(slices.Clip(part.Left), old.Name)
		}
	}
	return next
}

// withoutLeft returns what is archived without what was left over.
func (a *archived) withoutLeft() *archived {
	next := &archived{parts: slices.Clone(a.parts), segments: a.segments}
	for i := range next.parts {
		next.parts[i].Left = nil
	}
	return next
}
