package pebblestore

import (
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// recent knows what is durable, and keeps what the index does not have yet: places of events by stream and version, and
// requests by id. The committer adds to it, the indexer moves it on, everybody reads it.
//
// It has two generations. The young one is added to. When it is large enough, it becomes the old one, which the indexer
// writes to the index; the old one stays as a cache until the next turn. So nothing leaves memory before it is in the
// index, and a reader that looks here first and in the index second misses nothing.
type recent struct {
	history *history

	mu         sync.RWMutex // guards what follows
	young, old *generation  // old may be nil
	turns      int          // how often the young one became the old one
	heads      headCache    // has nothing but the versions of now
	tags       headCache    // the last places of tags, as of the end of the old generation
	durable    logState
	logs       logHeads
}

// logState says how far the log goes.
type logState struct {
	logHead
	streams uint64
}

// generation is the content of a stretch of the log, as the index has it.
type generation struct {
	streams  digestMap[int32] // the number of its run, from 1
	runs     []streamRun
	requests digestMap[requestPlace]
	terms    termRuns
	events   int
	end      logState // of the stretch
	// others has the places of the events of other logs, logs how far all were at the end.
	others map[eventstore.LogID]*logRun
	logs   logHeads
}

// streamRun is the places of a stream's events from a version on.
type streamRun struct {
	stream  eventstore.StreamID
	first   uint64   // version
	lsn     uint64   // of the first event: most often there is but one
	more    []uint64 // lsns of the others
	revised bool     // streamHead.revised at its end
}

func (r *streamRun) version() uint64 { return r.first + uint64(len(r.more)) }

// head returns what the stream came to with the run.
func (r *streamRun) head() streamHead {
	h := streamHead(r.version())
	if r.revised {
		h |= revisedHead
	}
	return h
}

// appendTo appends the lsns of the events of versions from to to.
func (r *streamRun) appendTo(dst []uint64, from, to uint64) []uint64 {
	if from == r.first {
		dst = append(dst, r.lsn)
		from++
	}
	return append(dst, r.more[from-r.first-1:to-r.first]...)
}

// newGeneration returns an empty generation with room for as much as another one has.
func newGeneration(like *generation) *generation {
	return &generation{
		streams:  newDigestMap[int32](like.streams.len()),
		runs:     make([]streamRun, 0, len(like.runs)),
		requests: newDigestMap[requestPlace](like.requests.len()),
		terms:    termRuns{runs: map[term]*termRun{}},
	}
}

// stream returns a stream's places, nil when there are none. It is valid until the generation grows.
func (g *generation) stream(k headKey) *streamRun {
	if g == nil {
		return nil
	}
	i, known := g.streams.get(k)
	if !known {
		return nil
	}
	return &g.runs[i-1]
}

// keyedBatch is events that were appended together, with the digests of their streams, in their order, and of their
// request.
type keyedBatch struct {
	records []eventstore.Recorded
	streams []headKey
	request requestDigests
	notes   []eventNote // of the records; nil when they need none
}

// foreign reports whether the batch is of another log.
func (b *keyedBatch) foreign() bool { return len(b.notes) > 0 && b.notes[0].has(noteForeign) }

// repeats reports whether the batch is of a request that another batch was recorded of before.
func (b *keyedBatch) repeats() bool { return len(b.notes) > 0 && b.notes[0].has(noteRepeats) }

// keyed takes a batch as it was read, and the notes of its events, which may be nil.
func keyed(records []eventstore.Recorded, notes []eventNote) keyedBatch {
	b := keyedBatch{records: records, notes: notes, request: requestKey{records[0].Stream.Tenant, records[0].CommandID}.digests()}
	for i := range records {
		if i == 0 || records[i].Stream != records[i-1].Stream {
			b.streams = append(b.streams, headKeyOf(records[i].Stream))
		}
	}
	return b
}

func newRecent(h *history, from logState, cachedHeads int) *recent {
	r := &recent{history: h, young: newGeneration(&generation{}), durable: from, heads: newHeadCache(cachedHeads), tags: newHeadCache(cachedHeads / 2)}
	r.young.end = from
	return r
}

// add makes whole batches durable that follow what was. It is called by Open, and then by the committer alone.
func (r *recent) add(batches []keyedBatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	others := len(r.logs) > 0
	for i := range batches {
		r.young.add(&batches[i], &r.durable, &r.heads)
		others = others || batches[i].foreign()
	}
	r.durable.logHead = r.history.onward(r.durable.logHead)
	r.young.end = r.durable
	if others {
		r.logs = r.logs.with(batches)
		r.young.logs = r.logs
	}
}

// learn keeps how far a log is held, unless that is known already.
func (r *recent) learn(head eventstore.LogHead) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, found := r.logs.find(head.Log); !found {
		r.logs = append(logHeads(nil), r.logs...).put(head)
		r.young.logs = r.logs
	}
}

// known returns how far logs are held, as far as they are known here, and how far the log is durable.
func (r *recent) known() (logHeads, logState) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.logs, r.durable
}

// add takes a batch, moves state on to its end, and heads to the versions that its streams have come to.
func (g *generation) add(batch *keyedBatch, state *logState, heads *headCache) {
	stream := -1 // place in batch.streams
	var run *streamRun
	for i := range batch.records {
		e := &batch.records[i]
		head := streamHead(e.Version)
		if batch.notes != nil {
			head = batch.notes[i].head()
		}
		if i > 0 && e.Stream == batch.records[i-1].Stream {
			run.more = append(run.more, e.Position.LSN)
		} else {
			stream++
			run = g.place(batch.streams[stream], e, head.version())
		}
		if head.version() == 1 {
			state.streams++
		}
		run.revised = run.revised || head.revised()
		g.terms.add(e)
		if i+1 == len(batch.records) || batch.records[i+1].Stream != e.Stream {
			heads.put(batch.streams[stream], uint64(head))
		}
	}
	first, last := &batch.records[0], &batch.records[len(batch.records)-1]
	if first.CommandID != "" && !batch.repeats() {
		g.requests.put(batch.request.key, requestPlace{batch.request.hash, first.Position.LSN})
	}
	g.events += len(batch.records)
	if batch.foreign() {
		g.addOther(batch.records)
		state.lsn = last.Position.LSN
		return
	}
	state.logHead = logHead{lsn: last.Position.LSN, seq: last.Dot.Seq, chain: last.Chain}
}

// place adds an event, which the stream comes to a version with, to its stream's run, which it returns.
func (g *generation) place(k headKey, e *eventstore.Recorded, version uint64) *streamRun {
	i := g.streams.at(k)
	if *i == 0 {
		g.runs = append(g.runs, streamRun{stream: e.Stream, first: version, lsn: e.Position.LSN})
		*i = int32(len(g.runs))
		return &g.runs[*i-1]
	}
	run := &g.runs[*i-1]
	run.more = append(run.more, e.Position.LSN)
	return run
}

// state returns how far the log is durable.
func (r *recent) state() logState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.durable
}

// head returns what a stream has come to, if it is known here. If it is not, the index has it, and turns is for remember.
func (r *recent) head(s eventstore.StreamID) (head streamHead, known bool, turns int) {
	k := headKeyOf(s)
	r.mu.RLock()
	defer r.mu.RUnlock()
	head, known = r.headLocked(k)
	return head, known, r.turns
}

func (r *recent) headLocked(k headKey) (head streamHead, known bool) {
	if head, known := r.heads.get(k); known {
		return streamHead(head), true
	}
	if run := r.young.stream(k); run != nil {
		return run.head(), true
	}
	if run := r.old.stream(k); run != nil {
		return run.head(), true
	}
	return 0, false
}

// remember keeps a head that was found in the index after a look here at turns. It does not when the stream may have
// got events since.
func (r *recent) remember(s eventstore.StreamID, head streamHead, turns int) {
	if head == 0 { // streams that do not exist would drive out those that do
		return
	}
	k := headKeyOf(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turns != turns { // events that came since may be in the index by now, and the look there was before them
		return
	}
	if _, known := r.headLocked(k); !known {
		r.heads.put(k, uint64(head))
	}
}

// request returns where the batch of a request begins, if it is known here.
func (r *recent) request(k headKey) (lsn uint64, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p, known := r.young.requests.get(k)
	if !known && r.old != nil {
		p, known = r.old.requests.get(k)
	}
	return p.lsn, known
}

// places returns the lsns of the stream's events of versions from to to, as far as they are known here: those from the
// version first on.
func (r *recent) places(s eventstore.StreamID, from, to uint64) (first uint64, lsns []uint64) {
	k := headKeyOf(s)
	r.mu.RLock()
	defer r.mu.RUnlock()
	first = to + 1
	for _, g := range []*generation{r.old, r.young} {
		run := g.stream(k)
		if run == nil {
			continue
		}
		begin, end := max(from, run.first), min(to, run.version())
		if begin > end {
			continue
		}
		first = min(first, begin)
		lsns = run.appendTo(lsns, begin, end)
	}
	return first, lsns
}

// turn makes the young generation the old one and returns it. REQUIRES: the old one is in the index.
func (r *recent) turn() *generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.old = r.young
	r.turns++
	r.young = newGeneration(r.old)
	r.young.end, r.young.logs = r.old.end, r.old.logs
	return r.old
}

// unindexed returns how many events the young generation holds.
func (r *recent) unindexed() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.young.events
}
