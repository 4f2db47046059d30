package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/tributary-es/tributary/eventstore"
)

// System events are what a node reads when it starts: schemas, groups, erasures, checkpoints. They stand at the beginning of
// a log and all over it. Of those that are archived the database keeps a copy of the frame, so that a start needs no archive.
// Receipts are left out: they are looked up one by one. Of checkpoints the last ones of each stream are kept.

// keptCheckpoints is how many of the last events of a stream are kept among which there are checkpoints.
const keptCheckpoints = 1000

var keptPrefix = []byte("ak")

func keptKey(lsn uint64) []byte { return binary.BigEndian.AppendUint64(bytes.Clone(keptPrefix), lsn) }

// keep adds copies of the system events between two lsns to a batch. REQUIRES: the events are in the database.
func (x *archiving) keep(b *pebble.Batch, from, to uint64) error {
	s := x.store
	r, err := s.blockReader()
	if err != nil {
		return err
	}
	defer r.close()
	var e eventstore.Recorded
	for next := from; next <= to; next++ {
		if err := r.seek(next); err != nil {
			return err
		}
		i := int(next - r.cur.first)
		frame, err := r.cur.frame(i)
		if err == nil {
			err = r.cur.decode(&e, i, frame, s.id.Incarnation)
		}
		if err != nil {
			return err
		}
		near, err := s.isNear(&e)
		if err != nil {
			return err
		}
		if !near || r.cur.foreign(i) { // of which a frame does not tell all
			continue
		}
		if err := b.Set(keptKey(next), frame, nil); err != nil {
			return fmt.Errorf("keep system event at lsn %d: %w", next, err)
		}
	}
	return nil
}

// isNear reports whether a start may need an event.
func (s *Store) isNear(e *eventstore.Recorded) (bool, error) {
	if !eventstore.IsSystemCategory(e.Stream.Category) || e.Stream.Category == eventstore.ReceiptCategory {
		return false, nil
	}
	if !slices.Contains(s.opts.Checkpoints, e.Type) {
		return true, nil
	}
	head, err := s.head(e.Stream)
	return e.Version+keptCheckpoints > head.version(), err
}

// readKept sets *e to an archived event of which there is a copy. One that cannot be read is looked for in the archive.
func (s *Store) readKept(e *eventstore.Recorded, lsn uint64) bool {
	frame, closer, err := s.log.Get(keptKey(lsn))
	if err != nil {
		return false
	}
	var d eventstore.FrameDecoder
	err = decodeAt(&d, e, lsn, bytes.Clone(frame), s.id.Incarnation)
	return errors.Join(err, closer.Close()) == nil
}

// copyKept writes the copies from a key on into the table that takes the place of a damaged one. Those that cannot be read
// any more are left out: they are in the archive.
func (s *Store) copyKept(w *sstable.Writer, from []byte) error {
	next, end := uint64(0), s.archived.Load().end()
	if bytes.HasPrefix(from, keptPrefix) {
		next = binary.BigEndian.Uint64(from[len(keptPrefix):])
	} else if bytes.Compare(from, keptPrefix) > 0 {
		return nil
	}
	for next <= end {
		var err error
		if next, err = s.copyKeptFrom(w, next); err == nil {
			return nil
		}
		if !errors.Is(err, eventstore.ErrCorrupt) {
			return err
		}
		left := next
		if left > end {
			return nil
		}
		if next = s.keptAgain(next, end); next == left { // the one that cannot be read, and the way goes on behind it
			next++
		}
		s.opts.Logger.Warn("copies of archived system events cannot be read and are left out: a start looks for them in the archive",
			"first_lsn", left, "last_lsn", next-1, "cause", err)
	}
	return nil
}

// copyKeptFrom writes the copies from an lsn on, and returns where it ended and why: nil after the last one.
func (s *Store) copyKeptFrom(w *sstable.Writer, next uint64) (uint64, error) {
	it, err := s.keptFrom(next)
	if err != nil {
		return next, err
	}
	defer it.Close()
	for valid := it.First(); valid; valid = it.Next() {
		lsn := binary.BigEndian.Uint64(it.Key()[len(keptPrefix):])
		frame, err := it.ValueAndErr()
		if err != nil {
			return lsn, corrupted(err)
		}
		if err := w.Set(it.Key(), frame); err != nil {
			return lsn, err
		}
		next = lsn + 1
	}
	return next, corrupted(it.Error())
}

func (s *Store) keptFrom(lsn uint64) (*pebble.Iterator, error) {
	it, err := s.log.NewIter(&pebble.IterOptions{LowerBound: keptKey(lsn), UpperBound: firstBlock})
	return it, corrupted(err)
}

// keptAgain returns the first lsn from one on, up to the one after end, from which copies can be looked for again.
func (s *Store) keptAgain(from, end uint64) uint64 {
	readable := func(lsn uint64) bool {
		it, err := s.keptFrom(lsn)
		if err != nil {
			return false
		}
		it.First()
		return errors.Join(it.Error(), it.Close()) == nil
	}
	for step := uint64(0); from+step <= end; step = max(1, 2*step) {
		if readable(from + step) {
			begin := from + step/2
			return begin + uint64(sort.Search(int(step-step/2), func(i int) bool { return readable(begin + uint64(i)) }))
		}
	}
	return end + 1
}
