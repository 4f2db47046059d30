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
}

// logState says how far the log goes.
type logState struct {
	logHead
	streams uint64
}

// generation is the content of a stretch of the log, as the index has it.
type generation struct {
	streams  map[headKey]*streamRun
	requests map[requestKey]uint64 // lsn of its first event
	terms    termRuns
	events   int
	end      logState // of the stretch
}

// streamRun is the places of a stream's events from a version on.
type streamRun struct {
	stream eventstore.StreamID
	first  uint64 // version
	lsns   []uint64
	one    [1]uint64 // memory of lsns as long as there is one: most often there is
}

func (r *streamRun) version() uint64 { return r.first + uint64(len(r.lsns)) - 1 }

func newGeneration(size int) *generation {
	return &generation{
		streams:  make(map[headKey]*streamRun, size),
		requests: make(map[requestKey]uint64, size),
		terms:    termRuns{runs: map[term]*termRun{}},
	}
}

func newRecent(h *history, from logState, cachedHeads int) *recent {
	r := &recent{history: h, young: newGeneration(0), durable: from, heads: newHeadCache(cachedHeads), tags: newHeadCache(cachedHeads / 2)}
	r.young.end = from
	return r
}

// add makes whole batches durable that follow what was. It is called by Open, and then by the committer alone.
func (r *recent) add(batches [][]eventstore.Recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, batch := range batches {
		r.young.add(batch, &r.durable, r.heads.put)
	}
	r.durable.logHead = r.history.onward(r.durable.logHead)
	r.young.end = r.durable
}

// add takes a batch, moves state on to its end, and calls head with the version that each of its streams has come to.
func (g *generation) add(batch []eventstore.Recorded, state *logState, head func(k headKey, version uint64)) {
	var k headKey
	var run *streamRun
	for i := range batch {
		e := &batch[i]
		if i == 0 || e.Stream != batch[i-1].Stream {
			k = headKeyOf(e.Stream)
			run = g.streams[k]
		}
		if run == nil {
			run = &streamRun{stream: e.Stream, first: e.Version}
			run.lsns = run.one[:0]
			g.streams[k] = run
		}
		run.lsns = append(run.lsns, e.Position.LSN)
		if e.Version == 1 {
			state.streams++
		}
		g.terms.add(e)
		if i+1 == len(batch) || batch[i+1].Stream != e.Stream {
			head(k, e.Version)
		}
	}
	first, last := &batch[0], &batch[len(batch)-1]
	if first.CommandID != "" {
		g.requests[requestKey{first.Stream.Tenant, first.CommandID}] = first.Position.LSN
	}
	g.events += len(batch)
	state.logHead = logHead{lsn: last.Position.LSN, seq: last.Dot.Seq, chain: last.Chain}
}

// state returns how far the log is durable.
func (r *recent) state() logState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.durable
}

// head returns the version of a stream, if it is known here. If it is not, the index has it, and turns is for remember.
func (r *recent) head(s eventstore.StreamID) (version uint64, known bool, turns int) {
	k := headKeyOf(s)
	r.mu.RLock()
	defer r.mu.RUnlock()
	version, known = r.headLocked(k)
	return version, known, r.turns
}

func (r *recent) headLocked(k headKey) (version uint64, known bool) {
	if version, known = r.heads.get(k); known {
		return version, true
	}
	if run := r.young.streams[k]; run != nil {
		return run.version(), true
	}
	if r.old != nil {
		if run := r.old.streams[k]; run != nil {
			return run.version(), true
		}
	}
	return 0, false
}

// remember keeps a version that was found in the index after a look here at turns. It does not when the stream may have
// got events since.
func (r *recent) remember(s eventstore.StreamID, version uint64, turns int) {
	if version == 0 { // streams that do not exist would drive out those that do
		return
	}
	k := headKeyOf(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turns != turns { // events that came since may be in the index by now, and the look there was before them
		return
	}
	if _, known := r.headLocked(k); !known {
		r.heads.put(k, version)
	}
}

// request returns where the batch of a request begins, if it is known here.
func (r *recent) request(k requestKey) (lsn uint64, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if lsn, known = r.young.requests[k]; !known && r.old != nil {
		lsn, known = r.old.requests[k]
	}
	return lsn, known
}

// places returns the lsns of the stream's events of versions from to to, as far as they are known here: those from the
// version first on.
func (r *recent) places(s eventstore.StreamID, from, to uint64) (first uint64, lsns []uint64) {
	k := headKeyOf(s)
	r.mu.RLock()
	defer r.mu.RUnlock()
	first = to + 1
	for _, g := range []*generation{r.old, r.young} {
		if g == nil || g.streams[k] == nil {
			continue
		}
		run := g.streams[k]
		begin, end := max(from, run.first), min(to, run.version())
		if begin > end {
			continue
		}
		first = min(first, begin)
		lsns = append(lsns, run.lsns[begin-run.first:end-run.first+1]...)
	}
	return first, lsns
}

// turn makes the young generation the old one and returns it. REQUIRES: the old one is in the index.
func (r *recent) turn() *generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.old = r.young
	r.turns++
	r.young = newGeneration(len(r.old.streams))
	r.young.end = r.old.end
	return r.old
}

// unindexed returns how many events the young generation holds.
func (r *recent) unindexed() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.young.events
}
