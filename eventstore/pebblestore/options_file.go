package pebblestore

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// damagedSuffix is what an OPTIONS file is called by that was set aside: Pebble takes it for none of its own.
const damagedSuffix = ".damaged"

// setOptionsAside renames the OPTIONS file of a log, at path, when it is damaged, which keeps Pebble from opening the log. Pebble
// compares how a database is opened with how it was before, and writes a new file at each start. Nothing is lost with it: the
// options are the program's, the comparer stands in the MANIFEST too, where Pebble looks as well, no merger is in use, and the WAL is
// in the log's own folder. A file that names another one, which is there, is left for Pebble to refuse.
func setOptionsAside(fs vfs.FS, dir, path string, o *pebble.Options) error {
	f, err := fs.Open(path)
	if err != nil {
		return fmt.Errorf("look for the options of the log: %w", err)
	}
	text, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read the options of the log: %w", err)
	}
	o.EnsureDefaults()
	fault := o.CheckCompatibility(dir, string(text))
	var elsewhere pebble.ErrMissingWALRecoveryDir
	if fault == nil || errors.As(fault, &elsewhere) && exists(fs, elsewhere.Dir) {
		return nil
	}
	if err := fs.Rename(path, path+damagedSuffix); err != nil {
		return fmt.Errorf("set the options of the log aside, which are damaged (%w): %w", fault, err)
	}
	o.Logger.Errorf("the log's file of options is damaged, and set aside as %s: nothing is lost with it, it is written anew: %s", path+damagedSuffix, fault)
	return nil
}
