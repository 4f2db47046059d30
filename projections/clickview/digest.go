package clickview

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/projections/internal/rowwrites"
)

// Digest is part of projections.Sink: a hash over all rows of the tables that the projection writes, with one of what the
// schema's checks find in derived tables behind it, if they find anything. It reads them all, in bounded memory.
func (v *View) Digest(ctx context.Context) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.loadLive(ctx); err != nil {
		return "", err
	}
	sum, err := v.live.digest(ctx)
	if err != nil {
		return "", err
	}
	derived, err := v.check(ctx)
	if err != nil || len(derived) == 0 {
		return sum, err
	}
	faults := sha256.Sum256([]byte(strings.Join(derived, "\n")))
	return sum + "-" + hex.EncodeToString(faults[:8]), nil
}

func (m *model) digest(ctx context.Context) (string, error) {
	tables, err := m.written(ctx)
	if err != nil {
		return "", m.lostIfGone(err)
	}
	var sum rowwrites.Sum
	for _, t := range tables {
		err := m.readTable(ctx, t, "", nil, func(h *rowwrites.Hasher, row []byte, _ uint64) { h.Add(&sum, row) })
		if err != nil {
			return "", m.lostIfGone(err)
		}
	}
	return sum.String(), nil
}

// written lists the tables that the projection writes: those that begin with position and row.
func (m *model) written(ctx context.Context) ([]string, error) {
	var names []string
	sql := "SELECT table FROM system.columns WHERE database = ? AND (name, position) IN (('position', 1), ('row', 2))" +
		" GROUP BY table HAVING count() = 2 ORDER BY table"
	err := m.link.rows(ctx, "list the projection's tables", sql, []any{m.db}, func(r driver.Rows) error {
		var name string
		err := r.Scan(&name)
		if !own(name) {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// readTable calls each for the rows of a table, encoded, in no order.
func (m *model) readTable(ctx context.Context, table, where string, args []any, each func(h *rowwrites.Hasher, row []byte, position uint64)) error {
	h := rowwrites.NewHasher(table)
	var cells []cell
	var targets []any
	var buf []byte
	return m.link.stream(ctx, "read "+table, "SELECT * FROM "+m.table(table)+where, args, func(r driver.Rows) error {
		if cells == nil {
			types := r.ColumnTypes()
			if cells = make([]cell, len(types)); len(types) < 2 {
				return fmt.Errorf("table %s has %d columns", table, len(types))
			}
			for i, t := range types {
				cells[i].of(t)
				targets = append(targets, cells[i].target)
			}
		}
		if err := r.Scan(targets...); err != nil {
			return err
		}
		buf = buf[:0]
		for i := range cells {
			var err error
			if buf, err = cells[i].append(buf); err != nil {
				return err
			}
		}
		each(h, buf, *cells[0].target.(*uint64))
		return nil
	})
}

// cell takes the values of one column of a result, one after the other, and encodes them.
type cell struct {
	target any
	text   textCell
}

// textCell takes values that only have to be known as text: exact decimals.
type textCell struct{ text string }

// Scan is sql.Scanner.
func (c *textCell) Scan(value any) error {
	c.text = fmt.Sprint(value)
	return nil
}

func (c *cell) of(t driver.ColumnType) {
	name := t.DatabaseTypeName()
	if inner, ok := strings.CutPrefix(name, "LowCardinality("); ok {
		name = strings.TrimSuffix(inner, ")")
	}
	if base(name) == "Decimal" {
		c.target = &c.text
		return
	}
	c.target = newTarget(t.ScanType())
}

func (c *cell) append(dst []byte) ([]byte, error) {
	if c.target == any(&c.text) {
		return rowwrites.AppendValue(dst, c.text.text)
	}
	switch p := c.target.(type) {
	case *string:
		return rowwrites.AppendValue(dst, *p)
	case *uint64:
		return rowwrites.AppendUint(dst, *p), nil
	case *uint32:
		return rowwrites.AppendUint(dst, uint64(*p)), nil
	case *int64:
		return rowwrites.AppendInt(dst, *p), nil
	}
	return rowwrites.AppendValue(dst, pointee(c.target))
}

func newTarget(t reflect.Type) any { return reflect.New(t).Interface() }

// pointee returns what a pointer, or a pointer to a pointer, leads to; nil when it leads nowhere.
func pointee(p any) any {
	v := reflect.ValueOf(p)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	return v.Interface()
}
