package clickview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// model is one generation of a view's model: the tables of one database with their bookkeeping. It is guarded by its
// view's mutex.
type model struct {
	db         string
	projection projections.Projection[projections.Rows]
	link       *link
	migrations []migration
	// skipped is shared by all models of a view, and guarded as they are.
	skipped map[eventstore.Position]bool

	// known says that state is what the server has. It is false at first and after every error.
	known bool
	state state
	// tables are those that the database was last seen to have.
	tables map[string]bool
}

// state is what the bookkeeping says.
type state struct {
	// step is the number of the last step, 0 when there was none, and version that of the projection which made it.
	step    uint64
	version int
	cursor  projections.Cursor
	// rows is what each table has had written to it; for tables that are derived from others it is 1 or 0.
	rows map[string]uint64
	// lot has the streams with parked events, and the events that are skipped.
	lot projections.Lot
}

// table returns the full name of a table.
func (m *model) table(name string) string { return m.db + "." + name }

// open brings the tables up to date and returns the cursor; ErrNoCursor when there is no model of this version, or when
// it has lost something. A step that was cut off is finished first, with the tables it was meant for.
func (m *model) open(ctx context.Context) (projections.Cursor, error) {
	m.known = false
	lost := m.load(ctx)
	if lost != nil && !errors.Is(lost, projections.ErrNoCursor) {
		return projections.Cursor{}, lost
	}
	if err := m.migrate(ctx); err != nil {
		return projections.Cursor{}, err
	}
	if lost != nil {
		return projections.Cursor{}, lost
	}
	return m.cursor()
}

// cursor returns the cursor that is known. REQUIRES: m.known.
func (m *model) cursor() (projections.Cursor, error) {
	switch {
	case m.state.step == 0:
		return projections.Cursor{}, fmt.Errorf("%w: %s holds no model of %s", projections.ErrNoCursor, m.db, m.projection.Name)
	case m.state.version != m.projection.Version:
		return projections.Cursor{}, fmt.Errorf("%w: %s holds version %d of %s, not %d",
			projections.ErrNoCursor, m.db, m.state.version, m.projection.Name, m.projection.Version)
	}
	return m.state.cursor, nil
}

// load makes the state known and looks after the tables. ErrNoCursor when the model is not there or not whole.
func (m *model) load(ctx context.Context) error {
	if err := m.know(ctx); err != nil {
		return err
	}
	return m.check(ctx)
}

// know makes the state known without looking at the tables. A step that was cut off is finished.
func (m *model) know(ctx context.Context) error {
	if m.known {
		return nil
	}
	s, err := m.readState(ctx)
	if err != nil {
		return m.lostIfGone(err)
	}
	pending, err := m.readIntent(ctx, s.step+1)
	if err != nil {
		return m.lostIfGone(err)
	}
	if pending != nil && pending.version != m.projection.Version {
		return fmt.Errorf("%w: %s has an unfinished step of version %d of %s", projections.ErrNoCursor, m.db, pending.version, m.projection.Name)
	}
	if pending != nil {
		if err := m.carryOut(ctx, &s, pending, nil); err != nil {
			return m.lostIfGone(err)
		}
	}
	if s.lot, err = m.readLot(ctx); err != nil {
		return m.lostIfGone(err)
	}
	m.state, m.known = s, true
	return nil
}

// lostIfGone makes of a missing table a missing model.
func (m *model) lostIfGone(err error) error {
	if errors.Is(err, errGone) {
		return fmt.Errorf("%w: %w", projections.ErrNoCursor, err)
	}
	return err
}

// readState reads the last commit row; the zero state when there is none.
func (m *model) readState(ctx context.Context) (state, error) {
	s := state{rows: make(map[string]uint64)}
	sql := "SELECT step, version, incarnation, lsn, seq, rows FROM " + m.table("projection_commits") +
		" WHERE projection = ? ORDER BY step DESC LIMIT 1"
	err := m.link.rows(ctx, "read the cursor", sql, []any{m.projection.Name}, func(r driver.Rows) error {
		var version, incarnation uint32
		if err := r.Scan(&s.step, &version, &incarnation, &s.cursor.Position.LSN, &s.cursor.Seq, &s.rows); err != nil {
			return err
		}
		s.version, s.cursor.Position.Incarnation = int(version), incarnation
		return nil
	})
	return s, err
}

// check asks the server whether its bookkeeping is where we left it, and whether its tables have what they should.
// REQUIRES: m.known.
func (m *model) check(ctx context.Context) error {
	counts, step, err := m.count(ctx)
	if err != nil {
		return m.lostIfGone(err)
	}
	m.tables = make(map[string]bool, len(counts))
	for table := range counts {
		m.tables[table] = true
	}
	if step != m.state.step {
		m.known = false
		if step < m.state.step {
			return fmt.Errorf("%w: bookkeeping of %s ends at step %d, not %d", projections.ErrNoCursor, m.db, step, m.state.step)
		}
		return fmt.Errorf("%w: %s is at step %d, not %d", projections.ErrCursorMoved, m.db, step, m.state.step)
	}
	for table, want := range m.state.rows {
		if got, ok := counts[table]; !ok || got < want {
			m.known = false
			return fmt.Errorf("%w: table %s has %d rows, %d were written", projections.ErrNoCursor, m.table(table), got, want)
		}
	}
	return nil
}

// count returns how many rows each table has, and the last step.
func (m *model) count(ctx context.Context) (counts map[string]uint64, step uint64, err error) {
	sql := "SELECT name, total_rows, (SELECT max(step) FROM " + m.table("projection_commits") + " WHERE projection = ?)" +
		" FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree' AND NOT is_temporary"
	counts = make(map[string]uint64)
	err = m.link.rows(ctx, "look after the tables", sql, []any{m.projection.Name, m.db}, func(r driver.Rows) error {
		var name string
		var rows *uint64
		if err := r.Scan(&name, &rows, &step); err != nil {
			return err
		}
		if rows != nil {
			counts[name] = *rows
		}
		return nil
	})
	return counts, step, err
}

// own reports whether a table is bookkeeping.
func own(table string) bool {
	return strings.HasPrefix(table, "projection_") || strings.HasPrefix(table, "schema_")
}

// commit is projections.Sink.Commit on this model.
func (m *model) commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	if err := m.ready(ctx, from); err != nil {
		return nil, err
	}
	at, err := m.cursor()
	if errors.Is(err, projections.ErrNoCursor) && (m.state.step != 0 || from != projections.Cursor{}) {
		return nil, err
	}
	if at != from {
		return nil, fmt.Errorf("%w: at %s, the commit is from %s", projections.ErrCursorMoved, at, from)
	}
	lot := projections.Lot{Waiting: maps.Clone(m.state.lot.Waiting), Skipped: m.state.lot.Skipped}
	step, parked, err := m.fold(&lot, events)
	if err != nil {
		return nil, err
	}
	step.from, step.to = from, to
	if err := m.make(ctx, step); err != nil {
		return nil, err
	}
	m.state.lot = lot
	return projections.PlainParked(parked), nil
}

// ready makes the state known, with tables to write to if the commit begins a model.
func (m *model) ready(ctx context.Context, from projections.Cursor) error {
	err := m.load(ctx)
	if from != (projections.Cursor{}) || !errors.Is(err, projections.ErrNoCursor) {
		return err
	}
	if m.known && m.state.step != 0 {
		return err
	}
	if err := m.migrate(ctx); err != nil {
		return err
	}
	return m.load(ctx)
}

// make takes a step: intent, inserts, commit. After an error the state is unknown until it is read again.
func (m *model) make(ctx context.Context, s *step) error {
	s.number = m.state.step + 1
	m.known = false
	blocks, err := m.prepareAll(ctx, s)
	if err != nil {
		return m.lostIfGone(err)
	}
	defer closeAll(blocks)
	if err := m.intend(ctx, s); err != nil {
		return m.lostIfGone(err)
	}
	next := m.state
	if err := m.carryOut(ctx, &next, s, blocks); err != nil {
		return m.lostIfGone(err)
	}
	m.state, m.known = next, true
	return nil
}
