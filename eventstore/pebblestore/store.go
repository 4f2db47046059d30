package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
	"golang.org/x/sync/semaphore"
)

// ErrLocked: another process, or another Store of this one, has the folder open, or writes a backup into it.
var ErrLocked = errors.New("folder is in use")

// Store is a log on disk. It implements eventstore.Store and eventstore.Verifier.
type Store struct {
	opts    Options
	dir     string
	id      eventstore.LogID // history's
	history history

	lock                 io.Closer
	logCache, indexCache *pebble.Cache
	log                  *pebble.DB
	index                *index

	recent  *recent
	filter  hashFilter // of requests
	streams hashFilter
	tail    *tail
	tables  *tableMaps
	// tableList is of the log database.
	tableList *tableList
	// streamCache has streams that were read lately.
	streamCache *streamCache
	indexer     *indexer
	queue       *queue
	room        *semaphore.Weighted // for requests that wait or are under way, in bytes
	spare       chan *group
	durable     atomic.Uint64 // lsn
	// dep is what is held of other logs, which is what own events know of them; nil when nothing is. What it points to never
	// changes.
	dep atomic.Pointer[eventstore.Vector]
	// readOnly is why the store takes no writes; nil when it does.
	readOnly  atomic.Pointer[error]
	watermark *watermark
	space     *space
	stall     *stall

	archives  archives
	archived  atomic.Pointer[archived] // nil when all of the log is in the database
	dropped   atomic.Uint64            // lsn up to which the contents of events were dropped
	noted     atomic.Bool              // blocks may have notes: there are events of other logs, or there may be soon
	archiving chan struct{}            // holds one while an archiving is under way, which alone uses what follows
	freed     uint64                   // lsn up to which the space of archived blocks was given back by this process
	rewriting sync.Mutex               // held by who replaces or removes blocks of the log
	ends      archivedEnds             // what was asked of archived for the heads of logs

	scrubbing  chan struct{} // holds one while a scrub is under way
	scrubState atomic.Pointer[ScrubState]
	doubted    chan struct{} // holds one when a read has come upon damage
	indexing   sync.RWMutex  // held by who fills the index or its filters, and by who puts another in its place
	indexed    atomic.Uint64 // lsn up to which the index is filled

	writing    bool           // indexer, sequencer and committer run
	committing atomic.Bool    // a sync of the log that fails ends the process
	writers    sync.WaitGroup // sequencer and committer
	keeper     sync.WaitGroup // of the watermark and the filter
	closing    sync.Once
	done       chan struct{} // closed when Close begins to cut off readers
	life       sync.RWMutex  // held by whoever uses the databases, so that Close waits for them; guards closed
	closed     bool
}

// Open opens the store in a folder, which it makes if it is not there; one process at a time can have it open. Nil
// options are good.
//
// Errors: ErrLocked, ErrNewerFormat, ErrUnfinished, ErrBackup, eventstore.ErrInvalid when the folder holds another log than
// the options say, and eventstore.ErrCorrupt when the end of the log does not verify (see Verify, which looks at all of it).
// A missing or damaged index is no error: it is made anew. One that cannot be read for another reason is an error, and is kept. On a full
// disk the store opens for reading, and takes appends once there is room; only a new store is an error then,
// eventstore.ErrReadOnly.
func Open(dir string, o *Options) (*Store, error) {
	files := o.orDefault().fs()
	switch {
	case exists(files, files.PathJoin(dir, restoringName)):
		return nil, fmt.Errorf("open store in %s: %w", dir, ErrUnfinished)
	case IsBackup(files, dir):
		return nil, fmt.Errorf("open store in %s: %w: it holds a backup; restore it first: tributary restore --from %s --data DIR", dir, ErrBackup, dir)
	}
	return open(dir, o)
}

// IsStore reports whether there is a log in a folder.
func IsStore(dir string) bool {
	names, err := vfs.Default.List(vfs.Default.PathJoin(dir, "log"))
	return err == nil && slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "MANIFEST-") })
}

// open is Open of a folder that may be one that is being restored.
func open(dir string, o *Options) (*Store, error) {
	s := &Store{opts: o.withDefaults(), dir: dir, done: make(chan struct{}), spare: make(chan *group, 2), queue: newQueue()}
	s.scrubbing, s.archiving, s.doubted = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	s.room = semaphore.NewWeighted(s.opts.MaxQueueBytes)
	s.space, s.stall = newSpace(s.opts.fs(), dir, &s.opts), newStall(&s.opts)
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, errors.Join(err, s.release()))
	}
	return s, nil
}

func (s *Store) open() error {
	fs := s.opts.fs()
	if err := makeFolder(fs, s.dir); err != nil {
		return err
	}
	var err error
	if s.lock, err = lockFolder(fs, s.dir); err != nil {
		return err
	}
	s.logCache, s.indexCache = s.opts.newCaches()
	s.streamCache = newStreamCache(int(s.opts.CacheBytes - s.opts.indexCacheBytes()))
	sealed := s.space.open()
	head, err := s.openDatabases(sealed)
	if err != nil {
		return err
	}
	if err := s.openWatermark(head); err != nil {
		return err
	}
	state := s.recent.state()
	s.durable.Store(state.lsn)
	s.tail = newTail(s.opts.TailBytes, state)
	if !sealed {
		if err := s.learnTimes(); err != nil {
			return err
		}
		s.write(head)
	}
	s.keeper.Go(func() { s.stall.watch(s.dir, s.done) })
	s.space.begin(s.unseal, s.folderGone)
	return nil
}

// openDatabases opens both databases and brings what is known of the log up to date. Sealed databases are opened for
// reading only, and take no room on the disk.
func (s *Store) openDatabases(sealed bool) (head logHead, err error) {
	fs := &walSyncs{markersLast{vfs.OnDiskFull(s.opts.fs(), s.space.exhausted)}, s.syncFailed}
	options := func(of func(vfs.FS, *pebble.Cache) *pebble.Options, cache *pebble.Cache) func() *pebble.Options {
		return func() *pebble.Options {
			o := of(fs, cache)
			o.ReadOnly = sealed
			return o
		}
	}
	logDir := fs.PathJoin(s.dir, "log")
	s.tables = newTableMaps(fs, logDir, s.opts.logOptions(fs, nil), int(s.opts.CacheBytes/4))
	s.tableList = newTableList(fs, logDir, s.opts.logOptions(fs, nil))
	watched := func(fs vfs.FS, cache *pebble.Cache) *pebble.Options {
		o := s.opts.logOptions(fs, cache)
		s.tableList.watch(o.EventListener)
		s.doubtDamaged(o.EventListener)
		o.EventListener.TableDeleted = func(info pebble.TableDeleteInfo) {
			s.tables.deleted(info.FileNum.String())
			s.tableList.deleted(info.FileNum.String())
		}
		return o
	}
	if s.log, err = openLogDB(fs, logDir, options(watched, s.logCache)); err != nil {
		if sealed {
			err = fmt.Errorf("%w; %w", err, s.space.err())
		}
		return head, err
	}
	s.tableList.use(s.log)
	s.index = &index{fs: fs, dir: fs.PathJoin(s.dir, "index"), opts: options(s.opts.indexOptions, s.indexCache), sealed: sealed}
	removed, err := s.index.open()
	if removed != nil {
		s.opts.Logger.Warn("the index could not be opened and is made anew from the log", "error", removed)
	}
	if err != nil {
		return head, err
	}
	if err := s.openMeta(); err != nil {
		return head, err
	}
	if !sealed {
		if err := s.putSignpost(); err != nil {
			return head, err
		}
	}
	head, err = readHead(s.log, &s.history, func(e *eventstore.Recorded) { s.opts.Clock.Observe(e.HLC) })
	if err != nil {
		return head, err
	}
	if err := s.catchUp(head); err != nil {
		return head, err
	}
	s.know()
	return head, nil
}

// write starts what takes appends.
func (s *Store) write(head logHead) {
	s.indexer = newIndexer(s, s.recent.unindexed())
	s.keeper.Go(s.makeFilter)
	s.keeper.Go(s.makeStreamFilter)
	s.keeper.Go(func() { s.tables.run(s.log, s.opts.Logger, s.done) })
	go s.indexer.run()
	s.keeper.Go(func() { s.keepWatermark(s.done) })

	logs, _ := s.recent.known()
	q := &sequencer{
		store: s, accepted: newAccepted(head.lsn, min(s.opts.IndexBatch/2, maxAccepted)), head: head, group: s.newGroup(),
		others: newAcceptedLogs(s.id, s.withLives(logs)),
	}
	commits := make(chan *group)
	s.committing.Store(true)
	s.writers.Go(func() { q.run(commits) })
	s.writers.Go(func() { s.commit(commits) })
	s.writing = true
}

// unseal has a store that was opened without room on its disk go on as any other.
func (s *Store) unseal() error {
	if s.writing {
		return nil
	}
	s.life.Lock()
	defer s.life.Unlock()
	head, err := s.reopen(false)
	if err == nil {
		err = s.learnTimes()
	}
	if err == nil {
		s.closed = false
		s.write(head)
		return nil
	}
	_, again := s.reopen(true)
	s.closed = again != nil // there is nothing left to read from
	return errors.Join(err, again)
}

func (s *Store) reopen(sealed bool) (logHead, error) {
	if err := s.closeDatabases(); err != nil {
		return logHead{}, err
	}
	return s.openDatabases(sealed)
}

func (s *Store) openMeta() error {
	m, found, err := readMeta(s.log)
	if err != nil {
		return err
	}
	if !found {
		id := eventstore.LogID{Site: s.opts.Site, Incarnation: 1, Shard: s.opts.Shard}
		if id.Site == "" {
			id.Site = "local"
		}
		m = metaOf(history{id: id}, nil, 0, false)
		if err := eventstore.ValidateSite(m.Site); err != nil {
			return err
		}
		if err := writeMeta(s.log, m); err != nil {
			return err
		}
	}
	s.id, s.history = m.logID(), m.history()
	s.dropped.Store(m.Dropped)
	s.noted.Store(m.noted())
	s.archived.Store(s.openArchived(m.Archive))
	return m.fits(&s.opts)
}

// use lets the caller use the databases until it calls release.
func (s *Store) use() (release func(), err error) {
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, eventstore.ErrClosed
	}
	return s.life.RUnlock, nil
}

func (s *Store) useFor(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.use()
}

// Close implements eventstore.Store. It brings the index up to date and writes out what is in memory, so that the next
// Open is quick, unless the disk has no room for that.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.space.close()
		s.queue.close()
		if s.writing {
			s.indexer.letGo()
			s.writers.Wait()
			s.committing.Store(false)
			s.indexer.close()
		}
		close(s.done)
		s.cutOffArchives()
		s.tail.crowd.close()
		s.keeper.Wait()
		s.life.Lock()
		s.closed = true
		s.life.Unlock()
		if s.writing && s.space.err() == nil {
			err = s.flush()
		}
		err = errors.Join(err, s.release())
	})
	return err
}

func (s *Store) flush() error {
	if err := s.log.Flush(); err != nil {
		return fmt.Errorf("flush log: %w", err)
	}
	if s.index.db == nil { // it is lost
		return nil
	}
	if err := s.index.db.Flush(); err != nil {
		return fmt.Errorf("flush index: %w", err)
	}
	return nil
}

// release closes what is open.
func (s *Store) release() error {
	errs := []error{s.closeDatabases()}
	s.archives.close()
	if s.watermark != nil {
		errs = append(errs, s.watermark.file.Close())
	}
	if s.logCache != nil {
		s.logCache.Unref()
		s.indexCache.Unref()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *Store) closeDatabases() error {
	var errs []error
	if s.index != nil {
		errs = append(errs, s.index.close())
	}
	if s.tableList != nil {
		s.tableList.close()
	}
	if s.log != nil {
		if err := s.log.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close log: %w", err))
		}
		s.log = nil
	}
	return errors.Join(errs...)
}
