package pebblestore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// openLogDB opens the log database, and makes it if it is not there.
//
// A new database is closed and opened once more before it is used: the WAL that Pebble makes along with a database is
// still of the oldest format, in which damage in the middle looks like the end of the log.
func openLogDB(fs vfs.FS, dir string, opts func() *pebble.Options) (*pebble.DB, error) {
	made := false
	if exists(fs, dir) {
		desc, err := pebble.Peek(dir, fs)
		if err != nil {
			return nil, fmt.Errorf("look for log: %w", corrupted(err))
		}
		made = desc.Exists
		switch {
		case !made:
			err = withoutTables(fs, dir)
		case desc.OptionsFilename != "":
			err = setOptionsAside(fs, dir, desc.OptionsFilename, opts())
		}
		if err != nil {
			return nil, err
		}
	}
	if !made && !opts().ReadOnly {
		db, err := pebble.Open(dir, opts())
		if err != nil {
			return nil, fmt.Errorf("create log: %w", err)
		}
		if err := db.Close(); err != nil {
			return nil, fmt.Errorf("create log: %w", err)
		}
	}
	if made && !opts().ReadOnly {
		if err := checkTables(fs, dir, opts()); err != nil {
			return nil, err
		}
	}
	db, err := pebble.Open(dir, opts())
	if err = corrupted(err); errors.Is(err, eventstore.ErrCorrupt) {
		return nil, fmt.Errorf("open log: %w; a file of %s is damaged or gone: put it back if there is a copy, else move the store's folder away and "+
			"restore the log from Kafka or a backup: tributary restore --from-kafka ADDR or --from DIR; where other sites have what was in a table, "+
			"tributary scrub --stand-in has it refilled from them", err, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return db, nil
}

// withoutTables returns an error if a folder that names no MANIFEST holds tables: Pebble would make a new database there,
// and remove the files of the old one.
func withoutTables(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("look for log: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			return fmt.Errorf("look for log: %w: %s holds %s, and no marker says which MANIFEST it belongs to; "+
				"put back the last good copy of the folder, see Backup in docs/operations.md", eventstore.ErrCorrupt, dir, name)
		}
	}
	return nil
}

// logHead is the end of a log: the position of the last event, and what the next one goes on from.
type logHead struct {
	lsn   uint64
	seq   uint64
	chain eventstore.Hash
}

// readHead reads the last block and returns the head of the log. observe is called with the block's events.
func readHead(db *pebble.DB, h *history, observe func(*eventstore.Recorded)) (logHead, error) {
	head := h.begin()
	r, err := newBlockReader(db)
	if err != nil {
		return head, err
	}
	defer r.close()
	found, err := r.last()
	if err != nil || !found && h.base() == 0 {
		return head, err
	}
	if !found {
		return head, fmt.Errorf("read log: %w: it is empty, its earlier lives go to lsn %d", eventstore.ErrCorrupt, h.base())
	}
	if r.cur.last() < h.base() {
		return head, fmt.Errorf("read log: %w: it ends at lsn %d, its earlier lives go to %d", eventstore.ErrCorrupt, r.cur.last(), h.base())
	}
	at := r.cur.chains()
	for i := range r.cur.count {
		frame, err := r.cur.frame(i)
		if err != nil {
			return head, err
		}
		var e eventstore.Recorded
		if err := r.cur.decode(&e, i, frame, h.id.Incarnation); err != nil {
			return head, err
		}
		if _, err := at.next(&r.cur, i, &e, frame); err != nil {
			return head, err
		}
		observe(&e)
	}
	return h.onward(logHead{lsn: r.cur.last(), seq: at.own.seq, chain: at.own.chain}), nil
}

// blockReader walks over the blocks of the log, those that are in archives first. It is used by one goroutine; what it
// returns is valid until it moves.
type blockReader struct {
	it  *pebble.Iterator
	old *archived
	cur block
	raw []byte // cur's
}

func newBlockReader(db *pebble.DB) (*blockReader, error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: firstBlock, UpperBound: afterBlocks})
	if err != nil {
		return nil, fmt.Errorf("read log: %w", corrupted(err))
	}
	return &blockReader{it: it}, nil
}

// blockReader returns a reader of the whole log. What is archived is looked up last: an iterator that lacks blocks was made
// after it was known where they went.
func (s *Store) blockReader() (*blockReader, error) {
	r, err := newBlockReader(s.log)
	if err == nil {
		r.old = s.archived.Load()
	}
	return r, err
}

func (r *blockReader) close() { _ = r.it.Close() } // its error is that of the last move, which was returned there

// seek moves to the block that holds the event. REQUIRES: the event is in the log.
func (r *blockReader) seek(lsn uint64) error {
	if r.cur.holds(lsn) {
		return nil
	}
	found, err := r.from(lsn)
	if err == nil && (!found || !r.cur.holds(lsn)) {
		err = fmt.Errorf("log at lsn %d: %w: no block holds it", lsn, eventstore.ErrCorrupt)
	}
	return err
}

// from moves to the block that holds an lsn, or else to the next one.
func (r *blockReader) from(lsn uint64) (found bool, err error) {
	if lsn <= r.old.end() {
		r.cur = block{}
		r.cur, r.raw, err = r.old.block(lsn)
		return err == nil, err
	}
	return r.here(r.it.SeekGE(blockKey(lsn)))
}

// next moves to the following block, if there is one.
func (r *blockReader) next() (found bool, err error) {
	if r.cur.count > 0 && r.cur.last() <= r.old.end() {
		return r.from(r.cur.last() + 1)
	}
	return r.here(r.it.Next())
}

func (r *blockReader) last() (found bool, err error) { return r.here(r.it.Last()) }

// here opens the block that the iterator stands at.
func (r *blockReader) here(valid bool) (found bool, err error) {
	r.cur = block{}
	if !valid {
		if err := r.it.Error(); err != nil {
			return false, fmt.Errorf("read log: %w", corrupted(err))
		}
		return false, nil
	}
	lsn, ok := blockKeyLSN(r.it.Key())
	if !ok {
		return false, fmt.Errorf("log: %w: key %x is not a block's", eventstore.ErrCorrupt, r.it.Key())
	}
	value, err := r.it.ValueAndErr()
	if err != nil {
		return false, fmt.Errorf("log block up to lsn %d: %w", lsn, corrupted(err))
	}
	r.raw = value
	r.cur, err = openBlock(lsn, value)
	return err == nil, err
}
