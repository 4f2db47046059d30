package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// ErrNotThisLog: the events that were given are not those of the log, which is left as it was.
var ErrNotThisLog = fmt.Errorf("%w: not the events of this log", eventstore.ErrCorrupt)

// RecoveredTail says what RecoverTail brought back.
type RecoveredTail struct {
	Log eventstore.LogID
	// From is where the log ended, To where it ends now; they are equal when there was nothing to bring back.
	From, To eventstore.Position
	// Missing is how many events the log has still lost by its watermark: it goes on taking no appends.
	Missing uint64
}

// RecoverTail appends to the log in a folder what it has lost at its end, given its events from the first on in whole
// batches, as its topic has them. The life of the log goes on: what comes back are the very events that were lost, which
// the hash chain shows, where the log ends, and at the watermark. All of them are there afterwards, durable, or none.
//
// Errors: ErrLocked, ErrNotThisLog, those of Open and of events.
func RecoverTail(ctx context.Context, events iter.Seq2[[]eventstore.Recorded, error], dir string, o *Options) (RecoveredTail, error) {
	r, err := recoverTail(ctx, events, dir, o)
	if err != nil {
		return r, fmt.Errorf("recover the end of the log in %s: %w", dir, err)
	}
	return r, nil
}

func recoverTail(ctx context.Context, events iter.Seq2[[]eventstore.Recorded, error], dir string, o *Options) (r RecoveredTail, err error) {
	opts := o.withDefaults()
	files := opts.fs()
	if !exists(files, files.PathJoin(dir, "log")) || exists(files, files.PathJoin(dir, restoringName)) {
		return r, fmt.Errorf("%w: there is no log", eventstore.ErrNotFound)
	}
	lock, err := lockFolder(files, dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	cache := pebble.NewCache(opts.CacheBytes)
	defer cache.Unref()
	db, err := openLogDB(markersLast{files}, files.PathJoin(dir, "log"), func() *pebble.Options { return opts.logOptions(markersLast{files}, cache) })
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	t, err := newLostTail(db, &opts)
	if err != nil {
		return r, err
	}
	defer t.blocks.Close()
	path := files.PathJoin(dir, "WATERMARK")
	if exists(files, path) {
		w, m, found, _, err := openWatermark(files, path)
		if err != nil {
			return r, err
		}
		if err := w.file.Close(); err != nil {
			return r, fmt.Errorf("close watermark: %w", err)
		}
		if found && m.log == t.history.id {
			t.mark = m
		}
	}
	from := t.head
	for batch, err := range events {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = t.add(batch)
		}
		if err != nil {
			return r, err
		}
	}
	if !t.joined {
		return r, fmt.Errorf("%w: they end at seq %d of %s, before the log does", ErrNotThisLog, t.at.seq, t.history.id)
	}
	t.seal()
	if err := t.blocks.Commit(pebble.Sync); err != nil {
		return r, fmt.Errorf("write log: %w", err)
	}
	place := func(lsn uint64) eventstore.Position {
		return eventstore.Position{Incarnation: t.history.id.Incarnation, LSN: lsn}
	}
	return RecoveredTail{
		Log: t.history.id, From: place(from.lsn), To: place(t.head.lsn), Missing: max(t.mark.lsn, t.head.lsn) - t.head.lsn,
	}, nil
}

// lostTail puts the events of a log behind its end.
type lostTail struct {
	history history
	head    logHead // of the log with what was added
	at      logHead // of the present life's events that were given, without the lsn
	joined  bool    // they have come to the log's end, and are its events
	mark    mark    // of the watermark, if it is of this life

	writer  blockWriter
	content []byte
	blocks  *pebble.Batch
}

func newLostTail(db *pebble.DB, o *Options) (*lostTail, error) {
	m, found, err := readMeta(db)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%w: there is no log", eventstore.ErrNotFound)
	}
	if err := m.fits(o); err != nil {
		return nil, err
	}
	if m.noted() {
		return nil, fmt.Errorf("%w: the log has events of other logs, whose places in it no topic knows: restore it from a backup or "+
			"its topic into another folder, where it begins a new life, and let the other sites fill in theirs", eventstore.ErrUnsupported)
	}
	t := &lostTail{history: m.history()}
	if t.head, err = readHead(db, &t.history, func(*eventstore.Recorded) {}); err != nil {
		return nil, err
	}
	t.at.chain = eventstore.ChainStart(t.history.id)
	t.joined = t.head.seq == 0
	t.blocks = db.NewBatch()
	return t, nil
}

// add takes the next batch. Those of earlier lives are in the log.
func (t *lostTail) add(batch []eventstore.Recorded) error {
	for i := range batch {
		e := &batch[i]
		switch log := e.Dot.Log; {
		case log.Incarnation < t.history.id.Incarnation:
			continue
		case log != t.history.id || e.Dot.Seq != t.at.seq+1:
			return fmt.Errorf("%w: event %s follows seq %d of %s", ErrNotThisLog, e.Dot, t.at.seq, t.history.id)
		}
		t.content = eventstore.AppendContent(t.content[:0], e)
		before := t.at.chain
		t.at.seq, t.at.chain = e.Dot.Seq, eventstore.NextChain(before, e.Dot.Seq, e.HLC, e.Version, eventstore.ContentHash(t.content))
		if !t.joined {
			if t.joined = t.at.seq == t.head.seq; t.joined && t.at.chain != t.head.chain {
				return fmt.Errorf("%w: the chain after event %s is %x, the log has %x", ErrNotThisLog, e.Dot, t.at.chain[:8], t.head.chain[:8])
			}
			continue
		}
		if len(t.writer.ends) == 0 {
			t.writer.reset(t.head.lsn+1, t.head.seq, before)
		}
		t.writer.add(e, t.content)
		t.head = logHead{t.head.lsn + 1, t.at.seq, t.at.chain}
		if t.head.lsn == t.mark.lsn && t.head.chain != t.mark.chain {
			return fmt.Errorf("%w: the chain after event %s is %x, the log's was %x by its watermark", ErrNotThisLog, e.Dot, t.head.chain[:8], t.mark.chain[:8])
		}
		if t.writer.size() >= blockBytes {
			t.seal()
		}
	}
	return nil
}

// seal adds the block at hand to what is written.
func (t *lostTail) seal() {
	g := group{blocks: t.blocks, writer: t.writer}
	g.seal()
	t.writer = g.writer
}
