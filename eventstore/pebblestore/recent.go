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
	mu         sync.RWMutex // guards what follows
	young, old *generation  // old may be nil
	durable    logState
}

// logState says how far the log goes.
type logState struct {
	logHead
	streams uint64
}

// generation is the content of a stretch of the log, as the index has it.
type generation struct {
	streams  map[eventstore.StreamID]*streamRun
	requests map[requestKey]requestEntry
	events   int
	end      logState // of the stretch
}

// streamRun is the places of a stream's events from a version on.
type streamRun struct {
	first uint64 // version
	lsns  []uint64
}

func (r *streamRun) version() uint64 { return r.first + uint64(len(r.lsns)) - 1 }

func newGeneration(size int) *generation {
	return &generation{
		streams:  make(map[eventstore.StreamID]*streamRun, size),
		requests: make(map[requestKey]requestEntry, size),
	}
}

func newRecent(from logState) *recent {
	r := &recent{young: newGeneration(0), durable: from}
	r.young.end = from
	return r
}

// add makes whole batches durable that follow what was. It is called by Open, and then by the committer alone.
func (r *recent) add(batches [][]eventstore.Recorded) (unindexed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, batch := range batches {
		r.young.add(batch, &r.durable)
	}
	r.young.end = r.durable
	return r.young.events
}

func (g *generation) add(batch []eventstore.Recorded, state *logState) {
	var run *streamRun
	for i := range batch {
		e := &batch[i]
		if i == 0 || e.Stream != batch[i-1].Stream {
			run = g.streams[e.Stream]
		}
		if run == nil {
			run = &streamRun{first: e.Version}
			g.streams[e.Stream] = run
		}
		run.lsns = append(run.lsns, e.Position.LSN)
		if e.Version == 1 {
			state.streams++
		}
	}
	first, last := &batch[0], &batch[len(batch)-1]
	if first.CommandID != "" {
		g.requests[requestKey{first.Stream.Tenant, first.CommandID}] = requestEntry{first.RequestHash, first.Position.LSN, uint32(len(batch))}
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

// head returns the version of a stream, if it is known here.
func (r *recent) head(s eventstore.StreamID) (version uint64, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.headLocked(s)
}

func (r *recent) headLocked(s eventstore.StreamID) (version uint64, known bool) {
	if run := r.young.streams[s]; run != nil {
		return run.version(), true
	}
	if r.old != nil {
		if run := r.old.streams[s]; run != nil {
			return run.version(), true
		}
	}
	return 0, false
}

// request returns what is known here of a request.
func (r *recent) request(k requestKey) (e requestEntry, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.requestLocked(k)
}

func (r *recent) requestLocked(k requestKey) (e requestEntry, known bool) {
	if e, known = r.young.requests[k]; !known && r.old != nil {
		e, known = r.old.requests[k]
	}
	return e, known
}

// places returns the lsns of the stream's events of versions from to to, as far as they are known here: those from the
// version first on.
func (r *recent) places(s eventstore.StreamID, from, to uint64) (first uint64, lsns []uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	first = to + 1
	for _, g := range []*generation{r.old, r.young} {
		if g == nil || g.streams[s] == nil {
			continue
		}
		run := g.streams[s]
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
