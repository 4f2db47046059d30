package pgsync

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// copyTable applies the rows of a table as a transaction sees them. Their IDs are those of the moment, not of what they say: a
// row may have become again what it was, after changes that were applied.
func (c *session) copyTable(ctx context.Context, tx pgx.Tx, table string, nextID func() string) (count int, err error) {
	schema, name, _ := strings.Cut(table, ".")
	key, err := keyColumns(ctx, tx, table)
	if err != nil {
		return 0, err
	}
	rows, err := tx.Query(ctx, "SELECT * FROM "+quoted(table), pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return 0, fmt.Errorf("read the rows: %w", err)
	}
	defer rows.Close()
	out := outbox{session: c}
	now := time.Now()
	for rows.Next() {
		row := make(Row, len(rows.FieldDescriptions()))
		for i, value := range rows.RawValues() {
			f := rows.FieldDescriptions()[i]
			row[i] = Column{Name: f.Name, Type: f.DataTypeOID, Value: string(value), Null: value == nil}
		}
		change := Change{ID: nextID(), Kind: Existing, Schema: schema, Table: name, New: row, Key: key, At: now}
		if err := out.put(ctx, change); err != nil {
			return 0, err
		}
		count++
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("read the rows: %w", err)
	}
	return count, out.flush(ctx)
}

// keyColumns returns the columns by which the rows of a table are told apart.
func keyColumns(ctx context.Context, tx pgx.Tx, table string) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT a.attname FROM pg_class c
		JOIN pg_index i ON i.indrelid = c.oid AND (c.relreplident = 'i' AND i.indisreplident OR c.relreplident <> 'i' AND i.indisprimary)
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
		WHERE c.oid = to_regclass($1) ORDER BY a.attnum`, quoted(table))
	if err != nil {
		return nil, fmt.Errorf("ask for the key: %w", err)
	}
	key, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("ask for the key: %w", err)
	}
	return key, nil
}

// outbox collects changes and applies them together.
type outbox struct {
	*session
	changes []Change
	bytes   int
}

func (b *outbox) put(ctx context.Context, change Change) error {
	b.changes = append(b.changes, change)
	for _, row := range [...]Row{change.New, change.Old} {
		for _, c := range row {
			b.bytes += len(c.Value) + 64
		}
	}
	if len(b.changes) < b.o.MaxChanges && b.bytes < b.o.MaxBytes {
		return nil
	}
	return b.flush(ctx)
}

func (b *outbox) flush(ctx context.Context) error {
	if len(b.changes) == 0 {
		return nil
	}
	if err := b.o.Apply(ctx, b.changes); err != nil {
		return fmt.Errorf("apply %d changes from %s on: %w", len(b.changes), b.changes[0].ID, err)
	}
	b.changes, b.bytes = nil, 0 // whoever applied them may keep them
	return nil
}
