package pebblestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// A signpost stands where programs of before data format 3 look for the log's meta record. Without it they take the log for a new
// one, and number events a second time; what it says is of a format that they refuse.
//
// INVARIANT: it is in a table of its own. In a table with blocks it would span all that come later, and compactions would write
// the log again and again.
type signpost struct {
	Format int    `json:"format"`
	Moved  string `json:"moved"` // the key of the meta record
}

var signpostValue = func() []byte {
	value, err := json.Marshal(signpost{Format: 3, Moved: string(logMetaKey)})
	if err != nil {
		panic(err) // INVARIANT: a number and a text can be encoded
	}
	return value
}()

// isSignpost reports whether a value is not a meta record but says where it is.
func isSignpost(value []byte) bool { return bytes.Equal(value, signpostValue) }

// putSignpost brings a folder of an earlier version up to date: the meta record is at its place, then the signpost at the old one.
func (s *Store) putSignpost() error {
	value, closer, err := s.log.Get(metaKey)
	switch err = corrupted(err); {
	case err == nil:
		there := isSignpost(value)
		if err := closer.Close(); err != nil || there {
			return err
		}
		// A power loss in between leaves both records, and this is done again.
		if err := writeMeta(s.log, s.meta()); err != nil {
			return err
		}
	case errors.Is(err, eventstore.ErrCorrupt): // a scrub repairs it; nothing that this program needs is lost
		s.opts.Logger.Warn("what keeps older programs from this folder is damaged", "error", err)
		return nil
	case !errors.Is(err, pebble.ErrNotFound):
		return fmt.Errorf("read meta: %w", err)
	}
	return s.ingestSignpost(context.Background(), func(ctx context.Context, table []string) error { return s.log.Ingest(ctx, table) })
}

// replaceSignpost puts a new table in place of the signpost's, which is damaged.
func (s *Store) replaceSignpost(ctx context.Context) error {
	return s.ingestSignpost(ctx, func(ctx context.Context, table []string) error {
		_, err := s.log.IngestAndExcise(ctx, table, nil, nil, pebble.KeyRange{Start: metaKey, End: append(bytes.Clone(metaKey), 0)})
		return err
	})
}

// ingestSignpost makes the signpost's table and has it put into the log.
func (s *Store) ingestSignpost(ctx context.Context, ingest func(ctx context.Context, table []string) error) error {
	files := s.opts.fs()
	path := files.PathJoin(s.dir, "SIGNPOST")
	err := s.writeSignpost(path)
	if err == nil {
		err = ingest(ctx, []string{path})
	}
	if err = errors.Join(err, removeIfThere(files, path)); err != nil {
		return fmt.Errorf("write signpost: %w", err)
	}
	return nil
}

func (s *Store) writeSignpost(path string) error {
	files := s.opts.fs()
	f, err := files.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	options := s.opts.logOptions(files, nil)
	options.EnsureDefaults()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), options.MakeWriterOptions(len(options.Levels)-1, s.log.TableFormat()))
	return errors.Join(w.Set(metaKey, signpostValue), w.Close())
}
