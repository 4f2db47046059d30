package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
)

// Folder is a Bucket in a folder, which is made with the first object. Objects are files at the paths of their names.
//
// A read ends with its context even where the file system does not answer, as one over a network may not; what is left of it
// then ends when the file system does.
type Folder struct{ dir string }

// NewFolder returns the bucket of a folder.
func NewFolder(dir string) *Folder { return &Folder{dir} }

// unfinished ends the names of files that are being written; they are no objects.
const unfinished = ".part"

func (f *Folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// Put implements Bucket. The file gets its name when all of it is durable.
func (f *Folder) Put(ctx context.Context, name string, body []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := f.path(name)
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	part := path + unfinished
	file, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	_, err = file.Write(body)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		if gone := os.Remove(part); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// makeFolder makes a folder and those above it, and makes their entries durable.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(parent)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadAt implements Bucket.
func (f *Folder) ReadAt(ctx context.Context, name string, p []byte, offset int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	read, ended := make([]byte, len(p)), make(chan error, 1)
	go func() { ended <- f.readAt(name, read, offset) }()
	select {
	case err := <-ended:
		copy(p, read)
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Folder) readAt(name string, p []byte, offset int64) error {
	file, err := os.Open(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoObject, err)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.ReadAt(p, offset)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %s at %d: %w", name, offset, io.ErrUnexpectedEOF)
	}
	return err
}

// List implements Bucket.
func (f *Folder) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		err := filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || entry.IsDir() {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			relative, err := filepath.Rel(f.dir, path)
			if err != nil {
				return err
			}
			name := filepath.ToSlash(relative)
			if !strings.HasPrefix(name, prefix) || strings.HasSuffix(name, unfinished) {
				return nil
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if !yield(Object{name, info.Size()}, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Object{}, fmt.Errorf("list %s: %w", f.dir, err))
		}
	}
}

// Remove implements Bucket.
func (f *Folder) Remove(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := os.Remove(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncFolder(filepath.Dir(f.path(name)))
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
