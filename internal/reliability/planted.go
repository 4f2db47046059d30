package reliability

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Planted is a planted bug: a change of sources that makes them wrong, to see whether the tests notice. The sources stay as
// they are, for the compiler is given the changed ones as an overlay.
type Planted struct {
	Name    string // of its file
	What    string
	changes []change
}

type change struct{ file, old, new string }

var (
	changeBegins  = regexp.MustCompile(`^-- (\S+\.go) --$`)
	changeBecomes = "-- becomes --"
)

// ReadPlanted reads a planted bug: what it is on the first line, then for each change a line "-- FILE --", the lines that
// stand there once, a line "-- becomes --", and the lines that take their place. FILE is relative to the module's folder.
func ReadPlanted(t testing.TB, path string) Planted {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	what, rest, _ := strings.Cut(string(text), "\n")
	bug := Planted{Name: strings.TrimSuffix(filepath.Base(path), ".txt"), What: what}
	var into *string
	for line := range strings.Lines(rest) {
		trimmed := strings.TrimSuffix(line, "\n")
		if begins := changeBegins.FindStringSubmatch(trimmed); begins != nil {
			bug.changes = append(bug.changes, change{file: begins[1]})
			into = &bug.changes[len(bug.changes)-1].old
			continue
		}
		if trimmed == changeBecomes && into != nil {
			into = &bug.changes[len(bug.changes)-1].new
			continue
		}
		if into == nil {
			t.Fatalf("%s: %q stands before the first file", path, trimmed)
		}
		*into += line
	}
	if what == "" || len(bug.changes) == 0 {
		t.Fatalf("%s: no bug in it", path)
	}
	return bug
}

// Changed returns the changed files, given the module's folder. A bug whose lines are not there, or there twice, is out of date.
func (b *Planted) Changed(t testing.TB, module string) map[string]string {
	t.Helper()
	changed := map[string]string{}
	for _, c := range b.changes {
		text, ok := changed[c.file]
		if !ok {
			read, err := os.ReadFile(filepath.Join(module, c.file))
			if err != nil {
				t.Fatalf("planted bug %s: %v", b.Name, err)
			}
			text = string(read)
		}
		old := strings.TrimSuffix(c.old, "\n")
		if n := strings.Count(text, old); n != 1 {
			t.Fatalf("planted bug %s: %s has these lines %d times, wanted once: bring %s.txt up to date\n%s", b.Name, c.file, n, b.Name, c.old)
		}
		changed[c.file] = strings.Replace(text, old, strings.TrimSuffix(c.new, "\n"), 1)
	}
	return changed
}

// Build compiles the tests of a package with the bug in it and returns the program, given the module's and the package's folder.
func (b *Planted) Build(t testing.TB, module, pkg string) (program string) {
	t.Helper()
	dir := t.TempDir()
	top, err := filepath.Abs(module)
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for file, text := range b.Changed(t, module) {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(top, file)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayPath, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "planted.test")
	if err := os.WriteFile(overlayPath, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "test", "-c", "-overlay", overlayPath, "-o", program, "./"+pkg)
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("planted bug %s does not compile: %v\n%s", b.Name, err, out)
	}
	return program
}
