package pebblestore

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"sort"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
)

// archived is the beginning of the log, as far as it is in archives and not in the database any more. It never changes: who
// archives more puts another in its place. Nil when all of the log is in the database.
type archived struct {
	parts    []archivePart     // as they are recorded
	segments []archivedSegment // of all parts, in the order of the log
}

// archivePart is the segments at one place.
type archivePart struct {
	At       string            `json:"at"`
	Segments []archive.Segment `json:"segments"`
	// Left are segments that others have taken the place of, and that are not removed yet.
	Left []string `json:"left,omitempty"`
}

type archivedSegment struct {
	*archive.Segment
	in *archive.Archive
}

// end returns the lsn of the last event that is archived.
func (a *archived) end() uint64 {
	if a == nil {
		return 0
	}
	return a.segments[len(a.segments)-1].Last
}

// ownSeq returns the seq of the log's own last event that is archived, in the life that the last one is of. REQUIRES: a is not nil.
func (a *archived) ownSeq() uint64 { return a.segments[len(a.segments)-1].LastSeq }

// head returns what the log goes on from after what is archived.
func (a *archived) head(h *history) logHead {
	if a == nil {
		return h.begin()
	}
	s := a.segments[len(a.segments)-1]
	head := logHead{lsn: s.Last, seq: s.LastSeq}
	_, _ = hex.Decode(head.chain[:], []byte(s.LastChain)) // checkParts has looked at it
	return h.onward(head)
}

// segment returns the segment that holds an event. REQUIRES: lsn <= end.
func (a *archived) segment(lsn uint64) archivedSegment {
	return a.segments[sort.Search(len(a.segments), func(i int) bool { return a.segments[i].Last >= lsn })]
}

// block returns the block that holds an event. REQUIRES: lsn <= end.
func (a *archived) block(lsn uint64) (b block, raw []byte, err error) {
	s := a.segment(lsn)
	raw, last, err := s.in.Block(s.Segment, lsn)
	if err != nil {
		return b, nil, err
	}
	if b, err = openBlock(last, raw); err == nil {
		err = b.whole()
	}
	if err != nil {
		return block{}, nil, s.in.Damaged(s.Segment, err)
	}
	return b, raw, nil
}

// whole says what of the block's frames does not verify. Those who read blocks of the database find that out when they decode
// them; of one that is archived it has to be said which segment it is from.
func (b *block) whole() error {
	for i := range b.count {
		frame, err := b.frame(i)
		if err != nil {
			return err
		}
		if _, _, err := eventstore.FrameContent(frame); err != nil {
			return fmt.Errorf("log block from lsn %d, event at lsn %d: %w", b.first, b.first+uint64(i), err)
		}
	}
	return nil
}

// with returns what is archived with another segment. The segments that are there are shared.
func (a *archived) with(s archive.Segment, in *archive.Archive) *archived {
	next := &archived{}
	if a != nil {
		next.parts, next.segments = slices.Clone(a.parts), slices.Clip(a.segments)
	}
	if n := len(next.parts); n == 0 || next.parts[n-1].At != in.Location() {
		next.parts = append(next.parts, archivePart{At: in.Location()})
	}
	part := &next.parts[len(next.parts)-1]
	part.Segments = append(slices.Clip(part.Segments), s)
	next.segments = append(next.segments, archivedSegment{&s, in})
	return next
}

// checkParts says what of a record of archived blocks cannot be.
func checkParts(parts []archivePart) error {
	next := uint64(1)
	for _, p := range parts {
		if len(p.Segments) == 0 {
			return fmt.Errorf("%w: nothing is archived at %s", eventstore.ErrCorrupt, p.At)
		}
		for _, s := range p.Segments {
			if s.First != next || s.Last < s.First {
				return fmt.Errorf("%w: archived segment %s holds lsn %d to %d, but %d is what follows", eventstore.ErrCorrupt, s.Name, s.First, s.Last, next)
			}
			if chain, err := hex.DecodeString(s.LastChain); err != nil || len(chain) != len(eventstore.Hash{}) {
				return fmt.Errorf("%w: archived segment %s ends with chain %q", eventstore.ErrCorrupt, s.Name, s.LastChain)
			}
			next = s.Last + 1
		}
	}
	return nil
}

// openArchived returns what is archived by its record.
func (s *Store) openArchived(parts []archivePart) *archived {
	var a *archived
	for _, p := range parts {
		in := s.archiveAt(p.At)
		for _, segment := range p.Segments {
			a = a.with(segment, in)
		}
	}
	if a != nil {
		a.parts = parts
	}
	return a
}

// archives are those that a store has opened.
type archives struct {
	mu     sync.Mutex                  // guards what follows
	opened map[string]*archive.Archive // by location
	closed bool
}

// close ends the reads of all of them, those too that are opened later.
func (x *archives) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for _, a := range x.opened {
		a.Close()
	}
}

// archiveAt returns the archive at a location. One that cannot be opened is unavailable: nothing but reads of what is there
// suffers.
func (s *Store) archiveAt(location string) *archive.Archive {
	x := &s.archives
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.opened[location]
	if a == nil {
		bucket, err := s.opts.OpenArchive(location)
		if err != nil {
			s.opts.Logger.Error("an archive cannot be opened: the events that are there cannot be read", "location", location, "error", err)
			bucket = noBucket{err}
		}
		a = archive.New(location, bucket, &archive.Options{CacheBytes: s.opts.CacheBytes})
		if x.closed {
			a.Close()
		}
		if x.opened == nil {
			x.opened = map[string]*archive.Archive{}
		}
		x.opened[location] = a
	}
	return a
}

// cutOffArchives ends what is being read from archives.
func (s *Store) cutOffArchives() {
	if a := s.archived.Load(); a != nil {
		for _, segment := range a.segments {
			segment.in.Close()
		}
	}
}

// noBucket is a bucket that could not be opened.
type noBucket struct{ err error }

// Put implements archive.Bucket.
func (b noBucket) Put(context.Context, string, []byte) error { return b.err }

// ReadAt implements archive.Bucket.
func (b noBucket) ReadAt(context.Context, string, []byte, int64) error { return b.err }

// List implements archive.Bucket.
func (b noBucket) List(context.Context, string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) { yield(archive.Object{}, b.err) }
}

// Remove implements archive.Bucket.
func (b noBucket) Remove(context.Context, string) error { return b.err }
