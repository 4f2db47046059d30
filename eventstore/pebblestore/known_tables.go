package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// checkTables returns an error, which matches ErrCorrupt, when the log in a folder has tables that its MANIFEST does not know and
// what that does know is not the whole log: the MANIFEST has lost its end. Pebble would then remove those tables and go on
// without them. Nothing is written. What else is wrong is left for whoever opens the log.
//
// Tables that a flush, a compaction or a repair left behind when the process ended are no fault: what is in them is elsewhere too,
// or is damaged there still.
func checkTables(fs vfs.FS, dir string, o *pebble.Options) error {
	there, err := fs.List(dir)
	if err != nil || !slices.ContainsFunc(there, isTable) {
		return nil //nolint:nilerr // it is said when the log is opened
	}
	o.ReadOnly = true
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	strays, lasts, err := straysOf(db, there)
	if err == nil {
		strays, err = withoutRepair(fs, dir, strays)
	}
	if err == nil && len(strays) > 0 {
		err = checkWhole(fs, dir, db, lasts)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("open log: %w: %w; %s has tables that its MANIFEST does not know (%s): it has lost its end; nothing was changed: put "+
			"back the MANIFEST if there is a copy, else move the store's folder away and restore the log from Kafka or a backup: "+
			"tributary restore --from-kafka ADDR or --from DIR", eventstore.ErrCorrupt, err, dir, strings.Join(strays, ", "))
	}
	return nil
}

func isTable(name string) bool { return strings.HasSuffix(name, ".sst") }

// straysOf returns which of the files in a database's folder are tables that it does not know, and up to which lsn those go
// that it does.
func straysOf(db *pebble.DB, files []string) (strays []string, lasts []uint64, err error) {
	levels, err := db.SSTables()
	if err != nil {
		return nil, nil, fmt.Errorf("list tables: %w", corrupted(err))
	}
	known := map[string]bool{}
	for _, level := range levels {
		for i := range level {
			known[level[i].BackingSSTNum.String()+".sst"] = true
			if last, isBlock := blockKeyLSN(level[i].Largest.UserKey); isBlock {
				lasts = append(lasts, last)
			}
		}
	}
	for _, name := range files {
		if isTable(name) && !known[name] {
			strays = append(strays, name)
		}
	}
	return strays, lasts, nil
}

// withoutRepair leaves out the table that a repair was putting in place when the process ended: the damaged one stands there still,
// and reads of it say nothing of the MANIFEST.
func withoutRepair(fs vfs.FS, dir string, strays []string) (rest []string, err error) {
	path := repairPath(fs, fs.PathDir(dir))
	if len(strays) == 0 || !exists(fs, path) {
		return strays, nil
	}
	made, err := readFile(fs, path)
	if err != nil {
		return nil, err
	}
	for _, name := range strays {
		is, err := readFile(fs, fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(is, made) {
			rest = append(rest, name)
		}
	}
	return rest, nil
}

// checkWhole looks for what a log lacks whose blocks are gone by whole tables: they begin and end where others do.
func checkWhole(fs vfs.FS, dir string, db *pebble.DB, lasts []uint64) error {
	m, found, err := readMeta(db)
	if err != nil {
		return err
	}
	if !found {
		return errors.New("nothing says which log this is")
	}
	h := m.history()
	head, err := readHead(db, &h, func(*eventstore.Recorded) {})
	if err != nil {
		return err
	}
	blocks, err := newBlockReader(db)
	if err != nil {
		return err
	}
	defer blocks.close()
	begin := uint64(0) // what is before is archived
	if n := len(m.Archive); n > 0 {
		segments := m.Archive[n-1].Segments
		begin = segments[len(segments)-1].Last
	}
	for _, last := range append(lasts, begin) {
		if last < begin || last >= head.lsn {
			continue
		}
		if found, err := blocks.from(last + 1); err != nil {
			return err
		} else if !found || !blocks.cur.holds(last+1) {
			return fmt.Errorf("no block holds lsn %d", last+1)
		}
	}
	return checkReaches(fs, fs.PathJoin(fs.PathDir(dir), "WATERMARK"), m.logID(), head)
}

// checkReaches compares where a log ends with its watermark, if there is one of that log.
func checkReaches(fs vfs.FS, path string, log eventstore.LogID, head logHead) error {
	if !exists(fs, path) {
		return nil
	}
	w, newest, found, _, err := openWatermark(fs, path)
	if err != nil {
		return err
	}
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("close watermark: %w", err)
	}
	if found && newest.log == log && newest.lsn > head.lsn {
		return fmt.Errorf("the log ends at lsn %d, but it had come to %d", head.lsn, newest.lsn)
	}
	return nil
}
