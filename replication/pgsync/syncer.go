package pgsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// Syncer follows tables of a database. It implements replication.Syncer.
type Syncer struct {
	o Options

	mu sync.Mutex // guards what follows
	// streaming says that the changes come, and since then applied is the time up to which all are done.
	streaming bool
	applied   time.Time
}

var _ replication.Syncer = (*Syncer)(nil)

// New returns a Syncer; it connects when Sync is called.
func New(o Options) (*Syncer, error) {
	o.Tables = slices.Clone(o.Tables)
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("follow a database: %w", err)
	}
	return &Syncer{o: o}, nil
}

// Sync brings over what happens until ctx ends. Where the database has no slot of its name, it makes it, and begins with the rows
// that are there; from 0 it brings over the rows that are there once more, and so it does when that has broken off before, or a
// table was added; from anywhere else it goes on where the slot is, for all that comes before has been applied.
func (s *Syncer) Sync(ctx context.Context, fromTS int64) error {
	defer s.down()
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.check(ctx); err != nil {
		return err
	}
	if err := c.publish(ctx); err != nil {
		return err
	}
	there, active, err := c.slot(ctx)
	if err != nil {
		return err
	}
	if active {
		return fmt.Errorf("%w: slot %s is in use: another Syncer runs, or the server has not noticed yet that its last one is gone",
			eventstore.ErrUnavailable, s.o.Slot)
	}
	slots, err := whole(ctx, c.sql, s.o.Publication)
	if err != nil {
		return err
	}
	if !there || fromTS <= 0 || !slices.Contains(slots, s.o.Slot) {
		if err := c.bring(ctx, there); err != nil {
			return err
		}
	}
	return c.follow(ctx, 0)
}

// bring applies the rows that are there, and notes it when all are. Until then each call of Sync does so.
func (c *session) bring(ctx context.Context, there bool) error {
	if err := c.markWhole(ctx, false); err != nil {
		return err
	}
	rows := c.begin
	if there {
		rows = c.again
	}
	if err := rows(ctx); err != nil {
		return err
	}
	return c.markWhole(ctx, true)
}

// HealthCheck implements replication.Syncer. The lag is that of the clock of the database, as far as it was heard of.
func (s *Syncer) HealthCheck() (healthy bool, lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.streaming {
		return false, 0
	}
	return true, max(0, time.Since(s.applied))
}

// reached notes that everything up to a time has been applied.
func (s *Syncer) reached(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streaming = true; t.After(s.applied) {
		s.applied = t
	}
}

func (s *Syncer) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streaming = false
}

// Drop removes the slot and the publication from the database, where they are: nothing is followed any more, and the server
// keeps no WAL for it. While a Syncer runs with the slot, Drop waits for it to stop.
func (s *Syncer) Drop(ctx context.Context) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	there, _, err := c.slot(ctx)
	if err != nil && !errors.Is(err, eventstore.ErrCorrupt) {
		return err
	}
	if there || err != nil { // the server waits until who used it is gone
		if err := pglogrepl.DropReplicationSlot(ctx, c.repl, s.o.Slot, pglogrepl.DropReplicationSlotOptions{Wait: true}); err != nil {
			return fmt.Errorf("drop slot %s: %w", s.o.Slot, err)
		}
	}
	if _, err := c.sql.Exec(ctx, "DROP PUBLICATION IF EXISTS "+s.o.Publication); err != nil {
		return fmt.Errorf("drop publication %s: %w", s.o.Publication, err)
	}
	return nil
}
