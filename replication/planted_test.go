package replication_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/reliability"
)

var plant = flag.Bool("planted", false, "build the simulation with each planted bug, and see whether the oracle notices")

var inSeeds = regexp.MustCompile(`violations in (\d+) of (\d+) seeds, first in (\d+): (.*)`)

// TestPlanted keeps the planted bugs of testdata/planted applicable and, with -planted, plays the simulation's seeds with each:
// the oracle has to notice. A simulation that falls over by itself has not noticed. It is T16 of docs/reliability.md.
func TestPlanted(t *testing.T) {
	paths, err := filepath.Glob("testdata/planted/*.txt")
	if err != nil || len(paths) < 49 {
		t.Fatalf("found the planted bugs %v, %v; want at least 49", paths, err)
	}
	sum := reliability.Result{Test: "T16", What: "changes of the sources, shown to the simulation"}
	for _, path := range paths {
		bug := reliability.ReadPlanted(t, path)
		t.Run(bug.Name, func(t *testing.T) {
			if !*plant {
				bug.Changed(t, "..")
				return
			}
			program, err := filepath.Abs(bug.Build(t, "..", "replication"))
			if err != nil {
				t.Fatal(err)
			}
			run := exec.Command(program, "-test.run", "^TestSimulation$", "-test.v", "-test.timeout", "5m")
			run.Env = append(os.Environ(), reliability.Collect+"=") // what a broken simulation shows goes on no record
			out, err := run.CombinedOutput()
			result := reliability.Result{Test: reliability.PlantedTest, What: bug.What, Violations: 1, Extra: map[string]any{}}
			if seen := inSeeds.FindSubmatch(out); err != nil && seen != nil {
				result.Violations = 0
				sum.Cycles++
				result.Extra["caught by"] = "TestSimulation, in " + string(seen[1]) + " of " + string(seen[2]) + " seeds, first in " + string(seen[3])
				t.Logf("%s: in %s of %s seeds, first in %s, by %s", bug.What, seen[1], seen[2], seen[3], seen[4])
			} else {
				lines := strings.SplitN(string(out), "\n", 20)
				t.Errorf("nobody noticed that %s: %v\n%s", bug.What, err, strings.Join(lines[:len(lines)-1], "\n"))
			}
			result.Print(t)
		})
	}
	if *plant {
		sum.Violations = len(paths) - sum.Cycles
		sum.Print(t)
	}
}
