package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// watermark is a file of its own that says how far the log had come, in two slots that are written in turn. A WAL whose
// end was cut off looks to Pebble like one that ended there; the watermark knows better.
//
// It is exact after Close and at most watermarkEvery behind otherwise: what was acknowledged in that time before a power
// loss, and then lost by the disk, goes unseen.
//
// INVARIANT: from before the first event on, one slot is whole on disk, whatever write or sync fails.
type watermark struct {
	file vfs.File

	mu   sync.Mutex // guards what follows, and the file's slots
	turn uint64     // of the last slot that was synced
	last mark
}

const (
	watermarkEvery = 50 * time.Millisecond
	slotBytes      = 4096 // each slot has a disk block of its own, so that a torn write harms only one
)

// makeWatermark makes the file with a mark in it. It has the file's name only when it is whole.
func makeWatermark(files vfs.FS, path string, m mark) error {
	fresh := path + ".new"
	f, err := files.Create(fresh, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("make watermark: %w", err)
	}
	_, err = f.Write(appendSlot(nil, 0, m))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("make watermark: %w", err)
	}
	if err := files.Rename(fresh, path); err != nil {
		return fmt.Errorf("make watermark: %w", err)
	}
	return syncFolder(files, files.PathDir(path))
}

// openWatermark opens the file and returns the newest mark that is whole. found is false when there is none, and fault is
// what kept a slot from being read.
func openWatermark(files vfs.FS, path string) (w *watermark, newest mark, found bool, fault, err error) {
	f, err := files.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, newest, false, nil, fmt.Errorf("open watermark: %w", err)
	}
	w = &watermark{file: f}
	for slot := range int64(2) {
		b := make([]byte, 256)
		n, err := f.ReadAt(b, slot*slotBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			fault = errors.Join(fault, err)
			continue
		}
		m, turn, ok := parseSlot(b[:n])
		if ok && turn >= w.turn {
			w.turn, newest, found = turn, m, true
		}
	}
	return w, newest, found, fault, nil
}

// write makes m the mark. Until that has worked, it is the same slot that is tried: the other one has the last mark.
func (w *watermark) write(m mark) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m == w.last {
		return nil
	}
	turn := w.turn + 1
	if _, err := w.file.WriteAt(appendSlot(nil, turn, m), int64(turn%2)*slotBytes); err != nil {
		return fmt.Errorf("write watermark: %w", err)
	}
	if err := w.file.SyncData(); err != nil {
		return fmt.Errorf("sync watermark: %w", err)
	}
	w.turn, w.last = turn, m
	return nil
}

func appendSlot(b []byte, turn uint64, m mark) []byte {
	start, entry := len(b), m.encode()
	b = binary.BigEndian.AppendUint64(b, turn)
	b = append(append(b, byte(len(entry))), entry...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parseSlot(b []byte) (m mark, turn uint64, ok bool) {
	if len(b) < 9 {
		return m, 0, false
	}
	turn = binary.BigEndian.Uint64(b)
	end := 9 + int(b[8])
	if len(b) < end+4 || crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return m, 0, false
	}
	m, ok = parseMark(b[9:end])
	return m, turn, ok
}

// openWatermark compares the log with its watermark. A log that is shorter, or another, or of which it cannot be told any
// more, is opened for reading only.
func (s *Store) openWatermark(head logHead) error {
	files := s.opts.fs()
	path := files.PathJoin(s.dir, "WATERMARK")
	now := mark{s.recent.state(), s.id}
	_, err := files.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if head.lsn > 0 {
			s.opts.Logger.Warn("THE WATERMARK IS MISSING: nothing tells whether the log has lost its end. It is written anew; "+
				"compare the log with what followed it: tributary verify", "file", path, "lsn", head.lsn)
		}
		if err := makeWatermark(files, path, now); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("look for watermark: %w", err)
	}
	w, m, found, unread, err := openWatermark(files, path)
	if err != nil {
		return err
	}
	s.watermark = w
	if !found && head.lsn == 0 {
		return w.write(now)
	}
	fault, err := s.lost(head, m, found, unread)
	if err != nil {
		return err
	}
	if fault != nil {
		fault = fmt.Errorf("%w: %w", eventstore.ErrReadOnly, fault)
		s.readOnly.Store(&fault)
		s.opts.Logger.Error("the store takes no writes", "error", fault)
	}
	return nil
}

// lost says what of the log is not as its watermark tells, and what to do then.
func (s *Store) lost(head logHead, m mark, found bool, unread error) (fault, err error) {
	switch {
	case !found:
		if unread == nil {
			unread = errors.New("both are damaged")
		}
		return fmt.Errorf("neither slot of its watermark can be read, so that nothing tells whether its end was lost: %w; "+
			"if tributary verify finds no fault in log and topic, move WATERMARK away and start again", unread), nil
	case m.log != s.id:
		fault = fmt.Errorf("its watermark is of %s", m.log)
	case m.lsn > head.lsn:
		fault = fmt.Errorf("the log ends at lsn %d, but it had come to %d: its end was lost; with the server stopped, tributary restore --tail-from-kafka "+
			"brings back what the topic has of it; else", head.lsn, m.lsn)
	default:
		chain, err := s.chainAt(m.lsn)
		if err != nil {
			return nil, err
		}
		if chain == m.chain {
			return nil, nil
		}
		fault = fmt.Errorf("the log at lsn %d is not the one that was written", m.lsn)
	}
	return fmt.Errorf("%w; keep a copy of the folder, then restore it, see Restore in docs/operations.md", fault), nil
}

// keepWatermark follows the durable log until stop is closed, and then once more.
func (s *Store) keepWatermark(stop <-chan struct{}) {
	tick := time.NewTicker(watermarkEvery)
	defer tick.Stop()
	var complaint complaint
	for open := true; open; {
		select {
		case <-tick.C:
		case <-stop:
			open = false
		}
		if s.readOnly.Load() != nil {
			continue // what it says now is why
		}
		err := s.watermark.write(mark{s.recent.state(), s.id})
		if errors.Is(err, os.ErrClosed) {
			continue
		}
		switch say, over := complaint.about(err, time.Now()); {
		case say:
			s.opts.Logger.Warn("the watermark cannot be written, trying again", "error", err)
		case over:
			s.opts.Logger.Info("the watermark is written again")
		}
	}
}

// complaint keeps an error that comes again and again from being logged each time. The zero value is ready.
type complaint struct {
	text string // of the error that lasts; empty when there is none
	said time.Time
}

// complainEvery is how long an error that lasts goes unsaid.
const complainEvery = 10 * time.Second

// about takes the outcome of a try: say when its error is to be logged, over when the error before it does not last.
func (c *complaint) about(err error, now time.Time) (say, over bool) {
	if err == nil {
		over = c.text != ""
		*c = complaint{}
		return false, over
	}
	if text := err.Error(); text != c.text || now.Sub(c.said) >= complainEvery {
		*c = complaint{text, now}
		return true, false
	}
	return false, false
}
