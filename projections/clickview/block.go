package clickview

import (
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/rowwrites"
)

// maxBlockRows bounds the rows of one block. It is part of what makes a step repeatable: a table's rows are cut at
// multiples of it, and each piece has a token of its own.
const maxBlockRows = 200_000

// filler puts values of one column's kind into a block. done hands the column over.
type filler interface {
	add(v rowwrites.Value) error
	done() error
}

// fillBlock appends up to limit rows to a block and returns what is left of them.
func fillBlock(batch driver.Batch, r *rowwrites.Reader, rows int) error {
	columns := batch.Columns()
	fillers := make([]filler, len(columns))
	for i, c := range columns {
		fillers[i] = newFiller(c, batch.Column(i), rows)
	}
	for range rows {
		for i, f := range fillers {
			if err := f.add(r.Next()); err != nil {
				return fmt.Errorf("%w: column %s: %w", projections.ErrBadWrite, columns[i].Name(), err)
			}
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	for i, f := range fillers {
		if err := f.done(); err != nil {
			return fmt.Errorf("%w: column %s: %w", projections.ErrBadWrite, columns[i].Name(), err)
		}
	}
	return nil
}

// newFiller returns the filler of a column: one that builds a typed slice for the kinds that are common, one that goes
// value by value for the others.
func newFiller(c column.Interface, into driver.BatchColumn, rows int) filler {
	switch base(string(c.Type())) {
	case "String", "Decimal":
		return &textFiller{into: into, values: make([]string, 0, rows)}
	case "UInt64":
		return newIntFiller[uint64](into, rows)
	case "UInt32":
		return newIntFiller[uint32](into, rows)
	case "UInt16":
		return newIntFiller[uint16](into, rows)
	case "UInt8":
		return newIntFiller[uint8](into, rows)
	case "Int64":
		return newIntFiller[int64](into, rows)
	case "Int32":
		return newIntFiller[int32](into, rows)
	case "Int16":
		return newIntFiller[int16](into, rows)
	case "Int8":
		return newIntFiller[int8](into, rows)
	case "DateTime64", "DateTime", "Date", "Date32":
		return &timeFiller{into: into, values: make([]time.Time, 0, rows)}
	}
	return &anyFiller{into: into}
}

// base returns the name of a type without its parameters.
func base(t string) string {
	name, _, _ := strings.Cut(t, "(")
	return name
}

type textFiller struct {
	into   driver.BatchColumn
	values []string
}

func (f *textFiller) add(v rowwrites.Value) error {
	text, ok := v.Text()
	if !ok {
		return fmt.Errorf("%T where a string is wanted", v.Any())
	}
	f.values = append(f.values, string(text))
	return nil
}

func (f *textFiller) done() error { return f.into.Append(f.values) }

type integer interface {
	~uint64 | ~uint32 | ~uint16 | ~uint8 | ~int64 | ~int32 | ~int16 | ~int8
}

type intFiller[T integer] struct {
	into   driver.BatchColumn
	values []T
}

func newIntFiller[T integer](into driver.BatchColumn, rows int) *intFiller[T] {
	return &intFiller[T]{into: into, values: make([]T, 0, rows)}
}

func (f *intFiller[T]) add(v rowwrites.Value) error {
	if n, ok := v.Int(); ok {
		if t := T(n); int64(t) == n && (t < 0) == (n < 0) {
			f.values = append(f.values, t)
			return nil
		}
	} else if n, ok := v.Uint(); ok {
		if t := T(n); t >= 0 && uint64(t) == n {
			f.values = append(f.values, t)
			return nil
		}
	}
	return fmt.Errorf("%v (%[1]T) does not fit", v.Any())
}

func (f *intFiller[T]) done() error { return f.into.Append(f.values) }

type timeFiller struct {
	into   driver.BatchColumn
	values []time.Time
}

func (f *timeFiller) add(v rowwrites.Value) error {
	t, ok := v.Time()
	if !ok {
		return fmt.Errorf("%T where a time is wanted", v.Any())
	}
	f.values = append(f.values, t)
	return nil
}

func (f *timeFiller) done() error { return f.into.Append(f.values) }

type anyFiller struct {
	into driver.BatchColumn
}

func (f *anyFiller) add(v rowwrites.Value) error { return f.into.AppendRow(v.Any()) }
func (f *anyFiller) done() error                 { return nil }
