package pebblestore

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// group is what is committed with one sync: blocks of events, the requests they came from, and answers that may be given
// only once this group and all before it are durable.
type group struct {
	blocks  *pebble.Batch
	writer  blockWriter
	batches []*pending   // accepted
	keyed   []keyedBatch // of them, while they are published
	events  int
	bytes   int
	answers []answer
	err     error // why it was not written
}

// answer is what a request gets that the sequencer did not accept.
type answer struct {
	p       *pending
	receipt eventstore.Receipt
	err     error
}

func (g *group) empty() bool { return len(g.batches) == 0 && len(g.answers) == 0 }

// newGroup returns an empty group, a used one if there is one.
func (s *Store) newGroup() *group {
	var g *group
	select {
	case g = <-s.spare:
	default:
		g = &group{}
	}
	g.blocks = s.log.NewBatch(pebble.WithInitialSizeBytes(4*blockBytes), pebble.WithMaxRetainedSizeBytes(4<<20))
	return g
}

// recycle keeps the group's memory for a later one.
func (s *Store) recycle(g *group) {
	_ = g.blocks.Close() // of a batch that was committed, or is empty
	clear(g.batches)
	clear(g.answers)
	clear(g.keyed)
	w := blockWriter{buf: g.writer.buf[:0], ends: g.writer.ends[:0], notes: g.writer.notes[:0], logs: g.writer.logs[:0]}
	*g = group{writer: w, batches: g.batches[:0], keyed: g.keyed[:0], answers: g.answers[:0]}
	if cap(g.writer.buf) > 8*blockBytes {
		g.writer.buf = nil
	}
	select {
	case s.spare <- g:
	default:
	}
}

// seal moves the finished block to the batch.
func (g *group) seal() {
	if len(g.writer.ends) == 0 {
		return
	}
	b := g.writer.seal()
	op := g.blocks.SetDeferred(9, len(b))
	copy(op.Key, blockKey(g.writer.first+uint64(len(g.writer.ends))-1))
	copy(op.Value, b)
	_ = op.Finish() // fails only for batches with an index
	g.writer.ends = g.writer.ends[:0]
}

// commit is the committer: it makes groups durable, in order, and answers their requests.
//
// Once a sync has returned, the next group's is started before the first group is published and answered: the disk does
// not wait for what is only work in memory. Clients come in two crowds by that, and every few groups there is a small one;
// answering first was not seen to be better: docs/adr/0016. Syncs return in order, so one goroutine is enough for both.
func (s *Store) commit(groups <-chan *group) {
	var next *group
	for {
		g := next
		if g == nil {
			var open bool
			if g, open = <-groups; !open {
				return
			}
			s.start(g)
		}
		s.wait(g)
		select {
		case next = <-groups:
			if next != nil { // nil: closed, which the receive above will see
				s.start(next)
			}
		default:
			next = nil
		}
		s.finish(g)
		s.indexer.hold()
	}
}

// start writes the group to the log, without waiting for the disk.
func (s *Store) start(g *group) {
	g.seal()
	if len(g.batches) == 0 {
		return
	}
	if g.err = s.failed(); g.err != nil {
		return
	}
	s.stall.begin()
	if err := s.log.ApplyNoSyncWait(g.blocks, pebble.Sync); err != nil {
		g.err = s.fail(err)
		s.stall.end()
	}
}

// wait waits until the group is durable. A failed sync ends the process: what the disk has is not known any more, and
// Pebble, which ends it in all other ways of committing, leaves this one to its caller.
func (s *Store) wait(g *group) {
	switch {
	case g.err != nil:
	case len(g.batches) == 0:
		g.err = s.failed() // what its answers rest on may have failed
	default:
		if err := g.blocks.SyncWait(); err != nil {
			s.syncFailed(err)
		}
		s.stall.end()
	}
}

// syncFailed ends the process when acknowledgements may rest on the sync that failed: the store is open, and appends are taken.
func (s *Store) syncFailed(err error) {
	if s.committing.Load() {
		s.opts.logger("log").Fatalf("sync of the log: %v", err)
	}
}

// folderGone ends the process when the folder of the store is not there any more.
func (s *Store) folderGone(err error) { s.opts.logger("log").Fatalf("%v", err) }

// fail makes the store read-only: numbers were given that the log does not have, so nothing can be accepted any more.
func (s *Store) fail(err error) error {
	fault := fmt.Errorf("%w: the log could not be written; look at its disk, then start again: %w", eventstore.ErrReadOnly, err)
	s.readOnly.Store(&fault)
	s.opts.Logger.Error("the store takes no more writes", "error", fault)
	return fault
}

// finish publishes a durable group and answers its requests; those of a group that failed are told why.
func (s *Store) finish(g *group) {
	if g.err != nil {
		for _, p := range g.batches {
			p.answer(eventstore.Receipt{}, g.err)
		}
		for _, a := range g.answers {
			a.p.answer(eventstore.Receipt{}, g.err)
		}
		return
	}
	if len(g.batches) > 0 {
		s.publish(g)
	}
	for _, p := range g.batches {
		p.finish()
	}
	for _, a := range g.answers {
		a.p.answer(a.receipt, a.err)
	}
	s.recycle(g)
}

// publish lets everybody see what has become durable.
func (s *Store) publish(g *group) {
	batches := make([][]eventstore.Recorded, 0, len(g.batches))
	received := false
	for _, p := range g.batches {
		if p.received != nil {
			received = true
			g.keyed, batches = p.received.each(p, g.keyed, batches)
			continue
		}
		batches = append(batches, p.records)
		g.keyed = append(g.keyed, keyedBatch{p.records, p.keys, p.digests, p.notes})
	}
	s.recent.add(g.keyed)
	if received {
		s.know()
	}
	state := s.recent.state()
	s.durable.Store(state.lsn)
	s.tail.add(batches, state)
	s.indexer.notify()
}
