package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
)

// wal checks that the WAL has every durable event that no table has. Damage beyond that, in a file that waits to be
// removed or used again, harms nobody.
func (x *scrub) wal(ctx context.Context) error {
	release, err := x.store.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	durable := x.store.durable.Load() // what follows may be of later
	files, dir := x.store.opts.fs(), x.store.opts.fs().PathJoin(x.store.dir, "log")
	names, err := files.List(dir)
	if err != nil {
		return fmt.Errorf("list the WAL: %w", err)
	}
	slices.Sort(names)
	var has []span
	var damaged, newest string
	var why error
	for _, name := range names {
		number, found := strings.CutSuffix(name, ".log")
		if !found {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue // not one of Pebble's
		}
		spans, fault := x.readWAL(ctx, files.PathJoin(dir, name), n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fault != nil && !errors.Is(fault, fs.ErrNotExist) && why == nil {
			damaged, why = name, fault
		}
		x.report.WALs++
		has, newest = append(has, spans...), name
	}
	tables, err := x.store.inTables()
	if err != nil {
		return err
	}
	slices.SortFunc(has, func(a, b span) int { return int(a.first) - int(b.first) })
	next := tables + 1
	for _, s := range has {
		if s.first <= next {
			next = max(next, s.last+1)
		}
	}
	if next > durable {
		return nil
	}
	if why == nil {
		damaged, why = newest, errors.New("it ends too early")
	}
	x.found(ScrubFault{Database: "log", File: damaged, FirstLSN: next, LastLSN: durable, Problem: firstLine(why), wal: true})
	return nil
}

// span is a stretch of the log.
type span struct{ first, last uint64 }

// readWAL returns which events of the log a WAL file has, up to its end or to what cannot be read of it, and then why.
func (x *scrub) readWAL(ctx context.Context, path string, number uint64) (spans []span, fault error) {
	f, err := x.store.opts.fs().Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := record.NewReader(paced{f, x, ctx}, fileNumber(pebble.SSTableInfo{}.BackingSSTNum, number))
	for {
		next, err := r.Next()
		if errors.Is(err, io.EOF) {
			return spans, nil
		}
		if err != nil {
			return spans, err
		}
		batch, err := io.ReadAll(next)
		if err != nil {
			return spans, err
		}
		for entries := batchrepr.Read(batch); ; {
			_, key, value, ok, err := entries.Next()
			if err != nil {
				return spans, err
			}
			if !ok {
				break
			}
			if lsn, isBlock := blockKeyLSN(key); isBlock && len(value) > 0 {
				b, err := openBlock(lsn, value)
				if err != nil {
					return spans, err
				}
				spans = append(spans, span{b.first, b.last()})
			}
		}
	}
}

// fileNumber makes a number of Pebble's type for it, which has no name outside of Pebble.
func fileNumber[T ~uint64](_ T, n uint64) T { return T(n) }

// inTables returns the last lsn that a table has, or an archive.
func (s *Store) inTables() (lsn uint64, err error) {
	it, err := s.log.NewIter(&pebble.IterOptions{LowerBound: firstBlock, UpperBound: afterBlocks, OnlyReadGuaranteedDurable: true})
	if err != nil {
		return 0, fmt.Errorf("look where the tables end: %w", corrupted(err))
	}
	defer it.Close()
	if it.Last() {
		lsn, _ = blockKeyLSN(it.Key())
	}
	return max(lsn, s.archived.Load().end()), nil // with a damaged last table the WAL is asked for all: a repair flushes in vain, and does no harm
}

// flushWAL writes what is in memory to a table, so that the WAL of until now is not needed any more.
func (x *scrub) flushWAL(ctx context.Context) error {
	release, err := x.store.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := x.store.log.Flush(); err != nil {
		return fmt.Errorf("flush log: %w", err)
	}
	return nil
}
