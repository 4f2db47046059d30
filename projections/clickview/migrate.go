package clickview

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	bookkeeping "github.com/tributary-es/tributary/schemas/clickhouse"
)

// migration is one numbered file of statements.
type migration struct {
	name       string
	checksum   string
	statements []string
}

// migrations reads the sink's own files and then those of the projection's tables.
func migrations(tables fs.FS) ([]migration, error) {
	own, err := readMigrations("bookkeeping/", bookkeeping.Bookkeeping())
	if err != nil {
		return nil, err
	}
	theirs, err := readMigrations("", tables)
	if err != nil {
		return nil, err
	}
	return append(own, theirs...), nil
}

func readMigrations(prefix string, files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	slices.Sort(names)
	out := make([]migration, 0, len(names))
	for i, name := range names {
		if number := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(name, number) {
			return nil, fmt.Errorf("migration %s%s: its name should begin with %s: numbers go from 0001 without gaps", prefix, name, number)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		sum := sha256.Sum256(text)
		out = append(out, migration{prefix + name, hex.EncodeToString(sum[:]), statements(string(text))})
	}
	return out, nil
}

// statements cuts a file at the semicolons that end a line, and drops comments that fill a line.
func statements(text string) []string {
	var out []string
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "--") {
			continue
		}
		b.WriteString(line)
		if s := strings.TrimRight(line, " \t\r\n"); strings.HasSuffix(s, ";") {
			out = append(out, strings.TrimSuffix(strings.TrimSpace(b.String()), ";"))
			b.Reset()
		}
	}
	if s := strings.TrimSpace(b.String()); s != "" {
		out = append(out, s)
	}
	return out
}

// migrate makes the database and applies to it what was not applied yet. A file that was changed after it had been applied
// is an error.
func (m *model) migrate(ctx context.Context) error {
	if err := m.link.exec(ctx, "make the database", "CREATE DATABASE IF NOT EXISTS "+m.db); err != nil {
		return err
	}
	applied := make(map[string]string)
	err := m.link.rows(ctx, "read migrations", "SELECT name, checksum FROM "+m.db+".schema_migrations", nil, func(r driver.Rows) error {
		var name, checksum string
		if err := r.Scan(&name, &checksum); err != nil {
			return err
		}
		applied[name] = checksum
		return nil
	})
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	for i := range m.migrations {
		mig := &m.migrations[i]
		switch sum, ok := applied[mig.name]; {
		case ok && sum == mig.checksum:
			continue
		case ok:
			return fmt.Errorf("migration %s was changed after it was applied to %s: put changes into a new file", mig.name, m.db)
		}
		for _, s := range mig.statements {
			if err := m.link.exec(ctx, "migrate "+mig.name, strings.ReplaceAll(s, "{db}", m.db)); err != nil {
				return err
			}
		}
		note := "INSERT INTO " + m.db + ".schema_migrations (name, checksum) VALUES (?, ?)"
		if err := m.link.exec(ctx, "note migration "+mig.name, note, mig.name, mig.checksum); err != nil {
			return err
		}
	}
	return nil
}
