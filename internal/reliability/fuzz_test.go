package reliability

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fuzzEach is how long the long form gives each fuzz target.
var fuzzEach = flag.Duration("fuzz.each", 5*time.Minute, "how long each fuzz target runs in the long form")

// fuzzTarget is a fuzz target of the root module.
type fuzzTarget struct{ name, dir string }

var (
	fuzzDeclared = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	fuzzCounted  = regexp.MustCompile(`execs: (\d+)`)
)

// fuzzTargets finds all of them.
func fuzzTargets(t *testing.T) (targets []fuzzTarget) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, module := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (module == nil || strings.HasPrefix(entry.Name(), ".")) { // another module
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		for _, found := range fuzzDeclared.FindAllSubmatch(text, -1) {
			targets = append(targets, fuzzTarget{string(found[1]), "./" + filepath.ToSlash(dir)})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return targets
}

// TestFuzzTargets fuzzes, in the long form, every decoder that has a fuzz target, one after another. An input that crashes one
// is left in its package's testdata/fuzz, to be committed beside the fix. It is T25 of docs/reliability.md.
func TestFuzzTargets(t *testing.T) {
	targets := fuzzTargets(t)
	if len(targets) < 13 {
		t.Fatalf("found the fuzz targets %v; want at least 13", targets)
	}
	if !*Long {
		return
	}
	result := Result{Test: "T25", What: "every fuzz target in turn", Extra: map[string]any{"targets": len(targets), "seconds each": int(fuzzEach.Seconds())}}
	for _, target := range targets {
		run := exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+target.name+"$", "-fuzztime", fuzzEach.String(), "-fuzzminimizetime", "1s", target.dir)
		run.Dir = root
		out, err := run.CombinedOutput()
		if err != nil {
			result.Violations++
			t.Errorf("%s in %s: %v\n%s", target.name, target.dir, err, out[max(0, len(out)-3000):])
		}
		executed := 0
		if counts := fuzzCounted.FindAllSubmatch(out, -1); len(counts) > 0 {
			if executed, err = strconv.Atoi(string(counts[len(counts)-1][1])); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s in %s: %d executions", target.name, target.dir, executed)
		result.Cycles += executed
		result.Extra[fmt.Sprintf("%s in %s", target.name, strings.TrimPrefix(target.dir, "./"))] = executed
	}
	result.Print(t)
}
