package keyfile_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

var (
	carl = sealed.Subject{Tenant: "default", ID: "carl"}
	dora = sealed.Subject{Tenant: "default", ID: "dora"}
)

// older is a life of keys that outlived a backup: the subjects in order, of which the first were there when it was made.
type older struct {
	dir         string
	old, newest bytes.Buffer
	keys        map[uint32]sealed.Key
}

func newOlder(t *testing.T, backedUp int, subjects ...sealed.Subject) *older {
	t.Helper()
	o := &older{dir: t.TempDir(), keys: map[uint32]sealed.Key{}}
	f := open(t, o.dir, keyfile.Options{})
	for i, s := range subjects {
		if i == backedUp {
			o.backUp(t, &o.old)
		}
		number, key := keyOf(t, f, s)
		o.keys[number] = key
	}
	o.backUp(t, &o.newest)
	if err := errors.Join(f.Close(), os.Remove(filepath.Join(o.dir, "keys.slots"))); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *older) backUp(t *testing.T, to *bytes.Buffer) {
	t.Helper()
	if _, err := keyfile.Backup(o.dir, keyfile.Options{}, to); err != nil {
		t.Fatal(err)
	}
}

func (o *older) restore(t *testing.T, from *bytes.Buffer) keyfile.Report {
	t.Helper()
	r, err := keyfile.Restore(o.dir, keyfile.Options{}, bytes.NewReader(from.Bytes()), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNumbersAfterAnOlderBackup: a number that was given after the backup is not given again, and its key comes back from
// a newer one. Shows E4.
func TestNumbersAfterAnOlderBackup(t *testing.T) {
	o := newOlder(t, 2, anna, bert, carl)
	o.restore(t, &o.old)
	f := open(t, o.dir, keyfile.Options{})
	if _, _, err := f.Of(t.Context(), dora); !errors.Is(err, eventstore.ErrUnavailable) || !f.Restored() {
		t.Fatalf("a key before it is known which numbers were given: %v", err)
	}
	if number, key := keyOf(t, f, bert); key != o.keys[number] {
		t.Error("a key of the backup is not what it was")
	}
	if f.KnowsAll(0) {
		t.Error("keys from a backup are said to be all that were given")
	}
	if err := f.Reserve(3); err != nil || f.Restored() {
		t.Fatalf("reserve: %v", err)
	}
	if f.KnowsAll(0) {
		t.Error("a key is missing, and they are said to be all")
	}
	doras, dorasKey := keyOf(t, f, dora)
	if doras != 4 {
		t.Errorf("the new key has number %d, want 4", doras)
	}
	if _, err := f.Key(t.Context(), 3); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrErased) {
		t.Errorf("the key that was given after the backup: %v", err)
	}
	f.Close()
	if r := o.restore(t, &o.newest); r.Restored != 1 {
		t.Errorf("the newer backup: %+v, want one key back", r)
	}
	f = open(t, o.dir, keyfile.Options{})
	for number, want := range o.keys {
		if got, err := f.Key(t.Context(), number); err != nil || got != want {
			t.Errorf("key %d: %v", number, err)
		}
	}
	if got, err := f.Key(t.Context(), doras); err != nil || got != dorasKey {
		t.Errorf("the key that was given between the restores: %v", err)
	}
	if err := f.Reserve(doras); err != nil {
		t.Fatal(err)
	}
	if !f.KnowsAll(doras) || f.KnowsAll(doras+1) {
		t.Errorf("all keys up to %d are there: %v, up to the next one: %v", doras, f.KnowsAll(doras), f.KnowsAll(doras+1))
	}
}

// TestTombstoneKeepsToItsNumber: an erasure of a key that the file lacks leaves the slots of others alone. Shows E4.
func TestTombstoneKeepsToItsNumber(t *testing.T) {
	o := newOlder(t, 1, anna, bert, carl)
	o.restore(t, &o.old)
	f := open(t, o.dir, keyfile.Options{})
	if err := f.Destroy(t.Context(), carl, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Key(t.Context(), 2); !errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, eventstore.ErrErased) {
		t.Errorf("bert's key: %v", err)
	}
	if _, err := f.Key(t.Context(), 3); !errors.Is(err, eventstore.ErrErased) {
		t.Errorf("carl's key: %v", err)
	}
	f.Close()
	if r := o.restore(t, &o.newest); r.Restored != 1 || r.Kept != 1 {
		t.Errorf("the newer backup: %+v, want bert's key back and carl's kept out", r)
	}
	f = open(t, o.dir, keyfile.Options{})
	if got, err := f.Key(t.Context(), 2); err != nil || got != o.keys[2] {
		t.Errorf("bert's key after the newer backup: %v", err)
	}
}

// TestTombstoneInAnothersSlot: a key that comes back takes its slot, and the erasure that stood there holds.
func TestTombstoneInAnothersSlot(t *testing.T) {
	o := newOlder(t, 1, anna, bert, carl)
	o.restore(t, &o.old)
	f := open(t, o.dir, keyfile.Options{})
	if err := errors.Join(f.Reserve(0), f.Destroy(t.Context(), carl, 0)); err != nil { // the next slot is bert's
		t.Fatal(err)
	}
	f.Close()
	if r := o.restore(t, &o.newest); r.Restored != 1 || r.Kept != 1 {
		t.Errorf("restore: %+v, want bert's key back and carl's kept out", r)
	}
	f = open(t, o.dir, keyfile.Options{})
	if got, err := f.Key(t.Context(), 2); err != nil || got != o.keys[2] {
		t.Errorf("bert's key: %v", err)
	}
	if _, gone, err := f.Known(t.Context(), carl); err != nil || !gone {
		t.Errorf("carl is erased: %v, %v", gone, err)
	}
}

// TestTwoKeysOfOneNumber are refused, and nothing is changed.
func TestTwoKeysOfOneNumber(t *testing.T) {
	o := newOlder(t, 1, anna, bert)
	o.restore(t, &o.old)
	f := open(t, o.dir, keyfile.Options{})
	if err := f.Reserve(0); err != nil {
		t.Fatal(err)
	}
	number, key := keyOf(t, f, dora)
	f.Close()
	if _, err := keyfile.Restore(o.dir, keyfile.Options{}, bytes.NewReader(o.newest.Bytes()), time.Now()); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("key %d of two subjects: %v", number, err)
	}
	f = open(t, o.dir, keyfile.Options{})
	if got, err := f.Key(t.Context(), number); err != nil || got != key {
		t.Errorf("key %d: %v", number, err)
	}
}
