package pgsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tributary-es/tributary/eventstore"
)

// Options of a Syncer. URL, Tables and Apply are required.
type Options struct {
	// URL is how to connect: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
	URL string
	// Tables are those to follow, as schema.table; the schema "public" may be left out.
	Tables []string
	// Slot names the replication slot, Publication the publication: 1 to 63 of a-z, 0-9 and _. Empty means "tributary". Two
	// Syncers of one database need slots of their own.
	Slot, Publication string
	// Apply is given changes in order, at least one, and returns when they are done for good, each once for its ID: what it has
	// returned nil for is not given again, everything else is. It is called by one goroutine at a time.
	Apply func(ctx context.Context, changes []Change) error
	// MaxChanges and MaxBytes bound what Apply is given at a time (one change may exceed it); zero means 1,000 and 4 MiB.
	MaxChanges, MaxBytes int
	// StatusInterval is how often the server is told how far the Syncer is; zero means 2 s.
	StatusInterval time.Duration
	// Logger takes what the Syncer has to say; nil means slog.Default.
	Logger *slog.Logger
}

var nameOfServer = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// complete fills defaults and validates. All faults are joined.
func (o *Options) complete() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{eventstore.ErrInvalid}, args...)...))
	}
	if _, err := pgx.ParseConfig(o.URL); err != nil || o.URL == "" {
		fault("the URL of the database is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE") // the error may quote a password
	}
	if len(o.Tables) == 0 {
		fault("no tables are named")
	}
	for i, t := range o.Tables {
		if !strings.Contains(t, ".") {
			o.Tables[i] = "public." + t
		}
		if schema, table, _ := strings.Cut(o.Tables[i], "."); schema == "" || table == "" || strings.ContainsAny(t, "\x00\"") {
			fault("table %q is not of the form schema.table", t)
		}
	}
	slices.Sort(o.Tables)
	if len(slices.Compact(slices.Clone(o.Tables))) < len(o.Tables) {
		fault("a table is named twice")
	}
	for what, name := range map[string]*string{"slot": &o.Slot, "publication": &o.Publication} {
		if *name == "" {
			*name = "tributary"
		}
		if !nameOfServer.MatchString(*name) {
			fault("%s %q: use 1 to 63 of a-z, 0-9 and _", what, *name)
		}
	}
	if o.Apply == nil {
		fault("Apply is missing")
	}
	if o.MaxChanges <= 0 {
		o.MaxChanges = 1000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 4 << 20
	}
	if o.StatusInterval <= 0 {
		o.StatusInterval = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return errors.Join(faults...)
}

// quoted returns a table's name for SQL.
func quoted(table string) string {
	schema, name, _ := strings.Cut(table, ".")
	return pgx.Identifier{schema, name}.Sanitize()
}
