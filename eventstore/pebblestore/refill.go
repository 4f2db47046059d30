package pebblestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
)

// The blocks of a stretch that was lost are built anew of events that others have. Three things are known without them:
//
//   - which event stood at each lsn: the index has the places of foreign events, and what is left between them are the log's
//     own, in the order of their seqs;
//   - the chain of each log before the stretch and after it, from the blocks around it, from how far the log is held, or from
//     where a life ended;
//   - how each event stands in its stream: the index has the places of the stream's events.
//
// Events that lead from the one chain to the other are those that stood there. Where any of the three is not to be had, nothing
// is put in.

// Holder has events of logs: another site that the log is replicated to.
type Holder interface {
	// Events yields events of a log from the one after a seq on, in the order of seq, up to another one or a little further. What
	// they are is not believed.
	Events(ctx context.Context, log eventstore.LogID, after, through uint64) iter.Seq2[eventstore.Recorded, error]
	// String names it for people.
	String() string
}

// lostRun is events of one log that follow each other and are lost.
type lostRun struct {
	log            eventstore.LogID
	after, through uint64 // seq
	// chain is that after the seq after, want that after through.
	chain, want eventstore.Hash
	// behind is an lsn, up to which a source of the log's own events is passed over; own says that they are.
	behind uint64
	own    bool
	events []eventstore.Recorded // with their chain
}

// refiller builds the blocks of stretches that were lost, which are in order and not next to each other.
type refiller struct {
	store *Store
	o     *ScrubOptions
	gaps  []*lost
	runs  []*lostRun
	room  int // for content that is yet to come, in bytes
	// slots has the run of each event of the stretches, in the order of the log, and its place there.
	slots  []slot
	stands map[eventstore.StreamID]stand
	put    map[uint64]putEvent // by lsn
}

type slot struct {
	run *lostRun
	at  int
}

// stand is what a stream had come to after the last of its events that was put in.
type stand struct {
	head streamHead
	top  eventTop
}

// putEvent is an event that was put in, as far as the next ones of its stream ask for it.
type putEvent struct {
	eventTop
	stream  eventstore.StreamID
	revises bool
}

// refill builds the blocks of the stretches from events that others have, proved by the hash chains of their logs.
func (s *Store) refill(ctx context.Context, gaps []*lost, o *ScrubOptions) error {
	r := &refiller{store: s, o: o, gaps: gaps, room: cmp.Or(o.MaxRefillBytes, 1<<30), stands: map[eventstore.StreamID]stand{}, put: map[uint64]putEvent{}}
	for _, g := range gaps {
		if err := r.name(g); err != nil {
			return fmt.Errorf("lsn %d to %d are lost, and it is not known which events stood there: %w", g.first, g.last, err)
		}
	}
	for _, run := range r.runs {
		if err := r.fetch(ctx, run); err != nil {
			return fmt.Errorf("lsn %d to %d are lost, of %s seq %d to %d: %w", gaps[0].first, gaps[len(gaps)-1].last, run.log, run.after+1, run.through, err)
		}
	}
	for _, g := range gaps {
		if err := r.build(g); err != nil {
			return fmt.Errorf("lsn %d to %d are lost, and cannot be put in again: %w", g.first, g.last, err)
		}
	}
	return nil
}

// name finds out which events stood in a stretch.
func (r *refiller) name(g *lost) error {
	if g.last < g.first {
		return nil
	}
	s := r.store
	type others struct {
		log  eventstore.LogID
		seq  uint64
		lsns []uint64
	}
	var foreign []others
	logs, _ := s.recent.known()
	for _, h := range logs {
		if h.Log == s.id {
			continue
		}
		seq, lsns, err := s.otherPlacesBetween(h.Log, g.first, g.last)
		if err != nil {
			return err
		}
		if len(lsns) > 0 {
			foreign = append(foreign, others{h.Log, seq, lsns})
		}
	}
	own, err := r.ownBefore(g.first)
	if err != nil {
		return err
	}
	for lsn := g.first; lsn <= g.last; lsn++ {
		i := slices.IndexFunc(foreign, func(o others) bool { return len(o.lsns) > 0 && o.lsns[0] == lsn })
		if i >= 0 {
			o := &foreign[i]
			r.slot(eventstore.Dot{Log: o.log, Seq: o.seq}, false, g.first-1)
			o.lsns, o.seq = o.lsns[1:], o.seq+1
		} else {
			own.seq++
			r.slot(eventstore.Dot{Log: s.history.logAt(lsn), Seq: own.seq}, true, g.first-1)
		}
		if l, ends := s.history.ending(lsn); ends {
			if own.seq != l.Seq {
				return fmt.Errorf("%w: life %d ended with seq %d, by the index it is %d", eventstore.ErrCorrupt, l.Incarnation, l.Seq, own.seq)
			}
			own.seq = 0
		}
	}
	after, err := s.ownAfter(g.last, g.beyond)
	if err == nil && after.seq != own.seq {
		err = fmt.Errorf("%w: by the index the log's own events go to seq %d there, what follows goes on from %d", eventstore.ErrCorrupt, own.seq, after.seq)
	}
	return err
}

// slot adds the event that stood next, to the run of its log that it follows.
func (r *refiller) slot(d eventstore.Dot, own bool, behind uint64) {
	for _, run := range slices.Backward(r.runs) {
		if run.log == d.Log && run.through+1 == d.Seq && run.own == own {
			run.through++
			r.slots = append(r.slots, slot{run, int(run.through - run.after - 1)})
			return
		}
	}
	run := &lostRun{log: d.Log, after: d.Seq - 1, through: d.Seq, own: own, behind: behind}
	r.runs = append(r.runs, run)
	r.slots = append(r.slots, slot{run, 0})
}

// fetch has the events of a run from the first who gives those that stood there.
func (r *refiller) fetch(ctx context.Context, run *lostRun) (err error) {
	if run.chain, err = r.before(run); err == nil {
		run.want, err = r.after(run)
	}
	if err != nil {
		return fmt.Errorf("nothing proves which events they are: %w", err)
	}
	ways := slices.Clone(r.o.Holders)
	if run.own && r.o.Source != nil {
		topic := ownSource{r.store, r.o.Source, run.behind}
		if r.store.noted.Load() {
			ways = append(ways, topic)
		} else {
			ways = slices.Insert(ways, 0, Holder(topic))
		}
	}
	if len(ways) == 0 {
		return fmt.Errorf("%w: there is neither Kafka nor another site to have them from; put back the last good copy of the folder, see Backup in docs/operations.md", eventstore.ErrCorrupt)
	}
	why := errors.New("they cannot be had")
	for _, from := range ways {
		var size int
		if run.events, size, err = run.take(from.Events(ctx, run.log, run.after, run.through), r.room); err == nil {
			r.room -= size
			return nil
		}
		why = fmt.Errorf("%w; %s: %w", why, from, err)
		if ctx.Err() != nil || errors.Is(err, errTooMuchLost) {
			break
		}
	}
	return why
}

// errTooMuchLost: what is lost does not fit into memory at once.
var errTooMuchLost = fmt.Errorf("%w: more is lost than can be put in again at once; restore the log from Kafka or a backup (tributary restore), or, with other sites, "+
	"move the store's folder away and start the server, which gets back all that has left the site (docs/sites.md)", eventstore.ErrCorrupt)

// take collects the events of the run, for whose content there is so much room, and proves them. It returns how much they take of it.
//
// INVARIANT: what is returned without an error leads from the chain before the run to the one after it.
func (run *lostRun) take(from iter.Seq2[eventstore.Recorded, error], room int) (events []eventstore.Recorded, size int, err error) {
	const eventBytes = 512 // beside the content, about
	chain, next := run.chain, run.after+1
	var content []byte
	for e, err := range from {
		if err != nil {
			return nil, 0, fmt.Errorf("seq %d: %w", next, err)
		}
		if e.Dot.Seq < next && e.Dot.Log == run.log {
			continue
		}
		if e.Dot != (eventstore.Dot{Log: run.log, Seq: next}) {
			return nil, 0, fmt.Errorf("seq %d: %w: there comes %s", next, eventstore.ErrCorrupt, e.Dot)
		}
		if n := len(events); n > 0 && e.Batch != events[n-1].Batch && (e.Batch.FirstSeq != next || !events[n-1].EndsBatch()) {
			return nil, 0, fmt.Errorf("seq %d: %w: it begins a batch in the middle of another", next, eventstore.ErrCorrupt)
		}
		if len(e.Payload) == 0 {
			e.Payload = nil
		}
		content = eventstore.AppendContent(content[:0], &e)
		if size += eventBytes + len(content); size > room {
			return nil, 0, fmt.Errorf("seq %d: %w", next, errTooMuchLost)
		}
		chain = eventstore.NextChain(chain, next, e.HLC, e.Version, eventstore.ContentHash(content))
		e.Chain = chain
		events = append(events, e)
		if next++; next > run.through {
			break
		}
	}
	if next <= run.through {
		return nil, 0, fmt.Errorf("seq %d: %w", next, eventstore.ErrNotFound)
	}
	if chain != run.want {
		return nil, 0, fmt.Errorf("%w: they are other events than those that stood here: the hash chain after them is %x, it was %x", eventstore.ErrCorrupt, chain[:8], run.want[:8])
	}
	return events, size, nil
}

// before returns the chain that a run goes on from.
func (r *refiller) before(run *lostRun) (eventstore.Hash, error) {
	s := r.store
	if run.after == 0 {
		return eventstore.ChainStart(run.log), nil
	}
	if run.own {
		own, err := r.ownBefore(run.behind + 1)
		if err == nil && own.seq != run.after {
			err = fmt.Errorf("%w: before lsn %d stands seq %d of it", eventstore.ErrCorrupt, run.behind+1, own.seq)
		}
		return own.chain, err
	}
	if kept, _, _ := s.bornHere(run.log); run.after == kept {
		h, _ := logHeads(s.withLives(nil)).of(run.log)
		return h.Chain, nil
	}
	lsns, err := s.otherPlaces(run.log, run.after, run.after)
	if err != nil {
		return eventstore.Hash{}, err
	}
	b, err := r.blockAt(lsns[0])
	if err != nil {
		return eventstore.Hash{}, err
	}
	at, err := s.chainsAt(&b, lsns[0], true)
	if l := chainIn(at.others, run.log); err == nil && l != nil && l.seq == run.after {
		return l.chain, nil
	}
	return eventstore.Hash{}, errors.Join(err, fmt.Errorf("%w: seq %d is not at lsn %d", eventstore.ErrCorrupt, run.after, lsns[0]))
}

// after returns the chain that what follows a run goes on from.
func (r *refiller) after(run *lostRun) (eventstore.Hash, error) {
	s := r.store
	if !run.own {
		return s.otherAfter(run.log, run.through, r.blockAt)
	}
	for i, l := range s.history.earlier {
		if s.history.log(i) == run.log && l.Seq == run.through {
			return eventstore.Hash(l.Chain), nil
		}
	}
	err := fmt.Errorf("%w: no block goes on from seq %d", eventstore.ErrCorrupt, run.through)
	for _, g := range r.gaps {
		if g.last < g.first || s.history.logAt(g.last) != run.log {
			continue
		}
		own, broken := s.ownAfter(g.last, g.beyond)
		if broken == nil && own.seq == run.through {
			return own.chain, nil
		}
		err = errors.Join(err, broken)
	}
	return eventstore.Hash{}, err
}

// ownBefore returns how far the log's own events go before an lsn, of which the one before can be read.
func (r *refiller) ownBefore(lsn uint64) (logHead, error) {
	s := r.store
	if lsn == 1 {
		return s.history.begin(), nil
	}
	b, err := r.blockAt(lsn - 1)
	if err != nil {
		return logHead{}, err
	}
	at, err := s.chainsAt(&b, lsn-1, true)
	return s.history.onward(logHead{lsn: lsn - 1, seq: at.own.seq, chain: at.own.chain}), err
}

// blockAt returns the block that holds an event which is not lost. A seek for it can end in the damage before its block (see
// verifier.beyond).
func (r *refiller) blockAt(lsn uint64) (block, error) {
	b, err := r.store.blockOf(lsn)
	if err == nil {
		return b, nil
	}
	for _, g := range r.gaps {
		if g.last >= lsn {
			continue
		}
		from, broken := r.store.blockReader()
		if broken != nil {
			return block{}, broken
		}
		if found, broken := from.from(g.beyond); broken == nil && found && from.cur.holds(lsn) {
			b := from.cur.clone()
			from.close()
			return b, nil
		}
		from.close()
	}
	return block{}, err
}

// chainsAt returns the chains of the logs after an event of a block; without foreign, only that of the own log is right.
func (s *Store) chainsAt(b *block, lsn uint64, foreign bool) (chains, error) {
	at := b.chains()
	var e eventstore.Recorded
	for i := range int(lsn-b.first) + 1 {
		if !foreign && b.foreign(i) {
			continue
		}
		frame, err := b.frame(i)
		if err == nil {
			err = b.decode(&e, i, frame, s.id.Incarnation)
		}
		if err == nil {
			_, err = at.next(b, i, &e, frame)
		}
		if err != nil {
			return at, err
		}
	}
	return at, nil
}

// ownAfter returns what the log's own events go on from after an lsn; beyond is one from which on blocks can be read.
func (s *Store) ownAfter(lsn, beyond uint64) (logHead, error) {
	if state := s.recent.state(); state.lsn == lsn {
		return state.logHead, nil
	}
	r, err := s.blockReader()
	if err != nil {
		return logHead{}, err
	}
	defer r.close()
	found, err := r.from(beyond)
	if err == nil && (!found || r.cur.first != lsn+1) {
		err = fmt.Errorf("%w: no block begins at lsn %d", eventstore.ErrCorrupt, lsn+1)
	}
	return logHead{lsn: lsn, seq: r.cur.before, chain: r.cur.chain}, err
}

// otherAfter returns the chain of another log after a seq as what follows says it, or how far the log is held; blockAt reads the block
// that holds an event.
func (s *Store) otherAfter(log eventstore.LogID, seq uint64, blockAt func(lsn uint64) (block, error)) (eventstore.Hash, error) {
	if h := s.heldOf(log); h.Seq == seq {
		return h.Chain, nil
	}
	lsns, err := s.otherPlaces(log, seq+1, seq+1)
	if err != nil {
		return eventstore.Hash{}, err
	}
	b, err := blockAt(lsns[0])
	if err != nil {
		return eventstore.Hash{}, err
	}
	at := chainIn(b.logs, log)
	if at == nil || at.seq != seq {
		return eventstore.Hash{}, fmt.Errorf("%w: the block from lsn %d does not go on from seq %d of %s", eventstore.ErrCorrupt, b.first, seq, log)
	}
	return at.chain, nil
}

// build builds the blocks of a stretch.
func (r *refiller) build(g *lost) error {
	if g.last < g.first {
		return nil
	}
	s := r.store
	own, err := r.ownBefore(g.first)
	if err != nil {
		return err
	}
	var w blockWriter
	seal := func(last uint64) {
		if len(w.ends) > 0 {
			g.blocks = append(g.blocks, refilled{last, bytes.Clone(w.seal())})
			w.ends = w.ends[:0]
		}
	}
	for lsn := g.first; lsn <= g.last; lsn++ {
		at := r.slots[0]
		r.slots = r.slots[1:]
		e := &at.run.events[at.at]
		note, err := r.noteOf(e, lsn, !at.run.own)
		if err != nil {
			return fmt.Errorf("event at lsn %d: %w", lsn, err)
		}
		if len(w.ends) == 0 {
			w.reset(lsn, own.seq, own.chain)
		}
		w.add(e, eventstore.AppendContent(nil, e))
		w.noted = w.noted || note != plainNote(e.Version)
		if at.run.own {
			w.note(note, nil)
			own.seq, own.chain = e.Dot.Seq, e.Chain
		} else {
			before := logChain{e.Dot.Log, e.Dot.Seq - 1, at.run.chain}
			if at.at > 0 {
				before.chain = at.run.events[at.at-1].Chain
			}
			w.note(note, &before)
		}
		_, ends := s.history.ending(lsn)
		if w.size() >= blockBytes || ends {
			seal(lsn)
		}
		own.lsn = lsn
		own = s.history.onward(own)
	}
	seal(g.last)
	return nil
}

// noteOf returns the note of an event that stood at an lsn: how it stands in its stream is told by the places of the stream's
// events, and by those before it.
func (r *refiller) noteOf(e *eventstore.Recorded, lsn uint64, foreign bool) (eventNote, error) {
	s := r.store
	if !s.noted.Load() {
		return plainNote(e.Version), nil
	}
	before, err := r.standing(e.Stream, lsn)
	if err != nil {
		return 0, err
	}
	note, st := eventNote(0), before
	if foreign {
		note |= noteForeign
		if repeats, err := r.repeats(e, lsn); err != nil {
			return 0, err
		} else if repeats {
			note |= noteRepeats
		}
	}
	revises := before.head.version() > 0 && cmp.Or(cmp.Compare(e.HLC, before.top.hlc), e.Dot.Log.Compare(before.top.log)) < 0
	if revises {
		note |= noteRevises
		st.head |= revisedHead
	} else {
		st.top = eventTop{e.HLC, e.Dot.Log}
	}
	if st.head++; st.head.revised() {
		note |= noteRevised
	}
	r.stands[e.Stream], r.put[lsn] = st, putEvent{eventTop{e.HLC, e.Dot.Log}, e.Stream, revises}
	return note | plainNote(st.head.version()), nil
}

// repeats reports whether a batch of another log begins with an event whose request another batch was recorded of before: then
// the index names that one alone.
func (r *refiller) repeats(e *eventstore.Recorded, lsn uint64) (bool, error) {
	if e.CommandID == "" || e.Batch.FirstSeq != e.Dot.Seq {
		return false, nil
	}
	digests := requestKey{e.Stream.Tenant, e.CommandID}.digests()
	if at, known := r.store.recent.request(digests.key); known {
		return at != lsn, nil
	}
	places, err := r.store.index.requestPlaces(digests.hash)
	return !slices.Contains(places, lsn), err
}

// standing returns what a stream had come to before its event at an lsn. Errors match eventstore.ErrCorrupt when the stream has
// none there.
func (r *refiller) standing(stream eventstore.StreamID, lsn uint64) (stand, error) {
	s := r.store
	if st, known := r.stands[stream]; known {
		if at, err := s.place(stream, st.head.version()+1); err == nil && at == lsn {
			return st, nil
		}
	}
	head, err := s.head(stream)
	if err != nil {
		return stand{}, err
	}
	version, err := searchLast(head.version(), func(v uint64) (bool, error) {
		at, err := s.place(stream, v)
		return at <= lsn, err
	})
	if err != nil {
		return stand{}, err
	}
	if version == 0 {
		return stand{}, fmt.Errorf("%w: by the index stream %s has no event there", eventstore.ErrCorrupt, stream)
	}
	if at, err := s.place(stream, version); err != nil || at != lsn {
		return stand{}, errors.Join(err, fmt.Errorf("%w: by the index stream %s has no event there", eventstore.ErrCorrupt, stream))
	}
	if version == 1 {
		return stand{}, nil
	}
	return r.comeTo(stream, version-1)
}

// comeTo returns what a stream had come to with its event of a version, in the order of the log.
func (r *refiller) comeTo(stream eventstore.StreamID, version uint64) (st stand, err error) {
	s := r.store
	lsn, err := s.place(stream, version)
	if err != nil {
		return st, err
	}
	first, note, err := r.event(lsn)
	if err != nil {
		return st, err
	}
	if st.head = note.head(); first.Stream != stream || st.head.version() != version {
		return st, fmt.Errorf("stream %s: %w: the index names lsn %d as its event %d", stream, eventstore.ErrCorrupt, lsn, version)
	}
	// The last event in canonical order is the last one that was put behind all others.
	for e := (putEvent{eventTop{first.HLC, first.Dot.Log}, stream, first.Revises}); ; version-- {
		if !e.revises || version == 1 {
			st.top = e.eventTop
			return st, nil
		}
		if lsn, err = s.place(stream, version-1); err != nil {
			return st, err
		}
		var put bool
		if e, put = r.put[lsn]; !put {
			before, _, err := r.event(lsn)
			if err != nil {
				return st, err
			}
			e = putEvent{eventTop{before.HLC, before.Dot.Log}, before.Stream, before.Revises}
		}
		if e.stream != stream {
			return st, fmt.Errorf("stream %s: %w: the index names lsn %d as its event %d", stream, eventstore.ErrCorrupt, lsn, version-1)
		}
	}
}

// event reads an event that is not lost, and its note.
func (r *refiller) event(lsn uint64) (e eventstore.Recorded, note eventNote, err error) {
	b, err := r.blockAt(lsn)
	if err != nil {
		return e, 0, err
	}
	i := int(lsn - b.first)
	frame, err := b.frame(i)
	if err == nil {
		err = b.decode(&e, i, frame, r.store.id.Incarnation)
	}
	note = b.noteOf(i, &e)
	return e, note, err
}
