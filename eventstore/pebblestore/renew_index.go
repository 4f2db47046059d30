package pebblestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// renewIndex makes the index anew from the log, beside the old one, which answers until the new one takes its place. The
// indexer waits for the last step only, those who look something up while the one is closed and the other opened. It waits for
// no other reader: one that waits for an archive may do so for long.
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
	release, err := s.use()
	if err != nil {
		return errors.Join(err, fresh.close())
	}
	err = s.replaceIndex(fresh)
	release()
	if err != nil {
		return s.loseIndex(fmt.Errorf("put the new index in place: %w", err))
	}
	return nil
}

// loseIndex has a store go on without its index: nothing can be looked up any more, so that nothing is read nor accepted,
// and what is on its way goes to the log alone, from which the next start fills the index. REQUIRES: indexing is held.
func (s *Store) loseIndex(err error) error {
	err = errors.Join(fmt.Errorf("%w; start again", err), s.index.lose())
	fault := fmt.Errorf("%w: the index is lost: %w", eventstore.ErrReadOnly, err)
	s.readOnly.Store(&fault)
	s.life.Lock()
	s.closed = true
	s.life.Unlock()
	s.opts.Logger.Error("the store can neither be read nor written", "error", fault)
	s.indexer.letGo()
	return err
}

// errNoIndex: the index is lost for as long as the store is open.
var errNoIndex = fmt.Errorf("%w: there is no index", eventstore.ErrUnavailable)

// lose leaves nothing of the index to be looked up.
func (x *index) lose() error {
	x.place.Lock()
	defer x.place.Unlock()
	return x.close()
}

// useIndex keeps the index in its place until release is called, for those who fill it or read all of it. It is not called by
// who holds the databases: who puts another index in its place takes them after this lock.
func (s *Store) useIndex() (release func(), err error) {
	s.indexing.RLock()
	if s.index.db == nil {
		s.indexing.RUnlock()
		return nil, errNoIndex
	}
	return s.indexing.RUnlock, nil
}

// fillIndex writes a generation to the index.
func (s *Store) fillIndex(g *generation) error {
	release, err := s.useIndex()
	if err != nil {
		return err
	}
	defer release()
	if err := s.index.fill(g, s.id); err != nil {
		return err
	}
	s.indexed.Store(g.end.lsn)
	return nil
}

// fillFrom reads the log from where r has come to an lsn that ends a batch, and fills an index with it.
func (s *Store) fillFrom(ctx context.Context, x *index, r *recent, to uint64) error {
	for next := r.state().lsn + 1; next <= to; next = r.state().lsn + 1 {
		batches, err := s.keyedFor(ctx, next, to)
		if err != nil {
			return err
		}
		r.add(batches)
		if r.unindexed() >= s.opts.IndexBatch || r.state().lsn >= to {
			if err := x.fill(r.turn(), s.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// keyedFor is readKeyed for those who do not hold the databases.
func (s *Store) keyedFor(ctx context.Context, from, to uint64) ([]keyedBatch, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.readKeyed(from, to)
}

// replaceIndex puts an index in the old one's place. REQUIRES: indexing is held, and the databases are.
func (s *Store) replaceIndex(fresh *index) error {
	old := s.index
	old.place.Lock()
	defer old.place.Unlock()
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
	removed, err := old.open()
	if err == nil && removed != nil { // what is in service now is empty
		err = fmt.Errorf("the new index is damaged: %w", removed)
	}
	return err
}
