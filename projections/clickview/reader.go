package clickview

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/queries"
)

var _ queries.RowReader = (*View)(nil)

// standing says whether there is a model to read from, and keeps statements and switches of tables apart.
type standing struct {
	tables sync.RWMutex // held for reading by statements, for writing by a switch

	mu    sync.Mutex // guards what follows
	known bool
	whole bool
}

func (s *standing) enter() { s.tables.Lock() }
func (s *standing) leave() { s.tables.Unlock() }

// set takes the outcome of a look at the model: nil when it is whole, ErrNoCursor when there is none. Other errors say
// nothing about it.
func (s *standing) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.known, s.whole = true, true
	case errors.Is(err, projections.ErrNoCursor):
		s.known, s.whole = true, false
	}
}

func (s *standing) get() (known, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known, s.whole
}

// Query is queries.RowReader. Values are strings, int64, uint64, float64, bool, time.Time, slices and maps of such, and nil;
// decimals are strings without exponent and trailing zeros. A statement is read-only and bounded by Options. Errors:
// queries.ErrRebuilding while there is no model, queries.ErrUnavailable when the server cannot be reached.
func (v *View) Query(ctx context.Context, sql string, args ...any) iter.Seq2[map[string]any, error] {
	return func(yield func(map[string]any, error) bool) {
		if known, _ := v.standing.get(); !known {
			if _, err := v.Cursor(ctx); err != nil && !errors.Is(err, projections.ErrNoCursor) {
				yield(nil, fmt.Errorf("query: %w", err))
				return
			}
		}
		if _, whole := v.standing.get(); !whole {
			yield(nil, fmt.Errorf("query: %w", queries.ErrRebuilding))
			return
		}
		v.standing.tables.RLock()
		defer v.standing.tables.RUnlock()
		ctx, cancel := context.WithTimeout(ctx, v.opts.ReadTimeout+v.opts.ReadTimeout/10)
		defer cancel()
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
			"readonly":             2,
			"max_execution_time":   v.opts.ReadTimeout.Seconds(),
			"max_result_rows":      v.opts.ReadRows,
			"result_overflow_mode": "throw",
			"max_memory_usage":     v.opts.ReadMemory,
		}))
		stopped, err := v.query(ctx, strings.ReplaceAll(sql, "{db}", v.opts.Database), args, yield)
		switch {
		case stopped || err == nil:
		case errors.Is(err, errGone):
			yield(nil, fmt.Errorf("query: %w: %w", queries.ErrRebuilding, err))
		default:
			yield(nil, fmt.Errorf("query: %w", err))
		}
	}
}

// errStopped ends a query whose reader wants no more.
var errStopped = errors.New("the reader stopped")

func (v *View) query(ctx context.Context, sql string, args []any, yield func(map[string]any, error) bool) (stopped bool, err error) {
	seen := false
	run := func() error {
		var columns []string
		var targets []any
		return readRows(ctx, v.reads, sql, args, func(r driver.Rows) error {
			if columns == nil {
				columns = r.Columns()
				for _, t := range r.ColumnTypes() {
					targets = append(targets, reflect.New(t.ScanType()).Interface())
				}
			}
			if err := r.Scan(targets...); err != nil {
				return err
			}
			row := make(map[string]any, len(columns))
			for i, name := range columns {
				row[name] = plain(reflect.ValueOf(targets[i]).Elem())
			}
			seen = true
			if !yield(row, nil) {
				return errStopped
			}
			return nil
		})
	}
	err = classified(run())
	if !seen && errors.Is(err, projections.ErrUnavailable) && ctx.Err() == nil {
		err = classified(run()) // the connection may have been of a server that was restarted since
	}
	return errors.Is(err, errStopped), err
}

func classified(err error) error {
	if err == nil {
		return nil
	}
	return classify(err)
}

// plain turns a scanned value into one that needs no package of a driver.
func plain(v reflect.Value) any {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint()
	case reflect.Float32, reflect.Float64:
		return v.Float()
	case reflect.String:
		return v.String()
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return x.UTC()
	case fmt.Stringer:
		return x.String()
	default:
		return x
	}
}
