package pebblestore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// logCheck follows the log from its beginning and compares each event with those before it. It also sums up what the
// index should say, so that the index is checked without looking up every event.
type logCheck struct {
	history *history
	streams map[streamHash]streamHead
	// tops has the last event of each stream in canonical order; nil where blocks have no notes.
	tops   map[streamHash]eventTop
	events uint64
	whole  bool // no gap so far

	// known is false after a gap: what follows cannot be compared with what went before.
	known bool
	seq   uint64
	chain eventstore.Hash
	batch eventstore.Batch // and of which log
	of    eventstore.LogID
	// others is how far other logs are. A log that is not in it has begun, if all are known, or else may be anywhere.
	others []logChain
	all    bool

	terms   map[term]streamHash
	tenants map[string]struct{}

	indexed      uint64 // lsn up to which the index is filled
	indexedChain eventstore.Hash
	expect       indexCheck
}

// streamHash stands for a stream, to keep the memory per stream small.
type streamHash [2]uint64

var verifySeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hashOf(b []byte) streamHash {
	return streamHash{maphash.Bytes(verifySeeds[0], b), maphash.Bytes(verifySeeds[1], b)}
}

// newLogCheck returns a check of a log from its beginning. noted says that its blocks may have notes.
func newLogCheck(h *history, noted bool) *logCheck {
	c := &logCheck{
		history: h, streams: map[streamHash]streamHead{}, whole: true, all: true,
		terms: map[term]streamHash{}, tenants: map[string]struct{}{},
		known: true, chain: h.begin().chain, indexedChain: h.begin().chain,
	}
	if noted {
		c.tops = map[streamHash]eventTop{}
	}
	return c
}

func (c *logCheck) hash(s eventstore.StreamID) streamHash {
	var buf [512]byte
	return hashOf(appendStreamKey(buf[:0], s))
}

// from has the check begin after a head in the middle of the log.
func (c *logCheck) from(at logHead) {
	c.whole, c.all, c.seq, c.chain = false, false, at.seq, at.chain
}

// gap says that something is missing or damaged here.
func (c *logCheck) gap() {
	c.known, c.whole = false, false
	c.all, c.others = false, nil
}

// begin checks that a block goes on where the one before it ended.
func (c *logCheck) begin(b *block, fault func(string, ...any)) {
	if c.known && (b.before != c.seq || b.chain != c.chain) {
		fault("log block from lsn %d: it follows seq %d with chain %x, before it stands seq %d with chain %x",
			b.first, b.before, b.chain[:8], c.seq, c.chain[:8])
	}
	if !c.known {
		c.batch = eventstore.Batch{}
	}
	c.seq, c.chain = b.before, b.chain
	for i := range b.logs {
		l := b.logs[i]
		at := c.other(l.log)
		if at == nil {
			c.others = append(c.others, l)
		} else if *at != l {
			fault("log block from lsn %d: of %s it follows seq %d with chain %x, before it stands seq %d with chain %x",
				b.first, l.log, l.seq, l.chain[:8], at.seq, at.chain[:8])
			*at = l
		}
	}
}

// other returns how far another log is; nil when that is not known.
func (c *logCheck) other(log eventstore.LogID) *logChain {
	at := chainIn(c.others, log)
	if at == nil && c.all {
		c.others = append(c.others, logChain{log: log, chain: eventstore.ChainStart(log)})
		at = &c.others[len(c.others)-1]
	}
	return at
}

// event checks one event, the i-th of a block.
func (c *logCheck) event(b *block, i int, e *eventstore.Recorded, frame []byte, fault func(string, ...any)) {
	lsn := e.Position.LSN
	c.events++
	id, at := c.history.logAt(lsn), logChain{seq: c.seq, chain: c.chain}
	var other *logChain
	if b.foreign(i) {
		id, other = e.Dot.Log, c.other(e.Dot.Log)
		if other == nil || c.bornHere(e.Dot.Log, lsn) {
			fault("log at lsn %d: its block does not say how far %s was", lsn, id)
			other = &logChain{seq: e.Dot.Seq - 1}
		}
		at = *other
	}
	if e.Dot.Log != id || e.Dot.Seq != at.seq+1 && c.known {
		fault("log at lsn %d: it holds %s after seq %d of %s", lsn, e.Dot, at.seq, id)
	}
	if inside := c.batch.Count > 0 && (c.of != e.Dot.Log || e.Dot.Seq < c.batch.FirstSeq+uint64(c.batch.Count)); c.known || c.batch.Count > 0 {
		switch {
		case inside && (c.of != e.Dot.Log || e.Batch != c.batch):
			fault("log at lsn %d: the batch of %d events from seq %d on is torn", lsn, c.batch.Count, c.batch.FirstSeq)
		case !inside && e.Batch.FirstSeq != e.Dot.Seq:
			fault("log at lsn %d: seq %d begins in the middle of the batch from seq %d on", lsn, e.Dot.Seq, e.Batch.FirstSeq)
		}
	}
	note := b.noteOf(i, e)
	c.stream(e, note, fault)
	chain, err := chainAfter(at.chain, e, frame)
	if err != nil {
		fault("log at lsn %d: %v", lsn, err)
	}
	if c.known, c.of, c.batch = true, e.Dot.Log, e.Batch; e.EndsBatch() {
		c.batch = eventstore.Batch{}
	}
	if other != nil {
		other.seq, other.chain = e.Dot.Seq, chain
	} else {
		c.seq, c.chain = e.Dot.Seq, chain
	}
	if l, ends := c.history.ending(lsn); ends {
		c.ended(l, e, fault)
	}
	if lsn <= c.indexed {
		c.expectInIndex(e, note)
	}
}

// bornHere reports whether a log is the one that the log was when the event at an lsn was added.
func (c *logCheck) bornHere(log eventstore.LogID, lsn uint64) bool {
	return log == c.history.logAt(lsn)
}

// stream checks the place of an event in its stream.
func (c *logCheck) stream(e *eventstore.Recorded, note eventNote, fault func(string, ...any)) {
	key := c.hash(e.Stream)
	before := c.streams[key]
	if note.place() != before.version()+1 && c.whole {
		fault("log at lsn %d: stream %s goes from version %d to %d", e.Position.LSN, e.Stream, before.version(), note.place())
	}
	c.streams[key] = note.head()
	if c.tops == nil || !c.whole {
		return
	}
	top, has := c.tops[key]
	revises := has && cmp.Or(cmp.Compare(e.HLC, top.hlc), e.Dot.Log.Compare(top.log)) < 0
	if revises != e.Revises || note.has(noteRevised) != (revises || before.revised()) {
		fault("log at lsn %d: that the event stands before others of stream %s is %v by its note, and %v", e.Position.LSN, e.Stream, e.Revises, revises)
	}
	if !revises {
		c.tops[key] = eventTop{e.HLC, e.Dot.Log}
	}
}

// block checks all events of a block, for those who want no faults at all: it returns the first as an error. last is the
// block's last event.
func (c *logCheck) block(b *block, incarnation uint32) (last eventstore.Recorded, err error) {
	first := func(format string, args ...any) {
		if err == nil {
			err = fmt.Errorf("%w: "+format, append([]any{eventstore.ErrCorrupt}, args...)...)
		}
	}
	c.begin(b, first)
	for i := range b.count {
		frame, broken := b.frame(i)
		if broken == nil {
			broken = b.decode(&last, i, frame, incarnation)
		}
		if broken != nil {
			return last, broken
		}
		c.event(b, i, &last, frame, first)
	}
	return last, err
}

// ended checks the event with which a life ended, and goes on in the next.
func (c *logCheck) ended(l life, last *eventstore.Recorded, fault func(string, ...any)) {
	if c.seq != l.Seq || c.chain != eventstore.Hash(l.Chain) {
		fault("log at lsn %d: life %d ended with seq %d and chain %x, there stands seq %d with chain %x",
			l.LSN, l.Incarnation, l.Seq, l.Chain[:8], c.seq, c.chain[:8])
	}
	if !last.EndsBatch() {
		fault("log at lsn %d: life %d ended in the batch of %d events from seq %d on", l.LSN, l.Incarnation, last.Batch.Count, last.Batch.FirstSeq)
	}
	c.live(l.LSN)
}

// live goes on in the life that begins after an lsn. What comes of the one before it comes as of another log.
func (c *logCheck) live(lsn uint64) {
	before := logChain{c.history.logAt(lsn), c.seq, c.chain}
	if at := chainIn(c.others, before.log); at != nil {
		*at = before
	} else {
		c.others = append(c.others, before)
	}
	next := c.history.onward(logHead{lsn: lsn})
	c.seq, c.chain, c.batch = next.seq, next.chain, eventstore.Batch{}
}

func (c *logCheck) expectInIndex(e *eventstore.Recorded, note eventNote) {
	c.expect.places.add(c.hash(e.Stream), note.place(), e.Position.LSN)
	if note.has(noteForeign) {
		c.expect.logs.add(hashOf(appendLogID(nil, e.Dot.Log)), e.Dot.Seq, e.Position.LSN)
	}
	if e.CommandID != "" && e.Dot.Seq == e.Batch.FirstSeq && !note.has(noteRepeats) {
		c.expect.requests.add(streamHash{requestKey{e.Stream.Tenant, e.CommandID}.hash()}, e.Position.LSN)
	}
	termsOf(e, func(of term) { c.expect.terms.add(c.termHash(of), e.Position.LSN) })
	if _, known := c.tenants[e.Stream.Tenant]; !known {
		c.tenants[e.Stream.Tenant] = struct{}{}
		c.expect.tenants.add(hashOf([]byte(e.Stream.Tenant)))
	}
	if e.Position.LSN == c.indexed {
		c.indexedChain = c.chain
	}
}

// termHash stands for a term. Those of categories and types are kept: there are few.
func (c *logCheck) termHash(of term) streamHash {
	h, known := c.terms[of]
	if !known {
		digest := of.digest()
		h = hashOf(digest[:])
		if of.kind != tagTerm && len(c.terms) < 10_000 {
			c.terms[of] = h
		}
	}
	return h
}

// indexCheck sums up the entries of an index. Two indexes with equal sums have, but for a chance of 2^-128, the same
// entries.
type indexCheck struct{ requests, places, terms, tenants, logs sum }

// sum is a sum over a set, in any order.
type sum struct {
	n     uint64
	total [2]uint64
}

func (s *sum) add(h streamHash, numbers ...uint64) {
	s.n++
	h = mix(h, numbers)
	s.total[0] += h[0]
	s.total[1] += h[1]
}

func mix(h streamHash, numbers []uint64) streamHash {
	if len(numbers) == 0 {
		return h
	}
	var buf [40]byte
	b := binary.BigEndian.AppendUint64(buf[:0], h[0])
	b = binary.BigEndian.AppendUint64(b, h[1])
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return hashOf(b)
}

// entry adds the entry that the iterator stands at; the mark goes to m.
func (x *indexCheck) entry(it *pebble.Iterator, m *mark) error {
	key := it.Key()
	value, err := it.ValueAndErr()
	if err != nil {
		return corrupted(err)
	}
	switch {
	case len(key) > 9 && key[0] == runPrefix:
		run, err := parseRunEntry(it, len(key)-8)
		if err != nil {
			return err
		}
		stream := hashOf(key[:len(key)-8])
		for i, lsn := range run.lsns {
			x.places.add(stream, run.first+uint64(i), lsn)
		}
	case len(key) == termPrefixBytes+8 && key[0] == termPrefix:
		lsns, err := parseTermEntry(it, nil)
		if err != nil {
			return err
		}
		of := hashOf(key[1:termPrefixBytes])
		for _, lsn := range lsns {
			x.terms.add(of, lsn)
		}
	case len(key) > 1 && key[0] == tenantPrefix:
		x.tenants.add(hashOf(key[1:]))
	case len(key) == bucketKeyBytes && key[0] == requestPrefix:
		bucket, end, ok := parseBucketKey(key)
		if !ok {
			return fmt.Errorf("%w: key %q is not one of requests", eventstore.ErrCorrupt, key)
		}
		for p, ok := range bucketPlaces(bucket, end, value) {
			if !ok {
				return fmt.Errorf("%w: value of key %q is %x", eventstore.ErrCorrupt, key, value)
			}
			x.requests.add(streamHash{p.hash}, p.lsn)
		}
	case len(key) > 8 && key[0] == logPrefix:
		run, err := parseLogRun(it, len(key)-8)
		if err != nil {
			return err
		}
		log := hashOf(key[1 : len(key)-8])
		for i, lsn := range run.lsns {
			x.logs.add(log, run.first+uint64(i), lsn)
		}
	case len(key) > 1 && key[0] == headPrefix:
		if _, err := parseLogHead(it); err != nil {
			return err
		}
	case bytes.Equal(key, metaKey):
		var ok bool
		if *m, ok = parseMark(value); !ok {
			return fmt.Errorf("%w: mark is %x", eventstore.ErrCorrupt, value)
		}
	default:
		return fmt.Errorf("%w: key %q is of no kind that is known", eventstore.ErrCorrupt, key)
	}
	return nil
}
