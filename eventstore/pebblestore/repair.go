package pebblestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// A damaged table of the log is made anew: its blocks that can be read are copied, the others are built of the source's
// events, and the new table takes the place of everything between the old one's keys in one step of Pebble's. Keys are
// written once and in the order of the log, so that nothing else lies between them and nobody writes there.

// lost is a stretch of the log whose blocks cannot be read. It is empty where only the way to what follows is damaged.
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

// repairTable makes a damaged table anew.
//
// INVARIANT: what stands between the table's keys afterwards is what stood there before: the hash chain goes through what
// was put in.
func (s *Store) repairTable(ctx context.Context, f *ScrubFault, source Source) error {
	release, err := s.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	if bytes.Equal(f.first, metaKey) && bytes.Equal(f.last, metaKey) {
		return s.replaceSignpost(ctx)
	}
	if bytes.Compare(f.last, afterBlocks) >= 0 {
		return fmt.Errorf("%w: the folder was made by an earlier version, whose last table cannot be replaced while others are written; "+
			"put back the last good copy of it, see Backup in docs/operations.md", eventstore.ErrCorrupt)
	}
	// What is being archived meanwhile would come back, and the record of it would be lost.
	s.rewriting.Lock()
	defer s.rewriting.Unlock()
	first, last := s.spanOf(f.first, f.last)
	gaps, err := s.findLost(first, last)
	if err != nil {
		return err
	}
	for i := range gaps {
		g := &gaps[i]
		if g.last < g.first {
			continue
		}
		if source == nil {
			return fmt.Errorf("%w: lsn %d to %d are lost, and there is no Kafka to have them from; put back the last good copy of the folder, see Backup in docs/operations.md",
				eventstore.ErrCorrupt, g.first, g.last)
		}
		if err := s.refill(ctx, g, source); err != nil {
			return fmt.Errorf("lsn %d to %d are lost, and cannot be had from Kafka: %w", g.first, g.last, err)
		}
	}
	path := s.opts.fs().PathJoin(s.dir, "REPAIR")
	end := append(bytes.Clone(f.last), 0)
	if err := s.writeTable(path, first, last, f.first, gaps); err != nil {
		return errors.Join(fmt.Errorf("write the table anew: %w", err), removeIfThere(s.opts.fs(), path))
	}
	if _, err := s.log.IngestAndExcise(ctx, []string{path}, nil, nil, pebble.KeyRange{Start: f.first, End: end}); err != nil {
		return errors.Join(fmt.Errorf("put the new table in place: %w", corrupted(err)), removeIfThere(s.opts.fs(), path))
	}
	return removeIfThere(s.opts.fs(), path)
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
	}
	return from + 1, to
}

// findLost returns the stretches between two lsns whose blocks cannot be read.
func (s *Store) findLost(first, last uint64) (gaps []lost, err error) {
	v := &verifier{store: s, end: last, log: newLogCheck(&s.history, false)}
	for next := first; next <= last; {
		r, err := s.blockReader()
		if err != nil {
			return nil, err
		}
		found, err := r.from(max(next, v.beyond))
		for err == nil && found && r.cur.first <= next && next <= last {
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
	return gaps, nil
}

// refillPatience is how long the source may say nothing.
const refillPatience = 30 * time.Second

// refill builds the blocks of a stretch from the source's events, and proves them by the chain.
func (s *Store) refill(ctx context.Context, g *lost, source Source) error {
	if g.first <= s.history.base() {
		return fmt.Errorf("%w: they are of an earlier life of the log", eventstore.ErrUnsupported)
	}
	if s.noted.Load() {
		return fmt.Errorf("%w: there are events of other logs among them, whose places no topic knows; put back the last good copy of the folder", eventstore.ErrUnsupported)
	}
	chain, after := s.history.begin().chain, eventstore.Position{}
	if g.first > 1 {
		page, err := s.readPage(nil, g.first-1, g.first-1, pageLimits{events: 1, chain: true})
		if err != nil {
			return err
		}
		before := &page[0]
		chain, after = s.history.onward(logHead{lsn: g.first - 1, chain: before.Chain}).chain, before.Position
		if !before.EndsBatch() { // sources give whole batches
			after.LSN -= before.Dot.Seq - before.Batch.FirstSeq + 1
		}
		if after.LSN == 0 {
			after = eventstore.Position{}
		}
	}
	sub, err := source.Subscribe(ctx, after, eventstore.Filter{})
	if err != nil {
		return err
	}
	defer sub.Close()
	var w blockWriter
	next := g.first
	seal := func() {
		if len(w.ends) > 0 {
			g.blocks = append(g.blocks, refilled{next - 1, bytes.Clone(w.seal())})
			w.ends = w.ends[:0]
		}
	}
	for next <= g.last {
		waiting, cancel := context.WithTimeout(ctx, refillPatience)
		chunk, err := sub.Next(waiting)
		cancel()
		if err != nil {
			return fmt.Errorf("event at lsn %d: %w", next, err)
		}
		for i := range chunk.Events {
			e := &chunk.Events[i]
			if e.Position.LSN < next || next > g.last {
				continue
			}
			if e.Position != s.position(next) {
				return fmt.Errorf("event at lsn %d: %w: there comes %s", next, eventstore.ErrCorrupt, e.Position)
			}
			if len(w.ends) == 0 {
				w.reset(next, e.Dot.Seq-1, chain)
			}
			content := eventstore.AppendContent(nil, e)
			w.add(e, content)
			chain = eventstore.NextChain(chain, e.Dot.Seq, e.HLC, e.Version, eventstore.ContentHash(content))
			next++
			if w.size() >= blockBytes {
				seal()
			}
		}
	}
	seal()
	want, err := s.chainBefore(g)
	if err != nil {
		return err
	}
	if chain != want {
		return fmt.Errorf("%w: they are other events than those that stood here: the hash chain after them is %x, it was %x", eventstore.ErrCorrupt, chain[:8], want[:8])
	}
	return nil
}

// chainBefore returns the chain that what follows a stretch goes on from.
func (s *Store) chainBefore(g *lost) (eventstore.Hash, error) {
	if state := s.recent.state(); state.lsn == g.last {
		return state.chain, nil
	}
	r, err := s.blockReader()
	if err != nil {
		return eventstore.Hash{}, err
	}
	defer r.close()
	found, err := r.from(g.beyond)
	if err == nil && (!found || r.cur.first != g.last+1) {
		err = fmt.Errorf("%w: no block begins at lsn %d", eventstore.ErrCorrupt, g.last+1)
	}
	return r.cur.chain, err
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
