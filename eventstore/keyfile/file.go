package keyfile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

// The files in the folder that Open is given: the slots, and one that is there from a restore until Reserve.
const (
	slotsFile    = "keys.slots"
	restoredFile = "keys.restored"
)

// disk is what a File needs of its file.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

// File is an open key file.
type File struct {
	id     uuid.UUID
	master master
	disk   disk
	now    func() time.Time

	mu    sync.RWMutex // guards what follows
	slots []slot       // slots[0] is of number 1
	// bySubject has the number of every subject's slot, live or destroyed.
	bySubject map[digest]uint32
	// failed: a sync has failed, and nobody knows what the disk holds since.
	failed error
	// restored is the path of the file that says so, while numbers beyond the slots may have been given; empty when none have.
	restored string
}

var _ sealed.Keys = (*File)(nil)

// Open opens the key file in a folder, or makes a new one where there is none, and its master key with it.
func Open(dir string, o Options) (*File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key folder: %w", err)
	}
	path := filepath.Join(dir, slotsFile)
	_, err := os.Stat(path)
	fresh := errors.Is(err, os.ErrNotExist)
	m, _, err := o.master(dir, fresh)
	if err != nil {
		return nil, err
	}
	if fresh {
		if err := create(path, uuid.New(), m); err != nil {
			return nil, err
		}
	}
	f, size, err := openLocked(path)
	if err != nil {
		return nil, err
	}
	file, err := load(f, size, m)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	mark := filepath.Join(dir, restoredFile)
	if _, err := os.Stat(mark); err == nil {
		file.restored = mark
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	return file, nil
}

// create writes a key file without keys, whole or not at all.
func create(path string, id uuid.UUID, m master) error {
	head, err := newHeader(id, m)
	if err != nil {
		return err
	}
	return writeWhole(path, head)
}

// writeWhole writes a file that only its owner may read, whole or not at all.
func writeWhole(path string, body []byte) (err error) {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func openLocked(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open key file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("%w: key file %s is in use by another process", eventstore.ErrUnavailable, path), f.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("open key file: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// load reads the slots of an open key file.
func load(d disk, size int64, m master) (*File, error) {
	f := &File{master: m, disk: d, now: time.Now, bySubject: map[digest]uint32{}}
	body := make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(d, 0, size), body); err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	h, err := readHeader(body, m)
	if err != nil {
		return nil, err
	}
	f.id = h.id
	// A last slot that is not whole is of a write that was cut short. It counts, so that its number is not given again.
	for body = body[slotBytes:]; len(body) > 0; body = body[min(slotBytes, len(body)):] {
		f.slots = append(f.slots, readSlot(body, uint32(len(f.slots)+1)))
		f.index(uint32(len(f.slots)))
	}
	return f, nil
}

// index notes whose slot it is. A tombstone outweighs a live key of the same subject.
func (f *File) index(number uint32) {
	s := &f.slots[number-1]
	if s.state == damaged {
		return
	}
	if before := f.bySubject[s.subject]; before == 0 || f.slots[before-1].state == live {
		f.bySubject[s.subject] = number
	}
}

// ID tells key files apart.
func (f *File) ID() uuid.UUID { return f.id }

// Of implements sealed.Keys.
func (f *File) Of(_ context.Context, s sealed.Subject) (uint32, sealed.Key, error) {
	subject := digestOf(s)
	f.mu.RLock()
	number, key, err := f.of(&subject)
	f.mu.RUnlock()
	if number != 0 || err != nil {
		return number, key, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if number, key, err := f.of(&subject); number != 0 || err != nil {
		return number, key, err
	}
	return f.add(&subject)
}

// of returns the subject's key, 0 when it has none. REQUIRES: mu is held.
func (f *File) of(subject *digest) (uint32, sealed.Key, error) {
	number := f.bySubject[*subject]
	if number == 0 {
		return 0, sealed.Key{}, f.failed
	}
	key, err := f.key(number)
	return number, key, err
}

// add makes a key for a subject that has none. REQUIRES: mu is held for writing.
func (f *File) add(subject *digest) (uint32, sealed.Key, error) {
	number, err := f.next()
	if err != nil {
		return 0, sealed.Key{}, err
	}
	var key sealed.Key
	if _, err := rand.Read(key[:]); err != nil {
		return 0, sealed.Key{}, fmt.Errorf("make key: %w", err)
	}
	s := slot{state: live, subject: *subject, whenMs: f.now().UnixMilli()}
	if err := f.master.wrap(number, &s, &key); err != nil {
		return 0, sealed.Key{}, err
	}
	if err := f.write(number, &s); err != nil {
		return 0, sealed.Key{}, err
	}
	return number, key, nil
}

// next returns the number of the next slot.
func (f *File) next() (uint32, error) {
	if f.restored != "" {
		return 0, fmt.Errorf("%w: the keys come from a backup, and which numbers were given since is not known yet", eventstore.ErrUnavailable)
	}
	if len(f.slots) >= math.MaxInt32 {
		return 0, fmt.Errorf("%w: the key file is full", eventstore.ErrUnavailable)
	}
	return uint32(len(f.slots) + 1), nil
}

// Restored reports whether the keys come from a backup, and Reserve has not been called since. Until then no subject gets a
// first key: numbers beyond those of the file may have been given after the backup was made.
func (f *File) Restored() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.restored != ""
}

// Reserve takes note that the numbers up to highest have been given, as the log has them. Those that the file lacks can be
// brought back from another backup, and are not given again.
func (f *File) Reserve(highest uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if int64(highest) > int64(len(f.slots)) {
		if err := f.write(highest, &slot{state: damaged}); err != nil {
			return err
		}
	}
	if f.restored == "" {
		return nil
	}
	if err := os.Remove(f.restored); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: reserve the numbers of keys: %w", eventstore.ErrUnavailable, err)
	}
	f.restored = ""
	return nil
}

// KnowsAll reports whether a subject that the file does not know has never had a key: each number that was given up to
// highest, the highest that the log has, is here and can be read, and no backup that lacks the last ones stands in for them.
func (f *File) KnowsAll(highest uint32) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.restored == "" && int64(highest) <= int64(len(f.slots)) &&
		!slices.ContainsFunc(f.slots, func(s slot) bool { return s.state == damaged })
}

// write writes a slot to disk, then takes it as written. Slots between the last one and it are kept as damaged ones. REQUIRES:
// mu is held for writing.
func (f *File) write(number uint32, s *slot) error {
	if f.failed != nil {
		return f.failed
	}
	first := min(number, uint32(len(f.slots)+1))
	var body []byte
	for n := first; n < number; n++ {
		body = appendSlot(body, n, &slot{state: damaged})
	}
	if _, err := f.disk.WriteAt(appendSlot(body, number, s), int64(first)*slotBytes); err != nil {
		return fmt.Errorf("%w: write key %d: %w", eventstore.ErrUnavailable, number, err)
	}
	if err := f.disk.Sync(); err != nil {
		f.failed = fmt.Errorf("%w: the disk failed the key file, which takes no more until it is opened anew: %w", eventstore.ErrUnavailable, err)
		return f.failed
	}
	for int(number) > len(f.slots) {
		f.slots = append(f.slots, slot{state: damaged})
	}
	f.slots[number-1] = *s
	f.index(number)
	return nil
}

// Key implements sealed.Keys.
func (f *File) Key(_ context.Context, number uint32) (sealed.Key, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.key(number)
}

// key returns a key. REQUIRES: mu is held.
func (f *File) key(number uint32) (sealed.Key, error) {
	if number == 0 || int64(number) > int64(len(f.slots)) {
		return sealed.Key{}, fmt.Errorf("%w: key %d is not in the key file; bring it back from a backup: tributary keys restore", eventstore.ErrUnavailable, number)
	}
	switch s := &f.slots[number-1]; s.state {
	case live:
		// An older key of a subject that was given another, and then erased, goes with it.
		if f.slots[f.bySubject[s.subject]-1].state == destroyed {
			return sealed.Key{}, fmt.Errorf("%w: key %d", eventstore.ErrErased, number)
		}
		return f.master.unwrap(number, s)
	case destroyed:
		return sealed.Key{}, fmt.Errorf("%w: key %d", eventstore.ErrErased, number)
	}
	return sealed.Key{}, fmt.Errorf("%w: key %d is damaged; bring it back from a backup: tributary keys restore", eventstore.ErrUnavailable, number)
}

// Known implements sealed.Keys.
func (f *File) Known(_ context.Context, s sealed.Subject) (uint32, bool, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	number := f.bySubject[digestOf(s)]
	return number, number != 0 && f.slots[number-1].state == destroyed, nil
}

// Destroy implements sealed.Keys: every key of the subject is overwritten, and the slot of the number too where it cannot
// be read or that the file does not have, for it may be the subject's.
func (f *File) Destroy(_ context.Context, of sealed.Subject, number uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	tombstone := slot{state: destroyed, subject: digestOf(of), whenMs: f.now().UnixMilli()}
	done := false
	for i := range f.slots {
		s, n := &f.slots[i], uint32(i+1)
		switch {
		case s.state == live && s.subject == tombstone.subject, s.state == damaged && n == number:
			if err := f.write(n, &tombstone); err != nil {
				return err
			}
			done = true
		case s.state == destroyed && s.subject == tombstone.subject:
			done = true
		}
	}
	if done {
		return f.failed
	}
	if int64(number) > int64(len(f.slots)) {
		return f.write(number, &tombstone)
	}
	next, err := f.next()
	if err != nil {
		return err
	}
	return f.write(next, &tombstone)
}

// Close closes the file; safe twice.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk == nil {
		return nil
	}
	err := f.disk.Close()
	f.disk = nil
	f.failed = eventstore.ErrClosed
	return err
}

// Exists reports whether there is a key file in a folder.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, slotsFile))
	return err == nil
}
