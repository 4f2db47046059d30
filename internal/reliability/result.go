package reliability

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Long is the flag -long of every package whose tests have a long form: the one of a night, with the figures that
// docs/reliability.md wants. It may be read once flags are parsed.
var Long = flag.Bool("long", false, "the long form of the tests that have one")

// Collect is the environment variable that names the file to which Print appends.
const Collect = "TRIBUTARY_RELIABILITY"

// Result is what one reliability test saw. A test that does not count a thing leaves its field zero, except for the four
// that are wanted to be zero: those it has to count or to leave to another test.
type Result struct {
	Test   string `json:"test"` // its number, such as T1
	What   string `json:"what"` // what was done, in a few words; a test may have several results
	Seed   uint64 `json:"seed,omitempty"`
	Seeds  int    `json:"seeds,omitempty"`  // runs with seeds of their own
	Cycles int    `json:"cycles,omitempty"` // kills, images, mutations, histories: what the wanted figure counts
	Faults int    `json:"faults,omitempty"` // that were injected, when they are not the cycles
	Acked  int    `json:"acked,omitempty"`  // requests that were acknowledged

	Lost       int `json:"lost"`       // acknowledged and gone
	Duplicated int `json:"duplicated"` // applied twice
	Phantom    int `json:"phantom"`    // there, and never asked for
	Violations int `json:"violations"` // of anything else that the test checks

	P50 float64 `json:"p50_ms,omitempty"` // milliseconds of what the test times, such as recovery
	P99 float64 `json:"p99_ms,omitempty"`
	// Extra has further counts under their names.
	Extra map[string]any `json:"extra,omitempty"`

	// What follows is filled in by Print.
	Form    string `json:"form"` // short or long
	Date    string `json:"date"`
	Machine string `json:"machine"`
	Command string `json:"command"`
}

// Print writes the result to the test's output and to the file that the environment names, if it does. A test that has
// failed has violations, whatever it has counted.
func (r Result) Print(t testing.TB) {
	t.Helper()
	if t.Failed() && r.Lost+r.Duplicated+r.Phantom+r.Violations == 0 {
		r.Violations = 1
	}
	r.Form = "short"
	if *Long {
		r.Form = "long"
	}
	r.Date = time.Now().UTC().Format(time.DateOnly)
	r.Machine = fmt.Sprintf("%d cores, %s/%s, %s", runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, runtime.Version())
	r.Command = command(t.Name(), *Long)
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatalf("reliability: write the result: %v", err)
	}
	if _, err := fmt.Fprintf(t.Output(), "RELIABILITY %s\n", line); err != nil {
		t.Fatalf("reliability: write the result: %v", err)
	}
	if path := os.Getenv(Collect); path != "" {
		if err := appendLine(path, line); err != nil {
			t.Fatalf("reliability: collect the result: %v", err)
		}
	}
}

// TimeLeft reports whether a test may begin another round: its deadline, if it has one, is more than a minute away. A long
// form that is cut off in this way prints what it saw until then.
func TimeLeft(t *testing.T) bool {
	deadline, limited := t.Deadline()
	return !limited || time.Until(deadline) > time.Minute
}

// command returns what runs the test that called Print.
func command(test string, long bool) string {
	top, _, _ := strings.Cut(test, "/")
	pkg := "./..."
	callers := make([]uintptr, 32)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		frame, more := frames.Next()
		if dir, ok := testFolder(frame.Function); ok {
			pkg = "./" + dir
			break
		}
		if !more {
			break
		}
	}
	c := fmt.Sprintf("go test %s -run '^%s$'", pkg, top)
	if long {
		c += " -long"
	}
	return c
}

const module = "github.com/tributary-es/tributary/"

// testFolder returns the folder of a function of ours, given by its full name.
func testFolder(function string) (dir string, ok bool) {
	name, ok := strings.CutPrefix(function, module)
	if !ok {
		return "", false
	}
	slash := strings.LastIndexByte(name, '/') + 1
	last, _, _ := strings.Cut(name[slash:], ".")
	return strings.TrimSuffix(name[:slash]+last, "_test"), true
}

func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		_ = f.Close() // the write has failed, which is what counts
		return err
	}
	return f.Close()
}

// Percentiles returns the median and the 99th percentile of durations, in milliseconds; zeros when there are none.
func Percentiles(took []time.Duration) (p50, p99 float64) {
	if len(took) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(took))
	at := func(share float64) float64 {
		i := min(len(sorted)-1, int(share*float64(len(sorted))))
		return float64(sorted[i].Microseconds()) / 1000
	}
	return at(0.5), at(0.99)
}
