package pebblestore

import (
	"slices"
	"sync"

	"github.com/tributary-es/tributary/eventstore"
)

// tail keeps the last events of the log in memory, as the sequencer made them: subscribers that keep up never read from
// disk, and nothing is decoded. All subscribers share it. What falls out of it is read from disk; nobody waits for them.
type tail struct {
	limit int // bytes

	mu      sync.RWMutex // guards what follows
	batches [][]eventstore.Recorded
	bytes   int
	durable logState

	crowd     *crowd
	stretches stretches
}

func newTail(limit int, durable logState) *tail {
	return &tail{limit: limit, durable: durable, crowd: newCrowd(durable.lsn)}
}

// add appends whole batches that are durable now, up to the given state.
func (t *tail) add(batches [][]eventstore.Recorded, durable logState) {
	t.keep(batches, durable)
	t.crowd.grow(durable.lsn)
}

func (t *tail) keep(batches [][]eventstore.Recorded, durable logState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range batches {
		t.batches = append(t.batches, b)
		t.bytes += batchBytes(b)
	}
	drop := 0
	for t.bytes > t.limit && drop < len(t.batches) {
		t.bytes -= batchBytes(t.batches[drop])
		t.batches[drop] = nil
		drop++
	}
	t.batches = t.batches[drop:]
	t.durable = durable
}

// state returns how far the log is durable.
func (t *tail) state() logState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.durable
}

// batchBytes is about how much memory a batch takes.
func batchBytes(batch []eventstore.Recorded) int {
	n := 0
	for i := range batch {
		n += recordedBytes + len(batch[i].Payload)
	}
	return n
}

// recordedBytes is about the size of a Recorded with its names.
const recordedBytes = 640

// after returns batches that follow an lsn, up to about most events or bytes, and how far the log is durable. Nothing means
// that they are on disk only, unless the lsn is durable itself. The first batch may begin before the lsn.
func (t *tail) after(lsn uint64, most, mostBytes int) ([][]eventstore.Recorded, logState) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, ok := t.find(lsn + 1)
	if !ok {
		return nil, t.durable
	}
	end, events, bytes := i, 0, 0
	for ; end < len(t.batches) && events < most && bytes < mostBytes; end++ {
		events += len(t.batches[end])
		bytes += batchBytes(t.batches[end])
	}
	return slices.Clone(t.batches[i:end]), t.durable
}

// find returns the place of the batch that holds an event. REQUIRES: mu is held.
func (t *tail) find(lsn uint64) (i int, ok bool) {
	i, ok = slices.BinarySearchFunc(t.batches, lsn, func(b []eventstore.Recorded, lsn uint64) int {
		switch {
		case b[len(b)-1].Position.LSN < lsn:
			return -1
		case b[0].Position.LSN > lsn:
			return 1
		}
		return 0
	})
	return i, ok
}

// get sets *e to the event at an lsn, without its chain, if it is here.
func (t *tail) get(e *eventstore.Recorded, lsn uint64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.batches) == 0 || lsn < t.batches[0][0].Position.LSN {
		return false
	}
	i, ok := t.find(lsn)
	if ok {
		b := t.batches[i]
		*e = b[lsn-b[0].Position.LSN]
		e.Chain = eventstore.Hash{}
	}
	return ok
}

// oldest returns the lsn from which on events are here.
func (t *tail) oldest() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.batches) == 0 {
		return t.durable.lsn + 1
	}
	return t.batches[0][0].Position.LSN
}
