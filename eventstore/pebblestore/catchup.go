package pebblestore

import (
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// catchUp checks that the index fits the log, and reads what it lacks from the log's tail.
func (s *Store) catchUp(head logHead) error {
	m, err := s.usableMark(head)
	if err != nil {
		return err
	}
	if m.log != s.id { // of another log, or none
		m = mark{log: s.id}
		m.logHead = s.history.begin()
	}
	s.indexed.Store(m.lsn)
	s.recent = newRecent(&s.history, m.logState, s.opts.CachedStreams)
	if s.recent.logs, err = s.index.logHeads(); err != nil {
		return err
	}
	s.recent.young.logs = s.recent.logs
	for m.lsn < head.lsn {
		batches, err := s.readKeyed(m.lsn+1, head.lsn)
		if err != nil {
			return fmt.Errorf("bring the index up to date: %w%s", err, indexHint(err))
		}
		s.recent.add(batches)
		m.logState = s.recent.state()
		if s.recent.unindexed() >= s.opts.IndexBatch && !s.index.sealed {
			if err := s.fillIndex(s.recent.turn()); err != nil {
				return err
			}
		}
	}
	if state := s.recent.state(); state.logHead != head {
		return fmt.Errorf("bring the index up to date: %w: came to lsn %d with chain %x, the log's head is %d with %x",
			eventstore.ErrCorrupt, state.lsn, state.chain[:8], head.lsn, head.chain[:8])
	}
	return nil
}

// readKeyed returns some batches from an lsn on, at most up to another, as the index takes them. REQUIRES: a batch begins at
// the one and ends at the other.
func (s *Store) readKeyed(from, to uint64) (batches []keyedBatch, err error) {
	d := pageDecoder{incarnation: s.id.Incarnation, limits: pageLimits{events: s.opts.IndexBatch, bytes: catchUpBytes, whole: true, chain: true, notes: true}}
	page, err := s.logCursor().decode(&d, nil, from, to)
	if err != nil {
		return nil, err
	}
	for batch := range batchesOf(page) {
		batches = append(batches, keyed(batch, d.notes[:len(batch):len(batch)]))
		d.notes = d.notes[len(batch):]
	}
	return batches, nil
}

// indexHint says what to do where the index cannot be made for want of a part of the log.
func indexHint(err error) string {
	switch {
	case errors.Is(err, eventstore.ErrArchiveDamaged):
		return "; the index has to be made from the whole log: put the segment back as it was, from a copy of the archive, and start again; " +
			"without a copy, restore the log from a backup or from Kafka (tributary restore)"
	case errors.Is(err, eventstore.ErrArchiveUnavailable):
		return "; the index has to be made from the whole log, of which a part is archived: have the archive reachable at that place, and start again; " +
			"if it is lost, restore the log from a backup or from Kafka (tributary restore)"
	case errors.Is(err, eventstore.ErrCorrupt):
		return "; the index has to be made from a part of the log that cannot be read: put its file back if there is a copy, else move the store's " +
			"folder away and restore the log from a backup or from Kafka (tributary restore)"
	}
	return ""
}

// catchUpBytes bounds the memory of one step of bringing the index up to date.
const catchUpBytes = 8 << 20

// usableMark returns up to where the index is filled; it wipes an index that does not fit the log and returns a mark of
// no log.
func (s *Store) usableMark(head logHead) (mark, error) {
	m, found, err := s.index.mark()
	var why string
	switch {
	case err != nil && !unusable(err):
		return mark{}, err
	case err != nil:
		why = err.Error()
	case !found:
		if head.lsn > 0 {
			s.opts.Logger.Info("the index is made from the log", "events", head.lsn)
		}
		return mark{}, nil
	case m.log != s.id:
		why = fmt.Sprintf("it is of %s", m.log)
	case m.lsn > head.lsn:
		why = fmt.Sprintf("it goes to lsn %d, the log to %d", m.lsn, head.lsn)
	default:
		at, err := s.chainAt(m.lsn)
		if err != nil {
			return mark{}, err
		}
		if at == m.chain {
			return m, nil
		}
		why = fmt.Sprintf("its chain at lsn %d is another than the log's", m.lsn)
	}
	s.opts.Logger.Warn("the index does not fit the log and is made anew", "cause", why)
	return mark{}, s.index.wipe()
}

// chainAt returns the chain of its own that the log goes on from after an event.
func (s *Store) chainAt(lsn uint64) (eventstore.Hash, error) {
	if lsn == 0 {
		return s.history.begin().chain, nil
	}
	if a := s.archived.Load(); lsn == a.end() { // the archive may be away, and what comes after it goes on from here
		return a.head(&s.history).chain, nil
	}
	own, err := s.ownAt(lsn)
	if err != nil {
		return eventstore.Hash{}, fmt.Errorf("check the index against the log: %w", err)
	}
	return s.history.onward(own).chain, nil
}
