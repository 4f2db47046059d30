package pebblestore

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// A damaged OPTIONS file keeps no log from opening: all that it says is known without it. Shows S38.
func TestDamagedOptionsFile(t *testing.T) {
	options := func(t *testing.T, fs vfs.FS) (paths []string) {
		t.Helper()
		names, err := fs.List("data/store/log")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, "OPTIONS-") {
				paths = append(paths, "data/store/log/"+name)
			}
		}
		slices.Sort(paths)
		return paths
	}
	for name, damage := range map[string]func(text string) string{
		"no line of options":   func(string) string { return "\x00\x01 rot \xff" },
		"cut short":            func(text string) string { return text[:strings.Index(text, "merger")+3] },
		"another comparer":     func(text string) string { return strings.Replace(text, "comparer=", "comparer=x", 1) },
		"another merger":       func(text string) string { return strings.Replace(text, "merger=", "merger=x", 1) },
		"a WAL that is not":    func(text string) string { return strings.Replace(text, "wal_dir=", "wal_dir=rot", 1) },
		"a line without value": func(text string) string { return strings.Replace(text, "max_open_files=", "max_open_files", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := written(t, 30, Options{})
			there := options(t, fs)
			text := fileText(t, fs, there[len(there)-1])
			if damaged := damage(text); damaged == text {
				t.Fatalf("nothing is damaged in %s", text)
			} else {
				putText(t, fs, there[len(there)-1], damaged)
			}
			var said strings.Builder
			s, err := Open("data/store", &Options{FS: fs, Logger: slog.New(slog.NewTextHandler(&said, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if state, err := s.Log(t.Context()); err != nil || state.Durable.LSN != 30 {
				t.Errorf("the log is %+v, %v; want its 30 events", state, err)
			}
			if _, err := s.Append(t.Context(), request("", eventstore.Stream("order", "1"), eventstore.Any, 1)); err != nil {
				t.Error(err)
			}
			if !strings.Contains(said.String(), there[len(there)-1]+".damaged") {
				t.Errorf("it is not said which file was damaged:\n%s", said.String())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			now := options(t, fs)
			if len(now) != 2 || strings.HasSuffix(now[0], ".damaged") == strings.HasSuffix(now[1], ".damaged") {
				t.Errorf("the log has the options %v, want new ones and those that were set aside", now)
			}
			s = openMem(t, fs, Options{})
			if report, err := s.Verify(t.Context(), nil); err != nil || len(report.Faults) > 0 || report.Events != 31 {
				t.Errorf("verify: %+v, %v", report, err)
			}
		})
	}
	t.Run("a WAL elsewhere", func(t *testing.T) {
		fs := written(t, 30, Options{})
		there := options(t, fs)
		if err := fs.MkdirAll("elsewhere", 0o755); err != nil {
			t.Fatal(err)
		}
		path := there[len(there)-1]
		putText(t, fs, path, strings.Replace(fileText(t, fs, path), "wal_dir=", "wal_dir=elsewhere", 1))
		s, err := Open("data/store", &Options{FS: fs, Logger: quietLog})
		if err == nil {
			err = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "elsewhere") {
			t.Errorf("a log whose WAL was in another folder, which is there: %v, want it refused", err)
		}
	})
}

// fileText returns what a file holds.
func fileText(t *testing.T, fs vfs.FS, path string) string {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// putText replaces what a file holds.
func putText(t *testing.T, fs vfs.FS, path, text string) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(text))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
