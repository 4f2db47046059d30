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
type Snapshots struct {
	mu     sync.RWMutex // held for reading while the database is in use, guards closed
	db     *pebble.DB
	closed bool
}

// OpenSnapshots opens the database in a folder of its own, which it makes. One that is damaged is made anew. Nil means the
// default logger.
func OpenSnapshots(dir string, log *slog.Logger) (*Snapshots, error) {
	o := (&Options{Logger: log, FS: vfs.Default}).withDefaults()
	cache := pebble.NewCache(snapshotCacheBytes)
	defer cache.Unref()
	x := &index{fs: o.FS, dir: dir, opts: func() *pebble.Options {
		p := o.pebbleOptions("snapshots", o.FS, cache)
		p.MemTableSize = snapshotMemTableBytes
		p.DisableWAL = true
		return p
	}}
	removed, err := x.open()
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	if removed != nil {
		o.Logger.Warn("the snapshots were damaged and are made anew", slog.String("folder", dir), slog.Any("error", removed))
	}
	return &Snapshots{db: x.db}, nil
}

// use holds the database open until release is called.
func (s *Snapshots) use() (release func(), err error) {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return nil, eventstore.ErrClosed
	}
	return s.mu.RUnlock, nil
}

// Load implements commands.SnapshotStore.
func (s *Snapshots) Load(_ context.Context, stream eventstore.StreamID) ([]byte, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	value, closer, err := s.db.Get([]byte(stream.String()))
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

// Save implements commands.SnapshotStore.
func (s *Snapshots) Save(_ context.Context, stream eventstore.StreamID, snapshot []byte) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if err := s.db.Set([]byte(stream.String()), snapshot, pebble.NoSync); err != nil {
		return fmt.Errorf("write snapshot of stream %s: %w", stream, err)
	}
	return nil
}

// Drop implements commands.SnapshotStore. It rewrites the tables that had the snapshots.
func (s *Snapshots) Drop(ctx context.Context, streams ...eventstore.StreamID) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	for _, stream := range streams {
		if err := s.db.Delete([]byte(stream.String()), pebble.NoSync); err != nil {
			return fmt.Errorf("drop snapshot of stream %s: %w", stream, err)
		}
	}
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("drop snapshots: %w", err)
	}
	for _, stream := range streams {
		key := []byte(stream.String())
		if err := s.db.Compact(ctx, key, append(key, 0), false); err != nil {
			return fmt.Errorf("drop snapshot of stream %s: %w", stream, err)
		}
	}
	return nil
}

// Clear implements commands.SnapshotStore.
func (s *Snapshots) Clear(ctx context.Context) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	first, beyond := []byte{0}, []byte{0xff}
	if err := s.db.DeleteRange(first, beyond, pebble.NoSync); err != nil {
		return fmt.Errorf("clear snapshots: %w", err)
	}
	if err := errors.Join(s.db.Flush(), s.db.Compact(ctx, first, beyond, false)); err != nil {
		return fmt.Errorf("clear snapshots: %w", err)
	}
	return nil
}

// Close writes what is in memory and closes the database; safe twice.
func (s *Snapshots) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := errors.Join(s.db.Flush(), s.db.Close()); err != nil {
		return fmt.Errorf("close snapshots: %w", err)
	}
	return nil
}
