package clickview

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// View keeps the read model of one projection: a projections.Generations, Parking, CursorReader and Versioned, and a
// queries.RowReader. All methods are safe for concurrent use; commits go one after the other.
type View struct {
	projection projections.Projection[projections.Rows]
	opts       Options
	link       *link
	reads      driver.Conn
	checks     map[string]string
	standing   standing

	mu       sync.Mutex // guards what follows, and is held while a model is written
	live     *model
	building *model
	// loaded says that skipped events and a switch that was cut off have been seen to.
	loaded bool
}

// New returns a view of a projection whose tables are made by the numbered files in tables. It connects when it is first
// used; Close ends its connections.
func New(p projections.Projection[projections.Rows], tables fs.FS, o Options) (*View, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	all, err := migrations(tables)
	if err != nil {
		return nil, err
	}
	checks, err := readChecks(tables)
	if err != nil {
		return nil, err
	}
	writes, err := dial(&o, 32, dialTimeout, o.OpTimeout)
	if err != nil {
		return nil, err
	}
	reads, err := dial(&o, o.Readers, dialTimeout, o.ReadTimeout)
	if err != nil {
		return nil, errors.Join(err, writes.Close())
	}
	l := &link{conn: writes, timeout: o.OpTimeout, fault: o.fault}
	v := &View{projection: p, opts: o, link: l, reads: reads, checks: checks}
	v.live = &model{db: o.Database, projection: p, link: l, migrations: all, skipped: make(map[eventstore.Position]bool)}
	return v, nil
}

// Name, Types and Version are those of the projection.
func (v *View) Name() string { return v.projection.Name }

// Types is part of projections.Sink.
func (v *View) Types() []string { return v.projection.Types }

// Version is projections.Versioned.
func (v *View) Version() int { return v.projection.Version }

// Database returns the name of the database in which the model is found.
func (v *View) Database() string { return v.opts.Database }

// Touches is projections.Correcting.
func (v *View) Touches(e *eventstore.Recorded) bool { return v.projection.Touches(e) }

// Open is part of projections.Sink: it finishes what was cut off, and makes or migrates the tables.
func (v *View) Open(ctx context.Context) (projections.Cursor, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.loaded = false
	if err := v.settle(ctx); err != nil {
		return projections.Cursor{}, err
	}
	at, err := v.live.open(ctx)
	v.standing.set(err)
	return at, err
}

// settle finishes a switch that was cut off and reads the skipped events, once. REQUIRES: v.mu is held.
func (v *View) settle(ctx context.Context) error {
	if v.loaded {
		return nil
	}
	if err := v.finishPromotion(ctx); err != nil {
		return err
	}
	if err := v.readSkipped(ctx); err != nil {
		return err
	}
	v.loaded = true
	return nil
}

// loadLive makes the live model's state known. REQUIRES: v.mu is held.
func (v *View) loadLive(ctx context.Context) error {
	if err := v.settle(ctx); err != nil {
		return err
	}
	err := v.live.load(ctx)
	if err == nil {
		_, err = v.live.cursor()
	}
	v.standing.set(err)
	return err
}

// Cursor is projections.CursorReader. It asks the server whether everything is still there.
func (v *View) Cursor(ctx context.Context) (projections.Cursor, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.loadLive(ctx); err != nil {
		return projections.Cursor{}, err
	}
	return v.live.cursor()
}

// Commit is part of projections.Sink.
func (v *View) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.settle(ctx); err != nil {
		return nil, err
	}
	parked, err := v.live.commit(ctx, from, to, events)
	v.standing.set(err)
	return parked, err
}

// Reset is part of projections.Sink.
func (v *View) Reset(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.standing.set(projections.ErrNoCursor)
	if err := v.dropNext(ctx); err != nil {
		return err
	}
	v.live.known, v.loaded = false, false
	if err := v.live.clear(ctx); err != nil {
		return err
	}
	return v.settle(ctx)
}

// clear drops every table but that of the skipped events, the bookkeeping first: no cursor may outlive its rows.
func (m *model) clear(ctx context.Context) error {
	var tables []string
	sql := "SELECT name FROM system.tables WHERE database = ? AND NOT is_temporary ORDER BY name LIKE 'projection_%' DESC, engine LIKE '%View' DESC, name"
	err := m.link.rows(ctx, "list tables", sql, []any{m.db}, func(r driver.Rows) error {
		var name string
		err := r.Scan(&name)
		tables = append(tables, name)
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range tables {
		if name == "projection_skipped" {
			continue
		}
		if err := m.link.exec(ctx, "drop "+name, "DROP TABLE IF EXISTS "+m.table(name)+" SYNC"); err != nil {
			return err
		}
	}
	return m.migrate(ctx)
}

// Close is part of projections.Sink.
func (v *View) Close() error {
	err := errors.Join(v.link.conn.Close(), v.reads.Close())
	if err != nil {
		return fmt.Errorf("close clickhouse connections: %w", err)
	}
	return nil
}
