// Package wholefile replaces files so that a loss of power leaves them as they were or as they are to be.
package wholefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Write replaces a file as a whole: whenever the power fails it is as it was before or as it is now, and when it returns it is as
// it is now.
func Write(path string, body []byte) error { return replace(machine{}, path, body) }

// Remove removes a file for good. One that is not there is an error that matches fs.ErrNotExist.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return machine{}.syncFolder(filepath.Dir(path))
}

// disk is what a file is replaced on. What was written is there after a loss of power when its file was synced, and under which name when
// its folder was.
type disk interface {
	create(path string) (syncedFile, error)
	rename(from, to string) error
	syncFolder(path string) error
}

type syncedFile interface {
	io.WriteCloser
	Sync() error
}

func replace(d disk, path string, body []byte) error {
	tmp := path + ".new"
	f, err := d.create(tmp)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if _, err = f.Write(body); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.rename(tmp, path)
	}
	if err == nil {
		err = d.syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

type machine struct{}

func (machine) create(path string) (syncedFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (machine) rename(from, to string) error { return os.Rename(from, to) }

func (machine) syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
