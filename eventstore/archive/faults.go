package archive

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// faults are the segments that could not be read the last time that somebody wanted them. The zero value has none.
type faults struct {
	mu  sync.Mutex // guards what follows
	all map[string]fault
}

type fault struct {
	segment *Segment
	err     error
}

func (f *faults) note(s *Segment, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = map[string]fault{}
	}
	f.all[s.Name] = fault{s, err}
}

// reached notes that a segment can be had, which says nothing of what else is in it.
func (f *faults) reached(s *Segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !errors.Is(f.all[s.Name].err, eventstore.ErrCorrupt) {
		delete(f.all, s.Name)
	}
}

// clear notes that a segment is what it was.
func (f *faults) clear(s *Segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, s.Name)
}

// Faults returns what is wrong with the segments that could not be read the last time that somebody wanted them, in the order
// of their names: *eventstore.ArchiveError, *eventstore.ArchiveDamageError. Damage stays until Check or Again finds the segment
// whole.
func (a *Archive) Faults() []error {
	var errs []error
	for _, f := range a.faults.sorted() {
		errs = append(errs, f.err)
	}
	return errs
}

func (f *faults) sorted() []fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.all), func(a, b fault) int { return strings.Compare(a.segment.Name, b.segment.Name) })
}

// Again looks whether what was wrong still is: the first segment that is damaged it checks, of one that could not be had it reads
// a byte, and if that cannot be had the others are not asked for. Faults has the outcome.
func (a *Archive) Again(ctx context.Context) {
	checked := false
	for _, f := range a.faults.sorted() {
		if !errors.Is(f.err, eventstore.ErrCorrupt) {
			if a.Reach(ctx, f.segment) != nil {
				return
			}
			continue
		}
		if !checked {
			checked = true
			_ = a.Check(ctx, f.segment) // its error is noted
		}
	}
}
