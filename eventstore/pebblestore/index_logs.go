package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// logHeads says how far logs are held, in the order of LogID.Compare: those of which events were received, and the store's own
// once there are such. It never changes.
type logHeads []eventstore.LogHead

// of returns how far a log is held; found is false when it is none of them.
func (h logHeads) of(log eventstore.LogID) (head eventstore.LogHead, found bool) {
	i, found := h.find(log)
	if !found {
		return eventstore.LogHead{Log: log, Chain: eventstore.ChainStart(log)}, false
	}
	return h[i], true
}

func (h logHeads) find(log eventstore.LogID) (i int, found bool) {
	return slices.BinarySearchFunc(h, log, func(h eventstore.LogHead, log eventstore.LogID) int { return h.Log.Compare(log) })
}

// with returns the heads after batches that follow.
func (h logHeads) with(batches []keyedBatch) logHeads {
	next := slices.Clone(h)
	for i := range batches {
		last := &batches[i].records[len(batches[i].records)-1]
		next = next.put(eventstore.LogHead{Log: last.Dot.Log, Seq: last.Dot.Seq, HLC: last.HLC, Chain: last.Chain})
	}
	return next
}

// put sets a head in place.
func (h logHeads) put(head eventstore.LogHead) logHeads {
	i, found := h.find(head.Log)
	if !found {
		return slices.Insert(h, i, head)
	}
	h[i] = head
	return h
}

// latest returns the time of the last event of them all.
func (h logHeads) latest() (at hlc.Timestamp) {
	for i := range h {
		at = max(at, h[i].HLC)
	}
	return at
}

// logRun is the places of another log's events from a seq on.
type logRun struct {
	first uint64 // seq
	lsns  []uint64
}

// addOther adds events of another log that follow each other.
func (g *generation) addOther(events []eventstore.Recorded) {
	if g.others == nil {
		g.others = map[eventstore.LogID]*logRun{}
	}
	log := events[0].Dot.Log
	run := g.others[log]
	if run == nil {
		run = &logRun{first: events[0].Dot.Seq}
		g.others[log] = run
	}
	for i := range events {
		run.lsns = append(run.lsns, events[i].Position.LSN)
	}
}

// logKey is the key of how far a log is held.
func logKey(log eventstore.LogID) []byte { return appendLogID([]byte{headPrefix}, log) }

// appendLogRunKey appends the key of the run of a log's events that begins at a seq.
func appendLogRunKey(dst []byte, log eventstore.LogID, first uint64) []byte {
	return binary.BigEndian.AppendUint64(appendLogID(append(dst, logPrefix), log), ^first)
}

const logHeadBytes = 8 + 8 + 32

// writeLogs calls set with what a generation knows of logs.
func (g *generation) writeLogs(set func(key, value []byte) error) error {
	for _, h := range g.logs {
		value := binary.BigEndian.AppendUint64(nil, h.Seq)
		value = binary.BigEndian.AppendUint64(value, uint64(h.HLC))
		if err := set(logKey(h.Log), append(value, h.Chain[:]...)); err != nil {
			return err
		}
	}
	var key, value []byte
	for _, log := range slices.SortedFunc(maps.Keys(g.others), eventstore.LogID.Compare) {
		run := g.others[log]
		for i := 0; i < len(run.lsns); i += maxRun {
			key = appendLogRunKey(key[:0], log, run.first+uint64(i))
			value = appendRun(value[:0], run.lsns[i:min(i+maxRun, len(run.lsns))])
			if err := set(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// logHeads returns how far the index has each log.
func (x *index) logHeads() (heads logHeads, err error) {
	if err := x.hold(); err != nil {
		return nil, err
	}
	defer x.letGo()
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: []byte{headPrefix}, UpperBound: []byte{headPrefix + 1}})
	if err != nil {
		return nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	for valid := it.First(); valid && err == nil; valid = it.Next() {
		var h eventstore.LogHead
		if h, err = parseLogHead(it); err == nil {
			heads = heads.put(h)
		}
	}
	if err := errors.Join(err, corrupted(it.Error()), it.Close()); err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return heads, nil
}

func parseLogHead(it *pebble.Iterator) (h eventstore.LogHead, err error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return h, corrupted(err)
	}
	log, rest, ok := cutLogID(it.Key()[1:])
	if !ok || len(rest) > 0 || len(value) != logHeadBytes {
		return h, fmt.Errorf("%w: value of key %q is %x", eventstore.ErrCorrupt, it.Key(), value)
	}
	h = eventstore.LogHead{Log: log, Seq: binary.BigEndian.Uint64(value), HLC: hlc.Timestamp(binary.BigEndian.Uint64(value[8:]))}
	copy(h.Chain[:], value[16:])
	return h, nil
}

// logPlaces returns the lsns of a log's events from one seq to another. Errors match eventstore.ErrCorrupt when the index does
// not have them all.
func (x *index) logPlaces(log eventstore.LogID, from, to uint64) (lsns []uint64, err error) {
	if from > to {
		return nil, nil
	}
	if err := x.hold(); err != nil {
		return nil, err
	}
	defer x.letGo()
	lower := appendLogID([]byte{logPrefix}, log)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: append(appendLogRunKey(nil, log, 0), 0)})
	if err != nil {
		return nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	defer it.Close()
	lsns = make([]uint64, to-from+1)
	missing := to // all after it are found
	for valid := it.SeekGE(appendLogRunKey(nil, log, to)); valid && missing >= from; valid = it.Next() {
		run, err := parseLogRun(it, len(lower))
		if err != nil {
			return nil, err
		}
		end := run.first + uint64(len(run.lsns)) - 1
		if run.first > missing || end < missing {
			break
		}
		first := max(from, run.first)
		copy(lsns[first-from:], run.lsns[first-run.first:missing-run.first+1])
		missing = first - 1
	}
	if err := it.Error(); err != nil {
		return nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	if missing >= from {
		return nil, fmt.Errorf("read index: %w: %s, seq %d is missing", eventstore.ErrCorrupt, log, missing)
	}
	return lsns, nil
}

func parseLogRun(it *pebble.Iterator, prefix int) (run logRun, err error) {
	key := it.Key()
	value, err := it.ValueAndErr()
	if err != nil {
		return run, fmt.Errorf("read index: %w", corrupted(err))
	}
	ok := len(key) == prefix+8
	if ok {
		run.first = ^binary.BigEndian.Uint64(key[prefix:])
		run.lsns, ok = parseRun(nil, value)
	}
	if !ok || len(run.lsns) == 0 || run.first == 0 {
		return run, fmt.Errorf("read index: %w: value of key %q is %x", eventstore.ErrCorrupt, key, value)
	}
	return run, nil
}

// logPlaces returns the lsns of a log's events from one seq to another, as far as they are known here: those from the seq
// first on.
func (r *recent) logPlaces(log eventstore.LogID, from, to uint64) (first uint64, lsns []uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	first = to + 1
	for _, g := range []*generation{r.old, r.young} {
		if g == nil || g.others[log] == nil {
			continue
		}
		run := g.others[log]
		begin, end := max(from, run.first), min(to, run.first+uint64(len(run.lsns))-1)
		if begin > end {
			continue
		}
		first = min(first, begin)
		lsns = append(lsns, run.lsns[begin-run.first:end-run.first+1]...)
	}
	return first, lsns
}

// otherPlaces returns the lsns of the events of another log from one seq to another. REQUIRES: they were received, and are
// durable.
func (s *Store) otherPlaces(log eventstore.LogID, from, to uint64) ([]uint64, error) {
	first, latest := s.recent.logPlaces(log, from, to) // before the index, since entries move from there to it
	indexed, err := s.index.logPlaces(log, from, first-1)
	if err != nil {
		return nil, err
	}
	return slices.Concat(indexed, latest), nil
}

// placesBetween returns which events of a log stand between two lsns, as far as the index has them: their places, and the seq of the
// first.
func (x *index) placesBetween(log eventstore.LogID, from, to uint64) (seq uint64, lsns []uint64, err error) {
	if err := x.hold(); err != nil {
		return 0, nil, err
	}
	defer x.letGo()
	lower := appendLogID([]byte{logPrefix}, log)
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: append(appendLogRunKey(nil, log, 0), 0)})
	if err != nil {
		return 0, nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	defer it.Close()
	for valid := it.First(); valid; valid = it.Next() { // the last run comes first
		run, err := parseLogRun(it, len(lower))
		if err != nil {
			return 0, nil, err
		}
		first, some := run.between(from, to)
		if len(some) > 0 {
			seq, lsns = first, append(some, lsns...)
		} else if len(lsns) > 0 {
			break
		}
	}
	if err := it.Error(); err != nil {
		return 0, nil, fmt.Errorf("read index: %w", corrupted(err))
	}
	return seq, lsns, nil
}

// between returns the places of the run between two lsns, in memory of their own, and the seq of the first.
func (r *logRun) between(from, to uint64) (seq uint64, lsns []uint64) {
	begin, _ := slices.BinarySearch(r.lsns, from)
	end, _ := slices.BinarySearch(r.lsns, to+1)
	return r.first + uint64(begin), slices.Clone(r.lsns[begin:end])
}

// placesBetween returns which events of a log stand between two lsns, as far as they are known here.
func (r *recent) placesBetween(log eventstore.LogID, from, to uint64) (seq uint64, lsns []uint64) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, g := range []*generation{r.old, r.young} {
		if g == nil || g.others[log] == nil {
			continue
		}
		first, some := g.others[log].between(from, to)
		if len(lsns) == 0 {
			seq = first
		}
		lsns = append(lsns, some...)
	}
	return seq, lsns
}

// otherPlacesBetween returns which events of another log stand between two lsns: their places, and the seq of the first. REQUIRES:
// the databases are held.
func (s *Store) otherPlacesBetween(log eventstore.LogID, from, to uint64) (seq uint64, lsns []uint64, err error) {
	later, latest := s.recent.placesBetween(log, from, to) // before the index, since entries move from there to it
	seq, lsns, err = s.index.placesBetween(log, from, to)
	switch {
	case err != nil || len(latest) == 0:
		return seq, lsns, err
	case len(lsns) == 0:
		return later, latest, nil
	case seq+uint64(len(lsns)) < later || later < seq:
		return 0, nil, fmt.Errorf("read index: %w: %s, seq %d is missing", eventstore.ErrCorrupt, log, later-1)
	}
	return seq, append(lsns[:later-seq], latest...), nil
}
