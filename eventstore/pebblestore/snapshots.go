package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// Memory of the snapshots' database.
const (
	snapshotMemTableBytes = 4 << 20
	snapshotCacheBytes    = 1 << 20
)

// Snapshots keeps the last snapshot of each stream in a database of its own, beside the log and without a WAL: everything in
// it can be made anew from the log, and what was written in the last moments before a crash is gone. It implements
// commands.SnapshotStore, and is safe for concurrent use.
//
// It must never harm those it is there to speed up. When its database cannot be written, for a full disk or any other reason,
// the database is removed and no snapshots are kept until the next start; the process goes on.
type Snapshots struct {
	files vfs.FS
	dir   string
	log   *slog.Logger
	room  func() error

	failing sync.Once
	failed  chan struct{} // closed when the database could not be written
	cause   error         // of that; set before failed is closed
	done    chan struct{} // closed by Close
	keeper  sync.WaitGroup

	mu     sync.RWMutex // held for reading while the database is in use, guards what follows
	db     *pebble.DB   // nil when it is removed
	closed bool
}

// SnapshotOptions of Snapshots. Nil and the zero value are good.
type SnapshotOptions struct {
	// Logger gets what there is to say; nil means slog.Default.
	Logger *slog.Logger
	// Room says why nothing should be written to the disk just now, such as Store.Writable; nil means that there is room.
	Room func() error
	// FS is the file system; nil means the operating system's.
	FS vfs.FS
}

// OpenSnapshots opens the database in a folder of its own, which it makes. One that is damaged is made anew. While there is
// no room it returns Room's error: nothing is opened then.
func OpenSnapshots(dir string, given *SnapshotOptions) (*Snapshots, error) {
	if given == nil {
		given = &SnapshotOptions{}
	}
	o := (&Options{Logger: given.Logger, FS: given.FS}).withDefaults()
	s := &Snapshots{files: o.fs(), dir: dir, log: o.Logger, room: given.Room, failed: make(chan struct{}), done: make(chan struct{})}
	if s.room == nil {
		s.room = func() error { return nil }
	}
	if err := s.room(); err != nil { // Pebble would try to write for ever, and not return
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	cache := pebble.NewCache(snapshotCacheBytes)
	defer cache.Unref()
	x := &index{fs: s.files, dir: dir, opts: func() *pebble.Options {
		p := o.pebbleOptions("snapshots", s.files, cache)
		p.MemTableSize = snapshotMemTableBytes
		p.DisableWAL = true
		p.Logger = snapshotLogger{o.logger("snapshots"), s}
		p.EventListener.BackgroundError = s.fail
		return p
	}}
	removed, err := x.open()
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	if removed != nil {
		o.Logger.Warn("the snapshots were damaged and are made anew", slog.String("folder", dir), slog.Any("error", removed))
	}
	s.db = x.db
	s.keeper.Go(s.keep)
	return s, nil
}

// snapshotLogger lets Pebble go on after what it takes for fatal: what Pebble would lose then is removed anyway.
type snapshotLogger struct {
	pebbleLogger
	snapshots *Snapshots
}

// Fatalf implements pebble.Logger.
func (l snapshotLogger) Fatalf(format string, args ...any) {
	l.snapshots.fail(fmt.Errorf(format, args...))
}

// fail says that the database cannot be written. It is called with Pebble's locks held.
func (s *Snapshots) fail(err error) {
	s.failing.Do(func() {
		s.cause = err
		close(s.failed)
	})
}

// broken reports whether the database could not be written.
func (s *Snapshots) broken() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// keep removes the database when it fails, and ends with it or with Close.
func (s *Snapshots) keep() {
	select {
	case <-s.failed:
	case <-s.done:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.db == nil {
		return
	}
	if err := s.remove(); err != nil {
		s.log.Error("snapshots that failed cannot be removed", slog.String("folder", s.dir), slog.Any("error", err))
	}
}

// remove closes a database that failed, and removes its folder. REQUIRES: mu is held.
func (s *Snapshots) remove() error {
	s.log.Warn("the snapshots cannot be written: they are removed, and none are kept until the next start",
		slog.String("folder", s.dir), slog.Any("error", errors.Join(s.cause, s.db.Close())))
	s.db = nil
	return s.files.RemoveAll(s.dir)
}

// use holds the database open until release is called; there is none when it failed, nor anything in it.
func (s *Snapshots) use() (db *pebble.DB, release func(), err error) {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return nil, nil, eventstore.ErrClosed
	}
	return s.db, s.mu.RUnlock, nil
}

// Load implements commands.SnapshotStore.
func (s *Snapshots) Load(_ context.Context, stream eventstore.StreamID) ([]byte, error) {
	db, release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if db == nil {
		return nil, fmt.Errorf("snapshot of stream %s: %w", stream, eventstore.ErrNotFound)
	}
	value, closer, err := db.Get([]byte(stream.String()))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("snapshot of stream %s: %w", stream, eventstore.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read snapshot of stream %s: %w", stream, corrupted(err))
	}
	out := append([]byte(nil), value...)
	if err := closer.Close(); err != nil {
		return nil, fmt.Errorf("read snapshot of stream %s: %w", stream, err)
	}
	return out, nil
}

// Save implements commands.SnapshotStore. It keeps nothing while there is no room, and once the database has failed; the
// snapshot before it stays good.
func (s *Snapshots) Save(_ context.Context, stream eventstore.StreamID, snapshot []byte) error {
	db, release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if db == nil || s.broken() || s.room() != nil {
		return nil
	}
	if err := db.Set([]byte(stream.String()), snapshot, pebble.NoSync); err != nil {
		return fmt.Errorf("write snapshot of stream %s: %w", stream, err)
	}
	return nil
}

// Drop implements commands.SnapshotStore. It rewrites the tables that had the snapshots.
func (s *Snapshots) Drop(ctx context.Context, streams ...eventstore.StreamID) error {
	err := s.rewrite(ctx, func() error {
		for _, stream := range streams {
			if err := s.db.Delete([]byte(stream.String()), pebble.NoSync); err != nil {
				return err
			}
		}
		return nil
	}, func() error {
		for _, stream := range streams {
			key := []byte(stream.String())
			if err := s.db.Compact(ctx, key, append(key, 0), false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("drop snapshots: %w", err)
	}
	return nil
}

// Clear implements commands.SnapshotStore.
func (s *Snapshots) Clear(ctx context.Context) error {
	first, beyond := []byte{0}, []byte{0xff}
	err := s.rewrite(ctx, func() error { return s.db.DeleteRange(first, beyond, pebble.NoSync) },
		func() error { return s.db.Compact(ctx, first, beyond, false) })
	if err != nil {
		return fmt.Errorf("clear snapshots: %w", err)
	}
	return nil
}

// rewrite deletes snapshots and compacts what had them. When the database fails meanwhile, it is removed with all there is.
//
// Nobody else uses the database meanwhile: a snapshot that came between the flush and the compaction would have Pebble flush
// once more, and wait for that however it ends.
func (s *Snapshots) rewrite(ctx context.Context, remove, compact func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return eventstore.ErrClosed
	case s.db == nil:
		return s.files.RemoveAll(s.dir) // again, if that failed
	}
	err := remove()
	if err == nil {
		err = s.flush(ctx)
	}
	if err == nil {
		err = compact()
	}
	if s.broken() {
		err = s.remove()
	}
	return err
}

// flush writes out what is in memory. A flush that fails is tried again by Pebble for as long as the database is open, so
// that Flush would wait for ever.
func (s *Snapshots) flush(ctx context.Context) error {
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-s.failed:
		return s.cause
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close writes what is in memory, if there is room, and closes the database; safe twice.
func (s *Snapshots) Close() error {
	err := s.close()
	s.keeper.Wait()
	if err != nil {
		return fmt.Errorf("close snapshots: %w", err)
	}
	return nil
}

func (s *Snapshots) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.done)
	if s.db == nil {
		return nil
	}
	if s.room() == nil && !s.broken() {
		if err := s.flush(context.Background()); err != nil {
			s.fail(err)
		}
	}
	if s.broken() {
		return s.remove()
	}
	if err := s.db.Close(); err != nil {
		s.log.Warn("the snapshots could not be closed: what they had not written is lost", slog.String("folder", s.dir), slog.Any("error", err))
	}
	return nil
}
