package reliability

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Record is docs/reliability.json: what was seen, and what the tests have found so far.
type Record struct {
	Results []Result `json:"results"`
	Planted []Result `json:"planted"`
	Track   []Bug    `json:"track"`
}

// Bug is a fault of ours that a reliability test found.
type Bug struct {
	Bug     string `json:"bug"`
	FoundBy string `json:"found_by"`
	Seed    string `json:"seed,omitempty"`
	FixedIn string `json:"fixed_in"`
}

// PlantedTest is the Result.Test of a planted bug: What names it, Violations is 1 when no test caught it, and Extra says
// which did.
const PlantedTest = "planted"

// Merge takes results into the record: each replaces the one of the same test, form and subject. The order is that of the
// wanted figures.
func (r *Record) Merge(results []Result) {
	for _, one := range results {
		list := &r.Results
		if one.Test == PlantedTest {
			list = &r.Planted
		}
		same := func(other Result) bool {
			return other.Test == one.Test && other.What == one.What && other.Form == one.Form
		}
		if i := slices.IndexFunc(*list, same); i >= 0 {
			(*list)[i] = one
		} else {
			*list = append(*list, one)
		}
	}
	place := func(test string) int { return slices.IndexFunc(wanted, func(w Wanted) bool { return w.Test == test }) }
	slices.SortStableFunc(r.Results, func(a, b Result) int { return place(a.Test) - place(b.Test) })
}

// of returns the results of a test that count: those of the long form, and of what was only run in the short form those.
func (r *Record) of(test string) (results []Result) {
	long := map[string]bool{}
	for _, one := range r.Results {
		if one.Test == test && one.Form == "long" {
			long[one.What] = true
		}
	}
	for _, one := range r.Results {
		if one.Test == test && (one.Form == "long" || !long[one.What]) {
			results = append(results, one)
		}
	}
	return results
}

// unknown names the tests of results for which no figure is wanted.
func (r *Record) unknown() (tests []string) {
	for _, one := range r.Results {
		if !slices.ContainsFunc(wanted, func(w Wanted) bool { return w.Test == one.Test }) {
			tests = append(tests, one.Test)
		}
	}
	return tests
}

const intro = `# Reliability

What the store has to survive, what was wanted, and what was seen. This page is written by ` + "`go test ./internal/reliability -update`" + `
from ` + "`docs/reliability.json`" + `, which holds the lines that the tests printed; nothing here is typed by hand.

- **Short** forms run with every ` + "`go test`" + `, **long** ones with ` + "`make night`" + `. Where a long run is on record it is the one that is shown.
- Every run draws a seed and prints it. What runs over files in memory finds the same faults with the same seed as far as the
  scheduler of goroutines allows; runs over processes and disks claim no replay.
- kill -9 and power loss are two things: after kill -9 the operating system still writes what it was given, after a power
  loss only what was synced is certain. T1 does the first, T2 the second, T14 both.
- The watermark follows the log by at most 50 ms. What was acknowledged in that time and is then destroyed on disk goes
  unseen if it is cut off cleanly; that is the "50 ms" below.

`

// Page returns docs/reliability.md.
func (r *Record) Page() string {
	var b strings.Builder
	b.WriteString(intro)
	b.WriteString("## Wanted and seen\n| | test | wanted | seen |\n|---|---|---|---|\n")
	for _, w := range wanted {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", w.Test, w.What, w.Figure, w.verdict(r.of(w.Test)))
	}
	b.WriteString("\n## Runs\n| | what | form | counts | lost | duplicated | phantom | violations | p50 / p99 | date |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, w := range wanted {
		for _, one := range r.of(w.Test) {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %d | %d | %d | %s | %s |\n", one.Test, one.What, one.Form, one.counts(),
				one.Lost, one.Duplicated, one.Phantom, one.Violations, one.times(), one.Date)
		}
	}
	r.commands(&b)
	if len(r.Planted) > 0 {
		b.WriteString("\n## Planted bugs\n`make planted` changes a copy of the sources, one bug at a time, and runs the short forms against it: do they notice?\n\n")
		b.WriteString("| bug | caught by |\n|---|---|\n")
		for _, one := range r.Planted {
			caught := "**not caught**"
			if one.Violations == 0 {
				caught = fmt.Sprint(one.Extra["caught by"])
			}
			fmt.Fprintf(&b, "| %s | %s |\n", one.What, caught)
		}
	}
	if len(r.Track) > 0 {
		b.WriteString("\n## Track record\nFaults of ours that these tests found.\n\n| bug | found by | seed | fixed in |\n|---|---|---|---|\n")
		for _, bug := range r.Track {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", bug.Bug, bug.FoundBy, bug.Seed, bug.FixedIn)
		}
	}
	return b.String()
}

// commands lists what ran, and where.
func (r *Record) commands(b *strings.Builder) {
	on := map[string]map[string]bool{} // commands by machine
	for _, w := range wanted {
		for _, one := range r.of(w.Test) {
			if on[one.Machine] == nil {
				on[one.Machine] = map[string]bool{}
			}
			on[one.Machine][one.Command] = true
		}
	}
	for _, machine := range slices.Sorted(maps.Keys(on)) {
		fmt.Fprintf(b, "\nOn %s:\n\n```\n%s\n```\n", machine, strings.Join(slices.Sorted(maps.Keys(on[machine])), "\n"))
	}
}

func (r *Result) counts() string {
	var parts []string
	add := func(n int, name string) {
		if n > 0 {
			parts = append(parts, grouped(n)+" "+name)
		}
	}
	add(r.Seeds, "seeds")
	add(r.Cycles, "cycles")
	add(r.Faults, "faults")
	add(r.Acked, "acknowledged")
	for _, name := range slices.Sorted(maps.Keys(r.Extra)) {
		value := fmt.Sprint(r.Extra[name])
		switch v := r.Extra[name].(type) {
		case float64: // as JSON has all numbers
			if v == float64(int(v)) {
				value = grouped(int(v))
			}
		case int:
			value = grouped(v)
		}
		parts = append(parts, name+" "+value)
	}
	return strings.Join(parts, "; ")
}

func (r *Result) times() string {
	if r.P99 == 0 {
		return ""
	}
	return fmt.Sprintf("%.3g / %.3g ms", r.P50, r.P99)
}
