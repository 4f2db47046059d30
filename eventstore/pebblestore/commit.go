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
	batches []*pending // accepted
	events  int
	bytes   int
	answers []answer
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
	*g = group{writer: blockWriter{buf: g.writer.buf[:0], ends: g.writer.ends[:0]}, batches: g.batches[:0], answers: g.answers[:0]}
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
func (s *Store) commit(groups <-chan *group) {
	var batches [][]eventstore.Recorded
	for g := range groups {
		g.seal()
		if len(g.batches) > 0 {
			if err := s.sync(g); err != nil {
				s.refuse(g, err)
				continue
			}
			batches = batches[:0]
			for _, p := range g.batches {
				batches = append(batches, p.records)
			}
			s.publish(batches)
		}
		for _, p := range g.batches {
			p.finish()
		}
		for _, a := range g.answers {
			a.p.answer(a.receipt, a.err)
		}
		s.recycle(g)
		s.indexer.hold()
	}
}

// publish lets everybody see what has become durable.
func (s *Store) publish(batches [][]eventstore.Recorded) {
	unindexed := s.recent.add(batches)
	state := s.recent.state()
	s.durable.Store(state.lsn)
	s.tail.add(batches, state)
	s.indexer.notify(unindexed)
}

// sync writes the group to the log and waits for the disk.
func (s *Store) sync(g *group) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := g.blocks.Commit(pebble.Sync); err != nil {
		fault := fmt.Errorf("%w: the log could not be written; look at its disk, then start again: %w", eventstore.ErrReadOnly, err)
		s.readOnly.Store(&fault)
		s.opts.Logger.Error("the store takes no more writes", "error", fault)
		return fault
	}
	return nil
}

// refuse answers a group that was not written. Numbers have been given that the log does not have, so nothing can be
// accepted after it.
func (s *Store) refuse(g *group, err error) {
	for _, p := range g.batches {
		p.answer(eventstore.Receipt{}, err)
	}
	for _, a := range g.answers {
		a.p.answer(eventstore.Receipt{}, err)
	}
}
