package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// A backup goes nowhere where the node removes what is derived, through a link neither, and who names a place that does not do is
// told what is wrong with it.
func TestBackupPlace(t *testing.T) {
	data, keys, elsewhere := filepath.Join(t.TempDir(), "data"), t.TempDir(), t.TempDir()
	n, err := Open(t.Context(), Config{
		Data: data, Keys: keys, Kafka: Off, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Domains: []Domain{{Name: "none"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(elsewhere, "file"), filepath.Join(elsewhere, "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(data, link)); err != nil {
		t.Fatal(err)
	}
	places := map[string]string{
		filepath.Join(data, "store", "index", "bk"): "made anew", filepath.Join(data, "new"): "made anew", data: "made anew",
		filepath.Join(link, "keys", "x"): "made anew", filepath.Join(keys, "x"): "made anew",
		file: "not a directory", filepath.Join(file, "x"): "not a directory", "/proc/x": "/proc/x", elsewhere + "/a\x00b": "invalid argument",
	}
	refused := func(what string, err error, want string) {
		t.Helper()
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want it refused, with %q", what, err, want)
		}
	}
	for to, want := range places {
		_, err := n.BackUp(t.Context(), to, nil)
		refused("back up to "+to, err, want)
	}
	if r, err := n.BackUp(t.Context(), filepath.Join(elsewhere, "good"), nil); err != nil {
		t.Errorf("a good place: %+v, %v", r, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for to, want := range places {
		_, err := BackUpFolder(t.Context(), data, to, slog.New(slog.DiscardHandler), nil)
		refused("back up the stopped folder to "+to, err, want)
	}
	full := placeError(&os.PathError{Op: "write", Path: "/b", Err: syscall.ENOSPC})
	if !errors.Is(full, eventstore.ErrUnavailable) || eventstore.ClassOf(full) != eventstore.Transient || !strings.Contains(full.Error(), "no space left") {
		t.Errorf("a full disk: %v", full)
	}
}
