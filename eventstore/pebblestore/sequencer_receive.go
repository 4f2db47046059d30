package pebblestore

import (
	"cmp"
	"errors"

	"github.com/tributary-es/tributary/eventstore"
)

// acceptedLogs is what the sequencer knows of other logs: how far each is accepted, synced or not. It keeps all of them: there
// are as many as sites and their lives.
type acceptedLogs struct {
	logs []acceptedLog // by number
	at   map[eventstore.LogID]uint32
}

// acceptedLog is how far a log is accepted, and the lsn of its last event.
type acceptedLog struct {
	eventstore.LogHead
	lsn uint64
}

// newAcceptedLogs returns what is known when all is durable. The store's own log has number 0.
func newAcceptedLogs(own eventstore.LogID, durable []eventstore.LogHead) acceptedLogs {
	a := acceptedLogs{at: map[eventstore.LogID]uint32{}}
	a.logs = append(a.logs, acceptedLog{LogHead: eventstore.LogHead{Log: own}})
	for _, h := range durable {
		if h.Log != own {
			*a.log(a.number(h.Log)) = acceptedLog{LogHead: h}
		}
	}
	return a
}

// number returns the number by which the sequencer knows a log.
func (a *acceptedLogs) number(log eventstore.LogID) uint32 {
	n, known := a.at[log]
	if !known && log != a.logs[0].Log {
		n = uint32(len(a.logs))
		a.at[log] = n
		a.logs = append(a.logs, acceptedLog{LogHead: eventstore.LogHead{Log: log, Chain: eventstore.ChainStart(log)}})
	}
	return n
}

// log returns what is known of a log, valid until another gets a number.
func (a *acceptedLogs) log(n uint32) *acceptedLog { return &a.logs[n] }

// before reports whether an event stands before another one in canonical order, which is not of the same log or before it.
func (a *acceptedLogs) before(e *eventstore.Recorded, top streamTop) bool {
	return cmp.Or(cmp.Compare(e.HLC, top.hlc), e.Dot.Log.Compare(a.logs[top.log].Log)) < 0
}

// errReceivedMeanwhile: others brought some of the events while these waited.
var errReceivedMeanwhile = errors.New("events were received meanwhile")

// judgeReceived accepts received events into the group, or answers them.
func (q *sequencer) judgeReceived(p *pending) {
	number := q.others.number(p.records[0].Dot.Log)
	log := q.others.log(number)
	first := p.records[0].Dot.Seq
	switch {
	case first > log.Seq+1:
		q.answer(log.lsn, answer{p: p, err: &eventstore.GapError{Log: log.Log, Held: log.Seq, Got: first}})
		return
	case first <= log.Seq:
		q.answer(log.lsn, answer{p: p, err: errReceivedMeanwhile})
		return
	}
	if p.checked < q.accepted.forgotten {
		if err := q.store.checkReceived(p); err != nil {
			p.answer(eventstore.Receipt{}, err)
			return
		}
	}
	q.acceptReceived(p, number)
}

// acceptReceived gives received events their places and adds them to the group.
func (q *sequencer) acceptReceived(p *pending, number uint32) {
	s, g, log := q.store, q.group, q.others.log(number)
	s.opts.Clock.Observe(p.received.latest)
	p.notes = make([]eventNote, 0, len(p.records))
	record, run := 0, -1
	for i := range p.received.batches {
		b := &p.received.batches[i]
		batch := p.records[record:b.end]
		repeats := false
		if b.key.id != "" {
			_, repeats = q.accepted.request(b.digests.key)
			repeats = repeats || b.known
		}
		var head acceptedHead
		for j := range batch {
			r := &batch[j]
			if j == 0 || r.Stream != batch[j-1].Stream {
				run++
				head = q.headOf(p, run)
			}
			note := noteForeign
			if repeats && j == 0 {
				note |= noteRepeats
			}
			r.Revises = head.version() > 0 && q.others.before(r, head.top)
			if r.Revises {
				note |= noteRevises
				head.streamHead |= revisedHead
			} else {
				head.top = streamTop{r.HLC, number}
			}
			head.streamHead++
			if head.revised() {
				note |= noteRevised
			}
			note |= plainNote(head.version())
			q.room(true)
			before := logChain{log.Log, log.Seq, log.Chain}
			q.head.lsn++
			r.Position = s.position(q.head.lsn)
			log.Seq, log.HLC = r.Dot.Seq, r.HLC
			log.Chain = eventstore.NextChain(log.Chain, r.Dot.Seq, r.HLC, r.Version, p.hashes[record+j])
			r.Chain = log.Chain
			g.writer.add(r, p.content(record+j))
			g.writer.note(note, &before)
			p.notes = append(p.notes, note)
			if g.writer.size() >= blockBytes {
				g.seal()
			}
			if j+1 == len(batch) || batch[j+1].Stream != r.Stream {
				head.lsn = q.head.lsn
				q.accepted.young.streams.put(p.keys[run], head)
			}
		}
		if b.key.id != "" && !repeats {
			q.accepted.young.requests.put(b.digests.key, acceptedRequest{batch[0].RequestHash, eventstore.ReceiptOf(batch)})
		}
		record = b.end
	}
	log.lsn = q.head.lsn
	p.receipt = eventstore.Receipt{First: p.records[0].Position, Position: s.position(q.head.lsn)}
	q.accepted.young.terms.add(p.records)
	q.accepted.young.last = q.head.lsn
	q.accepted.forget(s.durable.Load())
	g.batches = append(g.batches, p)
	g.events += len(p.records)
	g.bytes += len(p.contents)
}

// headOf returns what the stream of a run of received events has come to. The logs of all events that are held have a number.
func (q *sequencer) headOf(p *pending, run int) acceptedHead {
	if h, ok := q.accepted.head(p.keys[run]); ok {
		return h
	}
	top := p.received.tops[run]
	return acceptedHead{streamHead: p.heads[run], top: streamTop{top.hlc, q.others.at[top.log]}}
}
