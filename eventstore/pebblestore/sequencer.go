package pebblestore

import (
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// sequencer judges requests in the order in which they came, and gives the accepted ones their numbers. It is one
// goroutine; what it knows is its own.
type sequencer struct {
	store    *Store
	accepted *accepted
	head     logHead // of what is accepted
	group    *group
	others   acceptedLogs
}

// run judges until the queue is closed and empty, then closes commits.
//
// While the committer is busy with one group, the next one is built; it is handed over when the committer asks, however
// large it is then. So a group is what came during one sync, and a lone request does not wait.
func (q *sequencer) run(commits chan<- *group) {
	defer close(commits)
	var taken []*pending
	for closed := false; ; {
		out := commits
		if q.group.empty() {
			if closed {
				return
			}
			out = nil
		}
		wake := q.store.queue.wake
		if q.full() || closed {
			wake = nil
		}
		select {
		case out <- q.group:
			q.group = q.store.newGroup()
		case <-wake:
			taken, closed = q.store.queue.take(taken)
			for i, p := range taken {
				if q.full() {
					commits <- q.group
					q.group = q.store.newGroup()
				}
				q.judge(p)
				taken[i] = nil
			}
		}
	}
}

func (q *sequencer) full() bool {
	return q.group.events >= q.store.opts.MaxGroupEvents || q.group.bytes >= q.store.opts.MaxGroupBytes
}

// judge accepts a request into the group, or answers it.
func (q *sequencer) judge(p *pending) {
	if err := p.ctx.Err(); err != nil {
		p.answer(eventstore.Receipt{}, err)
		return
	}
	if p.received != nil {
		q.judgeReceived(p)
		return
	}
	if p.request.ID != "" {
		if earlier, ok := q.accepted.request(p.digests.key); ok {
			receipt, err := repeated(p, earlier.hash, earlier.receipt)
			q.answer(earlier.receipt.Position.LSN, answer{p, receipt, err})
			return
		}
	}
	if p.checked < q.accepted.forgotten {
		if receipt, found, err := q.store.check(p); found || err != nil {
			p.answer(receipt, err)
			return
		}
	}
	if fence := q.store.opts.Fence; fence != nil {
		if err := p.pass(fence); err != nil {
			p.answer(eventstore.Receipt{}, err)
			return
		}
	}
	var conflicts []eventstore.StreamConflict
	restsOn := uint64(0)
	for i := range p.request.Appends {
		a := &p.request.Appends[i]
		if h, ok := q.accepted.head(p.keys[i]); ok {
			p.heads[i] = h.streamHead
			restsOn = max(restsOn, h.lsn)
		}
		if got := p.heads[i].version(); !a.Expect.Holds(got) {
			conflicts = append(conflicts, eventstore.StreamConflict{Stream: a.Stream, Want: a.Expect, Got: got})
		}
	}
	met := q.meets(p)
	if conflicts == nil && met == 0 {
		q.accept(p)
		return
	}
	conflict := &eventstore.ConflictError{Conflicts: conflicts}
	if met > 0 {
		conflict.Condition = q.store.conditionConflict(p, met)
		restsOn = max(restsOn, met)
	}
	q.answer(restsOn, answer{p: p, err: conflict})
}

// meets returns the place of the last event that stands against the request's condition, 0 when there is none.
func (q *sequencer) meets(p *pending) uint64 {
	c := p.request.Condition
	if c == nil {
		return 0
	}
	if at := q.accepted.lastOf(p.request.Tenant, c.Query, max(c.After.LSN, p.met)); at > 0 {
		return at
	}
	return p.met
}

// repeated returns what a request gets whose ID was used before.
func repeated(p *pending, hash eventstore.Hash, original eventstore.Receipt) (eventstore.Receipt, error) {
	if hash != p.request.Hash {
		return eventstore.Receipt{}, fmt.Errorf("request %q: %w", p.request.ID, eventstore.ErrIDReused)
	}
	original.Duplicate = true
	return original, nil
}

// answer gives the answer at once if what it rests on is durable, else with the group.
func (q *sequencer) answer(restsOn uint64, a answer) {
	if restsOn <= q.store.durable.Load() {
		a.p.answer(a.receipt, a.err)
		return
	}
	q.group.answers = append(q.group.answers, a)
}

// room makes the group's writer ready for the next event: one that is to have a note comes into a block that has notes.
func (q *sequencer) room(noted bool) {
	w := &q.group.writer
	if noted && !w.noted && len(w.ends) > 0 {
		q.group.seal()
	}
	if len(w.ends) == 0 {
		w.reset(q.head.lsn+1, q.head.seq, q.head.chain)
		w.noted = noted
	}
}

// accept gives the request's events their numbers and adds them to the group.
func (q *sequencer) accept(p *pending) {
	s, g := q.store, q.group
	batch := eventstore.Batch{FirstSeq: q.head.seq + 1, Count: uint32(len(p.records))}
	at := s.opts.Clock.Take(len(p.records))
	if slices.ContainsFunc(p.heads, streamHead.revised) {
		p.notes = make([]eventNote, 0, len(p.records))
	}
	stream, head := -1, streamHead(0) // place in Appends, and what it has come to
	for i := range p.records {
		r := &p.records[i]
		if i == 0 || r.Stream != p.records[i-1].Stream {
			stream, head = stream+1, 0
			if stream < len(p.heads) {
				head = p.heads[stream]
			}
		}
		head++
		version := head.version()
		q.room(p.notes != nil)
		q.head.lsn++
		q.head.seq++
		r.Position = eventstore.Position{Incarnation: s.id.Incarnation, LSN: q.head.lsn}
		r.Dot = eventstore.Dot{Log: s.id, Seq: q.head.seq}
		r.Batch, r.HLC, r.Version = batch, at+hlc.Timestamp(i), version
		q.head.chain = eventstore.NextChain(q.head.chain, r.Dot.Seq, r.HLC, version, p.hashes[i])
		r.Chain = q.head.chain
		g.writer.add(r, p.content(i))
		if g.writer.noted {
			note := plainNote(version)
			if head.revised() {
				note |= noteRevised
			}
			g.writer.note(note, nil)
			if p.notes != nil {
				p.notes = append(p.notes, note)
			}
		}
		if g.writer.size() >= blockBytes {
			g.seal()
		}
		if i+1 == len(p.records) || p.records[i+1].Stream != r.Stream {
			q.accepted.young.streams.put(p.keys[stream], acceptedHead{head, q.head.lsn, streamTop{hlc: r.HLC}})
		}
	}
	p.receipt = eventstore.ReceiptOf(p.records)
	if p.request.ID != "" {
		q.accepted.young.requests.put(p.digests.key, acceptedRequest{p.request.Hash, p.receipt})
	}
	q.accepted.young.terms.add(p.records)
	q.accepted.young.last = q.head.lsn
	q.accepted.forget(s.durable.Load())
	g.batches = append(g.batches, p)
	g.events += len(p.records)
	g.bytes += len(p.contents)
}
