package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage"
	"github.com/cockroachdb/pebble/v2/sstable"
	tableblock "github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// ScrubOptions say how a scrub goes about it. The zero value is good.
type ScrubOptions struct {
	// BytesPerSecond bounds what is read; zero means 8 MiB, a negative one no bound.
	BytesPerSecond int64
	// Repair puts right what can be put right.
	Repair bool
	// Source has the log's own events too, such as the topic of its mirror; nil: there is no such thing. Holders have those of any
	// log. Without the one and the others what the log has lost cannot be had again.
	Source  Source
	Holders []Holder
	// MaxRefillBytes bounds the content of what is put in again at a time, which is in memory; zero means 1 GiB.
	MaxRefillBytes int
	// Progress, when not nil, is called now and then.
	Progress func(done, total int64)
}

// Source gives back what the log has lost.
type Source interface {
	// Subscribe is eventstore.Reader's.
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error)
}

// ScrubReport is what a scrub found.
type ScrubReport struct {
	Tables int          `json:"tables"` // of both databases
	WALs   int          `json:"wals"`
	Bytes  int64        `json:"bytes"`
	Faults []ScrubFault `json:"faults"`
}

// Unrepaired returns how many faults are left.
func (r *ScrubReport) Unrepaired() (n int) {
	for i := range r.Faults {
		if !r.Faults[i].Repaired {
			n++
		}
	}
	return n
}

// ScrubFault is a damaged file.
type ScrubFault struct {
	Database string `json:"database"` // log or index
	File     string `json:"file"`
	// FirstLSN and LastLSN bound what may be harmed in the log; zero in the index, which is made from the log.
	FirstLSN uint64 `json:"first_lsn,omitempty"`
	LastLSN  uint64 `json:"last_lsn,omitempty"`
	Problem  string `json:"problem"`
	Repaired bool   `json:"repaired"`
	// Left says why it is not repaired and what to do; empty when it is.
	Left string `json:"left,omitempty"`

	first, last []byte // keys of the table
	wal         bool
}

// String is a line for people.
func (f *ScrubFault) String() string {
	s := fmt.Sprintf("%s: %s is damaged", f.Database, f.File)
	if f.LastLSN > 0 {
		s += fmt.Sprintf(", lsn %d to %d", f.FirstLSN, f.LastLSN)
	}
	s += ": " + f.Problem
	if f.Repaired {
		return s + "; repaired"
	}
	return s + "; " + f.Left
}

// Scrub reads every table of both databases and the log's WAL from the disk, past all caches, and checks the checksums. It
// holds nobody up. With Repair:
//   - The WAL's events are in memory too: they are written to a table, and the WAL goes.
//   - The index is made anew from the log, beside the old one.
//   - A table of the log is made anew, from its parts that are whole, the Source and the Holders; the hash chains prove that the
//     events are those that were lost.
//
// Faults are in the report; the error is for what kept it from looking.
func (s *Store) Scrub(ctx context.Context, o ScrubOptions) (ScrubReport, error) {
	select {
	case s.scrubbing <- struct{}{}:
		defer func() { <-s.scrubbing }()
	case <-ctx.Done():
		return ScrubReport{}, fmt.Errorf("wait for the scrub that is under way: %w", ctx.Err())
	}
	if o.BytesPerSecond == 0 {
		o.BytesPerSecond = 8 << 20
	}
	x := &scrub{store: s, o: o, began: time.Now()}
	s.scrubState.Store(&ScrubState{Running: true})
	err := x.run(ctx)
	state := &ScrubState{Done: x.report.Bytes, Total: x.report.Bytes, Ended: time.Now(), Faults: len(x.report.Faults), Unrepaired: x.report.Unrepaired()}
	if err != nil {
		state.Err = err.Error()
	}
	s.scrubState.Store(state)
	return x.report, err
}

// Doubted gives a signal when a read has come upon damage since the last one was taken: it is time for a scrub.
func (s *Store) Doubted() <-chan struct{} { return s.doubted }

// doubt has it known that a read ended with an error that speaks of damage. Of archives a scrub sees nothing.
func (s *Store) doubt(err error) {
	if !errors.Is(err, eventstore.ErrCorrupt) || errors.Is(err, eventstore.ErrArchiveDamaged) {
		return
	}
	select {
	case s.doubted <- struct{}{}:
	default:
	}
}

// doubtDamaged has it known, too, that Pebble has come upon damage by itself, such as in a compaction, which it tries again and again:
// once for each table.
func (s *Store) doubtDamaged(from *pebble.EventListener) {
	var known sync.Map // paths
	say := from.DataCorruption
	from.DataCorruption = func(info pebble.DataCorruptionInfo) {
		say(info)
		if _, before := known.LoadOrStore(info.Path, true); !before {
			s.doubt(fmt.Errorf("%w: %s", eventstore.ErrDamaged, info.Path))
		}
	}
}

// ScrubState says how the scrub is that is under way, else how the last one ended; the zero value when there was none.
type ScrubState struct {
	Running     bool
	Done, Total int64 // bytes
	Ended       time.Time
	// Faults were found, Unrepaired of them are left.
	Faults, Unrepaired int
	Err                string
}

type scrub struct {
	store  *Store
	o      ScrubOptions
	began  time.Time
	total  int64
	report ScrubReport
}

func (x *scrub) run(ctx context.Context) error {
	release, err := x.store.useFor(ctx)
	if err != nil {
		return err
	}
	var tables []scrubTable
	for _, d := range []scrubDatabase{x.log(), x.index()} {
		d.options.EnsureDefaults()
		found, err := d.tables()
		if err != nil {
			release()
			return fmt.Errorf("list tables of the %s: %w", d.name, err)
		}
		for _, t := range found {
			t.database, t.dir, t.options = d.name, d.dir, d.options
			tables = append(tables, t)
			x.total += t.size
		}
	}
	release()
	if err := x.wal(ctx); err != nil {
		return err
	}
	for i := range tables {
		if err := x.table(ctx, &tables[i]); err != nil {
			return err
		}
	}
	if !x.o.Repair {
		for i := range x.report.Faults {
			x.report.Faults[i].Left = "it is not repaired unless that is asked for"
		}
		return nil
	}
	return x.repair(ctx)
}

// scrubDatabase is a database as it is open now: the store opens it anew when its disk has room again.
type scrubDatabase struct {
	name    string
	tables  func() ([]scrubTable, error)
	dir     string
	options *pebble.Options
}

// REQUIRES: the store is in use, for as long as the database is.
func (x *scrub) log() scrubDatabase {
	files := x.store.opts.fs()
	return scrubDatabase{"log", func() ([]scrubTable, error) { return tablesOf(x.store.log) }, files.PathJoin(x.store.dir, "log"), x.store.opts.logOptions(files, nil)}
}

// REQUIRES: the store is in use, for as long as the database is.
func (x *scrub) index() scrubDatabase {
	index := x.store.index
	tables := func() ([]scrubTable, error) {
		if err := index.hold(); err != nil {
			return nil, err
		}
		defer index.letGo()
		return tablesOf(index.db)
	}
	return scrubDatabase{"index", tables, index.dir, x.store.opts.indexOptions(index.fs, nil)}
}

// scrubTable is a table's file.
type scrubTable struct {
	database, dir string
	options       *pebble.Options
	name          string
	size          int64
	first, last   []byte // keys, over all that the file stands for
}

// tablesOf lists the files of a database's tables.
func tablesOf(db *pebble.DB) ([]scrubTable, error) {
	levels, err := db.SSTables()
	if err != nil {
		return nil, err
	}
	var out []scrubTable
	for _, level := range levels {
		for _, info := range level {
			t := scrubTable{name: fmt.Sprintf("%s.sst", info.BackingSSTNum), size: int64(info.Size), first: info.Smallest.UserKey, last: info.Largest.UserKey}
			if i := slices.IndexFunc(out, func(o scrubTable) bool { return o.name == t.name }); i >= 0 { // parts of one file
				out[i].size += t.size
				out[i].first = slices.MinFunc([][]byte{out[i].first, t.first}, bytes.Compare)
				out[i].last = slices.MaxFunc([][]byte{out[i].last, t.last}, bytes.Compare)
				continue
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// table reads a table's file. One that is not in use any more when it was found damaged does not count.
func (x *scrub) table(ctx context.Context, t *scrubTable) error {
	before := x.report.Bytes
	fault := x.readTable(ctx, t)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	x.report.Tables++
	x.report.Bytes = before + t.size // blocks are read in another order than they stand, and some twice
	if fault == nil {
		return nil
	}
	release, err := x.store.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	now := x.log()
	if t.database == "index" {
		now = x.index()
	}
	if now.dir != t.dir { // one that was in memory while the disk was full
		return nil
	}
	live, err := now.tables()
	if err != nil {
		return fmt.Errorf("list tables of the %s: %w", t.database, err)
	}
	if !slices.ContainsFunc(live, func(o scrubTable) bool { return o.name == t.name }) {
		return nil
	}
	f := ScrubFault{Database: t.database, File: t.name, Problem: firstLine(corrupted(fault)), first: t.first, last: t.last}
	if t.database == "log" {
		f.FirstLSN, f.LastLSN = x.store.spanOf(t.first, t.last)
	}
	x.found(f)
	return nil
}

func (x *scrub) found(f ScrubFault) {
	x.store.opts.Logger.Error("a scrub found a damaged file", "fault", f.Database+"/"+f.File, "problem", f.Problem)
	x.report.Faults = append(x.report.Faults, f)
}

// readTable reads every block of a table, and checks its checksum.
func (x *scrub) readTable(ctx context.Context, t *scrubTable) (fault error) {
	file, err := t.options.FS.Open(t.options.FS.PathJoin(t.dir, t.name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(paced{file, x, ctx})
	if err != nil {
		return errors.Join(err, file.Close())
	}
	r, err := sstable.NewReader(ctx, readable, t.options.MakeReaderOptions())
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), validateValues(ctx, r, readable), r.Close())
}

// validateValues checks the blocks of values that stand apart from their keys, which Pebble's own check leaves out.
func validateValues(ctx context.Context, r *sstable.Reader, from objstorage.Readable) error {
	layout, err := r.Layout()
	if err != nil {
		return err
	}
	var b []byte
	for _, handle := range layout.ValueBlock {
		b = slices.Grow(b[:0], int(handle.Length)+tableblock.TrailerLen)[:handle.Length+tableblock.TrailerLen]
		if err := from.ReadAt(ctx, b, int64(handle.Offset)); err != nil {
			return err
		}
		if err := tableblock.ValidateChecksum(tableblock.ChecksumTypeCRC32c, b, handle); err != nil {
			return err
		}
	}
	return nil
}

// paced reads a file no faster than the scrub may, until ctx ends, which readers of files do not pass on.
type paced struct {
	vfs.File
	x   *scrub
	ctx context.Context
}

// ReadAt implements io.ReaderAt.
func (p paced) ReadAt(b []byte, offset int64) (int, error) {
	if err := p.x.pace(p.ctx, len(b)); err != nil {
		return 0, err
	}
	return p.File.ReadAt(b, offset)
}

// Read implements io.Reader.
func (p paced) Read(b []byte) (int, error) {
	if err := p.x.pace(p.ctx, len(b)); err != nil {
		return 0, err
	}
	return p.File.Read(b)
}

// pace waits until n more bytes may be read.
func (x *scrub) pace(ctx context.Context, n int) error {
	x.report.Bytes += int64(n)
	x.store.scrubState.Store(&ScrubState{Running: true, Done: min(x.report.Bytes, x.total), Total: x.total})
	if x.o.Progress != nil {
		x.o.Progress(min(x.report.Bytes, x.total), x.total)
	}
	if x.o.BytesPerSecond < 0 {
		return ctx.Err()
	}
	due := x.began.Add(time.Duration(float64(x.report.Bytes) / float64(x.o.BytesPerSecond) * float64(time.Second)))
	select {
	case <-time.After(time.Until(due)):
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// repair puts right what can be put right: the log first, of which the index is made.
func (x *scrub) repair(ctx context.Context) error {
	s := x.store
	var log, index []*ScrubFault
	for i := range x.report.Faults {
		f := &x.report.Faults[i]
		if err := s.space.err(); err != nil {
			f.Left = err.Error()
			continue
		}
		switch {
		case f.Database == "index":
			index = append(index, f)
		case f.wal:
			x.settle(x.flushWAL(ctx), f)
		case bytes.Equal(f.first, metaKey) && bytes.Equal(f.last, metaKey):
			x.settle(x.replaceSignpost(ctx), f)
		default:
			log = append(log, f)
		}
	}
	x.tables(ctx, adjoining(log))
	if len(index) > 0 {
		x.settle(s.renewIndex(ctx), index...)
	}
	return ctx.Err()
}

// tables makes damaged tables of the log anew. What is lost of one may be proved by another: so each is tried again when another is
// whole, and then all together.
func (x *scrub) tables(ctx context.Context, left []tableRange) {
	for before := len(left) + 1; len(left) > 0 && len(left) < before; {
		before = len(left)
		left = slices.DeleteFunc(left, func(t tableRange) bool {
			err := x.store.repairTables(ctx, []tableRange{t}, &x.o)
			if err == nil || before == 1 {
				x.settle(err, t.faults...)
			}
			return err == nil || before == 1
		})
	}
	if len(left) == 0 {
		return
	}
	err := x.store.repairTables(ctx, left, &x.o)
	for _, t := range left {
		x.settle(err, t.faults...)
	}
}

// settle says what became of faults.
func (x *scrub) settle(err error, faults ...*ScrubFault) {
	for _, f := range faults {
		if f.Repaired = err == nil; f.Repaired {
			x.store.opts.Logger.Warn("a damaged file is repaired", "file", f.Database+"/"+f.File)
			continue
		}
		f.Left = "it cannot be repaired: " + firstLine(err)
		x.store.opts.Logger.Error("a damaged file cannot be repaired", "file", f.Database+"/"+f.File, "error", err)
	}
}

// replaceSignpost is Store.replaceSignpost for those who do not hold the databases.
func (x *scrub) replaceSignpost(ctx context.Context) error {
	release, err := x.store.useFor(ctx)
	if err != nil {
		return err
	}
	defer release()
	return x.store.replaceSignpost(ctx)
}
