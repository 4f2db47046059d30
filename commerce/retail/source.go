package retail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
)

// Source is an input that need not be a file: data embedded in the program, say.
type Source struct {
	Name string                        // as errors call it
	Open func() (io.ReadCloser, error) // called once
}

// File is the source of a file of the file system.
func File(name string) Source {
	return Source{Name: name, Open: func() (io.ReadCloser, error) {
		// Asked before it is opened: opening a named pipe would wait for its writer.
		info, err := os.Stat(name)
		switch {
		case err != nil:
			return nil, err
		case info.IsDir():
			return nil, errDirectory
		case !info.Mode().IsRegular():
			return nil, errNoFile
		}
		return os.Open(name)
	}}
}

var (
	errDirectory  = errors.New("is a directory")
	errNoFile     = errors.New("is not a regular file")
	errLongRecord = fmt.Errorf("record longer than %d KiB", maxRecord>>10)
)

// maxRecord bounds the memory that one record can take, so that an open quote
// at the top of a huge file is found before the file is in memory.
const maxRecord = 1 << 20

// text is the decompressed text of a source on its way to the CSV reader: it
// hashes what passes, counts its lines, drops a byte order mark and bounds the
// length of a record.
type text struct {
	in     *bufio.Reader
	closer io.Closer
	sum    hash.Hash
	lines  int   // line breaks passed so far
	room   int64 // bytes that may still pass before the next call of allow
	err    error // the error that ended the text, kept: reading on repeats it
}

// openText opens a source and looks at its first bytes.
func openText(source Source) (*text, *InputError) {
	raw, err := source.Open()
	if err != nil {
		return nil, unreadable(source.Name, err)
	}
	in := bufio.NewReaderSize(raw, 64<<10)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		plain, err := gzip.NewReader(in)
		if err != nil {
			_ = raw.Close() // read only: nothing to lose
			return nil, unreadable(source.Name, err)
		}
		in = bufio.NewReaderSize(plain, 64<<10)
	}
	t := &text{in: in, closer: raw, sum: sha256.New()}
	t.allow()
	if mark, _ := in.Peek(3); bytes.Equal(mark, []byte{0xef, 0xbb, 0xbf}) {
		t.sum.Write(mark)
		_, t.err = in.Discard(len(mark))
	}
	return t, nil
}

// allow makes room for the next record.
func (t *text) allow() { t.room = maxRecord }

// Read implements io.Reader for the CSV reader.
func (t *text) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	if t.room <= 0 {
		t.err = errLongRecord
		return 0, t.err
	}
	n, err := t.in.Read(p)
	t.err = err
	t.sum.Write(p[:n])
	t.lines += bytes.Count(p[:n], []byte{'\n'})
	t.room -= int64(n)
	return n, err
}

// hash is the hex SHA-256 of the text. REQUIRES: read to its end.
func (t *text) hash() string { return hex.EncodeToString(t.sum.Sum(nil)) }

func (t *text) close() { _ = t.closer.Close() } // read only: nothing to lose

// unreadable words an error of opening or reading a source.
func unreadable(name string, err error) *InputError {
	e := &InputError{File: name, Err: err}
	var reading *fs.PathError
	switch {
	case errors.Is(err, errDirectory):
		e.Problem, e.Hint = "is a directory", "name the files in it"
	case errors.Is(err, errNoFile):
		e.Problem, e.Hint = "is not a regular file", "save it as one first"
	case errors.Is(err, fs.ErrNotExist):
		e.Problem, e.Hint = "there is no such file", "check the path"
	case errors.Is(err, fs.ErrPermission):
		e.Problem, e.Hint = "may not be read", "check its permissions"
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Problem, e.Hint = "the gzip data end too early", "the file is cut off: copy it again"
	case errors.As(err, &reading):
		e.Problem = "cannot be read: " + err.Error()
	default:
		e.Problem, e.Hint = "cannot be read: "+err.Error(), "the gzip data are damaged: copy the file again"
	}
	return e
}
