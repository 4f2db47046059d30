package pebblestore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// BeginLife has the log in a folder, which nobody has open, go on in another life: it keeps all that it has, and what is
// appended from now on has new dots. It is for a log that has lost events which others know: where its watermark told so,
// that is settled by it. Again with the same life it does nothing.
//
// Errors: eventstore.ErrInvalid when the log is in a later life already; eventstore.ErrDamaged when not all of the log in the folder can be
// read, and then it stays in its life: the index of the next one is made from the whole log, and a damaged file is mended with the help
// of the index; eventstore.ErrNotFound, ErrLocked, those of Open. After a crash in the middle the log is in the one life or in the other.
func BeginLife(dir string, incarnation uint32, o *Options) error {
	if err := beginLife(dir, incarnation, o); err != nil {
		return fmt.Errorf("begin life %d of the log in %s: %w", incarnation, dir, err)
	}
	return nil
}

func beginLife(dir string, incarnation uint32, o *Options) (err error) {
	opts := o.withDefaults()
	files := opts.fs()
	if !exists(files, files.PathJoin(dir, "log")) || exists(files, files.PathJoin(dir, restoringName)) {
		return fmt.Errorf("%w: there is no log", eventstore.ErrNotFound)
	}
	lock, err := lockFolder(files, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	cache := pebble.NewCache(opts.CacheBytes)
	defer cache.Unref()
	db, err := openLogDB(markersLast{files}, files.PathJoin(dir, "log"), func() *pebble.Options { return opts.logOptions(markersLast{files}, cache) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	m, found, err := readMeta(db)
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("%w: there is no log", eventstore.ErrNotFound)
	case m.Incarnation == incarnation:
		return nil
	case m.Incarnation > incarnation:
		return fmt.Errorf("%w: it is in life %d", eventstore.ErrInvalid, m.Incarnation)
	}
	if err := m.fits(&opts); err != nil {
		return err
	}
	before := m.history()
	head, err := readHead(db, &before, func(*eventstore.Recorded) {})
	if err != nil {
		return err
	}
	if err := readable(db); err != nil {
		return fmt.Errorf("%w: for the index of another life the whole log is read; start again when the log can be confirmed in its present "+
			"life (its topic or its other sites can be asked), so that what is damaged is repaired first; or move the store's folder away and restore "+
			"the log from Kafka or a backup (tributary restore): %w", eventstore.ErrDamaged, err)
	}
	next := before.ended(head, incarnation)
	if err := next.check(); err != nil {
		return err
	}
	// A watermark of one life beside the log of another would keep the store from being written; without any, it is made anew.
	path := files.PathJoin(dir, "WATERMARK")
	if err := files.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove watermark: %w", err)
	}
	if err := syncFolder(files, dir); err != nil {
		return err
	}
	m.Format, m.Incarnation, m.Lives = max(m.Format, 2), incarnation, next.earlier
	if err := writeMeta(db, m); err != nil {
		return err
	}
	at := next.begin()
	if head.lsn > 0 {
		at = next.onward(head)
	}
	return makeWatermark(files, path, mark{logState{logHead: at}, next.id})
}

// readable reads every block of the log that is in the folder.
func readable(db *pebble.DB) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: firstBlock, UpperBound: afterBlocks})
	if err != nil {
		return fmt.Errorf("read log: %w", corrupted(err))
	}
	for valid := it.First(); valid; valid = it.Next() {
		if _, err := it.ValueAndErr(); err != nil {
			return errors.Join(fmt.Errorf("read log: %w", corrupted(err)), it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read log: %w", corrupted(err))
	}
	return nil
}
