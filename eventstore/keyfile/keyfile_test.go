package keyfile_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

var (
	anna = sealed.Subject{Tenant: "default", ID: "anna"}
	bert = sealed.Subject{Tenant: "default", ID: "bert"}
)

func open(t *testing.T, dir string, o keyfile.Options) *keyfile.File {
	t.Helper()
	f, err := keyfile.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func keyOf(t *testing.T, f *keyfile.File, s sealed.Subject) (uint32, sealed.Key) {
	t.Helper()
	number, key, err := f.Of(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return number, key
}

func TestKeysStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	f := open(t, dir, keyfile.Options{})
	number, key := keyOf(t, f, anna)
	if again, same := keyOf(t, f, anna); again != number || same != key {
		t.Error("a subject has two keys")
	}
	other, otherKey := keyOf(t, f, sealed.Subject{Tenant: "other", ID: "anna"})
	if other == number || otherKey == key {
		t.Error("two tenants share a subject's key")
	}
	if _, err := keyfile.Open(dir, keyfile.Options{}); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("a second process opens the file: %v", err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	g := open(t, dir, keyfile.Options{})
	if got, err := g.Key(t.Context(), number); err != nil || got != key {
		t.Errorf("the key after a start: %v", err)
	}
	for _, name := range []string{"keys.slots", "master.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v, want 0600", name, err, info.Mode())
		}
	}
}

// TestErasedSubjectGetsNoKey: not even one that never had one. Shows E3.
func TestErasedSubjectGetsNoKey(t *testing.T) {
	f := open(t, t.TempDir(), keyfile.Options{})
	number, _ := keyOf(t, f, anna)
	for _, s := range []sealed.Subject{anna, bert} {
		for range 2 {
			if err := f.Destroy(t.Context(), s, 0); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := f.Of(t.Context(), s); !errors.Is(err, eventstore.ErrErased) {
			t.Errorf("a key for %s, who is erased: %v", s, err)
		}
		if _, gone, err := f.Known(t.Context(), s); err != nil || !gone {
			t.Errorf("%s: destroyed %v, %v", s, gone, err)
		}
	}
	if _, err := f.Key(t.Context(), number); !errors.Is(err, eventstore.ErrErased) {
		t.Errorf("the destroyed key: %v", err)
	}
}

func TestMasterKey(t *testing.T) {
	dir := t.TempDir()
	one, two := strings.Repeat("1f", 32), strings.Repeat("2f", 32)
	open(t, dir, keyfile.Options{Master: one}).Close()
	if _, err := os.Stat(filepath.Join(dir, "master.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a master key that is given is written down: %v", err)
	}
	for name, c := range map[string]struct {
		options  keyfile.Options
		mentions string
	}{
		"another":    {keyfile.Options{Master: two}, "not the one that this key file was made with"},
		"none":       {keyfile.Options{}, "bring it back to"},
		"no file":    {keyfile.Options{MasterFile: filepath.Join(dir, "nowhere")}, "bring it back to"},
		"no hex":     {keyfile.Options{Master: "secret"}, "64 hexadecimal digits"},
		"too short":  {keyfile.Options{Master: "1f"}, "64 hexadecimal digits"},
		"right, yes": {keyfile.Options{Master: one}, ""},
	} {
		f, err := keyfile.Open(dir, c.options)
		if c.mentions == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			f.Close()
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.mentions) {
			t.Errorf("%s: %v, want %q", name, err, c.mentions)
		}
	}
}

// TestManyAtOnce asks for keys and destroys them side by side.
func TestManyAtOnce(t *testing.T) {
	f := open(t, t.TempDir(), keyfile.Options{})
	subjects := []sealed.Subject{anna, bert, {Tenant: "default", ID: "carl"}}
	var all sync.WaitGroup
	for n := range 12 {
		all.Go(func() {
			s := subjects[n%len(subjects)]
			number, key, err := f.Of(t.Context(), s)
			if err != nil {
				t.Errorf("key of %s: %v", s, err)
				return
			}
			if got, err := f.Key(t.Context(), number); err != nil || got != key {
				t.Errorf("key %d: %v", number, err)
			}
		})
	}
	all.Wait()
	if number, _ := keyOf(t, f, sealed.Subject{Tenant: "default", ID: "dora"}); number != uint32(len(subjects)+1) {
		t.Errorf("three subjects took %d slots", number-1)
	}
}

// TestBackup: a lost key comes back, one that was destroyed after the backup does not. Shows E3.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, keyfile.Options{})
	annas, annasKey := keyOf(t, f, anna)
	berts, _ := keyOf(t, f, bert)
	var b bytes.Buffer
	made, err := keyfile.Backup(dir, keyfile.Options{}, &b)
	if err != nil || made.Keys != 2 || made.Tombstones != 0 || made.Expires.Sub(made.Made) != keyfile.BackupLife {
		t.Fatalf("backup: %+v, %v", made, err)
	}
	if bytes.Contains(b.Bytes(), annasKey[:]) {
		t.Error("the backup holds a key that is not wrapped")
	}
	if err := f.Destroy(t.Context(), bert, berts); err != nil {
		t.Fatal(err)
	}
	restore := func(dir string, now time.Time) (keyfile.Report, error) {
		return keyfile.Restore(dir, keyfile.Options{MasterFile: filepath.Join(dir, "master.key")}, bytes.NewReader(b.Bytes()), now)
	}
	if _, err := restore(dir, time.Now()); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("restored under a server that uses the keys: %v", err)
	}
	f.Close()
	if h := open(t, dir, keyfile.Options{}); h.Restored() {
		t.Error("a restore that was refused has left its mark: the next start reads the log for nothing")
	} else {
		h.Close()
	}
	damage(t, dir, annas)
	r, err := restore(dir, time.Now())
	if err != nil || r.Restored != 1 || r.Kept != 1 {
		t.Fatalf("restore: %+v, %v; want anna's key back and bert's kept out", r, err)
	}
	g := open(t, dir, keyfile.Options{})
	if got, err := g.Key(t.Context(), annas); err != nil || got != annasKey {
		t.Errorf("the key that was damaged: %v", err)
	}
	if _, err := g.Key(t.Context(), berts); !errors.Is(err, eventstore.ErrErased) {
		t.Errorf("the key that was destroyed after the backup: %v", err)
	}
	g.Close()

	if _, err := restore(dir, made.Expires.Add(time.Second)); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired backup: %v", err)
	}
	if _, err := restore(dir, made.Expires.Add(-time.Second)); err != nil {
		t.Errorf("a backup just before it expires: %v", err)
	}
	elsewhere := t.TempDir()
	master, err := os.ReadFile(filepath.Join(dir, "master.key"))
	if err == nil {
		err = os.WriteFile(filepath.Join(elsewhere, "master.key"), master, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := restore(elsewhere, time.Now()); err != nil || r.Restored != 2 {
		t.Errorf("restore into an empty folder: %+v, %v", r, err)
	}
	whole := bytes.Clone(b.Bytes())
	for _, at := range []int{3, 25, 40, len(whole) - 1} { // 25: when it was made, by which it expires
		b.Reset()
		b.Write(whole)
		b.Bytes()[at] ^= 1
		if _, err := restore(dir, time.Now()); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("a backup with byte %d changed: %v", at, err)
		}
	}
}

// damage flips a bit of a slot on disk.
func damage(t *testing.T, dir string, number uint32) {
	t.Helper()
	path := filepath.Join(dir, "keys.slots")
	body, err := os.ReadFile(path)
	if err == nil {
		body[int(number)*128+70] ^= 1
		err = os.WriteFile(path, body, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
