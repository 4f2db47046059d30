package pebblestore

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// StandIn puts a file of the right size that holds nothing in the place of each table of the log that is gone, or was cut short, so
// that the store in a folder that nobody has open opens again: a scrub finds those tables damaged, and refills them with what others
// have. It returns the names of the files; none when no table lacks. Nothing else is changed, and what was left of a table stays.
//
// Errors: ErrLocked, eventstore.ErrNotFound when there is no log, and eventstore.ErrCorrupt when something else is wrong.
func StandIn(dir string, o *Options) (names []string, err error) {
	opts := o.withDefaults()
	files := opts.fs()
	log := files.PathJoin(dir, "log")
	if !exists(files, log) || exists(files, files.PathJoin(dir, restoringName)) {
		return nil, fmt.Errorf("look for tables that are gone in %s: %w: there is no log", dir, eventstore.ErrNotFound)
	}
	lock, err := lockFolder(files, dir)
	if err != nil {
		return nil, fmt.Errorf("look for tables that are gone in %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	for {
		wrong, err := wrongTables(log, &opts)
		if err != nil || len(wrong) == 0 {
			return names, err
		}
		for _, t := range wrong {
			if err := standIn(files, files.PathJoin(log, t.name), t.size); err != nil {
				return names, fmt.Errorf("put a file in the place of %s: %w", t.name, err)
			}
			if !slices.Contains(names, t.name) {
				names = append(names, t.name)
			}
		}
		if err := syncFolder(files, log); err != nil {
			return names, err
		}
	}
}

// wrongTable is a table that is gone, or has another size than it should, which is not known of one that is gone.
type wrongTable struct {
	name string
	size int64
}

// What Pebble says of such tables when it is opened, a line each: it has no values to compare with.
var (
	goneTable  = regexp.MustCompile(`(?m)^L\d+: (\d+): .*unknown to the objstorage provider`)
	shortTable = regexp.MustCompile(`(?m)^L\d+: (\d+): object size mismatch \(.*\): (\d+) \(disk\) != (\d+) \(MANIFEST\)`)
)

func wrongTables(log string, o *Options) (wrong []wrongTable, err error) {
	options := o.logOptions(o.fs(), nil)
	options.ReadOnly = true
	db, err := pebble.Open(log, options)
	if err == nil {
		return nil, db.Close()
	}
	for _, m := range goneTable.FindAllStringSubmatch(err.Error(), -1) {
		wrong = append(wrong, wrongTable{name: m[1] + ".sst"})
	}
	for _, m := range shortTable.FindAllStringSubmatch(err.Error(), -1) {
		has, err1 := strconv.ParseInt(m[2], 10, 64)
		size, err2 := strconv.ParseInt(m[3], 10, 64)
		if err := errors.Join(err1, err2); err != nil || has > size {
			return nil, fmt.Errorf("%w: table %s.sst has %s bytes, it should have %s", eventstore.ErrCorrupt, m[1], m[2], m[3])
		}
		wrong = append(wrong, wrongTable{m[1] + ".sst", size})
	}
	if len(wrong) == 0 {
		return nil, fmt.Errorf("open log: %w", corrupted(err))
	}
	return wrong, nil
}

// standIn makes a file that many bytes long, of zeros behind what it has.
func standIn(files vfs.FS, path string, size int64) error {
	if !exists(files, path) {
		f, err := files.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	}
	f, err := files.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	zeros := make([]byte, 1<<20)
	for at := int64(0); err == nil && at < size; {
		if at < info.Size() {
			at = info.Size()
			continue
		}
		var n int
		n, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at)
		at += int64(n)
	}
	return errors.Join(err, f.Sync(), f.Close())
}
