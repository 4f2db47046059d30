package wholefile

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// powerless is a disk that loses its power after some steps: then it has what was synced.
type powerless struct {
	steps       int
	files, kept map[string]*powerlessFile // by name: as the program sees them, and after the loss
}

type powerlessFile struct {
	disk          *powerless
	written, kept string
}

var errNoPower = errors.New("no power")

func (d *powerless) step() error {
	if d.steps--; d.steps < 0 {
		return errNoPower
	}
	return nil
}

func (d *powerless) create(path string) (syncedFile, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	d.files[path] = &powerlessFile{disk: d}
	return d.files[path], nil
}

func (d *powerless) rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.files[to] = d.files[from]
	delete(d.files, from)
	d.kept[to] = d.files[to] // a name may be on the disk before its folder is synced, as ext4 does it
	return nil
}

func (d *powerless) syncFolder(string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.kept = maps.Clone(d.files)
	return nil
}

func (f *powerlessFile) Write(b []byte) (int, error) {
	if err := f.disk.step(); err != nil {
		return 0, err
	}
	f.written += string(b)
	return len(b), nil
}

func (f *powerlessFile) Sync() error {
	if err := f.disk.step(); err != nil {
		return err
	}
	f.kept = f.written
	return nil
}

func (f *powerlessFile) Close() error { return nil }

// A file that is replaced is as it was or as it is now, whenever the power fails, and as it is now once that was said: what a site has told
// others it is bound by after a loss of power too. It shows R16.
func TestFileIsWholeAfterALossOfPower(t *testing.T) {
	for steps := range 10 {
		for _, early := range []bool{false, true} { // the name was on the disk before the folder was synced
			before := &powerlessFile{written: "before", kept: "before"}
			d := &powerless{steps: steps, files: map[string]*powerlessFile{"data/f": before}, kept: map[string]*powerlessFile{"data/f": before}}
			late := maps.Clone(d.kept)
			err := replace(d, "data/f", []byte("now"))
			if err == nil || early {
				late = d.kept
			}
			got := late["data/f"].kept
			if err == nil && got != "now" || err != nil && got != "now" && got != "before" {
				t.Errorf("after %d steps, said %v, the file has %q", steps, err, got)
			}
			if (err != nil) != (steps < 5) {
				t.Errorf("after %d steps: %v", steps, err)
			}
		}
	}
}

// What is written and removed on the machine's disk is.
func TestFileIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, body := range []string{"before", "now"} {
		if err := Write(path, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != body {
			t.Errorf("the file has %q, %v", got, err)
		}
	}
	if err := Remove(path); err != nil {
		t.Error(err)
	}
	if err := Remove(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
}
