package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// index is the database that says where things are in the log.
type index struct {
	fs   vfs.FS
	dir  string
	opts func() *pebble.Options
	db   *pebble.DB
	// sealed: it can only be read, for there is no room on the disk.
	sealed bool
	// place is held by who looks something up, for no longer than that takes, and by who puts another index in its place. It is
	// taken after all other locks.
	place sync.RWMutex
}

// hold keeps the index in its place until letGo is called. It is not called by who holds it already.
func (x *index) hold() error {
	x.place.RLock()
	if x.db == nil {
		x.place.RUnlock()
		return errNoIndex
	}
	return nil
}

func (x *index) letGo() { x.place.RUnlock() }

// mark is up to where the index is filled. It is written along with what it stands for.
type mark struct {
	logState
	log eventstore.LogID
}

// markFormat is the version of a mark's encoding, which the watermark has too. The index's own is its comparer's name.
const markFormat = 2

func (m mark) encode() []byte {
	b := []byte{markFormat, byte(len(m.log.Site))}
	b = append(b, m.log.Site...)
	b = binary.BigEndian.AppendUint32(b, m.log.Incarnation)
	b = binary.BigEndian.AppendUint16(b, m.log.Shard)
	b = binary.BigEndian.AppendUint64(b, m.lsn)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	b = binary.BigEndian.AppendUint64(b, m.streams)
	return append(b, m.chain[:]...)
}

func parseMark(b []byte) (m mark, ok bool) {
	if len(b) < 2 || b[0] != markFormat || len(b) != 2+int(b[1])+30+32 {
		return m, false
	}
	m.log.Site = string(b[2 : 2+b[1]])
	b = b[2+b[1]:]
	m.log.Incarnation, m.log.Shard = binary.BigEndian.Uint32(b), binary.BigEndian.Uint16(b[4:])
	m.lsn, m.seq, m.streams = binary.BigEndian.Uint64(b[6:]), binary.BigEndian.Uint64(b[14:]), binary.BigEndian.Uint64(b[22:])
	copy(m.chain[:], b[30:])
	return m, true
}

// open opens the database. One that is damaged or of a format that is not known is made anew: everything in it stands in
// the log. What merely could not be reached, for want of rights, descriptors or a working disk, is left as it is.
func (x *index) open() (removed error, err error) {
	x.db, err = pebble.Open(x.dir, x.opts())
	switch {
	case err == nil:
		return nil, nil
	case unusable(err), errors.Is(err, pebble.ErrDBDoesNotExist): // the latter of a sealed one that is not there
	default:
		return nil, fmt.Errorf("open index: %w; it is left as it is, and made anew if %s is deleted", err, x.dir)
	}
	removed = err
	return removed, x.wipe()
}

// unusable reports whether an error tells of the index's content: damage, a missing file, an unknown format.
func unusable(err error) bool {
	switch {
	case errors.Is(err, eventstore.ErrCorrupt), pebble.IsCorruptionError(err):
		return true
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, pebble.ErrDBNotPristine): // a file that others speak of is gone
		return true
	}
	// For these Pebble has no value to compare with.
	text := err.Error()
	return slices.ContainsFunc([]string{"format major version", "comparer name", "invalid marker filename", otherSize}, func(part string) bool {
		return strings.Contains(text, part)
	})
}

// wipe makes the database anew; a sealed one in memory.
func (x *index) wipe() error {
	if err := x.close(); err != nil {
		return err
	}
	if x.sealed {
		disk := x.opts
		x.fs, x.dir, x.sealed = vfs.NewMem(), "index", false
		x.opts = func() *pebble.Options {
			o := disk()
			o.FS, o.ReadOnly = x.fs, false
			return o
		}
	}
	if err := x.fs.RemoveAll(x.dir); err != nil {
		return fmt.Errorf("remove index: %w", err)
	}
	var err error
	if x.db, err = pebble.Open(x.dir, x.opts()); err != nil {
		return fmt.Errorf("create index: %w", err)
	}
	return nil
}

func (x *index) close() error {
	if x.db == nil {
		return nil
	}
	db := x.db
	x.db = nil
	if err := db.Close(); err != nil {
		return fmt.Errorf("close index: %w", err)
	}
	return nil
}

// seek returns an iterator at the first key from here on that has key's prefix, to be closed if there is one. It asks the
// filters of all levels; Pebble's Get passes over those of the last one and reads a block for each key that is not there.
func (x *index) seek(key []byte) (it *pebble.Iterator, found bool, err error) {
	it, err = x.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return nil, false, fmt.Errorf("read index: %w", corrupted(err))
	}
	if it.SeekPrefixGE(key) {
		return it, true, nil
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, false, fmt.Errorf("read index: %w", corrupted(err))
	}
	return nil, false, nil
}

// get calls read with the value of a key whose prefix it is itself. The value is valid during the call.
func (x *index) get(key []byte, read func(value []byte) (ok bool)) (found bool, err error) {
	it, found, err := x.seek(key)
	if err != nil || !found {
		return false, err
	}
	defer it.Close()
	value, err := it.ValueAndErr()
	if err != nil {
		return false, fmt.Errorf("read index: %w", corrupted(err))
	}
	if !read(value) {
		return false, fmt.Errorf("read index: %w: value of key %q is %x", eventstore.ErrCorrupt, key, value)
	}
	return true, nil
}

func (x *index) mark() (m mark, found bool, err error) {
	found, err = x.get(metaKey, func(b []byte) (ok bool) {
		m, ok = parseMark(b)
		return ok
	})
	return m, found, err
}

// head returns what a stream has come to, 0 when the index has none.
func (x *index) head(s eventstore.StreamID) (head streamHead, err error) {
	if err := x.hold(); err != nil {
		return 0, err
	}
	defer x.letGo()
	var buf [512]byte
	prefix := appendStreamKey(buf[:0], s)
	it, found, err := x.seek(prefix)
	if err != nil || !found {
		return 0, err
	}
	defer it.Close()
	run, err := parseRunEntry(it, len(prefix))
	if err != nil {
		return 0, err
	}
	head = streamHead(run.version())
	if run.revised {
		head |= revisedHead
	}
	return head, nil
}

// places returns the lsns of the stream's events of versions from to to. Errors match eventstore.ErrCorrupt when the
// index does not have them all.
func (x *index) places(s eventstore.StreamID, from, to uint64) (lsns []uint64, err error) {
	if from > to {
		return nil, nil
	}
	if err := x.hold(); err != nil {
		return nil, err
	}
	defer x.letGo()
	var buf [512]byte
	key := appendRunKey(buf[:0], s, to)
	it, found, err := x.seek(key)
	if err != nil {
		return nil, err
	}
	lsns = make([]uint64, to-from+1)
	missing := to // all after it are found
	if found {
		defer it.Close()
		for valid := true; valid && missing >= from; valid = it.Next() {
			run, err := parseRunEntry(it, len(key)-8)
			if err != nil {
				return nil, err
			}
			if run.first > missing || run.version() < missing {
				break
			}
			first := max(from, run.first)
			copy(lsns[first-from:], run.lsns[first-run.first:missing-run.first+1])
			missing = first - 1
		}
		if err := it.Error(); err != nil {
			return nil, fmt.Errorf("read index: %w", corrupted(err))
		}
	}
	if missing >= from {
		return nil, fmt.Errorf("read index: %w: stream %s, version %d is missing", eventstore.ErrCorrupt, s, missing)
	}
	return lsns, nil
}

// indexedRun is a run as an entry of the index has it.
type indexedRun struct {
	first   uint64 // version
	lsns    []uint64
	revised bool
}

func (r *indexedRun) version() uint64 { return r.first + uint64(len(r.lsns)) - 1 }

func parseRunEntry(it *pebble.Iterator, prefix int) (run indexedRun, err error) {
	key := it.Key()
	value, err := it.ValueAndErr()
	if err != nil {
		return run, fmt.Errorf("read index: %w", corrupted(err))
	}
	ok := len(key) == prefix+8
	if ok {
		run.first = ^binary.BigEndian.Uint64(key[prefix:])
		run.revised = len(value) > 0 && value[0] == revisedRun
		lsns := value
		if run.revised {
			lsns = value[1:]
		}
		run.lsns, ok = parseRun(nil, lsns)
	}
	if !ok || len(run.lsns) == 0 || run.first == 0 {
		return run, fmt.Errorf("read index: %w: value of key %q is %x", eventstore.ErrCorrupt, key, value)
	}
	return run, nil
}

// fill writes a generation in one batch, sorted, with the mark. It is not synced: what is lost comes from the log again.
func (x *index) fill(g *generation, log eventstore.LogID) error {
	batch := x.db.NewBatchWithSize(64 * (g.events + g.requests.len() + len(g.runs) + len(g.terms.runs)))
	defer batch.Close()
	set := func(key, value []byte) error { return batch.Set(key, value, nil) }
	if err := g.write(set); err != nil {
		return fmt.Errorf("fill index: %w", err)
	}
	if err := set(metaKey, mark{g.end, log}.encode()); err != nil {
		return fmt.Errorf("fill index: %w", err)
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("fill index: %w", err)
	}
	return nil
}

// write calls set with the generation's entries in the order of their keys.
func (g *generation) write(set func(key, value []byte) error) error {
	if err := g.writeRequests(set); err != nil {
		return err
	}
	var key, value []byte
	var lsns []uint64
	for _, i := range g.sorted() {
		run := &g.runs[i]
		lsns = run.appendTo(lsns[:0], run.first, run.version())
		for i := (len(lsns) - 1) / maxRun * maxRun; i >= 0; i -= maxRun {
			key = appendRunKey(key[:0], run.stream, run.first+uint64(i))
			value = value[:0]
			if run.revised {
				value = append(value, revisedRun)
			}
			value = appendRun(value, lsns[i:min(i+maxRun, len(lsns))])
			if err := set(key, value); err != nil {
				return err
			}
		}
	}
	if err := g.writeLogs(set); err != nil {
		return err
	}
	if err := g.terms.write(set); err != nil {
		return err
	}
	for _, tenant := range g.terms.tenants {
		if err := set(append([]byte{tenantPrefix}, tenant...), nil); err != nil {
			return err
		}
	}
	return nil
}

// sorted returns the places of the runs in the order of their keys; the zero byte that ends a name is less than all others.
// Most ids differ in the first eight bytes, which are compared as a number, side by side in memory.
func (g *generation) sorted() []int32 {
	type entry struct {
		prefix uint64
		run    int32
	}
	entries := make([]entry, len(g.runs))
	for i := range g.runs {
		var prefix [8]byte
		copy(prefix[:], g.runs[i].stream.ID)
		entries[i] = entry{binary.BigEndian.Uint64(prefix[:]), int32(i)}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		x, y := &g.runs[a.run].stream, &g.runs[b.run].stream
		if x.Tenant != y.Tenant {
			return strings.Compare(x.Tenant, y.Tenant)
		}
		if x.Category != y.Category {
			return strings.Compare(x.Category, y.Category)
		}
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return strings.Compare(x.ID, y.ID)
	})
	order := make([]int32, len(entries))
	for i := range entries {
		order[i] = entries[i].run
	}
	return order
}
