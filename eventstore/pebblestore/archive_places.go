package pebblestore

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/tributary-es/tributary/eventstore/archive"
)

// ArchivePlace is a place where a part of the log is.
type ArchivePlace struct {
	Location string
	// Faults are what is wrong with the segments that could not be read the last time that somebody wanted them:
	// *eventstore.ArchiveError, *eventstore.ArchiveDamageError.
	Faults []error
}

// ArchivePlaces returns the places where the log's archived events are, as they were when they were last read from. It reads
// from none.
func (s *Store) ArchivePlaces() []ArchivePlace {
	var out []ArchivePlace
	for _, in := range s.archived.Load().places() {
		out = append(out, ArchivePlace{in.Location(), in.Faults()})
	}
	return out
}

// LookAtArchives looks whether the places where archived events are can be reached, and whether what was damaged there was put
// back: of each a byte is read, and one damaged segment as a whole. ArchivePlaces has the outcome.
func (s *Store) LookAtArchives(ctx context.Context) {
	a := s.archived.Load()
	for _, in := range a.places() {
		in.Again(ctx)
		if len(in.Faults()) == 0 {
			_ = a.reach(ctx, in) // its error is noted
		}
	}
}

// ProbeArchive looks whether events can be archived to a place: whether what was archived there before is there, and whether a
// small object can be put, read and removed.
//
// Errors: eventstore.ErrInvalid, *eventstore.ArchiveError, *eventstore.ArchiveDamageError.
func (s *Store) ProbeArchive(ctx context.Context, to string) error {
	location, err := archive.Location(to)
	if err != nil {
		return err
	}
	in := s.archiveAt(location)
	if err := s.archived.Load().reach(ctx, in); err != nil {
		return err
	}
	if err := in.Probe(ctx, path.Join(s.archiveFolder(), "probe")); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	return nil
}

// places returns the archives that have a part of the log.
func (a *archived) places() (in []*archive.Archive) {
	if a == nil {
		return nil
	}
	for _, segment := range a.segments {
		if !slices.Contains(in, segment.in) {
			in = append(in, segment.in)
		}
	}
	return in
}

// reach looks whether what was archived at a place is there. If it is not, a disk is not mounted, say, and what is archived
// now would come to lie beside it.
func (a *archived) reach(ctx context.Context, in *archive.Archive) error {
	if a == nil {
		return nil
	}
	for _, segment := range slices.Backward(a.segments) {
		if segment.in == in {
			return in.Reach(ctx, segment.Segment)
		}
	}
	return nil
}
