package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tributary-es/tributary/eventstore"
)

// maxFaults bounds the faults of a report; after that they are only counted.
const maxFaults = 100

// Verify implements eventstore.Verifier. It looks at what was durable when it began, and holds no writer up.
//
// It finds: blocks that cannot be read or whose checksums are wrong, missing blocks, gaps in lsn, seq or stream versions,
// torn batches, a broken hash chain, and index entries that are missing, wrong or too many. A change that someone made
// with care, checksums and all, shows in the chain of the next block or in the mark of the index.
func (s *Store) Verify(ctx context.Context, progress func(done, total uint64)) (eventstore.Report, error) {
	v := &verifier{store: s, progress: progress, log: newLogCheck(&s.history, s.noted.Load())}
	err := v.run(ctx)
	if v.unnamed > 0 {
		v.report.Faults = append(v.report.Faults, fmt.Sprintf("and %d more", v.unnamed))
	}
	return v.report, err
}

type verifier struct {
	store    *Store
	progress func(done, total uint64)
	end      uint64 // lsn up to which to look
	// beyond is an lsn that was found beyond damage. A seek for a lower one can end in the damaged part of a table although
	// the block that has the lsn stands behind it, for a table's index tells only roughly where a part ends.
	beyond  uint64
	log     *logCheck
	report  eventstore.Report
	unnamed int
}

func (v *verifier) fault(format string, args ...any) {
	if len(v.report.Faults) == maxFaults {
		v.unnamed++
		return
	}
	v.report.Faults = append(v.report.Faults, fmt.Sprintf(format, args...))
}

// run looks at the index first: what it holds then is durable in the log that is looked at next.
func (v *verifier) run(ctx context.Context) error {
	if err := v.store.failed(); err != nil {
		v.fault("store: %v", err)
	}
	m, sums, err := v.scanIndex(ctx)
	indexReadable := err == nil
	if errors.Is(err, eventstore.ErrCorrupt) {
		v.fault("index: %v", err)
	} else if err != nil {
		return err
	}
	state, err := v.store.Log(ctx)
	if err != nil {
		return err
	}
	v.report.Position, v.end = state.Durable, state.Durable.LSN
	v.log.indexed = m.lsn
	for next := uint64(1); next <= v.end; {
		if next, err = v.step(ctx, next); err != nil {
			return err
		}
		if v.progress != nil {
			v.progress(min(next-1, v.end), v.end)
		}
	}
	v.report.Events, v.report.Streams = v.log.events, uint64(len(v.log.streams))
	if indexReadable && v.log.whole { // a log with holes is no measure for the index
		return v.compareIndex(ctx, m, sums)
	}
	return nil
}

// verifyBlocks is how many blocks are looked at between two looks at the context.
const verifyBlocks = 64

// step checks some blocks from an lsn on and returns the lsn to go on from.
func (v *verifier) step(ctx context.Context, next uint64) (uint64, error) {
	release, err := v.store.useFor(ctx)
	if err != nil {
		return next, err
	}
	defer release()
	r, err := v.store.blockReader()
	if err != nil {
		return next, err
	}
	defer r.close()
	found, err := r.from(max(next, v.beyond))
	for range verifyBlocks {
		switch {
		case err != nil:
			return v.skip(next, err)
		case !found || r.cur.first > v.end:
			v.fault("log: lsn %d to %d are missing", next, v.end)
			return v.end + 1, nil
		case r.cur.first > next:
			v.fault("log: lsn %d to %d are missing", next, r.cur.first-1)
			v.log.gap()
		}
		if r.cur.first < next {
			v.fault("log: the block from lsn %d to %d overlaps the one before", r.cur.first, r.cur.last())
		}
		if next, err = v.block(ctx, &r.cur); err != nil || next > v.end {
			return next, err
		}
		found, err = r.next()
	}
	return next, nil
}

// skip names what cannot be read at an lsn, and finds where it can be read again.
func (v *verifier) skip(next uint64, cause error) (uint64, error) {
	if !errors.Is(cause, eventstore.ErrCorrupt) {
		return next, cause
	}
	v.log.gap()
	resume := v.end + 1
	v.beyond = resume
	for step := uint64(1); next+step <= v.end; step *= 2 {
		lsn, ok := v.readable(next + step)
		if !ok {
			continue
		}
		// Between the damage and here there may be more that is whole.
		bad, good := next+step/2, next+step
		for bad+1 < good {
			middle := bad + (good-bad)/2
			if at, ok := v.readable(middle); ok {
				good, lsn = middle, at
			} else {
				bad = middle
			}
		}
		// The block may begin before the lsn it was looked for with.
		resume, v.beyond = min(max(lsn, next), v.end+1), good
		break
	}
	if resume == next {
		v.fault("log: a part of a table before lsn %d cannot be read: %v", next, cause)
		return next, nil
	}
	v.fault("log: lsn %d to %d cannot be read: %v", next, resume-1, cause)
	return resume, nil
}

// readable returns the first block at or after an lsn, if it and the way there can be read.
func (v *verifier) readable(lsn uint64) (first uint64, ok bool) {
	r, err := v.store.blockReader()
	if err != nil {
		return 0, false
	}
	defer r.close()
	found, err := r.from(lsn)
	if err != nil {
		return 0, false
	}
	if !found {
		return v.end + 1, true
	}
	return r.cur.first, true
}

// block checks one block's events and returns the lsn after them.
func (v *verifier) block(ctx context.Context, b *block) (next uint64, err error) {
	if err := ctx.Err(); err != nil {
		return b.first, err
	}
	v.log.begin(b, v.fault)
	for i := range b.count {
		frame, err := b.frame(i)
		if err == nil {
			var e eventstore.Recorded
			if err = b.decode(&e, i, frame, v.store.id.Incarnation); err == nil {
				v.log.event(b, i, &e, frame, v.fault)
				continue
			}
		}
		v.fault("%v", err)
		v.log.gap()
	}
	return b.last() + 1, nil
}

// scanIndex sums up the whole index as it is at one moment.
func (v *verifier) scanIndex(ctx context.Context) (m mark, x indexCheck, err error) {
	release, err := v.store.useFor(ctx)
	if err != nil {
		return m, x, err
	}
	defer release()
	if err := v.store.index.hold(); err != nil {
		return m, x, err
	}
	defer v.store.index.letGo()
	it, err := v.store.index.db.NewIter(&pebble.IterOptions{})
	if err != nil {
		return m, x, corrupted(err)
	}
	defer it.Close()
	m.logHead = v.store.history.begin() // of an index that was never filled
	n := 0
	for valid := it.First(); valid; valid = it.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return m, x, ctx.Err()
		}
		if err := x.entry(it, &m); err != nil {
			return m, x, err
		}
	}
	return m, x, corrupted(it.Error())
}

// compareIndex compares the index with what the log says it should hold. If they differ, every event of the log is
// looked up to name what differs.
func (v *verifier) compareIndex(ctx context.Context, m mark, got indexCheck) error {
	if m.lsn > v.end {
		v.fault("index: it goes to lsn %d, the log to %d", m.lsn, v.end)
		return nil
	}
	if m.chain != v.log.indexedChain {
		v.fault("index: its chain at lsn %d is another than the log's: one of them was changed", m.lsn)
	}
	if got == v.log.expect {
		return nil
	}
	named := len(v.report.Faults) + v.unnamed
	for next := uint64(1); next <= v.log.indexed; {
		batches, err := v.store.keyedFor(ctx, next, v.log.indexed)
		if err != nil {
			return err
		}
		for i := range batches {
			next += uint64(len(batches[i].records))
			if err := v.lookUp(ctx, &batches[i]); err != nil {
				return err
			}
		}
	}
	if len(v.report.Faults)+v.unnamed == named {
		want := v.log.expect
		v.fault("index: it holds %d requests, %d events, %d places of categories, types and tags, %d tenants, %d events of other logs; the log %d, %d, %d, %d and %d",
			got.requests.n, got.places.n, got.terms.n, got.tenants.n, got.logs.n, want.requests.n, want.places.n, want.terms.n, want.tenants.n, want.logs.n)
	}
	return nil
}

func (v *verifier) lookUp(ctx context.Context, batch *keyedBatch) error {
	release, err := v.store.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	for i := range batch.records {
		e := &batch.records[i]
		version := batch.notes[i].place()
		lsns, err := v.store.index.places(e.Stream, version, version)
		switch {
		case err != nil:
			v.fault("index: %v", err)
		case lsns[0] != e.Position.LSN:
			v.fault("index: stream %s, version %d: it names lsn %d, the log has it at %d", e.Stream, version, lsns[0], e.Position.LSN)
		}
		// The index may know later versions by now.
		if got, err := v.store.index.head(e.Stream); err != nil || got.version() < version {
			v.fault("index: stream %s: it knows versions up to %d (%v), the log has %d at lsn %d", e.Stream, got.version(), err, version, e.Position.LSN)
		}
		if batch.foreign() {
			if lsns, err := v.store.index.logPlaces(e.Dot.Log, e.Dot.Seq, e.Dot.Seq); err != nil || lsns[0] != e.Position.LSN {
				v.fault("index: event %s: it names lsn %d (%v), the log has it at %d", e.Dot, lsns, err, e.Position.LSN)
			}
		}
		termsOf(e, func(of term) {
			if at, err := v.store.index.termFloor(of.digest(), e.Position.LSN); err != nil || at != e.Position.LSN {
				v.fault("index: %s %q: it does not name the event at lsn %d (%v)", of.kind, of.text, e.Position.LSN, err)
			}
		})
		if e.CommandID == "" || e.Dot.Seq != e.Batch.FirstSeq || batch.repeats() {
			continue
		}
		k := requestKey{e.Stream.Tenant, e.CommandID}
		if places, err := v.store.index.requestPlaces(k.hash()); err != nil || !slices.Contains(places, e.Position.LSN) {
			v.fault("index: request %q of lsn %d: it names %d (%v)", e.CommandID, e.Position.LSN, places, err)
		}
	}
	return nil
}
