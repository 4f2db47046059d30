package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/tributary-es/tributary/eventstore"
	"go.uber.org/goleak"
)

func TestSecondOpenerIsToldWhatIsInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, &Options{Logger: quietLog})
	if err != nil {
		t.Fatal(err)
	}
	leaks := goleak.IgnoreCurrent()
	_, err = Open(dir, &Options{Logger: quietLog})
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("second open: %v, want %v", err, ErrLocked)
	}
	text := strings.ToLower(err.Error())
	if !strings.Contains(text, strings.ToLower(dir)) || strings.Contains(text, "pebble") || strings.Contains(text, "lock held") {
		t.Errorf("second open says %q; it should name the folder and nothing of the database inside", err)
	}
	goleak.VerifyNone(t, leaks)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, &Options{Logger: quietLog})
	if err != nil {
		t.Fatalf("open after close: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "store"), &Options{Logger: quietLog}); err == nil || errors.Is(err, ErrLocked) {
		t.Fatalf("open below a file: %v", err)
	}
}

func TestOpenChecksWhatTheFolderHolds(t *testing.T) {
	fs := vfs.NewMem()
	open := func(o Options) error {
		o.FS, o.Logger = fs, quietLog
		s, err := Open("data/store", &o)
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := open(Options{Site: "sh", Shard: 2}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o    Options
		want error
	}{
		{Options{Site: "sh", Shard: 2}, nil},
		{Options{Shard: 2}, nil},
		{Options{Site: "sz", Shard: 2}, eventstore.ErrInvalid},
		{Options{Site: "sh"}, eventstore.ErrInvalid},
	} {
		if err := open(c.o); !errors.Is(err, c.want) {
			t.Errorf("open as site %q, shard %d: %v, want %v", c.o.Site, c.o.Shard, err, c.want)
		}
	}
	tamper(t, fs, "log", func(db *pebble.DB) {
		if err := writeMeta(db, meta{Format: dataFormat + 1, Site: "sh", Incarnation: 1, Shard: 2}); err != nil {
			t.Fatal(err)
		}
	})
	if err := open(Options{Shard: 2}); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("open of newer data: %v, want %v", err, ErrNewerFormat)
	}
	if _, err := Open("data/other", &Options{FS: fs, Logger: quietLog, Site: "NOT A SITE"}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("open with a wrong site: %v, want %v", err, eventstore.ErrInvalid)
	}
}

// The index may be gone, damaged, of another log, ahead of the log, or of a past that never was: it is made anew (S12, S38).
func TestIndexIsMadeAnew(t *testing.T) {
	const n = 100
	changeMark := func(t *testing.T, fs vfs.FS, change func(*mark)) {
		tamper(t, fs, "index", func(db *pebble.DB) {
			m, ok := parseMark(get(t, db, metaKey))
			if !ok {
				t.Fatal("no mark")
			}
			change(&m)
			set(t, db, metaKey, m.encode())
			// What only a new index puts right:
			set(t, db, appendRunKey(nil, eventstore.Stream("order", "ghost"), 7), []byte{7})
		})
	}
	cases := map[string]func(t *testing.T, fs vfs.FS){
		"gone": func(t *testing.T, fs vfs.FS) {
			if err := fs.RemoveAll("data/store/index"); err != nil {
				t.Fatal(err)
			}
		},
		"damaged": func(t *testing.T, fs vfs.FS) {
			names, err := fs.List("data/store/index")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if strings.HasPrefix(name, "MANIFEST") {
					flip(t, fs, "data/store/index/"+name, 0.2)
				}
			}
		},
		"without its manifest": func(t *testing.T, fs vfs.FS) { removeFrom(t, fs, "data/store/index", "MANIFEST") },
		"without a table":      func(t *testing.T, fs vfs.FS) { removeFrom(t, fs, "data/store/index", ".sst") },
		"with a table cut short": func(t *testing.T, fs vfs.FS) {
			truncate(t, fs, named(t, fs, "data/store/index", ".sst")[0])
		},
		"of a newer format": func(t *testing.T, fs vfs.FS) {
			marker := named(t, fs, "data/store/index", "marker.format-version")[0]
			if err := fs.Rename(marker, "data/store/index/marker.format-version.999999.9999"); err != nil {
				t.Fatal(err)
			}
		},
		"without its format": func(t *testing.T, fs vfs.FS) { removeFrom(t, fs, "data/store/index", "marker.format-version") },
		"of another log":     func(t *testing.T, fs vfs.FS) { changeMark(t, fs, func(m *mark) { m.log.Incarnation++ }) },
		"ahead of the log":   func(t *testing.T, fs vfs.FS) { changeMark(t, fs, func(m *mark) { m.lsn += 5 }) },
		"of another past":    func(t *testing.T, fs vfs.FS) { changeMark(t, fs, func(m *mark) { m.lsn, m.seq = 50, 50 }) },
		"without a mark": func(t *testing.T, fs vfs.FS) {
			tamper(t, fs, "index", func(db *pebble.DB) { set(t, db, metaKey, nil) })
		},
		"filled to the middle": func(t *testing.T, fs vfs.FS) { indexUpTo(t, fs, 50) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			fs := written(t, n, Options{})
			change(t, fs)
			s := openMem(t, fs, Options{})
			if v, err := s.Version(context.Background(), eventstore.Stream("order", "ghost")); v != 0 || err != nil {
				t.Errorf("the old index is still there: version %d, %v", v, err)
			}
			for i := range 10 {
				if v, err := s.Version(context.Background(), eventstore.Stream("order", fmt.Sprint(i))); v != n/10 || err != nil {
					t.Errorf("stream %d: version %d, %v; want %d", i, v, err, n/10)
				}
			}
			if receipt, _, err := s.Receipt(context.Background(), "", "request-42"); err != nil || receipt.Position.LSN != 43 {
				t.Errorf("receipt: %+v, %v", receipt, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := openMem(t, fs, Options{})
			for _, fault := range verify(t, again).Faults {
				t.Error(fault)
			}
			if state := again.recent.state(); state.streams != 10 {
				t.Errorf("log has %d streams, want 10", state.streams)
			}
		})
	}
}

// named returns the paths of the files in a folder that have a part in their names.
func named(t *testing.T, fs vfs.FS, dir, part string) (paths []string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.Contains(name, part) {
			paths = append(paths, fs.PathJoin(dir, name))
		}
	}
	if len(paths) == 0 {
		t.Fatalf("no %s in %v", part, names)
	}
	return paths
}

func removeFrom(t *testing.T, fs vfs.FS, dir, part string) {
	t.Helper()
	for _, path := range named(t, fs, dir, part) {
		if err := fs.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// An index that cannot be reached is not for that a bad one: it is kept, and Open says what was in the way.
func TestIndexThatCannotBeReachedIsKept(t *testing.T) {
	on := func(kind errorfs.OpKind, part string) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool { return op.Kind == kind && strings.Contains(op.Path, part) }
	}
	for _, c := range []struct {
		name  string
		fault error
		hit   func(op errorfs.Op) bool
	}{
		{"no rights to the manifest", syscall.EACCES, on(errorfs.OpOpen, "index/MANIFEST")},
		{"no descriptor left for the manifest", syscall.EMFILE, on(errorfs.OpOpen, "index/MANIFEST")},
		{"manifest cannot be read", syscall.EIO, on(errorfs.OpFileRead, "index/MANIFEST")},
		{"folder cannot be listed", syscall.EIO, on(errorfs.OpList, "store/index")},
		{"locked", syscall.EAGAIN, on(errorfs.OpLock, "index/LOCK")},
		{"table cannot be opened", syscall.EMFILE, on(errorfs.OpOpen, ".sst")},
		{"table cannot be read", syscall.EIO, func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, "index/") && strings.HasSuffix(op.Path, ".sst")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := written(t, 100, Options{})
			tamper(t, fs, "index", func(db *pebble.DB) {
				set(t, db, appendRunKey(nil, eventstore.Stream("order", "witness"), 7), []byte{7})
			})
			faulty := watched(fs, func(op errorfs.Op) error {
				if strings.Contains(op.Path, "data/store/index") && c.hit(op) {
					return c.fault
				}
				return nil
			})
			s, err := Open("data/store", &Options{FS: faulty, Logger: quietLog})
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, c.fault) || !strings.Contains(fmt.Sprint(err), "index") {
				t.Errorf("open: %v; want %v, of the index", err, c.fault)
			}
			tamper(t, fs, "index", func(db *pebble.DB) {
				get(t, db, appendRunKey(nil, eventstore.Stream("order", "witness"), 7))
			})
		})
	}
}

// indexUpTo makes an index that is filled to an lsn, as a crash leaves it.
func indexUpTo(t *testing.T, fs vfs.FS, lsn uint64) {
	t.Helper()
	s := openMem(t, fs, Options{})
	page, err := s.readPage(nil, 1, lsn, pageLimits{events: int(lsn), chain: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := newRecent(&s.history, logState{}, 4)
	for batch := range batchesOf(page) {
		r.add([]keyedBatch{keyed(batch, nil)})
	}
	tamper(t, fs, "index", func(db *pebble.DB) {
		if err := db.DeleteRange([]byte{0}, []byte{0xff}, pebble.NoSync); err != nil {
			t.Fatal(err)
		}
		if err := (&index{db: db}).fill(r.turn(), s.id); err != nil {
			t.Fatal(err)
		}
	})
}

// Of a log whose last block is damaged nothing can be said, least of all what comes next.
func TestDamagedEndIsRefused(t *testing.T) {
	fs := written(t, 10, Options{})
	tamper(t, fs, "log", func(db *pebble.DB) {
		b := get(t, db, blockKey(10))
		b[3]++
		set(t, db, blockKey(10), b)
	})
	_, err := Open("data/store", &Options{FS: fs, Logger: quietLog})
	if !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "lsn 10") {
		t.Fatalf("open: %v, want %v that names lsn 10", err, eventstore.ErrCorrupt)
	}
}
