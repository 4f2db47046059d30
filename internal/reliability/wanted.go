package reliability

import (
	"fmt"
	"strings"
)

// Wanted is the figure that a test is to reach.
type Wanted struct {
	Test   string
	What   string
	Figure string
	// Cycles is the least number of cycles of all its results together, or with Each of every one of them; P99 is the most
	// milliseconds of each; zero: no such limit. Lost, duplicated, phantom and violations must be 0 in every result.
	Cycles int
	P99    float64
	Each   bool
}

// wanted is the table of the figures, in the order of the page.
var wanted = []Wanted{
	{"T1", "kill -9 again and again, 8 writers, verified by identity", "at least 1,000 cycles; lost, duplicated, phantom 0; recovery p99 under 1 s", 1000, 1000, false},
	{"T2", "power loss: images at every sync and at random moments, with 0 to 100 % of what was not synced", "at least 10,000 images; acknowledged lost 0", 10_000, 0, false},
	{"T3", "bits flipped, pages zeroed, ends torn off, in every file of the log", "10,000 mutations; silent beyond the watermark's 50 ms 0", 10_000, 0, false},
	{"T4", "table rot and scrub, repaired from Kafka", "found 100 %, repaired 100 %", 0, 0, false},
	{"T5", "a sync that fails (EIO)", "false acknowledgements 0; process gone in under 1 s; all acknowledged recovered", 0, 1000, false},
	{"T6", "disk full", "reads 100 %; restart while full under 5 s, read-only; resumes in under 5 s; lost 0", 0, 5000, false},
	{"T7", "a stalled disk, SIGSTOP", "noticed in under 5 s; no queue without bounds", 0, 5000, false},
	{"T8", "Kafka killed, restarted, wiped, topic made anew, retention passed", "failed local commands 0; every hole found in at most 1 s; mirror complete, or its fault named", 0, 1000, false},
	{"T11", "partitions between sites: full, one-way, flapping, slow", "diverged 0; alike at most 10 s after the heal, and the time that the backlog takes", 0, 10_000, false},
	{"T12", "clocks of sites off by up to 1 h, while they run and when they start, drifting, jumping back", "causal updates lost 0, and none held back until its time; a clock more than 500 ms off noticed in under 2 s", 0, 2000, false},
	{"T13", "links that repeat, reorder and drop, and begin anew", "applied is what was sent; repaired 100 %", 0, 0, false},
	{"T14", "linearizable appends with conditions and idempotent retries, under kill -9 and power loss", "2,000 histories of 2,000 operations under each; illegal 0, undecided 0", 2000, 0, true},
	{"T15", "deterministic simulation of 2 to 4 sites with all faults", "100,000 seeds a night, 2,000 with every test; violations 0; a seed replays identically", 100_000, 0, false},
	{"T16", "planted bugs: does the simulation's oracle notice?", "at least 15, all of them, within 2,000 seeds", 15, 0, false},
	{"T17", "stock in escrow, sold at three sites at once", "oversold 0 in 10 million sales; less than 5 % stranded", 10_000_000, 0, false},
	{"T18", "fencing: the home of a stream frozen, its cell taken, and woken up", "stale writes that are void 0; taken over in at most 10 s", 0, 10_000, false},
	{"T19", "a whole site killed under load and brought back", "its clients served elsewhere in at most 3 s, those of homed streams in 10 s; lost 0 when it is back; conflicts and logs equal", 0, 10_000, false},
	{"T21", "restore of an old backup, rejoin", "forks 0, reused identities 0", 0, 0, false},
	{"T22", "planted differences between sites", "found 100 %, repaired what can be proved; false alarms 0; less than 1 % of the log sent to compare it", 0, 0, false},
	{"T23", "conflict records against the simulation's oracle", "recall 100 %, precision 100 %", 0, 0, false},
	{"T24", "sites upgraded one by one under load; one records what the others do not know", "write pause 0 s at the sites that are up; lost 0; parked = applied after the upgrade", 0, 0, false},
	{"T25", "every decoder fuzzed", "at least 10 million executions a night; crashes 0; allocation at most 4 times the input", 10_000_000, 0, false},
	{"T31", "an erased person is searched for, byte by byte", "hits in plaintext 0", 0, 0, false},
	{"T32", "one script in many configurations", "at least 20 configurations; differing digests 0", 20, 0, false},
	{"T33", "fail points, each with crash, error and delay", "all hit; violations 0", 0, 0, false},
	{"T37", "backup, restore, point in time", "digests equal", 0, 0, false},
}

// verdict says whether the results of one test reach what is wanted, and what is missing.
func (w Wanted) verdict(results []Result) string {
	if len(results) == 0 {
		return "no run on record"
	}
	var short []string
	cycles := 0
	for _, r := range results {
		cycles += r.Cycles
		if w.Each && r.Cycles < w.Cycles {
			short = append(short, fmt.Sprintf("%s of %s (%s)", grouped(r.Cycles), grouped(w.Cycles), r.What))
		}
		for _, n := range []struct {
			name  string
			count int
		}{{"lost", r.Lost}, {"duplicated", r.Duplicated}, {"phantom", r.Phantom}, {"violations", r.Violations}} {
			if n.count > 0 {
				short = append(short, fmt.Sprintf("%s %s (%s)", n.name, grouped(n.count), r.What))
			}
		}
		if w.P99 > 0 && r.P99 > w.P99 {
			short = append(short, fmt.Sprintf("p99 %.0f ms of at most %.0f (%s)", r.P99, w.P99, r.What))
		}
	}
	if cycles < w.Cycles && !w.Each {
		short = append(short, fmt.Sprintf("%s of %s", grouped(cycles), grouped(w.Cycles)))
	}
	if len(short) == 0 {
		return "reached"
	}
	return "short of it: " + strings.Join(short, "; ")
}

// grouped writes a number with commas between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
