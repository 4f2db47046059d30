package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// know makes known what is held of other logs, to those who append from now on.
func (s *Store) know() {
	logs, _ := s.recent.known()
	if dep := eventstore.DepOf(s.id, s.withLives(logs)); dep != nil {
		s.dep.Store(&dep)
	}
}

// withLives returns how far logs are held, those of earlier lives among them, as far as they have events.
func (s *Store) withLives(logs logHeads) []eventstore.LogHead {
	all := append(logHeads(nil), logs...)
	for i, l := range s.history.earlier {
		log := s.history.log(i)
		if _, found := all.find(log); !found && l.Seq > 0 {
			all = all.put(eventstore.LogHead{Log: log, Seq: l.Seq, Chain: eventstore.Hash(l.Chain)})
		}
	}
	return all
}

// Heads implements eventstore.Replica.
func (s *Store) Heads(ctx context.Context) ([]eventstore.LogHead, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.heads()
}

// heads is Heads for those who hold the databases.
func (s *Store) heads() ([]eventstore.LogHead, error) {
	logs, state := s.recent.known()
	all := logHeads(s.withLives(logs))
	own := eventstore.LogHead{Log: s.id, Seq: state.seq, Chain: state.chain}
	if h, found := all.of(s.id); found && h.Seq == own.Seq {
		own.HLC = h.HLC
	}
	all = all.put(own)
	for i := range all {
		if h := &all[i]; h.HLC == 0 && h.Seq > 0 { // it was not received, nor followed by what was
			var err error
			if h.HLC, err = s.endOf(h.Log, h.Seq); err != nil {
				return nil, fmt.Errorf("head of %s: %w", h.Log, err)
			}
		}
	}
	return all, nil
}

// archivedEnds has the times of last events that are archived, as they were found when they were first asked for: nobody waits for an
// archive again and again. It is 0 where the archive could not be read, until the next start: such an event is of long ago.
type archivedEnds struct {
	mu    sync.Mutex // guards what follows, and is held while an archive is read
	times map[eventstore.Dot]hlc.Timestamp
}

// endOf returns the time of the last event of a log, 0 when only an archive knows that cannot be read. REQUIRES: it is durable, and the
// databases are held.
func (s *Store) endOf(log eventstore.LogID, seq uint64) (hlc.Timestamp, error) {
	if old, err := s.isArchived(log, seq); !old || err != nil {
		if err == nil {
			return s.timeOf(log, seq)
		}
		return 0, err
	}
	x, dot := &s.ends, eventstore.Dot{Log: log, Seq: seq}
	x.mu.Lock()
	defer x.mu.Unlock()
	if at, known := x.times[dot]; known {
		return at, nil
	}
	at, err := s.timeOf(log, seq)
	if err != nil && !errors.Is(err, eventstore.ErrArchiveUnavailable) && !errors.Is(err, eventstore.ErrArchiveDamaged) {
		return 0, err
	}
	if err != nil {
		s.opts.Logger.Warn("the time of the last event of an earlier life is in an archive that cannot be read", "event", dot.String(), "error", err)
	}
	if x.times == nil {
		x.times = map[eventstore.Dot]hlc.Timestamp{}
	}
	x.times[dot] = at
	return at, nil
}

// timeOf returns the time of an event. REQUIRES: it is durable.
func (s *Store) timeOf(log eventstore.LogID, seq uint64) (hlc.Timestamp, error) {
	lsn, err := s.placeOf(log, seq)
	if err != nil {
		return 0, err
	}
	var e eventstore.Recorded
	err = s.readLSN(&e, lsn)
	return e.HLC, err
}

// learnTimes has the clock observe all that is held, and keeps the time of each log's last event, which is asked for with each
// Receive. It does nothing where nothing is received.
// REQUIRES: the databases are held.
func (s *Store) learnTimes() error {
	if !s.noted.Load() {
		return nil
	}
	heads, err := s.heads()
	if err != nil {
		return err
	}
	for i := range heads {
		if heads[i].HLC == 0 { // it is not known, and what is received is held against all that is held (latest)
			continue
		}
		s.opts.Clock.Observe(heads[i].HLC)
		s.recent.learn(heads[i])
	}
	return nil
}

// latest returns the time of the last event that is held, or one that is no less.
func (s *Store) latest(logs logHeads) hlc.Timestamp {
	known := func(log eventstore.LogID) bool {
		_, found := logs.find(log)
		return found
	}
	for i := range s.history.earlier {
		if s.history.earlier[i].Seq > 0 && !known(s.history.log(i)) {
			return ^hlc.Timestamp(0)
		}
	}
	if !known(s.id) {
		return ^hlc.Timestamp(0)
	}
	return logs.latest()
}

// logHead returns how far a log is held and durable.
func (s *Store) logHead(ctx context.Context, log eventstore.LogID) (eventstore.LogHead, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return eventstore.LogHead{}, err
	}
	defer release()
	return s.heldOf(log), nil
}

// heldOf returns how far a log is held and durable, without the time of logs that were not received.
func (s *Store) heldOf(log eventstore.LogID) eventstore.LogHead {
	logs, state := s.recent.known()
	if log == s.id {
		return eventstore.LogHead{Log: log, Seq: state.seq, Chain: state.chain}
	}
	if h, found := logs.of(log); found {
		return h
	}
	h, _ := logHeads(s.withLives(nil)).of(log)
	return h
}

// bornHere returns how many events of a log stand in it as its own, and between which lsns: those of the present life, and
// what was kept of an earlier one.
func (s *Store) bornHere(log eventstore.LogID) (count, after, last uint64) {
	if log == s.id {
		_, state := s.recent.known()
		return state.seq, s.history.base(), state.lsn
	}
	for i, l := range s.history.earlier {
		if s.history.log(i) == log {
			return l.Seq, after, l.LSN
		}
		after = l.LSN
	}
	return 0, 0, 0
}

// placeOf returns the lsn of an event. REQUIRES: it is durable, and the databases are held.
func (s *Store) placeOf(log eventstore.LogID, seq uint64) (uint64, error) {
	count, after, last := s.bornHere(log)
	switch {
	case seq > count:
		lsns, err := s.otherPlaces(log, seq, seq)
		if err != nil {
			return 0, err
		}
		return lsns[0], nil
	case !s.noted.Load():
		return after + seq, nil
	}
	return s.ownPlace(seq, after, last)
}

// isArchived reports whether an event is in an archive, without a look there. REQUIRES: it is durable, and the databases are held.
func (s *Store) isArchived(log eventstore.LogID, seq uint64) (bool, error) {
	old := s.archived.Load()
	if old == nil {
		return false, nil
	}
	count, after, last := s.bornHere(log)
	switch {
	case seq > count:
		lsns, err := s.otherPlaces(log, seq, seq)
		if err != nil {
			return false, err
		}
		return lsns[0] <= old.end(), nil
	case last <= old.end():
		return true, nil
	case after >= old.end():
		return false, nil
	}
	return seq <= old.ownSeq(), nil
}

// ownPlace looks for an event of the log's own between two lsns that are of one life, the first of them excluded: blocks say
// how many events of the log's own stand before them. It reads no archive for an event that is not there.
func (s *Store) ownPlace(seq, after, last uint64) (uint64, error) {
	if old := s.archived.Load(); after < old.end() && last > old.end() {
		if seq > old.ownSeq() {
			after = old.end()
		} else {
			last = old.end()
		}
	}
	cursor := s.logCursor()
	var blocks []block
	for after < last {
		middle := after + (last-after+1)/2
		var err error
		if blocks, err = cursor.read(blocks[:0], middle, middle, 0); err != nil {
			return 0, err
		}
		b := &blocks[0]
		if b.before >= seq {
			last = b.first - 1
			continue
		}
		own := b.before
		for i := range b.count {
			if !b.foreign(i) {
				own++
			}
			if own == seq {
				return b.first + uint64(i), nil
			}
		}
		after = b.last()
	}
	return 0, fmt.Errorf("log up to lsn %d: %w: it has no event of its own with seq %d", last, eventstore.ErrCorrupt, seq)
}

// ownAt returns how far the log's own events go up to an lsn, in the life that the lsn is of. REQUIRES: the databases are held.
func (s *Store) ownAt(lsn uint64) (logHead, error) {
	blocks, err := s.logCursor().read(nil, lsn, lsn, 0)
	if err != nil {
		return logHead{}, err
	}
	at, err := s.chainsAt(&blocks[0], lsn, false)
	if err != nil {
		return logHead{}, err
	}
	return logHead{lsn: lsn, seq: at.own.seq, chain: at.own.chain}, nil
}

// ownSeqAt returns the seq of the present life's last event up to an lsn.
func (s *Store) ownSeqAt(ctx context.Context, lsn uint64) (uint64, error) {
	base := s.history.base()
	if lsn <= base || !s.noted.Load() {
		return max(lsn, base) - base, nil
	}
	release, err := s.useFor(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	at, err := s.ownAt(lsn)
	return at.seq, err
}

// positionOf returns the place of an event that is durable.
func (s *Store) positionOf(ctx context.Context, dot eventstore.Dot) (eventstore.Position, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return eventstore.Position{}, err
	}
	defer release()
	lsn, err := s.placeOf(dot.Log, dot.Seq)
	return s.position(lsn), err
}

// ChainAt implements eventstore.Replica.
func (s *Store) ChainAt(ctx context.Context, log eventstore.LogID, seq uint64) (eventstore.Hash, bool, error) {
	return s.chainOf(ctx, log, seq, true)
}

// ChainHere is ChainAt for those who cannot wait for an archive: of an event that is archived held is false.
func (s *Store) ChainHere(ctx context.Context, log eventstore.LogID, seq uint64) (eventstore.Hash, bool, error) {
	return s.chainOf(ctx, log, seq, false)
}

func (s *Store) chainOf(ctx context.Context, log eventstore.LogID, seq uint64, archives bool) (eventstore.Hash, bool, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return eventstore.Hash{}, false, err
	}
	defer release()
	switch h := s.heldOf(log); {
	case seq > h.Seq:
		return eventstore.Hash{}, false, nil
	case seq == h.Seq:
		return h.Chain, true, nil
	case seq == 0:
		return eventstore.ChainStart(log), true, nil
	}
	if !archives {
		if old, err := s.isArchived(log, seq); old || err != nil {
			return eventstore.Hash{}, false, err
		}
	}
	page, err := s.logPage(nil, log, seq, seq)
	if err != nil {
		s.doubt(err)
		return eventstore.Hash{}, false, fmt.Errorf("chain of %s at seq %d: %w", log, seq, err)
	}
	return page[0].Chain, true, nil
}

// ReadLog implements eventstore.Replica. A reader that takes its time holds nothing up.
func (s *Store) ReadLog(ctx context.Context, log eventstore.LogID, after uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		yield = s.given(yield)
		head, err := s.logHead(ctx, log)
		var page []eventstore.Recorded
		for next := after + 1; next <= head.Seq && err == nil; next = page[len(page)-1].Dot.Seq + 1 {
			if page, err = s.logPageFor(ctx, page[:0], log, next, head.Seq); err != nil {
				break
			}
			for i := range page {
				if !yield(page[i], nil) {
					return
				}
			}
		}
		if err != nil {
			yield(eventstore.Recorded{}, fmt.Errorf("read %s: %w", log, err))
		}
	}
}

// logPageFor is logPage for those who do not hold the databases.
func (s *Store) logPageFor(ctx context.Context, page []eventstore.Recorded, log eventstore.LogID, from, to uint64) ([]eventstore.Recorded, error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return page, err
	}
	defer release()
	return s.logPage(page, log, from, to)
}

// logPage appends to page the events of a log from one seq on, at most to another, with their chain: those that stand close
// to the first. REQUIRES: they are durable, and the databases are held.
func (s *Store) logPage(page []eventstore.Recorded, log eventstore.LogID, from, to uint64) ([]eventstore.Recorded, error) {
	lsn, err := s.placeOf(log, from)
	if err != nil {
		return page, err
	}
	_, state := s.recent.known()
	size := scanFrames
	if from == to {
		size = 0
	}
	blocks, err := s.logCursor().read(nil, lsn, state.lsn, size)
	var d eventstore.FrameDecoder
	for i := range blocks {
		var broken error
		if page, broken = s.logEvents(page, &d, &blocks[i], log, from, to); broken != nil {
			return page, broken
		}
	}
	if len(page) == 0 && err == nil {
		err = fmt.Errorf("lsn %d: %w: the event with seq %d of the log is not there", lsn, eventstore.ErrCorrupt, from)
	}
	if len(page) > 0 {
		err = nil // what cannot be read is said when it is its turn
	}
	return page, err
}

// logEvents appends to page a block's events of a log that are of seqs from one to another.
func (s *Store) logEvents(page []eventstore.Recorded, d *eventstore.FrameDecoder, b *block, log eventstore.LogID, from, to uint64) ([]eventstore.Recorded, error) {
	at := b.chains()
	for i := range b.count {
		frame, err := b.frame(i)
		if err != nil {
			return page, err
		}
		page = append(page, eventstore.Recorded{})
		e := &page[len(page)-1]
		if err = b.decodeWith(d, e, i, frame, s.id.Incarnation); err == nil {
			e.Chain, err = at.next(b, i, e, frame)
		}
		if err != nil {
			return page[:len(page)-1], err
		}
		if e.Dot.Log != log || e.Dot.Seq < from || e.Dot.Seq > to {
			page = page[:len(page)-1]
		}
	}
	return page, nil
}
