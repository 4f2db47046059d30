package pebblestore

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	tableblock "github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableList says which table of the log database holds an event, and keeps the files open that are read from start to
// end. It is safe for concurrent use.
//
// Blocks are written once, in the order of the log, so that tables follow each other as the log does. Where they overlap,
// some block has been written twice, and Pebble alone knows which holds; tables that Pebble shows in part are left to it
// too.
type tableList struct {
	files  vfs.FS
	dir    string
	format *pebble.Options
	db     *pebble.DB

	changed atomic.Bool // since tables was made
	listing sync.Mutex  // held by who asks Pebble, which must not be asked under mu: it may wait for deleted

	mu     sync.RWMutex // held for reading while a file is read; guards what follows
	tables []logTable   // in order
	open   []*tableFile // the last few that were used, in the order of their opening
}

// logTable is a table that has the blocks of a stretch of the log.
type logTable struct {
	number string // of the file
	after  uint64 // lsn: no event before it or at it is in the table
	last   uint64 // lsn of its last event
}

// tableFile is a table's file and where its data blocks are.
type tableFile struct {
	number string
	file   vfs.File
	blocks []tableblock.HandleWithProperties
}

// maxTableFiles is how many files are kept open: those of a few scans at different places.
const maxTableFiles = 16

func newTableList(files vfs.FS, dir string, o *pebble.Options) *tableList {
	format := o.Clone()
	format.EnsureDefaults()
	return &tableList{files: files, dir: dir, format: format}
}

// watch has the list learn of new and deleted tables.
func (l *tableList) watch(to *pebble.EventListener) {
	to.FlushEnd = func(pebble.FlushInfo) { l.changed.Store(true) }
	to.CompactionEnd = func(pebble.CompactionInfo) { l.changed.Store(true) }
	to.TableIngested = func(pebble.TableIngestInfo) { l.changed.Store(true) }
}

// use sets the database whose tables are listed. It is called before anybody asks.
func (l *tableList) use(db *pebble.DB) {
	l.db = db
	l.changed.Store(true)
}

// find returns the table that holds an event. Events that are in no table yet have none.
func (l *tableList) find(lsn uint64) (logTable, bool) {
	if t, ok := l.look(lsn); ok || !l.changed.Load() {
		return t, ok
	}
	l.list()
	return l.look(lsn)
}

func (l *tableList) look(lsn uint64) (logTable, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i, _ := slices.BinarySearchFunc(l.tables, lsn, func(t logTable, lsn uint64) int { return cmp.Compare(t.last, lsn) })
	if i == len(l.tables) || lsn <= l.tables[i].after {
		return logTable{}, false
	}
	return l.tables[i], true
}

// list asks Pebble for the tables.
func (l *tableList) list() {
	l.listing.Lock()
	defer l.listing.Unlock()
	if !l.changed.Swap(false) {
		return
	}
	levels, err := l.db.SSTables()
	if err != nil { // of no consequence: who reads through Pebble learns what is wrong
		return
	}
	tables := l.inOrder(levels)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tables = tables
}

// inOrder returns those of a database's tables that can be read by themselves, in the order of the log.
func (l *tableList) inOrder(levels [][]pebble.SSTableInfo) (tables []logTable) {
	type table struct {
		logTable
		first uint64 // last lsn of the first block
		plain bool
	}
	var all []table
	for _, level := range levels {
		for i := range level {
			t := &level[i]
			first, isBlock := blockKeyLSN(t.Smallest.UserKey)
			if !isBlock { // it begins with what stands before the blocks
				first = l.firstBlockOf(t.BackingSSTNum.String())
			}
			// One that goes on behind the blocks is of an earlier version: where they end in it is not known.
			if last, isBlock := blockKeyLSN(t.Largest.UserKey); isBlock {
				all = append(all, table{logTable{number: t.BackingSSTNum.String(), last: last}, first, !t.Virtual})
			}
		}
	}
	slices.SortFunc(all, func(a, b table) int { return cmp.Compare(a.first, b.first) })
	before := uint64(0)
	for i := range all {
		t := &all[i]
		overlaps := t.first <= before || i+1 < len(all) && all[i+1].first <= t.last
		if t.after = before; t.plain && !overlaps {
			tables = append(tables, t.logTable)
		}
		before = max(before, t.last)
	}
	return tables
}

// firstBlockOf returns the lsn of the first block's key in a table, 1 when it cannot be read.
func (l *tableList) firstBlockOf(number string) uint64 {
	file, err := l.files.Open(l.files.PathJoin(l.dir, number+".sst"))
	if err != nil {
		return 1
	}
	defer file.Close()
	for b, err := range blocksOfTable(file, l.format) {
		if err != nil {
			return 1
		}
		return b.last()
	}
	return 1
}

// deleted lets go of a table whose file was deleted, so that its space is free.
func (l *tableList) deleted(number string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Store(true)
	l.tables = slices.DeleteFunc(l.tables, func(t logTable) bool { return t.number == number })
	l.open = slices.DeleteFunc(l.open, func(f *tableFile) bool {
		if f.number == number {
			_ = f.file.Close() // was only read
		}
		return f.number == number
	})
}

// forgetReplaced lets go of tables that the database has replaced, or shows a part of, whose files may be there for a while yet.
func (l *tableList) forgetReplaced() error {
	l.listing.Lock() // who has asked Pebble before has taken in what it said
	defer l.listing.Unlock()
	plain, err := plainTables(l.db)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Store(true)
	l.tables = slices.DeleteFunc(l.tables, func(t logTable) bool { return !plain[t.number] })
	l.open = slices.DeleteFunc(l.open, func(f *tableFile) bool {
		if !plain[f.number] {
			_ = f.file.Close() // was only read
		}
		return !plain[f.number]
	})
	return nil
}

// close closes all files. What is asked afterwards is not found.
func (l *tableList) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.open {
		_ = f.file.Close() // was only read
	}
	l.tables, l.open = nil, nil
	l.changed.Store(false)
}

// with calls a function with a table's file, which stays open until that returns.
func (l *tableList) with(t *logTable, read func(f *tableFile) error) error {
	for {
		if open, err := l.withOpened(t.number, read); open {
			return err
		}
		if err := l.openTable(t.number); err != nil {
			return err
		}
	}
}

func (l *tableList) withOpened(number string, read func(f *tableFile) error) (open bool, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f := l.opened(number)
	if f == nil {
		return false, nil
	}
	return true, read(f)
}

func (l *tableList) opened(number string) *tableFile {
	for _, f := range l.open {
		if f.number == number {
			return f
		}
	}
	return nil
}

func (l *tableList) openTable(number string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened(number) != nil {
		return nil
	}
	if !slices.ContainsFunc(l.tables, func(t logTable) bool { return t.number == number }) {
		return fmt.Errorf("table %s is not there any more", number)
	}
	file, err := l.files.Open(l.files.PathJoin(l.dir, number+".sst"), vfs.SequentialReadsOption)
	if err != nil {
		l.changed.Store(true)
		return fmt.Errorf("open table %s: %w", number, err)
	}
	blocks, err := dataBlocks(file, l.format)
	if err != nil {
		_ = file.Close() // was only read
		return fmt.Errorf("open table %s: %w", number, corrupted(err))
	}
	if len(l.open) == maxTableFiles {
		_ = l.open[0].file.Close() // was only read
		l.open = slices.Delete(l.open, 0, 1)
	}
	l.open = append(l.open, &tableFile{number, file, blocks})
	return nil
}
