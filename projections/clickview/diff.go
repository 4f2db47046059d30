package clickview

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/rowwrites"
)

// A model is compared in stretches of positions, so that only sums have to be remembered of what is right.
const stretchLength = 4096

// Limits of what Diff lists.
const (
	maxStretches   = 16 // of each table are looked at row by row
	maxDifferences = 200
)

// stretches has the sum of the rows of one table for each stretch of positions.
type stretches map[uint64]*rowwrites.Sum

func (s stretches) add(h *rowwrites.Hasher, row []byte, position uint64) {
	sum := s[position/stretchLength]
	if sum == nil {
		sum = new(rowwrites.Sum)
		s[position/stretchLength] = sum
	}
	h.Add(sum, row)
}

// differing returns the stretches in which two tables differ, in order.
func (s stretches) differing(other stretches) []uint64 {
	var out []uint64
	for n, sum := range s {
		if o := other[n]; o == nil || *o != *sum {
			out = append(out, n)
		}
	}
	for n := range other {
		if s[n] == nil {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// Diff folds the log up to the model's cursor and names each row of the tables that is not as the fold has it (changed,
// missing, or there without reason), and what the schema's checks find in tables that are derived from others. Nothing may
// be committed meanwhile. Memory is bounded: the log is folded a second time for the stretches that differ. Parked and
// skipped events are taken to be missing. It also works where Cursor says that rows were lost.
func (v *View) Diff(ctx context.Context, source projections.Source) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.settle(ctx); err != nil {
		return nil, err
	}
	m := v.live
	m.known = false
	if err := m.know(ctx); err != nil {
		return nil, err
	}
	if _, err := m.cursor(); err != nil {
		return nil, err
	}
	without := make(map[eventstore.Position]bool)
	err := m.readParked(ctx, func(p projections.Parked, _ string) error {
		without[p.Position] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	want := make(map[string]stretches)
	err = m.refold(ctx, source, without, func(t *rowwrites.Table) error {
		sums := want[t.Name]
		if sums == nil {
			sums = make(stretches)
			want[t.Name] = sums
		}
		h := rowwrites.NewHasher(t.Name)
		return t.Each(func(row []byte, position uint64) bool {
			sums.add(h, row, position)
			return true
		})
	})
	if err != nil {
		return nil, err
	}
	differing := make(map[string][]uint64)
	tables, err := m.written(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		have := make(stretches)
		if err := m.readTable(ctx, t, "", nil, have.add); err != nil {
			return nil, err
		}
		if d := want[t].differing(have); len(d) > 0 {
			differing[t] = d
		}
	}
	found, err := m.differences(ctx, source, without, differing)
	if err != nil {
		return nil, err
	}
	derived, err := v.check(ctx)
	return append(found, derived...), err
}

// refold calls each with the rows of every table that a fold of the log up to the model's cursor gives, piece by piece.
func (m *model) refold(ctx context.Context, source projections.Source, without map[eventstore.Position]bool, each func(*rowwrites.Table) error) error {
	return projections.Replay(ctx, source, &refolding{model: m, without: without, each: each}, m.state.cursor)
}

// refolding is a sink that hands out what is written to it and keeps nothing.
type refolding struct {
	model   *model
	without map[eventstore.Position]bool // those that are parked, all of their streams behind them among them
	each    func(*rowwrites.Table) error
	at      projections.Cursor
}

func (r *refolding) Name() string { return r.model.projection.Name }

func (r *refolding) Types() []string                                  { return r.model.projection.Types }
func (r *refolding) Open(context.Context) (projections.Cursor, error) { return r.at, nil }
func (r *refolding) Reset(context.Context) error                      { return nil }
func (r *refolding) Digest(context.Context) (string, error)           { return "", nil }
func (r *refolding) Close() error                                     { return nil }
func (r *refolding) Touches(e *eventstore.Recorded) bool              { return r.model.projection.Touches(e) }

func (r *refolding) Commit(ctx context.Context, _, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	lot := projections.Lot{Skipped: r.model.skipped}
	if len(r.without) > 0 {
		events = slices.DeleteFunc(slices.Clone(events), func(e eventstore.Recorded) bool { return r.without[e.Position] })
	}
	rec := rowwrites.NewRecorder(&r.model.projection)
	if _, err := projections.Fold[projections.Rows](ctx, &r.model.projection, rec, rec, &lot, events); err != nil {
		return nil, err
	}
	payload, err := rec.Payload()
	if err != nil {
		return nil, err
	}
	for i := range payload {
		if err := r.each(&payload[i]); err != nil {
			return nil, err
		}
	}
	r.at = to
	return nil, nil
}

// rowID names a row within a table.
type rowID struct {
	position uint64
	row      uint32
}

func idOf(row []byte) rowID {
	r := rowwrites.NewReader(row)
	position, _ := r.Next().Uint()
	number, _ := r.Next().Uint()
	return rowID{position, uint32(number)}
}

// differences looks at the stretches that differ, row by row.
func (m *model) differences(ctx context.Context, source projections.Source, without map[eventstore.Position]bool, differing map[string][]uint64) ([]string, error) {
	if len(differing) == 0 {
		return nil, nil
	}
	looked := make(map[string]map[uint64]bool)
	for table, all := range differing {
		looked[table] = make(map[uint64]bool)
		for _, n := range all[:min(len(all), maxStretches)] {
			looked[table][n] = true
		}
	}
	want := make(map[string]map[rowID]string)
	err := m.refold(ctx, source, without, func(t *rowwrites.Table) error {
		if want[t.Name] == nil {
			want[t.Name] = make(map[rowID]string)
		}
		return t.Each(func(row []byte, position uint64) bool {
			if looked[t.Name][position/stretchLength] {
				want[t.Name][idOf(row)] = string(row)
			}
			return true
		})
	})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, table := range slices.Sorted(maps.Keys(differing)) {
		found, err := m.compare(ctx, table, slices.Sorted(maps.Keys(looked[table])), want[table])
		if err != nil {
			return nil, err
		}
		if more := len(found) - maxDifferences; more > 0 {
			found = append(found[:maxDifferences], fmt.Sprintf("%s: %d more rows differ", m.table(table), more))
		}
		out = append(out, found...)
		if more := len(differing[table]) - maxStretches; more > 0 {
			from := differing[table][maxStretches] * stretchLength
			out = append(out, fmt.Sprintf("%s: more rows differ in %d further stretches, from position %d on", m.table(table), more, from))
		}
	}
	return out, nil
}

// compare names the rows of a table, in some stretches, that are not as wanted.
func (m *model) compare(ctx context.Context, table string, in []uint64, want map[rowID]string) ([]string, error) {
	columns, err := m.columns(ctx, table)
	if err != nil {
		return nil, err
	}
	type difference struct {
		id   rowID
		text string
	}
	var found []difference
	note := func(id rowID, text string) {
		found = append(found, difference{id, fmt.Sprintf("%s: row %d of position %d %s", m.table(table), id.row, id.position, text)})
	}
	seen := make(map[rowID]bool)
	where := fmt.Sprintf(" WHERE intDiv(position, %d) IN (?)", stretchLength)
	err = m.readTable(ctx, table, where, []any{in}, func(_ *rowwrites.Hasher, row []byte, _ uint64) {
		id := idOf(row)
		right, ok := want[id]
		switch {
		case !ok:
			note(id, "should not be there")
		case right != string(row):
			note(id, "is changed: "+changes(columns, right, row))
		case seen[id]:
			note(id, "is there more than once")
		}
		seen[id] = true
	})
	if err != nil {
		return nil, err
	}
	for id := range want {
		if !seen[id] {
			note(id, "is missing")
		}
	}
	slices.SortFunc(found, func(a, b difference) int { return strings.Compare(sortKey(a.id, a.text), sortKey(b.id, b.text)) })
	out := make([]string, len(found))
	for i, d := range found {
		out[i] = d.text
	}
	return out, nil
}

func sortKey(id rowID, text string) string {
	return fmt.Sprintf("%020d/%010d/%s", id.position, id.row, text)
}

// columns lists the columns that the projection writes.
func (m *model) columns(ctx context.Context, table string) ([]string, error) {
	var names []string
	sql := "SELECT name FROM system.columns WHERE database = ? AND table = ? AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') ORDER BY position"
	err := m.link.rows(ctx, "list columns", sql, []any{m.db, table}, func(r driver.Rows) error {
		var name string
		err := r.Scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// changes says which columns of a row differ.
func changes(columns []string, want string, have []byte) string {
	w, h := rowwrites.NewReader([]byte(want)), rowwrites.NewReader(have)
	var out []string
	for _, name := range columns {
		if a, b := w.Next().Any(), h.Next().Any(); fmt.Sprint(a) != fmt.Sprint(b) {
			out = append(out, fmt.Sprintf("%s is %v, the log says %v", name, b, a))
		}
	}
	return strings.Join(out, ", ")
}

// readChecks reads the queries that tell where derived tables disagree with what they are derived from, by their names.
func readChecks(tables fs.FS) (map[string]string, error) {
	names, err := fs.Glob(tables, "checks/*.sql")
	if err != nil {
		return nil, fmt.Errorf("list checks: %w", err)
	}
	out := make(map[string]string, len(names))
	for _, name := range names {
		text, err := fs.ReadFile(tables, name)
		if err != nil {
			return nil, fmt.Errorf("read check: %w", err)
		}
		out[strings.TrimSuffix(path.Base(name), ".sql")] = string(text)
	}
	return out, nil
}

// check runs the schema's checks.
func (v *View) check(ctx context.Context) ([]string, error) {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(v.checks)) {
		sql := strings.ReplaceAll(v.checks[name], "{db}", v.live.db)
		found := 0
		err := v.link.stream(ctx, "check "+name, sql, nil, func(r driver.Rows) error {
			if found++; found > maxDifferences {
				return nil
			}
			values, err := scanPlain(r)
			if err != nil {
				return err
			}
			out = append(out, fmt.Sprintf("%s: disagrees with what it is derived from: %s", v.live.table(name), values))
			return nil
		})
		if err != nil {
			return nil, err
		}
		if found > maxDifferences {
			out = append(out, fmt.Sprintf("%s: disagrees in %d more rows", v.live.table(name), found-maxDifferences))
		}
	}
	return out, nil
}

// scanPlain reads a row as text: name=value, separated by blanks.
func scanPlain(r driver.Rows) (string, error) {
	types := r.ColumnTypes()
	targets := make([]any, len(types))
	for i, t := range types {
		targets[i] = newTarget(t.ScanType())
	}
	if err := r.Scan(targets...); err != nil {
		return "", err
	}
	parts := make([]string, len(types))
	for i, t := range types {
		parts[i] = fmt.Sprintf("%s=%v", t.Name(), pointee(targets[i]))
	}
	return strings.Join(parts, " "), nil
}
