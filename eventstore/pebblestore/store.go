package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
	"golang.org/x/sync/semaphore"
)

// ErrLocked: another process, or another Store of this one, has the folder open.
var ErrLocked = errors.New("data folder is in use")

// Store is a log on disk. It implements eventstore.Store and eventstore.Verifier.
type Store struct {
	opts Options
	dir  string
	id   eventstore.LogID

	lock  io.Closer
	cache *pebble.Cache
	log   *pebble.DB
	index *index

	recent  *recent
	tail    *tail
	indexer *indexer
	queue   *queue
	room    *semaphore.Weighted // for requests that wait or are under way, in bytes
	spare   chan *group
	durable atomic.Uint64 // lsn
	// readOnly is why the store takes no writes; nil when it does.
	readOnly  atomic.Pointer[error]
	watermark *watermark

	writers sync.WaitGroup // sequencer and committer
	keeper  sync.WaitGroup // of the watermark
	closing sync.Once
	done    chan struct{} // closed when Close begins to cut off readers
	life    sync.RWMutex  // held by whoever uses the databases, so that Close waits for them; guards closed
	closed  bool
}

// Open opens the store in a folder, which it makes if it is not there; one process at a time can have it open. Nil
// options are good.
//
// Errors: ErrLocked, ErrNewerFormat, eventstore.ErrInvalid when the folder holds another log than the options say, and
// eventstore.ErrCorrupt when the end of the log does not verify (see Verify, which looks at all of it). A missing or
// damaged index is no error: it is made anew.
func Open(dir string, o *Options) (*Store, error) {
	s := &Store{opts: o.withDefaults(), dir: dir, done: make(chan struct{}), spare: make(chan *group, 2), queue: newQueue()}
	s.room = semaphore.NewWeighted(s.opts.MaxQueueBytes)
	if err := s.open(); err != nil {
		s.release()
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := s.openFolder(); err != nil {
		return err
	}
	if err := s.openMeta(); err != nil {
		return err
	}
	head, err := readHead(s.log, s.id, func(e *eventstore.Recorded) { s.opts.Clock.Observe(e.HLC) })
	if err != nil {
		return err
	}
	if err := s.catchUp(head); err != nil {
		return err
	}
	if err := s.openWatermark(head); err != nil {
		return err
	}
	state := s.recent.state()
	s.durable.Store(state.lsn)
	s.tail = newTail(s.opts.TailBytes, state)
	s.indexer = newIndexer(s, s.recent.unindexed())
	go s.indexer.run()
	s.keeper.Go(func() { s.keepWatermark(s.done) })

	q := &sequencer{store: s, accepted: newAccepted(head.lsn, s.opts.IndexBatch/2), head: head, group: s.newGroup()}
	commits := make(chan *group)
	s.writers.Go(func() { q.run(commits) })
	s.writers.Go(func() { s.commit(commits) })
	return nil
}

// openFolder takes the folder's lock and opens both databases.
func (s *Store) openFolder() error {
	fs := s.opts.fs()
	if err := makeFolder(fs, s.dir); err != nil {
		return err
	}
	var err error
	if s.lock, err = lockFolder(fs, s.dir); err != nil {
		return err
	}
	s.cache = pebble.NewCache(s.opts.CacheBytes)
	if s.log, err = openLogDB(fs, fs.PathJoin(s.dir, "log"), s.opts.logOptions(s.cache)); err != nil {
		return err
	}
	s.index = &index{fs: fs, dir: fs.PathJoin(s.dir, "index"), opts: func() *pebble.Options { return s.opts.indexOptions(s.cache) }}
	removed, err := s.index.open()
	if removed != nil {
		s.opts.Logger.Warn("the index could not be opened and is made anew from the log", "error", removed)
	}
	return err
}

func (s *Store) openMeta() error {
	m, found, err := readMeta(s.log)
	if err != nil {
		return err
	}
	if !found {
		m = meta{Format: dataFormat, Site: s.opts.Site, Incarnation: 1, Shard: s.opts.Shard}
		if m.Site == "" {
			m.Site = "local"
		}
		if err := eventstore.ValidateSite(m.Site); err != nil {
			return err
		}
		if err := writeMeta(s.log, m); err != nil {
			return err
		}
	}
	s.id = m.logID()
	return m.fits(&s.opts)
}

// catchUp checks that the index fits the log, and reads what it lacks from the log's tail.
func (s *Store) catchUp(head logHead) error {
	m, err := s.usableMark(head)
	if err != nil {
		return err
	}
	if m.log != s.id { // of another log, or none
		m = mark{log: s.id}
		m.chain = eventstore.ChainStart(s.id)
	}
	s.recent = newRecent(m.logState)
	for m.lsn < head.lsn {
		page, err := s.readPage(nil, m.lsn+1, head.lsn, pageLimits{events: s.opts.IndexBatch, bytes: catchUpBytes, whole: true, chain: true})
		if err != nil {
			return fmt.Errorf("bring the index up to date: %w", err)
		}
		for batch := range batchesOf(page) {
			s.recent.add([][]eventstore.Recorded{batch})
		}
		m.logState = s.recent.state()
		if s.recent.unindexed() >= s.opts.IndexBatch {
			if err := s.index.fill(s.recent.turn(), s.id); err != nil {
				return err
			}
		}
	}
	if state := s.recent.state(); state.logHead != head {
		return fmt.Errorf("bring the index up to date: %w: came to lsn %d with chain %x, the log's head is %d with %x",
			eventstore.ErrCorrupt, state.lsn, state.chain[:8], head.lsn, head.chain[:8])
	}
	return nil
}

// catchUpBytes bounds the memory of one step of bringing the index up to date.
const catchUpBytes = 8 << 20

// usableMark returns up to where the index is filled; it wipes an index that does not fit the log and returns a mark of
// no log.
func (s *Store) usableMark(head logHead) (mark, error) {
	m, found, err := s.index.mark()
	why := ""
	switch {
	case err != nil:
		why = err.Error()
	case !found:
		if head.lsn > 0 {
			s.opts.Logger.Info("the index is made from the log", "events", head.lsn)
		}
		return mark{}, nil
	case m.log != s.id:
		why = fmt.Sprintf("it is of %s", m.log)
	case m.lsn > head.lsn:
		why = fmt.Sprintf("it goes to lsn %d, the log to %d", m.lsn, head.lsn)
	default:
		at, err := s.chainAt(m.lsn)
		if err != nil {
			return mark{}, err
		}
		if at == m.chain {
			return m, nil
		}
		why = fmt.Sprintf("its chain at lsn %d is another than the log's", m.lsn)
	}
	s.opts.Logger.Warn("the index does not fit the log and is made anew", "cause", why)
	return mark{}, s.index.wipe()
}

// chainAt returns the log's chain after an event.
func (s *Store) chainAt(lsn uint64) (eventstore.Hash, error) {
	if lsn == 0 {
		return eventstore.ChainStart(s.id), nil
	}
	page, err := s.readPage(nil, lsn, lsn, pageLimits{events: 1, chain: true})
	if err != nil {
		return eventstore.Hash{}, fmt.Errorf("check the index against the log: %w", err)
	}
	return page[0].Chain, nil
}

// Append implements eventstore.Appender.
func (s *Store) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Receipt{}, err
	}
	if err := s.writable(); err != nil {
		return eventstore.Receipt{}, err
	}
	if err := r.Normalize(); err != nil {
		return eventstore.Receipt{}, err
	}
	if err := r.Supported(); err != nil {
		return eventstore.Receipt{}, err
	}
	p := s.prepare(ctx, r)
	if receipt, found, err := s.check(p); found || err != nil {
		return receipt, err
	}
	if err := p.enter(ctx, s.room, s.opts.MaxQueueBytes); err != nil {
		return eventstore.Receipt{}, err
	}
	if !s.queue.put(p) {
		p.answer(eventstore.Receipt{}, eventstore.ErrClosed)
	}
	left := ctx.Done()
	if left == nil {
		<-p.done
		return p.receipt, p.err
	}
	select {
	case <-p.done:
		return p.receipt, p.err
	case <-left:
		return eventstore.Receipt{}, ctx.Err()
	}
}

// writable says why the store takes no writes.
func (s *Store) writable() error {
	if fault := s.readOnly.Load(); fault != nil {
		return *fault
	}
	return nil
}

// check looks up what is durable: whether the request was applied before (then it returns what to answer), and the
// versions of its streams.
func (s *Store) check(p *pending) (receipt eventstore.Receipt, found bool, err error) {
	release, err := s.use()
	if err != nil {
		return receipt, false, err
	}
	defer release()
	unknown := p.lookRecent(s.recent)
	for _, i := range unknown {
		if p.heads[i], err = s.index.version(p.request.Appends[i].Stream); err != nil {
			return receipt, false, err
		}
	}
	if p.request.ID == "" {
		return receipt, false, nil
	}
	entry, found, err := s.lookRequest(p.key())
	if err != nil || !found {
		return receipt, false, err
	}
	if receipt, err = s.receiptAt(entry); err == nil {
		receipt, err = repeated(p, entry.hash, receipt)
	}
	return receipt, true, err
}

// lookRecent fills in the heads that are known in memory, and returns the places of the others.
func (p *pending) lookRecent(r *recent) (unknown []int) {
	if p.heads == nil {
		p.heads = make([]uint64, len(p.request.Appends))
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	p.checked = r.durable.lsn
	for i := range p.request.Appends {
		version, known := r.headLocked(p.request.Appends[i].Stream)
		if !known {
			unknown = append(unknown, i)
		}
		p.heads[i] = version
	}
	return unknown
}

// lookRequest finds a durable request. It looks in memory first, since entries move from there to the index.
func (s *Store) lookRequest(k requestKey) (requestEntry, bool, error) {
	if e, known := s.recent.request(k); known {
		return e, true, nil
	}
	return s.index.request(k)
}

// receiptAt reads the batch that recorded a request and returns its receipt.
func (s *Store) receiptAt(e requestEntry) (eventstore.Receipt, error) {
	batch, err := s.readPage(nil, e.first, e.last(), pageLimits{events: int(e.count)})
	if err != nil {
		return eventstore.Receipt{}, fmt.Errorf("read receipt: %w", err)
	}
	return eventstore.ReceiptOf(batch), nil
}

// Receipt implements eventstore.Appender.
func (s *Store) Receipt(ctx context.Context, tenant, id string) (eventstore.Receipt, eventstore.Hash, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return eventstore.Receipt{}, eventstore.Hash{}, err
	}
	defer release()
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	entry, found, err := s.lookRequest(requestKey{tenant, id})
	if err != nil {
		return eventstore.Receipt{}, eventstore.Hash{}, err
	}
	if !found {
		return eventstore.Receipt{}, eventstore.Hash{}, fmt.Errorf("receipt of request %q: %w", id, eventstore.ErrNotFound)
	}
	receipt, err := s.receiptAt(entry)
	receipt.Duplicate = true
	return receipt, entry.hash, err
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
// Open is quick.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.queue.close()
		s.indexer.letGo()
		s.writers.Wait()
		s.indexer.close()
		close(s.done)
		s.keeper.Wait()
		s.life.Lock()
		s.closed = true
		s.life.Unlock()
		err = errors.Join(s.flush(), s.release())
	})
	return err
}

func (s *Store) flush() error {
	if err := s.log.Flush(); err != nil {
		return fmt.Errorf("flush log: %w", err)
	}
	if err := s.index.db.Flush(); err != nil {
		return fmt.Errorf("flush index: %w", err)
	}
	return nil
}

// release closes what is open.
func (s *Store) release() error {
	var errs []error
	if s.index != nil {
		errs = append(errs, s.index.close())
	}
	if s.log != nil {
		if err := s.log.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close log: %w", err))
		}
	}
	if s.watermark != nil {
		errs = append(errs, s.watermark.file.Close())
	}
	if s.cache != nil {
		s.cache.Unref()
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
