package keyfile

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
)

// BackupLife is how long a backup may be restored. A key that is destroyed lives on in the backups made before, and this
// bounds for how long.
const BackupLife = 30 * 24 * time.Hour

// A backup is a header, the slots as they are, and an HMAC of both under the master key:
//
//	magic ‖ id of the key file ‖ made at, ms ‖ number of slots ‖ slots ‖ HMAC-SHA-256
const (
	backupMagic  = "TRBKEYB1"
	backupHeader = 8 + 16 + 8 + 4
)

// Report says what a backup or a restore was of.
type Report struct {
	// Keys and Tombstones are in the backup. Restored are keys that were missing or damaged, Kept those of the backup that
	// stay destroyed.
	Keys, Tombstones, Restored, Kept int
	Made, Expires                    time.Time
}

// Backup writes a backup of the key file in a folder, which may be in use. The master key is not in it.
func Backup(dir string, o Options, to io.Writer) (Report, error) {
	m, key, err := o.master(dir, false)
	if err != nil {
		return Report{}, err
	}
	path := filepath.Join(dir, slotsFile)
	body, err := os.ReadFile(path)
	if err != nil {
		return Report{}, fmt.Errorf("back up keys: %w", err)
	}
	h, err := readHeader(body, m)
	if err != nil {
		return Report{}, fmt.Errorf("back up %s: %w", path, err)
	}
	made := time.Now().UTC().Truncate(time.Millisecond)
	report := Report{Made: made, Expires: made.Add(BackupLife)}
	slots := body[slotBytes:]
	slots = slots[:len(slots)/slotBytes*slotBytes]
	out := append([]byte(backupMagic), h.id[:]...)
	out = binary.BigEndian.AppendUint64(out, uint64(made.UnixMilli()))
	out = binary.BigEndian.AppendUint32(out, uint32(len(slots)/slotBytes))
	out = append(out, slots...)
	for i := 0; i < len(slots); i += slotBytes {
		report.count(readSlot(slots[i:], uint32(i/slotBytes+1)).state)
	}
	if _, err := to.Write(append(out, backupSum(key, out)...)); err != nil {
		return report, fmt.Errorf("back up keys: %w", err)
	}
	return report, nil
}

func (r *Report) count(s state) {
	switch s {
	case live:
		r.Keys++
	case destroyed:
		r.Tombstones++
	}
}

func backupSum(key, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tributary backup of keys"))
	mac.Write(body)
	return mac.Sum(nil)
}

// Restore brings keys back that are missing from the key file in a folder, or damaged there; the folder may be empty but
// for its master key. What is destroyed in either stays destroyed. Whoever opens the file next has to Reserve the numbers that
// the log has. It is refused with eventstore.ErrInvalid when the backup has expired, is not whole, is of another key file, or
// has another subject's key under a number of the file's, and while a server uses the keys. What is refused has changed nothing.
func Restore(dir string, o Options, from io.Reader, now time.Time) (Report, error) {
	body, err := io.ReadAll(from)
	if err != nil {
		return Report{}, fmt.Errorf("restore keys: %w", err)
	}
	m, key, err := o.master(dir, false)
	if err != nil {
		return Report{}, err
	}
	b, err := readBackup(body, key)
	if err != nil {
		return Report{}, err
	}
	if now.After(b.report.Expires) {
		return b.report, fmt.Errorf("%w: the backup was made at %s and expired at %s: keys that were destroyed since must not come back from it",
			eventstore.ErrInvalid, b.report.Made.Format(time.RFC3339), b.report.Expires.Format(time.RFC3339))
	}
	path, mark := filepath.Join(dir, slotsFile), filepath.Join(dir, restoredFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		// The mark goes first: without it the numbers of the empty file would be given a second time.
		if err = writeWhole(mark, nil); err == nil {
			err = create(path, b.id, m)
		}
		if err != nil {
			return b.report, err
		}
	}
	f, size, err := openLocked(path)
	if errors.Is(err, eventstore.ErrUnavailable) {
		return b.report, fmt.Errorf("%w: a server uses the keys in %s: stop it first, then restore them", eventstore.ErrInvalid, dir)
	}
	if err != nil {
		return b.report, err
	}
	file, err := load(f, size, m)
	if err != nil {
		return b.report, errors.Join(fmt.Errorf("restore into %s: %w", path, err), f.Close())
	}
	return b.report, errors.Join(file.merge(&b, mark), file.Close())
}

// backup is a backup that was read.
type backup struct {
	id     uuid.UUID
	slots  []slot
	report Report
}

func readBackup(body, key []byte) (backup, error) {
	var b backup
	bad := fmt.Errorf("%w: it is no whole backup of keys, or was made under another master key", eventstore.ErrInvalid)
	if len(body) < backupHeader+sha256.Size || !bytes.HasPrefix(body, []byte(backupMagic)) {
		return b, bad
	}
	content, sum := body[:len(body)-sha256.Size], body[len(body)-sha256.Size:]
	if !hmac.Equal(sum, backupSum(key, content)) {
		return b, bad
	}
	copy(b.id[:], content[8:])
	b.report.Made = time.UnixMilli(int64(binary.BigEndian.Uint64(content[24:]))).UTC()
	b.report.Expires = b.report.Made.Add(BackupLife)
	slots := content[backupHeader:]
	if uint64(len(slots)) != uint64(binary.BigEndian.Uint32(content[32:]))*slotBytes {
		return b, bad
	}
	for ; len(slots) > 0; slots = slots[slotBytes:] {
		s := readSlot(slots, uint32(len(b.slots)+1))
		b.slots = append(b.slots, s)
		b.report.count(s.state)
	}
	return b, nil
}

// merge brings in what the backup has and the file lacks. A tombstone of either side wins over keys of its subject, and
// gives its slot to another subject's key. Two keys of one number are refused before anything is written; then the mark is, which
// has whoever opens the file reserve the numbers.
func (f *File) merge(b *backup, mark string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.id != b.id {
		return fmt.Errorf("%w: the backup is of key file %s, this is %s", eventstore.ErrInvalid, b.id, f.id)
	}
	for i := range min(len(b.slots), len(f.slots)) {
		if have, s := &f.slots[i], &b.slots[i]; have.state == live && s.state == live && have.subject != s.subject {
			return fmt.Errorf("%w: key %d is of another subject in the backup than in the key file: they do not go together", eventstore.ErrInvalid, i+1)
		}
	}
	if err := writeWhole(mark, nil); err != nil {
		return err
	}
	for i := range b.slots {
		if err := f.mergeSlot(b, i); err != nil {
			return err
		}
	}
	return nil
}

// mergeSlot brings in one slot. REQUIRES: mu is held for writing, and the slot is not live on both sides with two subjects.
func (f *File) mergeSlot(b *backup, i int) error {
	s, number := &b.slots[i], uint32(i+1)
	have := slot{state: damaged}
	if i < len(f.slots) {
		have = f.slots[i]
	}
	known := f.bySubject[s.subject]
	gone := s.state != damaged && known != 0 && f.slots[known-1].state == destroyed
	end := uint32(max(len(f.slots), len(b.slots)) + 1)
	switch {
	case s.state == live && gone:
		b.report.Kept++
		if have.state != damaged {
			return nil
		}
		// An erasure that did not find this key: whoever asks for it is told that it is erased.
		return f.write(number, &slot{state: destroyed, subject: s.subject, whenMs: f.slots[known-1].whenMs})
	case s.state == damaged && i < len(f.slots), s.state == live && have.state == live, s.state == destroyed && have.state == destroyed && gone:
		return nil
	case s.state == destroyed && have.state != damaged && have.subject != s.subject:
		if gone {
			return nil
		}
		return f.write(end, s)
	case s.state == live && have.state == destroyed: // of another subject
		if err := f.write(end, &have); err != nil {
			return err
		}
		f.bySubject[have.subject] = end
	}
	if s.state == live {
		b.report.Restored++
	}
	return f.write(number, s)
}
