package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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
type watermark struct {
	file vfs.File

	mu   sync.Mutex // guards what follows, and the file's slots
	turn uint64     // of the last slot written
	last mark
}

const (
	watermarkEvery = 50 * time.Millisecond
	slotBytes      = 4096 // each slot has a disk block of its own, so that a torn write harms only one
)

// openWatermark opens or makes the file and returns the newest mark that is whole; found is false when there is none.
func openWatermark(files vfs.FS, path string) (w *watermark, newest mark, found bool, err error) {
	f, err := files.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, newest, false, fmt.Errorf("open watermark: %w", err)
	}
	w = &watermark{file: f}
	for slot := range int64(2) {
		b := make([]byte, 256)
		n, err := f.ReadAt(b, slot*slotBytes)
		if n == 0 && err != nil {
			continue // not written yet
		}
		m, turn, ok := parseSlot(b[:n])
		if ok && turn >= w.turn {
			w.turn, newest, found = turn, m, true
		}
	}
	return w, newest, found, nil
}

// write makes m the mark.
func (w *watermark) write(m mark) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m == w.last {
		return nil
	}
	w.turn++
	b := binary.BigEndian.AppendUint64(nil, w.turn)
	entry := m.encode()
	b = append(append(b, byte(len(entry))), entry...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := w.file.WriteAt(b, int64(w.turn%2)*slotBytes); err != nil {
		return fmt.Errorf("write watermark: %w", err)
	}
	if err := w.file.SyncData(); err != nil {
		return fmt.Errorf("sync watermark: %w", err)
	}
	w.last = m
	return nil
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

// openWatermark compares the log with its watermark. A log that is shorter, or another, is opened for reading only.
func (s *Store) openWatermark(head logHead) error {
	files := s.opts.fs()
	path := files.PathJoin(s.dir, "WATERMARK")
	made := !exists(files, path)
	w, m, found, err := openWatermark(files, path)
	if err != nil {
		return err
	}
	s.watermark = w
	if made {
		if err := syncFolder(files, s.dir); err != nil {
			return err
		}
	}
	if !found {
		return nil
	}
	var fault error
	switch {
	case m.log != s.id:
		fault = fmt.Errorf("its watermark is of %s", m.log)
	case m.lsn > head.lsn:
		fault = fmt.Errorf("the log ends at lsn %d, but it had come to %d: its end was lost", head.lsn, m.lsn)
	default:
		chain, err := s.chainAt(m.lsn)
		if err != nil {
			return err
		}
		if chain != m.chain {
			fault = fmt.Errorf("the log at lsn %d is not the one that was written", m.lsn)
		}
	}
	if fault != nil {
		fault = fmt.Errorf("%w: %w; recover it from Kafka, from another site or from a backup", eventstore.ErrReadOnly, fault)
		s.readOnly.Store(&fault)
		s.opts.Logger.Error("the store takes no writes", "error", fault)
	}
	return nil
}

// keepWatermark follows the durable log until stop is closed, and then once more.
func (s *Store) keepWatermark(stop <-chan struct{}) {
	tick := time.NewTicker(watermarkEvery)
	defer tick.Stop()
	for open := true; open; {
		select {
		case <-tick.C:
		case <-stop:
			open = false
		}
		if s.readOnly.Load() != nil {
			continue // what it says now is why
		}
		if err := s.watermark.write(mark{s.recent.state(), s.id}); err != nil && !errors.Is(err, os.ErrClosed) {
			s.opts.Logger.Warn("the watermark cannot be written", "error", err)
		}
	}
}
