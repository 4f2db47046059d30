package pebblestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// dataFormat is the version of everything under the store's folder. A program refuses data that are newer than it. A
// folder has the lowest that says all: 2 is that of a log with earlier lives, 3 that of one with archived blocks, 4
// that of one whose first events were dropped, 5 that of one whose blocks may have notes (block_notes.go).
const dataFormat = 5

// ErrNewerFormat: the folder was written by a newer version of the program.
var ErrNewerFormat = errors.New("data folder is of a newer format")

// meta says which log a database belongs to. It is JSON, so that whoever finds a folder can read it.
type meta struct {
	Format      int    `json:"format"`
	Site        string `json:"site"`
	Incarnation uint32 `json:"incarnation"`
	Shard       uint16 `json:"shard"`
	Lives       []life `json:"lives,omitempty"` // those before the present one
	// Archive is where the log's blocks are up to the first that is here, in order.
	Archive []archivePart `json:"archive,omitempty"`
	// Dropped is the lsn up to which the contents of events were dropped.
	Dropped uint64 `json:"dropped_lsn,omitempty"`
}

func metaOf(h history, old *archived, dropped uint64, noted bool) meta {
	m := meta{Format: 1, Site: h.id.Site, Incarnation: h.id.Incarnation, Shard: h.id.Shard, Lives: h.earlier}
	if len(m.Lives) > 0 {
		m.Format = 2
	}
	if old != nil {
		m.Format, m.Archive = 3, old.parts
	}
	if dropped > 0 {
		m.Format, m.Dropped = 4, dropped
	}
	if noted {
		m.Format = 5
	}
	return m
}

// meta returns the meta record of a store that is open.
func (s *Store) meta() meta {
	return metaOf(s.history, s.archived.Load(), s.dropped.Load(), s.noted.Load())
}

// plainMeta is the meta record of a copy that has all there is of the log.
func (s *Store) plainMeta() meta { return metaOf(s.history, nil, s.dropped.Load(), s.noted.Load()) }

// noted reports whether blocks may have notes.
func (m meta) noted() bool { return m.Format >= 5 }

func (m meta) history() history { return history{m.logID(), m.Lives} }

func (m meta) logID() eventstore.LogID {
	return eventstore.LogID{Site: m.Site, Incarnation: m.Incarnation, Shard: m.Shard}
}

// readMeta returns the meta record; found is false in a new database.
func readMeta(db *pebble.DB) (m meta, found bool, err error) {
	value, closer, err := db.Get(logMetaKey)
	old := errors.Is(err, pebble.ErrNotFound)
	if old {
		value, closer, err = db.Get(metaKey)
	}
	if errors.Is(err, pebble.ErrNotFound) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("read meta: %w", corrupted(err))
	}
	defer closer.Close()
	if old && isSignpost(value) {
		return m, false, fmt.Errorf("read meta: %w: the record that says which log this is is lost", eventstore.ErrCorrupt)
	}
	if err := json.Unmarshal(value, &m); err != nil {
		return m, false, fmt.Errorf("read meta: %w: %w", eventstore.ErrCorrupt, err)
	}
	if m.Format > dataFormat {
		return m, true, fmt.Errorf("%w: it is %d, this program knows %d: use a newer tributary", ErrNewerFormat, m.Format, dataFormat)
	}
	h := m.history()
	if err := h.check(); err != nil {
		return m, true, fmt.Errorf("read meta: %w", err)
	}
	if err := checkParts(m.Archive); err != nil {
		return m, true, fmt.Errorf("read meta: %w", err)
	}
	return m, true, nil
}

func (m meta) encode() ([]byte, error) {
	value, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write meta: %w", err)
	}
	return value, nil
}

func writeMeta(db *pebble.DB, m meta) error {
	value, err := m.encode()
	if err != nil {
		return err
	}
	if err := db.Set(logMetaKey, value, pebble.Sync); err != nil {
		return fmt.Errorf("write meta: %w", err)
	}
	return nil
}

// fits says what of an existing store is not as the options ask.
func (m meta) fits(o *Options) error {
	if o.Site != "" && o.Site != m.Site {
		return fmt.Errorf("%w: the folder holds the log of site %q, not of %q: name that site, or another folder", eventstore.ErrInvalid, m.Site, o.Site)
	}
	if o.Shard != m.Shard {
		return fmt.Errorf("%w: the folder holds the log of shard %d, not of %d", eventstore.ErrInvalid, m.Shard, o.Shard)
	}
	return nil
}

// corrupted makes what Pebble says of damaged and of missing files match eventstore.ErrDamaged, and so ErrCorrupt: a scrub
// reads the same files by the same checksums.
func corrupted(err error) error {
	switch {
	case err == nil, errors.Is(err, eventstore.ErrCorrupt):
		return err
	case pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist), strings.Contains(err.Error(), otherSize):
		return corruption{err}
	}
	return err
}

// otherSize is what Pebble says, without a value to compare with, of a table that is not as long as it was.
const otherSize = "object size mismatch"

// corruption is a corruption error of Pebble's, which says more than fits a line.
type corruption struct{ cause error }

// Error returns the first line of what Pebble says.
func (c corruption) Error() string {
	text, _, _ := strings.Cut(c.cause.Error(), "\n")
	return eventstore.ErrCorrupt.Error() + ": " + text
}

// Unwrap makes the error match eventstore.ErrDamaged and Pebble's own.
func (c corruption) Unwrap() []error { return []error{eventstore.ErrDamaged, c.cause} }
