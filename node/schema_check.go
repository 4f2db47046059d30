package node

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/schema"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// SchemaReport says how the schemas of a program and those of a log go together.
type SchemaReport struct {
	// Known is how many schemas the program has.
	Known int `json:"known"`
	// New are the wire names whose schema will be registered when the program runs on the log, Older those that the log has a
	// newer schema of: they are read, and not written.
	New   []string `json:"new"`
	Older []string `json:"older"`
	// Faults says how the program would misread what is recorded; it refuses to run on the log then.
	Faults []string `json:"faults"`
}

func (r *SchemaReport) add(program []schema.Schema, found schema.Findings) {
	r.Known += len(program)
	for _, s := range found.Changed {
		r.New = append(r.New, s.Name)
	}
	r.Older = append(r.Older, found.Older...)
	r.Faults = append(r.Faults, found.Faults...)
}

// CheckSchemas holds the schemas of the configured domains against the log in a folder that no server runs on, and changes
// nothing.
func CheckSchemas(ctx context.Context, config Config) (report SchemaReport, err error) {
	report = emptyReport()
	if err := config.complete(); err != nil {
		return report, err
	}
	store, err := pebblestore.Open(filepath.Join(config.Data, "store"), &pebblestore.Options{Site: config.Site, Logger: slog.New(slog.DiscardHandler), OpenArchive: openBucket})
	if err != nil {
		return report, fmt.Errorf("open store: %w", err)
	}
	defer func() {
		if closeErr := store.Close(); err == nil {
			err = closeErr
		}
	}()
	for _, d := range config.Domains {
		program, err := programSchemas(d)
		if err != nil {
			return report, err
		}
		found, err := checkSchemas(ctx, store, d.Name, program)
		if err != nil {
			return report, err
		}
		report.add(program, found)
	}
	return report, nil
}

// CheckSchemasOf holds the schemas of the configured domains against those that a running server lists, each with its files.
func CheckSchemasOf(listed []*apiv1.EventSchema, config Config) (SchemaReport, error) {
	report := emptyReport()
	if err := config.complete(); err != nil {
		return report, err
	}
	for _, d := range config.Domains {
		program, err := programSchemas(d)
		if err != nil {
			return report, err
		}
		var history []schema.Schema
		for _, s := range listed {
			if s.GetDomain() != d.Name {
				continue
			}
			files, err := schema.Decode(s.GetFiles())
			if err != nil {
				return report, err
			}
			m, err := files.Message(s.GetMessage())
			if err != nil {
				return report, fmt.Errorf("schema of %s: %w", s.GetName(), err)
			}
			history = append(history, schema.Schema{Name: s.GetName(), Message: m})
		}
		// Whether there are events of a name that this program lacks, the server would have to be asked; that there may be is enough.
		found, err := schema.Check(history, program, func(string) (bool, error) { return true, nil })
		if err != nil {
			return report, err
		}
		report.add(program, found)
	}
	return report, nil
}

func emptyReport() SchemaReport {
	return SchemaReport{New: []string{}, Older: []string{}, Faults: []string{}}
}

// programSchemas returns the schemas of a domain as a node that runs it would know them.
func programSchemas(d Domain) ([]schema.Schema, error) {
	bus := commands.NewBus(eventstore.Store(nil), commands.Options{})
	if d.Register != nil {
		if err := d.Register(bus); err != nil {
			return nil, fmt.Errorf("domain %s: %w", d.Name, err)
		}
	}
	return schemasOf(messagesOf(d, nil, bus.Messages())), nil
}
