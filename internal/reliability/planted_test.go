package reliability

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	plant    = flag.Bool("planted", false, "build the store with each planted bug, and see whether the reliability tests notice")
	plantAll = flag.Bool("planted.all", false, "run all tests on each planted bug, in place of stopping at the first that notices")
)

const root = "../.."

// noticer is a row of tests that notice bugs in files of some names, the quick ones first.
type noticer struct {
	file  *regexp.Regexp
	pkg   string
	tests []string
}

// noticers are what a planted bug is shown to: the first row that the name of its first file matches.
var noticers = []noticer{
	{regexp.MustCompile(`^node/`), "node", []string{"TestDropWaitsForFollowers", "TestDropWaitsForEachFollower"}},
	{regexp.MustCompile(`archive|/dropped\.go$|/read_stream\.go$`), "eventstore/pebblestore", []string{
		"TestArchivedLogReadsTheSame", "TestArchiveThatRots", "TestSeamOfArchiveAndLog", "TestReadWhileArchivedBlocksGo", "TestStartAfterAKillNeedsNoArchive",
		"TestArchivePlaceThatIsAway", "TestSegmentThatIsPutBack", "TestSystemEventsAreKeptNear", "TestDroppedEvents", "TestDroppedStreamInMemory",
		"TestDropThatFails", "TestPowerLossWhileArchiving", "TestPowerLossWhileDropping", "TestConformanceWhileArchiving",
	}},
	{regexp.MustCompile(``), "eventstore/pebblestore", []string{
		"TestConfigurations", "TestPowerLoss", "TestLinearizable", "TestLinearizableKilled", "TestFailPoints", "TestKill9", "TestMutations", "TestPowerLossInABatchOfManyBlocks",
	}},
}

// plantedBug is a change of the product's sources that makes them wrong.
type plantedBug struct {
	name    string // of its file in testdata/planted
	what    string
	changes []change
}

type change struct{ file, old, new string }

var (
	changeBegins  = regexp.MustCompile(`^-- (\S+\.go) --$`)
	changeBecomes = "-- becomes --"
)

// readPlanted reads a planted bug: what it is on the first line, then for each change a line "-- FILE --", the lines that
// stand there once, a line "-- becomes --", and the lines that take their place.
func readPlanted(t *testing.T, path string) plantedBug {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	what, rest, _ := strings.Cut(string(text), "\n")
	bug := plantedBug{name: strings.TrimSuffix(filepath.Base(path), ".txt"), what: what}
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

// apply returns the changed files. A bug whose lines are not there, or there twice, is out of date.
func (b *plantedBug) apply(t *testing.T) map[string]string {
	t.Helper()
	changed := map[string]string{}
	for _, c := range b.changes {
		text, ok := changed[c.file]
		if !ok {
			read, err := os.ReadFile(filepath.Join(root, c.file))
			if err != nil {
				t.Fatalf("planted bug %s: %v", b.name, err)
			}
			text = string(read)
		}
		old := strings.TrimSuffix(c.old, "\n")
		if n := strings.Count(text, old); n != 1 {
			t.Fatalf("planted bug %s: %s has these lines %d times, wanted once: bring testdata/planted/%s.txt up to date\n%s", b.name, c.file, n, b.name, c.old)
		}
		changed[c.file] = strings.Replace(text, old, strings.TrimSuffix(c.new, "\n"), 1)
	}
	return changed
}

// TestPlanted keeps the planted bugs applicable and, with -planted, shows each to the short forms of the reliability tests:
// one of them has to fail. The sources stay as they are, for the compiler is given the changed ones as an overlay.
func TestPlanted(t *testing.T) {
	paths, err := filepath.Glob("testdata/planted/*.txt")
	if err != nil || len(paths) < 40 {
		t.Fatalf("found the planted bugs %v, %v; want at least 40", paths, err)
	}
	for _, path := range paths {
		bug := readPlanted(t, path)
		t.Run(bug.name, func(t *testing.T) {
			changed := bug.apply(t)
			if !*plant {
				return
			}
			caught := bug.show(t, changed)
			result := Result{Test: PlantedTest, What: bug.what, Extra: map[string]any{"caught by": strings.Join(caught, ", ")}}
			if len(caught) == 0 {
				result.Violations = 1
				t.Errorf("no test noticed that %s", bug.what)
			}
			result.Print(t)
		})
	}
}

// show builds the tests that the bug is shown to with the changed files, and returns those that fail.
func (b *plantedBug) show(t *testing.T, changed map[string]string) (caught []string) {
	t.Helper()
	dir := t.TempDir()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for file, text := range changed {
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
	to := noticers[slices.IndexFunc(noticers, func(row noticer) bool { return row.file.MatchString(b.changes[0].file) })]
	overlayPath, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "noticers.test")
	if err := os.WriteFile(overlayPath, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "test", "-c", "-overlay", overlayPath, "-o", binary, "./"+to.pkg)
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("planted bug %s does not compile: %v\n%s", b.name, err, out)
	}
	for _, test := range to.tests {
		run := exec.Command(binary, "-test.run", "^"+test+"$", "-test.timeout", "2m")
		run.Dir = filepath.Join(top, to.pkg)
		run.Env = append(os.Environ(), Collect+"=") // what a broken store shows goes on no record
		began := time.Now()
		out, err := run.CombinedOutput()
		if err == nil {
			continue
		}
		caught = append(caught, test)
		t.Logf("%s noticed after %s:\n%s", test, time.Since(began).Round(time.Millisecond), firstLines(out))
		if !*plantAll {
			break
		}
	}
	return caught
}

// firstLines returns the beginning of what a test said.
func firstLines(out []byte) string {
	lines := strings.SplitN(string(out), "\n", 7)
	for i, line := range lines {
		if len(line) > 300 {
			lines[i] = fmt.Sprintf("%s… (%d bytes)", line[:300], len(line))
		}
	}
	return strings.Join(lines[:min(len(lines), 6)], "\n")
}
