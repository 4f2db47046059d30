package pebblestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// A damaged table of the log is made anew: its blocks that are whole are copied, the others are built of events that others have
// (refill.go), and the new table takes the place of everything between the old one's keys in one step of Pebble's. Keys are
// written once and in the order of the log, so that nothing else lies between them and nobody writes there.

// lost is a stretch of the log whose blocks cannot be read, or are not those of the hash chain. It is empty where only the way to
// what follows is damaged.
type lost struct {
	span
	// beyond is an lsn from which on blocks can be read again (see verifier.beyond).
	beyond uint64
	blocks []refilled // in its place
}

// refilled is a finished block.
type refilled struct {
	last  uint64 // lsn
	value []byte
}

// tableRange is tables that follow each other, or one.
type tableRange struct {
	first, last []byte // keys
	faults      []*ScrubFault
}

// adjoining puts damaged tables of the log that follow each other together: what is lost is proved by what stands around it.
func adjoining(faults []*ScrubFault) (out []tableRange) {
	slices.SortFunc(faults, func(a, b *ScrubFault) int { return bytes.Compare(a.first, b.first) })
	for _, f := range faults {
		if n := len(out); n > 0 && len(out[n-1].faults) > 0 {
			before := &out[n-1]
			if last := before.faults[len(before.faults)-1]; bytes.Compare(f.first, before.last) <= 0 || f.FirstLSN == last.LastLSN+1 {
				before.last = slices.MaxFunc([][]byte{before.last, f.last}, bytes.Compare)
				before.faults = append(before.faults, f)
				continue
			}
		}
		out = append(out, tableRange{f.first, f.last, []*ScrubFault{f}})
	}
	return out
}

// repairTables makes damaged tables anew, all or none.
//
// INVARIANT: what stands between the tables' keys afterwards is what stood there before: the hash chains of all logs go through
// what was put in.
func (s *Store) repairTables(ctx context.Context, tables []tableRange, o *ScrubOptions) error {
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	// What is being archived meanwhile would come back, and the record of it would be lost.
	s.rewriting.Lock()
	defer s.rewriting.Unlock()
	lacks := make([][]lost, len(tables))
	var all []*lost
	for i := range tables {
		t := &tables[i]
		if bytes.Compare(t.last, afterBlocks) >= 0 {
			return fmt.Errorf("%w: the folder was made by an earlier version, whose last table cannot be replaced while others are written; "+
				"put back the last good copy of it, see Backup in docs/operations.md", eventstore.ErrCorrupt)
		}
		if lacks[i], err = s.findLost(s.spanOf(t.first, t.last)); err != nil {
			return err
		}
		for j := range lacks[i] {
			all = append(all, &lacks[i][j])
		}
	}
	if err := s.refill(ctx, all, o); err != nil {
		return err
	}
	for i := range tables {
		if err := s.replaceTables(ctx, &tables[i], lacks[i]); err != nil {
			return err
		}
	}
	s.streamCache.clear() // it may have what was read there
	return nil
}

// replaceTables puts a table in the place of those of a stretch, with what was lost refilled.
func (s *Store) replaceTables(ctx context.Context, t *tableRange, gaps []lost) error {
	first, last := s.spanOf(t.first, t.last)
	path := repairPath(s.opts.fs(), s.dir)
	err := s.writeTable(path, first, last, t.first, gaps)
	if err == nil {
		err = syncFolder(s.opts.fs(), s.dir) // so that it is known what the table is, when power is lost before the MANIFEST has it
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the table anew: %w", err), removeIfThere(s.opts.fs(), path))
	}
	end := append(bytes.Clone(t.last), 0)
	if _, err := s.log.IngestAndExcise(ctx, []string{path}, nil, nil, pebble.KeyRange{Start: t.first, End: end}); err != nil {
		return errors.Join(fmt.Errorf("put the new table in place: %w", corrupted(err)), removeIfThere(s.opts.fs(), path))
	}
	return errors.Join(s.forgetReplaced(), removeIfThere(s.opts.fs(), path))
}

// repairPath is where a new table is made for the store in a folder.
func repairPath(files vfs.FS, dir string) string { return files.PathJoin(dir, "REPAIR") }

// forgetReplaced has nobody read by themselves the files of tables that Pebble has replaced, or shows a part of: what is in them does not
// hold any more. Pebble deletes them when it likes.
func (s *Store) forgetReplaced() error {
	return errors.Join(s.tableList.forgetReplaced(), s.tables.forgetReplaced(s.log))
}

// plainTables returns the numbers of the files of tables that a database has whole.
func plainTables(db *pebble.DB) (numbers map[string]bool, err error) {
	levels, err := db.SSTables()
	if err != nil {
		return nil, fmt.Errorf("list tables of the log: %w", err)
	}
	numbers = map[string]bool{}
	for _, level := range levels {
		for i := range level {
			if !level[i].Virtual {
				numbers[level[i].BackingSSTNum.String()] = true
			}
		}
	}
	return numbers, nil
}

// spanOf returns the lsns that a table with these keys has events of; last is 0 when it has none.
func (s *Store) spanOf(first, last []byte) (from, to uint64) {
	to, blocks := blockKeyLSN(last)
	if !blocks {
		if bytes.Compare(last, afterBlocks) < 0 {
			return 1, 0
		}
		to = s.durable.Load()
	}
	from = s.archived.Load().end()
	it, err := s.log.NewIter(&pebble.IterOptions{LowerBound: firstBlock, UpperBound: slices.MaxFunc([][]byte{first, firstBlock}, bytes.Compare)})
	if err != nil {
		return from + 1, to
	}
	defer it.Close()
	if it.Last() {
		lsn, _ := blockKeyLSN(it.Key())
		from = max(from, lsn)
	} else if it.Error() != nil { // the table before is damaged too
		from = max(from, s.endBefore(first))
	}
	return from + 1, to
}

// endBefore returns the last lsn of the tables that end before a key, as Pebble has it in memory.
func (s *Store) endBefore(key []byte) (lsn uint64) {
	tables, err := tablesOf(s.log)
	if err != nil {
		return 0
	}
	for _, t := range tables {
		if last, block := blockKeyLSN(t.last); block && bytes.Compare(t.last, key) < 0 {
			lsn = max(lsn, last)
		}
	}
	return lsn
}

// findLost returns the stretches between two lsns whose blocks cannot be read, or are not those of the hash chain. No two are next
// to each other.
func (s *Store) findLost(first, last uint64) (gaps []lost, err error) {
	v := &verifier{store: s, end: last, log: newLogCheck(&s.history, false)}
	for next := first; next <= last; {
		r, err := s.blockReader()
		if err != nil {
			return nil, err
		}
		found, err := r.from(max(next, v.beyond))
		for err == nil && found && r.cur.first <= next && next <= last {
			if s.misfit(&r.cur) != nil {
				gaps = append(gaps, lost{span: span{next, r.cur.last()}, beyond: r.cur.last() + 1})
			}
			next = r.cur.last() + 1
			if next <= last {
				found, err = r.next()
			}
		}
		r.close()
		if next > last {
			break
		}
		g := lost{span: span{first: next}}
		switch {
		case err != nil:
			if g.last, err = v.skip(next, err); err != nil {
				return nil, err
			}
			g.last--
			g.beyond = v.beyond
		case !found:
			g.last, g.beyond = last, last+1
		default:
			g.last, g.beyond = r.cur.first-1, r.cur.last()
		}
		gaps = append(gaps, g)
		next = g.last + 1
	}
	return joined(gaps), nil
}

// joined makes one stretch of those that are next to each other.
func joined(gaps []lost) (out []lost) {
	for _, g := range gaps {
		if n := len(out); n > 0 && out[n-1].last+1 == g.first {
			out[n-1].last, out[n-1].beyond = g.last, g.beyond
			continue
		}
		out = append(out, g)
	}
	return out
}

// writeTable writes a table with everything from a key on to an lsn, the stretches that were lost refilled.
func (s *Store) writeTable(path string, next, last uint64, first []byte, gaps []lost) error {
	files := s.opts.fs()
	f, err := files.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	options := s.opts.logOptions(files, nil)
	options.EnsureDefaults()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), options.MakeWriterOptions(len(options.Levels)-1, s.log.TableFormat()))
	if bytes.Equal(first, logMetaKey) {
		err = s.copyMeta(w)
	}
	if err == nil {
		err = s.copyKept(w, first)
	}
	if err == nil {
		err = s.copyBlocks(w, next, last, gaps)
	}
	return errors.Join(err, w.Close())
}

func (s *Store) copyBlocks(w *sstable.Writer, next, last uint64, gaps []lost) error {
	r, err := s.blockReader()
	if err != nil {
		return err
	}
	defer func() { r.close() }()
	for from := next; next <= last; from = max(from, next) {
		if len(gaps) > 0 && gaps[0].first == next {
			for _, b := range gaps[0].blocks {
				if err := w.Set(blockKey(b.last), b.value); err != nil {
					return err
				}
			}
			next, from = gaps[0].last+1, gaps[0].beyond
			gaps = gaps[1:]
			// A seek that goes on from where an iterator stands may go through the damage; one of a new iterator does not.
			r.close()
			if r, err = s.blockReader(); err != nil {
				return err
			}
			continue
		}
		found, err := r.from(from)
		if err == nil && (!found || r.cur.first != next) {
			err = fmt.Errorf("%w: no block begins at lsn %d", eventstore.ErrCorrupt, next)
		}
		if err != nil {
			return err
		}
		value, err := r.it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := w.Set(r.it.Key(), value); err != nil {
			return err
		}
		next = r.cur.last() + 1
	}
	return nil
}

// copyMeta writes the meta record as it is known.
func (s *Store) copyMeta(w *sstable.Writer) error {
	value, err := json.Marshal(s.meta())
	if err != nil {
		return err
	}
	return w.Set(logMetaKey, value)
}
