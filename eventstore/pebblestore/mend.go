package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Mend looks at the events of a log after a seq up to another one as they stand in the store, and holds them against the hash
// chains of what stands around them. Blocks that are damaged, or whose events are not those of the chain though their checksums
// are right, are made anew of what the Source and the Holders have, proved by the chains. It holds nobody up.
//
// What is archived is not mended: an error that matches eventstore.ErrArchiveDamaged says what is wrong with it.
//
// The report has a fault for each table that is damaged, and for each block whose events are others; none says that what is here is
// what the chains say. What cannot be proved is left as it is, and named.
func (s *Store) Mend(ctx context.Context, log eventstore.LogID, after, through uint64, o ScrubOptions) (ScrubReport, error) {
	select {
	case s.scrubbing <- struct{}{}:
		defer func() { <-s.scrubbing }()
	case <-ctx.Done():
		return ScrubReport{}, fmt.Errorf("wait for the scrub that is under way: %w", ctx.Err())
	}
	x := &scrub{store: s, o: o}
	if err := x.mend(ctx, log, after, through); err != nil {
		return x.report, fmt.Errorf("mend %s after seq %d: %w", log, after, err)
	}
	return x.report, nil
}

func (x *scrub) mend(ctx context.Context, log eventstore.LogID, after, through uint64) error {
	s := x.store
	first, last, err := s.span(ctx, log, after, through)
	if err != nil || last == 0 {
		return err
	}
	for next := first; next <= last; {
		bad, why, err := s.firstMisfit(ctx, next, last)
		if err != nil || why == nil {
			return err
		}
		if errors.Is(why, eventstore.ErrArchiveDamaged) {
			return why
		}
		if err := x.flushWAL(ctx); err != nil { // so that it is in a table
			return err
		}
		f, err := s.faultAt(bad.last)
		if err != nil {
			return err
		}
		if errors.Is(why, errNotOfChain) { // the rest of the table can be read, and what else is wrong there is named by itself
			f.FirstLSN, f.LastLSN, f.first, f.last = bad.first, bad.last, blockKey(bad.last), blockKey(bad.last)
		}
		f.Problem = fmt.Sprintf("lsn %d to %d: %s", bad.first, bad.last, firstLine(why))
		x.found(f)
		made := &x.report.Faults[len(x.report.Faults)-1]
		if err := s.space.err(); err != nil {
			made.Left = err.Error()
			return nil
		}
		err = s.repairTables(ctx, adjoining([]*ScrubFault{made}), &x.o)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		x.settle(err, made)
		next = max(made.LastLSN, bad.last) + 1
	}
	return nil
}

// span returns the lsns of the first and the last event of a log after a seq up to another one; last is 0 when none is held.
func (s *Store) span(ctx context.Context, log eventstore.LogID, after, through uint64) (first, last uint64, err error) {
	release, err := s.useFor(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer release()
	if through = min(through, s.heldOf(log).Seq); through <= after {
		return 0, 0, nil
	}
	if first, err = s.placeOf(log, after+1); err == nil {
		last, err = s.placeOf(log, through)
	}
	return first, last, err
}

// firstMisfit returns the first block between two lsns that cannot be read, or is not what the hash chains say, and why; nil when
// there is none.
func (s *Store) firstMisfit(ctx context.Context, next, last uint64) (bad span, why, err error) {
	for next <= last {
		release, err := s.useFor(ctx)
		if err != nil {
			return bad, nil, err
		}
		blocks, err := s.logCursor().read(nil, next, last, 0)
		for i := range blocks {
			b := &blocks[i]
			if why := s.misfit(b); why != nil {
				release()
				return span{b.first, b.last()}, why, nil
			}
			next = b.last() + 1
		}
		release()
		switch {
		case errors.Is(err, eventstore.ErrCorrupt):
			return span{next, next}, err, nil
		case err != nil:
			return bad, nil, err
		}
	}
	return bad, nil, nil
}

// errNotOfChain: the events of a block are not those that the hash chain says.
var errNotOfChain = fmt.Errorf("%w: its events are not those of the hash chain", eventstore.ErrCorrupt)

// misfit says what is wrong with a block's events: they have to lead, for each log, from the chain before the block to the one that
// what follows goes on from. What cannot be told of what follows is passed over.
func (s *Store) misfit(b *block) error {
	at := b.chains()
	var e eventstore.Recorded
	for i := range b.count {
		frame, err := b.frame(i)
		if err == nil {
			err = b.decode(&e, i, frame, s.id.Incarnation)
		}
		l := &at.own
		if err == nil && b.foreign(i) {
			l = chainIn(at.others, e.Dot.Log)
		} else if err == nil && e.Dot.Log != s.history.logAt(b.first+uint64(i)) {
			return errNotOfChain
		}
		if l == nil || err == nil && e.Dot.Seq != l.seq+1 {
			return errNotOfChain
		}
		if err == nil {
			_, err = at.next(b, i, &e, frame)
		}
		if err != nil {
			return err
		}
	}
	if l, ends := s.history.ending(b.last()); ends {
		if at.own.seq != l.Seq || at.own.chain != eventstore.Hash(l.Chain) {
			return errNotOfChain
		}
	} else if own, err := s.ownAfter(b.last(), b.last()+1); err == nil && (own.seq != at.own.seq || own.chain != at.own.chain) {
		return errNotOfChain
	}
	for i := range at.others {
		l := &at.others[i]
		if want, err := s.otherAfter(l.log, l.seq, s.blockOf); err == nil && want != l.chain {
			return errNotOfChain
		}
	}
	return nil
}

// blockOf returns the block that holds an event.
func (s *Store) blockOf(lsn uint64) (block, error) {
	blocks, err := s.logCursor().read(nil, lsn, lsn, 0)
	if err != nil {
		return block{}, err
	}
	return blocks[0], nil
}

// faultAt returns a fault of the table that has the block of an lsn, without what is wrong.
func (s *Store) faultAt(lsn uint64) (f ScrubFault, err error) {
	release, err := s.use()
	if err != nil {
		return f, err
	}
	defer release()
	if end := s.archived.Load().end(); lsn <= end {
		return f, fmt.Errorf("%w: lsn %d, which is archived, is not what the hash chain says", eventstore.ErrArchiveDamaged, lsn)
	}
	tables, err := tablesOf(s.log)
	if err != nil {
		return f, fmt.Errorf("list tables of the log: %w", err)
	}
	for _, t := range tables {
		first, last := s.spanOf(t.first, t.last)
		if lsn < first || lsn > last || f.File != "" && bytes.Compare(t.first, f.first) <= 0 { // of those that overlap the one that begins last
			continue
		}
		f = ScrubFault{Database: "log", File: t.name, FirstLSN: first, LastLSN: last, first: t.first, last: t.last}
	}
	if f.File == "" {
		err = fmt.Errorf("%w: no table has lsn %d", eventstore.ErrCorrupt, lsn)
	}
	return f, err
}
