package pebblestore

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tributary-es/tributary/eventstore"
)

// contents returns all files below a folder.
func contents(t *testing.T, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		if info, err := fs.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			continue
		}
		f, err := fs.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	return files
}

// A MANIFEST that was cut off anywhere either still says all, or the log is refused and left as it was: it is never opened without
// tables that are there. Shows S13.
func TestManifestThatLostItsEnd(t *testing.T) {
	const n = 3000
	disk := vfs.NewCrashableMem()
	s := openMem(t, disk, Options{MemTableBytes: 64 << 10})
	for i := range n {
		mustAppend(t, s, request("", eventstore.Stream("order", strconv.Itoa(i%10)), eventstore.Any, 1))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	manifest, whole := "", []byte(nil)
	for name, b := range contents(t, disk, "data/store/log") {
		if strings.HasPrefix(name, "MANIFEST") && len(b) > len(whole) {
			manifest, whole = "data/store/log/"+name, b
		}
	}
	refused, opened := 0, 0
	for cut := 1; cut < len(whole); cut += 1 + len(whole)/40 {
		fs := disk.CrashClone(vfs.CrashCloneCfg{})
		f, err := fs.Create(manifest, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(whole[:len(whole)-cut])
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		before := contents(t, fs, "data/store/log")
		s, err := Open("data/store", &Options{FS: fs, Logger: quietLog})
		if err == nil {
			opened++
			report := verify(t, s)
			if err := s.log.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
				t.Errorf("%d bytes cut off: %v", cut, err)
			}
			if len(report.Faults) > 0 || report.Events != n {
				t.Errorf("%d bytes cut off: the log opens with %d of %d events; %v", cut, report.Events, n, report.Faults)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		refused++
		if !errors.Is(err, eventstore.ErrCorrupt) || !strings.Contains(err.Error(), "restore --from-kafka") {
			t.Errorf("%d bytes cut off: %v", cut, err)
		}
		for name, b := range contents(t, fs, "data/store/log") {
			if !bytes.Equal(before[name], b) {
				t.Errorf("%d bytes cut off: the log was refused, and its %s is another", cut, name)
			}
			delete(before, name)
		}
		if len(before) > 0 {
			t.Errorf("%d bytes cut off: the log was refused, and files are gone", cut)
		}
		if _, err := RecoverTail(t.Context(), given(nil), "data/store", &Options{FS: fs, Logger: quietLog}); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Errorf("%d bytes cut off: its tail is brought back: %v", cut, err)
		}
	}
	if refused == 0 || opened == 0 {
		t.Errorf("%d cuts were refused, with %d the log opened; want some of both", refused, opened)
	}
}
