package pebblestore

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
	"github.com/tributary-es/tributary/internal/hlc"
)

// Options of a Store. Nil and the zero value are good.
type Options struct {
	// Site names the site in a new store, "local" when empty, and must fit an existing one unless it is empty.
	Site string
	// Shard is the number of the shard, from 0. It must fit an existing store.
	Shard uint16
	// Fence, when set, is asked before a request is accepted, on the goroutine that accepts all.
	Fence eventstore.Fence
	// Clock gives the events their time; nil means a new clock over time.Now. The store makes it run after every event
	// of the log.
	Clock *hlc.Clock
	// NewID gives ids to events that have none; nil means random UUIDv7s. It is called by many goroutines at once.
	NewID func() uuid.UUID
	// Logger gets what the store has to say, and what Pebble says; nil means slog.Default.
	Logger *slog.Logger
	// Fatal ends the process when going on would break a promise, such as after a failed sync. It must not return. Nil
	// means to exit with status 70. The message has been logged.
	Fatal func(message string)

	// CacheBytes is the memory for streams that were read, with their events, and for the index's blocks: an eighth, but at
	// least half of up to 32 MiB, is the index's; zero means 16 MiB. A quarter as much again may go to the places of events in
	// tables that are often read from, 8 bytes an event, and a sixteenth to blocks of the log. Each place of archived blocks
	// takes as much once more.
	CacheBytes int64
	// CachedStreams is how many streams' versions are kept in memory, at about 40 bytes each, so that appends to them need
	// not look into the index; zero means 250,000.
	CachedStreams int
	// TailBytes is the memory for the last events, which subscribers and readers of recent streams take from there
	// instead of from disk; zero means 16 MiB.
	TailBytes int
	// MemTableBytes is the memory of one of the log's write buffers, of which there can be several; zero means 8 MiB.
	MemTableBytes uint64
	// MaxGroupEvents and MaxGroupBytes bound what is committed with one sync; zero means 16,384 events and 8 MiB. A
	// single request may be larger.
	MaxGroupEvents int
	MaxGroupBytes  int
	// MaxQueueBytes bounds the requests that wait or are under way; who comes then waits before it. Zero means 64 MiB.
	MaxQueueBytes int64
	// IndexBatch is how many events the index is behind before it is brought up to date in one sorted batch; zero means
	// 40,000. Appends wait when it is IndexBatch * maxIndexLag behind.
	IndexBatch int

	// MinFreeBytes is the free space of the disk below which no appends are taken; reading goes on, and so do appends once
	// there is more. It should hold what can be on its way, MaxQueueBytes twice. Zero means 256 MiB.
	MinFreeBytes int64
	// BallastBytes is the size of a file that takes up space in the folder until a write finds none, at most half of
	// MinFreeBytes; zero means 64 MiB.
	BallastBytes int64
	// StallAfter is how long a group of events may be on its way to the disk before the disk is taken for stalled; zero
	// means 2 s.
	StallAfter time.Duration

	// OpenArchive opens the places of archived blocks; nil means archive.OpenFolder.
	OpenArchive archive.Opener
	// Checkpoints are types of system events of which only the last in their stream count: of those that are archived no
	// others are kept near.
	Checkpoints []string

	// FS is the file system; nil means the operating system's, watched for stalls.
	FS vfs.FS
}

// maxIndexLag is how many batches the index may be behind before appends wait for it.
const maxIndexLag = 10

// blockBytes is how large a block of the log may become before its group goes on in the next one.
const blockBytes = 16 << 10

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Clock == nil {
		d.Clock = hlc.New(nil)
	}
	if d.NewID == nil {
		clock := d.Clock
		d.NewID = func() uuid.UUID { return eventstore.NewEventID(clock.Wall()) }
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.Fatal == nil {
		d.Fatal = func(string) { os.Exit(exitFatal) }
	}
	if d.OpenArchive == nil {
		d.OpenArchive = archive.OpenFolder
	}
	setDefault(&d.CacheBytes, 16<<20)
	setDefault(&d.CachedStreams, 250_000)
	setDefault(&d.TailBytes, 16<<20)
	setDefault(&d.MemTableBytes, 8<<20)
	setDefault(&d.MaxGroupEvents, 16_384)
	setDefault(&d.MaxGroupBytes, 8<<20)
	setDefault(&d.MaxQueueBytes, 64<<20)
	setDefault(&d.IndexBatch, 40_000)
	setDefault(&d.MinFreeBytes, 256<<20)
	setDefault(&d.BallastBytes, 64<<20)
	setDefault(&d.StallAfter, 2*time.Second)
	return d
}

func setDefault[T int | int64 | uint64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// exitFatal is EX_SOFTWARE of sysexits.h.
const exitFatal = 70

func (o *Options) fs() vfs.FS {
	if o.FS != nil {
		return o.FS
	}
	return vfs.Default
}

// indexMemTableBytes is the memory of one of the index's write buffers.
const indexMemTableBytes = 8 << 20

// newCaches returns a cache for each database. Pebble takes write buffers off the cache, and under load the log has
// several: in one cache they would drive out the index's filters, which every append asks. The log can do with little
// cache: its last events are in memory, streams have a cache of their own, and scans read past it.
func (o *Options) newCaches() (log, index *pebble.Cache) {
	log = pebble.NewCache(o.CacheBytes/16 + int64(o.MemTableBytes))
	index = pebble.NewCache(o.indexCacheBytes() + 2*indexMemTableBytes) // one that is written to, one that is flushed
	return log, index
}

// indexCacheBytes is the index's part of CacheBytes. A stream takes a few dozen bytes there, and its events thousands.
func (o *Options) indexCacheBytes() int64 {
	return max(o.CacheBytes/8, min(o.CacheBytes, 32<<20)/2)
}

// pebbleOptions returns what both databases have in common.
func (o *Options) pebbleOptions(name string, files vfs.FS, cache *pebble.Cache) *pebble.Options {
	logger := o.logger(name)
	p := &pebble.Options{
		Cache:              cache,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             logger,
		EventListener:      logger.listener(),
		BytesPerSync:       1 << 20,
		// Appends are held back by what they wait for, the sync. Pebble's own brakes would only add to their tail.
		MemTableStopWritesThreshold: 4,
		L0StopWritesThreshold:       1000,
		FS:                          files,
	}
	if o.FS == nil {
		p.WithFSDefaults() // says which file a slow disk is slow with
	}
	return p
}

func (o *Options) logOptions(files vfs.FS, cache *pebble.Cache) *pebble.Options {
	p := o.pebbleOptions("log", files, cache)
	p.MemTableSize = o.MemTableBytes
	for i := range p.Levels {
		p.Levels[i].BlockSize = blockBytes
		p.TargetFileSizes[i] = 256 << 20
	}
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return p
}

func (o *Options) indexOptions(files vfs.FS, cache *pebble.Cache) *pebble.Options {
	p := o.pebbleOptions("index", files, cache)
	p.MemTableSize = indexMemTableBytes
	p.DisableWAL = true
	p.Comparer = indexComparer
	// A run's place in the order is random, so that each compaction rewrites what is below it. Lookups go through filters,
	// and can do with more tables side by side than Pebble's 4: a fraction of the work of compaction.
	p.L0CompactionThreshold = 24
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}

func (o *Options) logger(database string) pebbleLogger {
	return pebbleLogger{log: o.Logger.With("database", database), fatal: o.Fatal}
}

// pebbleLogger hands what Pebble says to slog.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(string)
}

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf implements pebble.Logger. Pebble calls it when a write to its WAL failed, and reports success to those who wait
// for that write if it returns. So it never returns.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.log.Error("the store cannot go on and ends the process, so that nothing is acknowledged that is not on disk", "cause", message)
	l.fatal(message)
	panic("pebblestore: Options.Fatal returned after: " + message)
}

func (l pebbleLogger) listener() *pebble.EventListener {
	var said repeats // Pebble tries again at once, and for as long as it takes
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if said.first("background: " + err.Error()) {
				l.log.Error("background work failed", "error", err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if said.first("damaged: " + info.Path) {
				l.log.Error("a table is damaged", "path", info.Path, "details", info.Details)
			}
		},
		DiskSlow:        func(info pebble.DiskSlowInfo) { l.log.Warn("the disk is slow", "info", info.String()) },
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) { l.log.Warn("writes are stalled", "reason", info.Reason) },
		WriteStallEnd:   func() { l.log.Info("writes go on") },
	}
}
