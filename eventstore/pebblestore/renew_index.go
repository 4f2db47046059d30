package pebblestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// renewIndex makes the index anew from the log, beside the old one, which answers until the new one takes its place. The
// indexer waits for the last step only, readers while the one is closed and the other opened.
func (s *Store) renewIndex(ctx context.Context) error {
	fresh := &index{fs: s.index.fs, dir: s.index.dir + ".new", opts: s.index.opts}
	if err := fresh.wipe(); err != nil {
		return fmt.Errorf("make the index anew: %w", err)
	}
	r := newRecent(&s.history, logState{logHead: s.history.begin()}, 1024)
	err := s.fillFrom(ctx, fresh, r, s.indexed.Load())
	if err == nil {
		s.indexing.Lock()
		defer s.indexing.Unlock()
		if err = s.fillFrom(ctx, fresh, r, s.indexed.Load()); err == nil {
			err = fresh.db.Flush()
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make the index anew: %w", err), fresh.close(), fresh.fs.RemoveAll(fresh.dir))
	}
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return errors.Join(eventstore.ErrClosed, fresh.close())
	}
	if err := s.replaceIndex(fresh); err != nil {
		s.closed = true // nothing can be looked up any more
		return fmt.Errorf("put the new index in place: %w; start again", err)
	}
	return nil
}

// fillIndex writes a generation to the index.
func (s *Store) fillIndex(g *generation) error {
	s.indexing.RLock()
	defer s.indexing.RUnlock()
	err := s.index.fill(g, s.id)
	if err == nil {
		s.indexed.Store(g.end.lsn)
	}
	return err
}

// fillFrom reads the log from where r has come to an lsn that ends a batch, and fills an index with it.
func (s *Store) fillFrom(ctx context.Context, x *index, r *recent, to uint64) error {
	for next := r.state().lsn + 1; next <= to; next = r.state().lsn + 1 {
		page, err := s.pageFor(ctx, nil, next, to, pageLimits{events: s.opts.IndexBatch, bytes: catchUpBytes, whole: true, chain: true})
		if err != nil {
			return err
		}
		for batch := range batchesOf(page) {
			r.add([][]eventstore.Recorded{batch})
		}
		if r.unindexed() >= s.opts.IndexBatch || r.state().lsn >= to {
			if err := x.fill(r.turn(), s.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// replaceIndex puts an index in the old one's place. REQUIRES: nobody uses either.
func (s *Store) replaceIndex(fresh *index) error {
	old := s.index
	if err := errors.Join(old.close(), fresh.close()); err != nil {
		return err
	}
	if err := old.fs.RemoveAll(old.dir); err != nil {
		return err
	}
	if err := old.fs.Rename(fresh.dir, old.dir); err != nil {
		return err
	}
	if err := syncFolder(old.fs, s.dir); err != nil {
		return err
	}
	_, err := old.open()
	return err
}
