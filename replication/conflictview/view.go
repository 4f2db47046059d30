package conflictview

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
)

// Name is the name of both projections; they differ by their sinks.
const Name = "conflicts"

// Table is the table of schemas/clickhouse/conflicts that the projection into ClickHouse writes.
const Table = "conflicts"

const (
	keysVersion = 5
	rowsVersion = 6
)

// Keys of the model in Redis.
const (
	allKey = "conflicts" // sorted set of IDs by time
)

func recordKey(id string) string         { return "conflict:" + id }
func streamKey(stream string) string     { return "conflicts:stream:" + stream }
func categoryKey(category string) string { return "conflicts:category:" + category }

// Options of the projections. All are required but Judging.
type Options struct {
	// Streams reads the log that the projections follow, with sealed fields opened where the judge needs them.
	Streams eventstore.Reader
	Judge   Judge
	// Judging is Judge's, event by event. Without it, and where it says nothing of a category, streams are judged as a whole each
	// time.
	Judging Judging
	// Site is this site's name.
	Site string
	// Life ends what is being read of the log, so that a slow archive does not hold up whoever runs the projections; it ends no
	// earlier than they do. Timeout bounds what is read for one event. Pieces of an archive that are on their way are waited for
	// all the same, each for as long as the archive does. An event that either cuts short is applied again.
	Life    context.Context
	Timeout time.Duration
}

func (o Options) finder() *finder {
	return &finder{Options: o, known: counting.NewKnown(o.Streams)}
}

// Keys returns the projection into Redis. Queries reads it.
//
// Unlike other projections it reads the log beside the event that it is given: the event's stream, up to the event, where it does
// not hold it. So what it writes is a function of the log up to the event all the same.
func Keys(o Options) projections.Projection[projections.Keys] {
	f := o.finder()
	return projections.Projection[projections.Keys]{
		Name: Name, Version: keysVersion, Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			records, err := f.of(e)
			if err != nil {
				return err
			}
			for _, r := range records {
				value, err := json.Marshal(r)
				if err != nil {
					return fmt.Errorf("encode conflict %s: %w", r.ID, err)
				}
				w.Set(recordKey(r.ID), value)
				for _, set := range [...]string{allKey, streamKey(r.Stream), categoryKey(r.Category)} {
					w.SortedAdd(set, r.ID, float64(r.AtMs))
				}
			}
			return nil
		},
	}
}

// Rows returns the projection into ClickHouse: a row for each record as it was written, of which the one of the highest
// position holds.
func Rows(o Options) projections.Projection[projections.Rows] {
	f := o.finder()
	return projections.Projection[projections.Rows]{
		Name: Name, Version: rowsVersion, Apply: func(w projections.Rows, e *eventstore.Recorded) error {
			records, err := f.of(e)
			if err != nil {
				return err
			}
			for _, r := range records {
				void, reasons := make([]string, len(r.Void)), make([]string, len(r.Void))
				for j, v := range r.Void {
					void[j], reasons[j] = v.Event, v.Reason
				}
				with := make([]string, len(r.With))
				for j, s := range r.With {
					with[j] = s.String()
				}
				w.Insert(Table, r.ID, r.Stream, r.Category, r.Type, r.Kind, with, r.Resolver, r.Verdict, r.Reason, void, reasons,
					uint64(len(r.Overwritten)), r.Base, r.Result, e.Time(), r.SeenBy)
			}
			return nil
		},
	}
}

// Shared returns of a key of the model in Redis what all sites that hold the same events have: all but when and where a record was
// written.
func Shared(key string, v projections.Value) (projections.Value, bool) {
	if !strings.HasPrefix(key, recordKey("")) {
		return v, true
	}
	var r Record
	if json.Unmarshal(v.Bytes, &r) != nil {
		return v, true // somebody else wrote it
	}
	r.Position, r.SeenBy = "", ""
	text, err := json.Marshal(&r)
	if err != nil {
		return v, true
	}
	v.Bytes = text
	return v, true
}

// SharedRows are the queries of what all such sites have in ClickHouse; at is the time of the event with which a record was written, which
// is another one at each.
func SharedRows() map[string]string {
	return map[string]string{Table: "SELECT * EXCEPT (position, row, seen_by, at) FROM {db}." + Table + "_now"}
}
