package memview

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// Row is one row of a table in memory.
type Row struct {
	// Position, Row and Sign are the columns that sinks fill themselves: the event's lsn, the row's place among all
	// those that the event brought, from 0, and -1 for one that takes another back, else 1.
	Position uint64
	Row      uint32
	Sign     int8
	Values   []any
}

// Rows is a model of tables in memory: a projections.Sink. It is safe for concurrent use.
type Rows struct {
	projection projections.Projection[projections.Rows]
	skipped    map[eventstore.Position]bool

	mu     sync.Mutex // guards what follows
	filled bool
	cursor projections.Cursor
	tables map[string][]Row
	lot    parkingLot
}

// NewRows returns an empty sink for the projection, without a cursor. Events at the skipped positions are left out.
func NewRows(p projections.Projection[projections.Rows], skipped ...eventstore.Position) *Rows {
	r := &Rows{projection: p, skipped: make(map[eventstore.Position]bool)}
	for _, at := range skipped {
		r.skipped[at] = true
	}
	return r
}

// Name is part of projections.Sink.
func (r *Rows) Name() string { return r.projection.Name }

// Types is part of projections.Sink.
func (r *Rows) Types() []string { return r.projection.Types }

// Version is projections.Versioned.
func (r *Rows) Version() int { return r.projection.Version }

// Touches is projections.Correcting.
func (r *Rows) Touches(e *eventstore.Recorded) bool { return r.projection.Touches(e) }

// Open is part of projections.Sink.
func (r *Rows) Open(ctx context.Context) (projections.Cursor, error) { return r.Cursor(ctx) }

// Close is part of projections.Sink; it does nothing.
func (r *Rows) Close() error { return nil }

// Cursor is projections.CursorReader.
func (r *Rows) Cursor(context.Context) (projections.Cursor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.filled {
		return projections.Cursor{}, projections.ErrNoCursor
	}
	return r.cursor, nil
}

// Reset is part of projections.Sink.
func (r *Rows) Reset(context.Context) error {
	r.Lose()
	return nil
}

// Lose forgets the model and its cursor, as a server does that is emptied.
func (r *Rows) Lose() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.filled, r.cursor, r.tables, r.lot = false, projections.Cursor{}, nil, parkingLot{}
}

// Commit is part of projections.Sink.
func (r *Rows) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.filled && from != (projections.Cursor{}) {
		return nil, projections.ErrNoCursor
	}
	if r.cursor != from {
		return nil, fmt.Errorf("%w: at %s, the commit is from %s", projections.ErrCursorMoved, r.cursor, from)
	}
	lot := projections.Lot{Waiting: r.lot.waiting(), Skipped: r.skipped}
	rec := rowRecorder{}
	parked, err := projections.Fold[projections.Rows](ctx, &r.projection, &rec, &rec, &lot, events)
	if err != nil {
		return nil, err
	}
	if r.tables == nil {
		r.tables = make(map[string][]Row)
	}
	for _, w := range rec.rows {
		r.tables[w.table] = append(r.tables[w.table], w.Row)
	}
	r.lot.add(parked)
	r.filled, r.cursor = true, to
	return projections.PlainParked(parked), nil
}

// Parked lists the parked events in the order of the log.
func (r *Rows) Parked() []projections.Parked {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lot.list()
}

// Tables returns the names of the tables that have rows, in byte order.
func (r *Rows) Tables() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.tables))
}

// Table returns the rows of a table in the order of the log. The caller must not change their values.
func (r *Rows) Table(name string) []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tables[name])
}

// Digest is part of projections.Sink. It is memview's own: values count as they print, times in UTC.
func (r *Rows) Digest(context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.filled {
		return "", projections.ErrNoCursor
	}
	h := sha256.New()
	for _, table := range slices.Sorted(maps.Keys(r.tables)) {
		for _, row := range r.tables[table] {
			fmt.Fprintf(h, "%q %d %d %d", table, row.Position, row.Row, row.Sign)
			for _, value := range row.Values {
				if t, ok := value.(time.Time); ok {
					value = t.UTC().Format(time.RFC3339Nano)
				}
				fmt.Fprintf(h, " %q", fmt.Sprint(value))
			}
			fmt.Fprintln(h)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// rowRecorder is a projections.Rows and a projections.Recorder.
type rowRecorder struct {
	rows  []recordedRow
	event uint64
	next  uint32
}

type recordedRow struct {
	Row
	table string
}

// Begin starts the rows of the next event.
func (r *rowRecorder) Begin(at eventstore.Position) { r.event, r.next = at.LSN, 0 }

func (r *rowRecorder) Insert(table string, values ...any)  { r.add(table, 1, values) }
func (r *rowRecorder) Retract(table string, values ...any) { r.add(table, -1, values) }

func (r *rowRecorder) add(table string, sign int8, values []any) {
	r.rows = append(r.rows, recordedRow{table: table, Row: Row{Position: r.event, Row: r.next, Sign: sign, Values: values}})
	r.next++
}

func (r *rowRecorder) Mark() int     { return len(r.rows) }
func (r *rowRecorder) Undo(mark int) { r.rows = r.rows[:mark] }

func (r *rowRecorder) Reverse(mark int) {
	for i := range r.rows[mark:] {
		r.rows[mark+i].Sign *= -1
	}
}
