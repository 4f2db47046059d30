package pebblestore

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// tableMap says where in a file of the log database the frame of each event stands. A table never changes, and its blocks
// are not compressed: so an event is read by its own bytes alone. Through an iterator it costs ten times as much, for
// Pebble looks through its levels and then reads, checks and caches the 16 KiB around the event.
//
// What is read is not taken on trust: a frame has a checksum, and whoever asked for it compares stream and version.
type tableMap struct {
	number string // of the file
	first  uint64 // lsn
	file   vfs.File
	frames []framePlace
	used   atomic.Bool // since room was looked for last
}

// framePlace is the offset of a frame in its file, whether its event revises, and its length in the lower bits.
type framePlace uint64

const (
	frameLengthBits = 24
	maxFrameLength  = 1<<frameLengthBits - 1
	revisingFrame   = 1 << frameLengthBits
	framePlaceBytes = 8
)

func (p framePlace) offset() int64  { return int64(p >> (frameLengthBits + 1)) }
func (p framePlace) revising() bool { return p&revisingFrame != 0 }
func (p framePlace) length() int    { return int(p & maxFrameLength) }

// last returns the lsn of the table's last event.
func (t *tableMap) last() uint64 { return t.first + uint64(len(t.frames)) - 1 }

// tableMaps are the maps of the tables that single events are read from often. They are made in the background, while
// readers go through Pebble, and take limit bytes at most; those that are not used give way.
type tableMaps struct {
	files  vfs.FS
	dir    string
	format *pebble.Options
	limit  int
	wanted chan uint64 // lsns that no map has

	mu     sync.RWMutex // held for reading while files are read; guards what follows
	tables []*tableMap  // in order
	firsts []uint64     // lsns that they begin with, side by side: who reads a stream looks for a table for each event
	bytes  int

	replaced atomic.Uint64 // how often tables were replaced whose files may be there for a while yet

	db     *pebble.DB // this and what follows is run's own
	known  []knownTable
	listed time.Time // when known was brought up to date
	since  uint64    // of replaced, when known was
}

// knownTable is a table of the log database that may be mapped.
type knownTable struct {
	number string
	from   []byte // its first block's key
	to     []byte // the first key that is beyond it
	next   []byte // where the next table begins
	misses int
}

const (
	mapAfter      = 8                      // events that are read from a table before it is mapped
	listTablesGap = 100 * time.Millisecond // how often the tables are listed at most
)

// newTableMaps returns the maps of a database in a folder, with the options with which it is opened.
func newTableMaps(files vfs.FS, dir string, o *pebble.Options, limit int) *tableMaps {
	format := o.Clone()
	format.EnsureDefaults()
	return &tableMaps{files: files, dir: dir, format: format, limit: limit, wanted: make(chan uint64, 64)}
}

// want says that an event was read that no map has. It never waits: it is no loss if a few are not counted.
func (m *tableMaps) want(lsn uint64) {
	select {
	case m.wanted <- lsn:
	default:
	}
}

// run makes maps until done is closed, and then closes their files.
func (m *tableMaps) run(db *pebble.DB, logger *slog.Logger, done <-chan struct{}) {
	m.db = db
	for {
		select {
		case lsn := <-m.wanted:
			began := time.Now()
			evicted, err := m.consider(lsn)
			if err != nil {
				logger.Warn("a table of the log cannot be mapped: its events take longer to read", "error", err)
			}
			if evicted { // the tables that are read do not all have room: making maps must not become the main work
				select {
				case <-time.After(10 * time.Since(began)):
				case <-done:
				}
			}
		case <-done:
			m.close()
			return
		}
	}
}

func (m *tableMaps) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tables {
		_ = t.file.Close() // was only read
	}
	m.tables, m.firsts, m.bytes = nil, nil, 0
}

// consider counts a read of an event, and maps its table when that is worth it.
func (m *tableMaps) consider(lsn uint64) (evicted bool, err error) {
	replaced := m.replaced.Load()
	if replaced != m.since {
		m.known, m.listed, m.since = nil, time.Time{}, replaced
	}
	t := m.tableOf(lsn)
	if t == nil || m.has(lsn) {
		return false, nil
	}
	if t.misses++; t.misses < mapAfter {
		return false, nil
	}
	t.misses = 0
	mapped, err := m.mapTable(t)
	if err != nil || mapped == nil {
		return false, err
	}
	return m.put(mapped, replaced), nil
}

func (m *tableMaps) has(lsn uint64) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	t, _ := m.find(lsn)
	return t != nil
}

// tableOf returns the table that has the event; nil when it is not in a table yet.
func (m *tableMaps) tableOf(lsn uint64) *knownTable {
	key := blockKey(lsn)
	find := func() *knownTable {
		i, found := slices.BinarySearchFunc(m.known, key, func(t knownTable, key []byte) int { return bytes.Compare(t.from, key) })
		if !found {
			i--
		}
		if i < 0 || bytes.Compare(key, m.known[i].to) >= 0 {
			return nil
		}
		return &m.known[i]
	}
	if t := find(); t != nil || time.Since(m.listed) < listTablesGap {
		return t
	}
	m.list()
	return find()
}

// list brings known up to date.
func (m *tableMaps) list() {
	m.listed = time.Now()
	levels, err := m.db.SSTables()
	if err != nil { // of no consequence: reading goes on without maps, and says what is wrong
		return
	}
	m.known = m.known[:0]
	for _, level := range levels {
		for i := range level {
			t := &level[i]
			from, to := t.Smallest.UserKey, append(bytes.Clone(t.Largest.UserKey), 0)
			if bytes.Compare(from, firstBlock) < 0 {
				from = firstBlock
			}
			if bytes.Compare(to, afterBlocks) > 0 {
				to = afterBlocks
			}
			if !t.Virtual && bytes.Compare(from, to) < 0 {
				m.known = append(m.known, knownTable{number: t.BackingSSTNum.String(), from: bytes.Clone(from), to: to})
			}
		}
	}
	slices.SortFunc(m.known, func(a, b knownTable) int { return bytes.Compare(a.from, b.from) })
	for i := range m.known {
		t := &m.known[i]
		if t.next = afterBlocks; i+1 < len(m.known) {
			t.next = m.known[i+1].from
		}
		if bytes.Compare(t.next, t.to) < 0 { // the table with the log's name in it seems to go on behind all blocks
			t.to = t.next
		}
	}
}

// mapTable makes the map of a table from its file. Nil when there is nothing in it that can be read in this way.
func (m *tableMaps) mapTable(t *knownTable) (_ *tableMap, err error) {
	file, err := m.files.Open(m.files.PathJoin(m.dir, t.number+".sst"), vfs.RandomReadsOption)
	if err != nil { // it has been deleted: the next list will not have it
		m.known, m.listed = nil, time.Time{}
		return nil, nil
	}
	mapped := &tableMap{number: t.number, file: file}
	defer func() {
		if err != nil || len(mapped.frames) == 0 {
			_ = file.Close() // was only read
		}
	}()
	whole := true
	for b, err := range blocksOfTable(file, m.format) {
		if err != nil {
			return nil, fmt.Errorf("map table %s: %w", t.number, err)
		}
		if len(mapped.frames) == 0 {
			mapped.first = b.first
		}
		whole = whole && b.first == mapped.last()+1 && (len(mapped.frames)+b.count)*framePlaceBytes <= m.limit
		if !whole {
			break
		}
		if err := mapped.add(&b.block, b.offset); err != nil {
			return nil, fmt.Errorf("map table %s: %w", t.number, err)
		}
	}
	// Of tables that overlap, one has what is out of date.
	if !whole || bytes.Compare(blockKey(mapped.last()), t.next) >= 0 {
		mapped.frames = nil
	}
	if len(mapped.frames) == 0 {
		return nil, nil
	}
	mapped.frames = slices.Clip(mapped.frames)
	return mapped, nil
}

// add adds the frames of a block that begins at an offset of the file.
func (t *tableMap) add(b *block, offset int64) error {
	for i := range b.count {
		frame, err := b.frame(i)
		if err != nil {
			return err
		}
		if len(frame) > maxFrameLength {
			return fmt.Errorf("%w: a frame of %d bytes", eventstore.ErrCorrupt, len(frame))
		}
		place := framePlace(offset)<<(frameLengthBits+1) | framePlace(len(frame))
		if len(b.notes) > 0 && b.notes[i].has(noteRevises) {
			place |= revisingFrame
		}
		t.frames = append(t.frames, place)
		offset += int64(len(frame))
	}
	return nil
}

// put takes a map if there is room, or room can be made, and no tables were replaced since it was begun.
func (m *tableMaps) put(t *tableMap, replaced uint64) (evicted bool) {
	need := len(t.frames) * framePlaceBytes
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bytes+need > m.limit {
		evicted = true
		m.remove(func(old *tableMap) bool { return m.bytes+need > m.limit && !old.used.Swap(false) })
	}
	// A table that is deleted from here on is removed after this.
	_, err := m.files.Stat(m.files.PathJoin(m.dir, t.number+".sst"))
	i, there := m.place(t.first)
	if err != nil || m.bytes+need > m.limit || there || m.replaced.Load() != replaced {
		_ = t.file.Close() // was only read
		return evicted
	}
	m.tables = slices.Insert(m.tables, i, t)
	m.firsts = slices.Insert(m.firsts, i, t.first)
	m.bytes += need
	return evicted
}

// deleted forgets a table whose file was deleted, so that its space is free.
func (m *tableMaps) deleted(number string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remove(func(t *tableMap) bool { return t.number == number })
}

// forgetReplaced forgets tables that the database has replaced, or shows a part of, whose files may be there for a while yet.
func (m *tableMaps) forgetReplaced(db *pebble.DB) error {
	plain, err := plainTables(db)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replaced.Add(1)
	m.remove(func(t *tableMap) bool { return !plain[t.number] })
	return nil
}

// remove forgets tables. REQUIRES: mu is held.
func (m *tableMaps) remove(which func(*tableMap) bool) {
	m.tables = slices.DeleteFunc(m.tables, func(t *tableMap) bool {
		if !which(t) {
			return false
		}
		m.bytes -= len(t.frames) * framePlaceBytes
		_ = t.file.Close() // was only read
		return true
	})
	m.firsts = m.firsts[:0]
	for _, t := range m.tables {
		m.firsts = append(m.firsts, t.first)
	}
}

// place returns where the table that begins at an lsn stands among tables. REQUIRES: mu is held, for reading at least.
func (m *tableMaps) place(first uint64) (i int, there bool) {
	return slices.BinarySearch(m.firsts, first)
}

// find returns the map that has an event, and its frame's place there; nil when none has. REQUIRES: mu is held, for
// reading at least.
func (m *tableMaps) find(lsn uint64) (*tableMap, framePlace) {
	i, there := m.place(lsn)
	if !there {
		i--
	}
	if i < 0 || lsn > m.tables[i].last() {
		return nil, 0
	}
	return m.tables[i], m.tables[i].frames[lsn-m.tables[i].first]
}

// read reads the frames of the events at the given lsns, as far as they are in maps: frames has nil for the others. All
// frames share one piece of memory, which is whole if it has all of them one after the other. An error of the disk is left to
// those who read through Pebble. revising are the lsns of those that revise.
func (m *tableMaps) read(lsns []uint64) (frames [][]byte, whole []byte, revising []uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	type piece struct {
		table *tableMap
		place framePlace
	}
	pieces := make([]piece, len(lsns))
	size, complete := 0, true
	for i, lsn := range lsns {
		p := &pieces[i]
		if p.table, p.place = m.find(lsn); p.table != nil {
			size += p.place.length()
			if p.place.revising() {
				revising = append(revising, lsn)
			}
		} else {
			complete = false
		}
	}
	if size == 0 {
		return nil, nil, nil
	}
	frames = make([][]byte, len(lsns))
	memory := make([]byte, size)
	if complete {
		whole = memory
	}
	for i := 0; i < len(pieces); {
		p := &pieces[i]
		if p.table == nil {
			i++
			continue
		}
		if !p.table.used.Load() {
			p.table.used.Store(true)
		}
		// Frames that stand one after the other are read together.
		end, length := i+1, p.place.length()
		for end < len(pieces) && pieces[end].table == p.table && pieces[end].place.offset() == p.place.offset()+int64(length) {
			length += pieces[end].place.length()
			end++
		}
		if _, err := p.table.file.ReadAt(memory[:length], p.place.offset()); err == nil {
			for start := 0; i < end; i++ {
				next := start + pieces[i].place.length()
				frames[i] = memory[start:next:next]
				start = next
			}
		} else {
			whole = nil
		}
		memory, i = memory[length:], end
	}
	return frames, whole, revising
}
