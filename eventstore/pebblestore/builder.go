package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// restoringName is the file that marks a folder in which a restore is under way.
const restoringName = "RESTORING"

// ErrUnfinished: the folder is what a restore that was not finished left.
var ErrUnfinished = errors.New("a restore into the folder was not finished; restore again, or delete the folder")

// builder makes a store in a folder from the events of a log, which it is given from the first on. It marks the folder, so
// that what a crash leaves is never opened; finish takes the mark away.
type builder struct {
	opts  Options
	files vfs.FS
	dir   string

	lock    io.Closer
	cache   *pebble.Cache
	db      *pebble.DB
	batch   *pebble.Batch
	history history // as far as it has been given
	check   *logCheck
	head    logHead // of what has been given
	last    eventstore.Recorded
	// dropped is the lsn up to which contents were dropped from what is given, noted whether blocks of it have notes.
	dropped uint64
	noted   bool
	// seen is the highest incarnation that the folder tells of.
	seen uint32

	// For events that do not come in blocks:
	writer  blockWriter
	content []byte
	places  map[streamHash]uint64 // of the last event of each stream
}

// buildBytes is how much of the log is written at a time.
const buildBytes = 4 << 20

// newBuilder takes a folder that has no log.
func newBuilder(dir string, o *Options) (_ *builder, err error) {
	b := &builder{opts: o.withDefaults(), dir: dir}
	b.files = b.opts.fs()
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := b.take(); err != nil {
		return nil, err
	}
	b.cache = pebble.NewCache(b.opts.CacheBytes)
	files := markersLast{b.files}
	options := func() *pebble.Options { return b.opts.logOptions(files, b.cache) }
	if b.db, err = openLogDB(files, b.path("log"), options); err != nil {
		return nil, err
	}
	b.batch = b.db.NewBatch()
	return b, nil
}

func (b *builder) path(name string) string { return b.files.PathJoin(b.dir, name) }

// take marks the folder and removes what an earlier restore left.
func (b *builder) take() (err error) {
	if IsBackup(b.files, b.dir) {
		return fmt.Errorf("%w: it is a backup; restore into another one", ErrBackup)
	}
	if err := makeFolder(b.files, b.dir); err != nil {
		return err
	}
	if b.lock, err = lockFolder(b.files, b.dir); err != nil {
		return err
	}
	if !exists(b.files, b.path(restoringName)) {
		for _, name := range []string{"log", "index"} {
			if exists(b.files, b.path(name)) {
				return fmt.Errorf("%w: there is a store already, which a restore does not overwrite: restore into another folder, or move %s away first",
					eventstore.ErrInvalid, b.dir)
			}
		}
	}
	if exists(b.files, b.path("WATERMARK")) { // of a log that was lost
		w, m, found, _, err := openWatermark(b.files, b.path("WATERMARK"))
		if err != nil {
			return err
		}
		if err := w.file.Close(); err != nil {
			return fmt.Errorf("close watermark: %w", err)
		}
		if found {
			b.seen = m.log.Incarnation
		}
	}
	if err := markFolder(b.files, b.dir, restoringName); err != nil {
		return err
	}
	for _, name := range []string{"log", "index"} {
		if err := b.files.RemoveAll(b.path(name)); err != nil {
			return fmt.Errorf("remove an unfinished restore: %w", err)
		}
	}
	return nil
}

// begin says which log is given. Those of its lives that have ended are known, or come with the events.
func (b *builder) begin(h history, noted bool) {
	b.history, b.noted = h, noted
	b.check = newLogCheck(&b.history, noted)
	b.head = h.begin()
}

// block takes a block as it is.
func (b *builder) block(cur *block, raw []byte) error {
	if cur.first != b.head.lsn+1 {
		return fmt.Errorf("%w: a block from lsn %d follows lsn %d", eventstore.ErrCorrupt, cur.first, b.head.lsn)
	}
	last, err := b.check.block(cur, b.history.id.Incarnation)
	if err != nil {
		return err
	}
	b.last, b.head = last, logHead{lsn: cur.last(), seq: b.check.seq, chain: b.check.chain}
	return b.put(cur.last(), raw)
}

// part takes the first events of a block.
func (b *builder) part(cur *block, count int) error {
	b.writer.reset(cur.first, cur.before, cur.chain)
	if b.writer.noted = cur.notes != nil; b.writer.noted {
		b.writer.notes, b.writer.logs = cur.notes[:count], cur.logs
	} else {
		b.writer.version = cur.version
	}
	for i := range count {
		frame, err := cur.frame(i)
		if err != nil {
			return err
		}
		b.writer.buf = append(b.writer.buf, frame...)
		b.writer.ends = append(b.writer.ends, uint32(len(b.writer.buf)))
	}
	return b.seal()
}

// event takes the next event, whose position does not count. Where it is of a later life than the one before, that one
// has ended.
func (b *builder) event(e *eventstore.Recorded) error {
	if e.Dot.Log != b.history.id {
		if err := b.live(e.Dot.Log); err != nil {
			return err
		}
	}
	if err := b.room(e); err != nil {
		return err
	}
	b.content = eventstore.AppendContent(b.content[:0], e)
	b.writer.add(e, b.content)
	if b.writer.noted {
		b.writer.note(plainNote(b.places[b.check.hash(e.Stream)]), nil)
	}
	b.head.lsn++
	b.head.seq = e.Dot.Seq
	b.head.chain = eventstore.NextChain(b.head.chain, e.Dot.Seq, e.HLC, e.Version, eventstore.ContentHash(b.content))
	if b.writer.size() >= blockBytes {
		return b.seal()
	}
	return nil
}

// room makes the writer ready for the next event. Where the log had events of other logs in a stream, which do not come, the
// version of an event is not its place any more, and a note has to say that.
func (b *builder) room(e *eventstore.Recorded) error {
	if b.places == nil {
		b.places = map[streamHash]uint64{}
	}
	key := b.check.hash(e.Stream)
	b.places[key]++
	noted := b.places[key] != e.Version
	if noted && !b.writer.noted {
		if err := b.seal(); err != nil {
			return err
		}
	}
	if len(b.writer.ends) == 0 {
		b.writer.reset(b.head.lsn+1, b.head.seq, b.head.chain)
		b.writer.noted = noted
	}
	b.noted = b.noted || noted
	return nil
}

// live ends the life that the log is in.
func (b *builder) live(next eventstore.LogID) error {
	if err := b.seal(); err != nil {
		return err
	}
	if now := b.history.id; next.Site != now.Site || next.Shard != now.Shard || next.Incarnation <= now.Incarnation {
		return fmt.Errorf("%w: an event of %s follows those of %s", eventstore.ErrCorrupt, next, now)
	}
	ended := b.history.ended(b.head, next.Incarnation)
	if b.head.lsn > 0 && !b.last.EndsBatch() {
		return fmt.Errorf("%w: %s ends in the middle of a batch, with %s", eventstore.ErrCorrupt, b.history.id, b.last.Dot)
	}
	b.history = ended
	b.check.live(b.head.lsn)
	b.head = b.history.onward(b.head)
	return nil
}

// seal checks and writes the block at hand.
func (b *builder) seal() error {
	if len(b.writer.ends) == 0 {
		return nil
	}
	lsn := b.writer.first + uint64(len(b.writer.ends)) - 1
	raw := b.writer.seal()
	cur, err := openBlock(lsn, raw)
	if err != nil {
		return err
	}
	b.writer.ends = b.writer.ends[:0]
	last, err := b.check.block(&cur, b.history.id.Incarnation)
	if err != nil {
		return err
	}
	b.last, b.head = last, logHead{lsn: lsn, seq: b.check.seq, chain: b.check.chain}
	return b.put(lsn, raw)
}

// put writes a block. Nothing is synced before finish.
func (b *builder) put(lsn uint64, raw []byte) error {
	if err := b.batch.Set(blockKey(lsn), raw, nil); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	if b.batch.Len() < buildBytes {
		return nil
	}
	return b.commit()
}

func (b *builder) commit() error {
	if err := b.batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	if err := b.batch.Close(); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	b.batch = b.db.NewBatch()
	return nil
}

// finish makes a store of what was given, in a new life: its log durable, its index filled. ctx ends the filling.
func (b *builder) finish(ctx context.Context, incarnation uint32) (eventstore.LogState, error) {
	if err := b.seal(); err != nil {
		return eventstore.LogState{}, err
	}
	if b.head.lsn > 0 && !b.last.EndsBatch() {
		return eventstore.LogState{}, fmt.Errorf("%w: the log ends in the middle of a batch, with %s", eventstore.ErrCorrupt, b.last.Dot)
	}
	h := b.history.ended(b.head, incarnation)
	if err := h.check(); err != nil {
		return eventstore.LogState{}, err
	}
	if err := b.commit(); err != nil {
		return eventstore.LogState{}, err
	}
	if err := writeMeta(b.db, metaOf(h, nil, min(b.dropped, b.head.lsn), b.noted)); err != nil {
		return eventstore.LogState{}, err
	}
	if err := b.db.Flush(); err != nil {
		return eventstore.LogState{}, fmt.Errorf("flush log: %w", err)
	}
	at := logState{logHead: h.begin(), streams: uint64(len(b.check.streams))}
	if b.head.lsn > 0 {
		at.logHead = h.onward(b.head)
	}
	if err := makeWatermark(b.files, b.path("WATERMARK"), mark{at, h.id}); err != nil {
		return eventstore.LogState{}, err
	}
	if err := b.close(); err != nil {
		return eventstore.LogState{}, err
	}
	if err := ctx.Err(); err != nil {
		return eventstore.LogState{}, err
	}
	state, err := b.index()
	if err != nil {
		return state, fmt.Errorf("make the index: %w", err)
	}
	if err := b.files.Remove(b.path(restoringName)); err != nil {
		return state, fmt.Errorf("finish restore: %w", err)
	}
	return state, syncFolder(b.files, b.dir)
}

// index opens the store as it will be opened from now on, which fills its index, and closes it.
func (b *builder) index() (state eventstore.LogState, err error) {
	s, err := open(b.dir, &b.opts)
	if err != nil {
		return state, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.failed(); err != nil {
		return state, err
	}
	return s.Log(context.Background())
}

// close releases what is open; what was built stays, marked.
func (b *builder) close() error {
	var errs []error
	if b.batch != nil {
		errs = append(errs, b.batch.Close())
	}
	if b.db != nil {
		errs = append(errs, b.db.Close())
	}
	if b.cache != nil {
		b.cache.Unref()
	}
	if b.lock != nil {
		errs = append(errs, b.lock.Close())
	}
	b.batch, b.db, b.cache, b.lock = nil, nil, nil, nil
	return errors.Join(errs...)
}
