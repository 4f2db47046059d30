package clickview

import (
	"context"
	"crypto/rand"
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
	// objects are the tables and views that the database was last seen to have.
	objects map[string]object
}

// object is a table or a view.
type object struct {
	rows  uint64
	table bool // holds rows itself
}

// state is what the bookkeeping says.
type state struct {
	// step is the number of the last step, 0 when there was none, and version that of the projection which made it.
	step    uint64
	version int
	cursor  projections.Cursor
	// rows has all tables and views. It is the number of rows that the projection wrote to a table; for one that is
	// derived from others 1 if it is not empty; for views and bookkeeping 0.
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

// load makes the state known and looks after the tables. ErrNoCursor when the model is not there or not whole. When the
// state had to be read, at a start or after an error, the tables may not have more rows than they should either.
func (m *model) load(ctx context.Context) error {
	read := !m.known
	if err := m.know(ctx); err != nil {
		return err
	}
	if _, err := m.check(ctx, 0); err != nil || !read {
		return err
	}
	err := m.checkSurplus(ctx)
	m.known = err == nil
	return err
}

// checkSurplus returns ErrNoCursor when a table that the projection writes was last seen to have rows that no step
// accounts for: the server has forgotten the step, but not all of its rows. REQUIRES: m.state is what was left.
func (m *model) checkSurplus(ctx context.Context) error {
	for name, want := range m.state.rows {
		have := m.objects[name].rows
		if want < 2 || have <= want { // of derived tables it is not known how many rows they should have
			continue
		}
		// Another writer may have begun a step since the state was read. Its intent is older than its rows.
		var begun uint64
		sql := "SELECT max(step) FROM " + m.table("projection_intents") + " WHERE projection = ?"
		err := m.link.rows(ctx, "read the last intent", sql, []any{m.projection.Name}, func(r driver.Rows) error { return r.Scan(&begun) })
		if err != nil {
			return m.lostIfGone(err)
		}
		if begun > m.state.step {
			return nil
		}
		return fmt.Errorf("%w: %s has %d rows, not %d", projections.ErrNoCursor, m.table(name), have, want)
	}
	return nil
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

// check asks the server whether its bookkeeping is where we left it, and whether its tables have what they should. It
// returns the nonces of the intents of a step. REQUIRES: m.state is what was left.
func (m *model) check(ctx context.Context, number uint64) (nonces []string, err error) {
	known := m.known
	m.known = false
	last, nonces, err := m.look(ctx, number)
	if err != nil {
		return nil, m.lostIfGone(err)
	}
	switch {
	case last < m.state.step:
		return nil, fmt.Errorf("%w: bookkeeping of %s ends at step %d, not %d", projections.ErrNoCursor, m.db, last, m.state.step)
	case last > m.state.step:
		return nil, fmt.Errorf("%w: %s is at step %d, not %d", projections.ErrCursorMoved, m.db, last, m.state.step)
	}
	for name, want := range m.state.rows {
		if have, ok := m.objects[name]; !ok {
			return nil, fmt.Errorf("%w: %s is gone", projections.ErrNoCursor, m.table(name))
		} else if have.rows < want {
			return nil, fmt.Errorf("%w: %s has %d rows, not %d", projections.ErrNoCursor, m.table(name), have.rows, want)
		}
	}
	m.known = known
	return nonces, nil
}

// look sees which tables and views there are, and returns the last step and the nonces of the intents of a step.
func (m *model) look(ctx context.Context, number uint64) (last uint64, nonces []string, err error) {
	sql := "SELECT name, engine LIKE '%MergeTree', ifNull(total_rows, 0)," +
		" (SELECT max(step) FROM " + m.table("projection_commits") + " WHERE projection = ?)," +
		" (SELECT groupArray(nonce) FROM " + m.table("projection_intents") + " WHERE projection = ? AND step = ?)" +
		" FROM system.tables WHERE database = ? AND NOT is_temporary"
	objects := make(map[string]object)
	args := []any{m.projection.Name, m.projection.Name, number, m.db}
	err = m.link.rows(ctx, "look after the tables", sql, args, func(r driver.Rows) error {
		var name string
		var o object
		if err := r.Scan(&name, &o.table, &o.rows, &last, &nonces); err != nil {
			return err
		}
		objects[name] = o
		return nil
	})
	m.objects = objects
	return last, nonces, err
}

// tally adds to the count of rows what a step wrote, and what there is beside it.
func (m *model) tally(ctx context.Context, rows map[string]uint64, s *step) error {
	for i := range s.payload {
		if t := &s.payload[i]; !own(t.Name) {
			rows[t.Name] += uint64(t.Rows)
		}
	}
	known := len(m.objects) > 0
	for name, o := range m.objects {
		n, ok := rows[name]
		known = known && ok && (n > 0 || !o.table || own(name))
	}
	if known {
		return nil
	}
	if _, _, err := m.look(ctx, s.number); err != nil {
		return err
	}
	for name, o := range m.objects {
		switch {
		case rows[name] > 0:
		case o.table && !own(name):
			rows[name] = min(o.rows, 1)
		default:
			rows[name] = 0
		}
	}
	return nil
}

// maxStep is how many bytes of rows a step inserts, about: it is held, stored as its intent, and inserted as a whole.
const maxStep = 16 << 20

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
	lot := projections.Lot{Waiting: maps.Clone(m.state.lot.Waiting), Skipped: m.state.lot.Skipped, Most: maxStep}
	step, parked, err := m.fold(ctx, &lot, events)
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
	if m.known && m.state.step > 0 {
		return nil // the step looks after the tables once more
	}
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
	s.number, s.nonce = m.state.step+1, rand.Text()
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
