package replication_test

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/reliability"
)

var (
	seeds = flag.Int("seeds", 0, "how many seeds the simulation plays; 0: 2,000, and 100,000 in the long form")
	first = flag.Uint64("first", 1, "the first seed that the simulation plays")
	play  = flag.Bool("play", false, "print all that happens in the simulation; for one seed")
)

// TestSimulation plays histories of two to four sites under all faults, each from a seed, and holds every one against an
// oracle that knows the truth. A seed that fails is printed with the command that plays it again. It is T11, T13, T15, T21 and
// T23 of docs/reliability.md, and shows I1 to I7, I9, I11, I12 and I14.
func TestSimulation(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 2000
		if *reliability.Long {
			n = 100_000
		}
	}
	sum := simulate(t, *first, n)
	sum.print(t)
}

// simulate plays n seeds, as many at a time as there are processors.
func simulate(t *testing.T, first uint64, n int) *tally {
	t.Helper()
	workers := runtime.GOMAXPROCS(0)
	var say func(string)
	if *play {
		workers = 1
		say = func(line string) { fmt.Println(line) }
	}
	sum := newTally()
	var (
		mu   sync.Mutex // guards sum
		next atomic.Uint64
		all  sync.WaitGroup
	)
	for range workers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < uint64(n) && reliability.TimeLeft(t); i = next.Add(1) - 1 {
				w := newWorld(first+i, say)
				w.run()
				mu.Lock()
				sum.add(first+i, w)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return sum
}

// TestSimulationReplays plays seeds twice: whatever happens, happens again.
func TestSimulationReplays(t *testing.T) {
	for seed := *first; seed < *first+20; seed++ {
		var digests [2]uint64
		for i := range digests {
			w := newWorld(seed, nil)
			w.run()
			digests[i] = w.digest
		}
		if digests[0] != digests[1] {
			t.Errorf("seed %d went two ways: %x and %x", seed, digests[0], digests[1])
		}
	}
}

// tally is what was seen in many histories.
type tally struct {
	seeds, sites, steps, events int
	acked, excused              int
	conflicting, pairs          int
	faults                      [numberFaults]int
	alarms                      map[string]int
	alike                       []time.Duration
	failed                      map[uint64][]string
	violations                  map[string]int // by invariant
}

func newTally() *tally {
	return &tally{alarms: map[string]int{}, failed: map[uint64][]string{}, violations: map[string]int{}}
}

func (sum *tally) add(seed uint64, w *world) {
	o := w.oracle
	sum.seeds++
	sum.sites += len(w.sites)
	sum.steps += w.steps
	for _, t := range o.logs {
		sum.events += len(t.births)
	}
	sum.acked += o.acked
	sum.excused += o.excused
	sum.conflicting += o.conflicting
	sum.pairs += o.pairs
	for i, n := range w.faults.counts {
		sum.faults[i] += n
	}
	for kind, n := range o.alarms {
		sum.alarms[string(kind)] += n
	}
	sum.alike = append(sum.alike, w.alike)
	if len(o.violations) > 0 {
		sum.failed[seed] = o.violations
		for _, v := range o.violations {
			number, _, _ := strings.Cut(v, ":")
			sum.violations[number]++
		}
	}
}

// print says what was seen, and fails the test for every seed that did not go well.
func (sum *tally) print(t *testing.T) {
	t.Helper()
	for i, seed := range slices.Sorted(maps.Keys(sum.failed)) {
		if i == 10 {
			t.Errorf("and %d more seeds", len(sum.failed)-i)
			break
		}
		t.Errorf("seed %d:\n\t%s\nagain: go test ./replication -run '^TestSimulation$' -seeds 1 -first %d -play", seed, strings.Join(sum.failed[seed], "\n\t"), seed)
	}
	total := 0
	for _, n := range sum.faults {
		total += n
	}
	p50, p99 := reliability.Percentiles(sum.alike)
	t.Logf("%d seeds from %d: %d sites, %d steps, %d events, %d acknowledged (%d of them taken by a disk before they had left), %d events in conflict, %d concurrent pairs",
		sum.seeds, *first, sum.sites, sum.steps, sum.events, sum.acked, sum.excused, sum.conflicting, sum.pairs)
	if len(sum.failed) > 0 {
		t.Logf("violations in %d of %d seeds, first in %d: %v", len(sum.failed), sum.seeds, slices.Min(slices.Collect(maps.Keys(sum.failed))), sum.violations)
	}
	t.Logf("alike after p50 %.0f ms, p99 %.0f ms, at most %.0f ms of calm", p50, p99, slices.Max(sum.alike).Seconds()*1000)
	for i, n := range sum.faults {
		t.Logf("%8d %s", n, faultNames[i])
	}
	for _, kind := range slices.Sorted(maps.Keys(sum.alarms)) {
		t.Logf("%8d alarms: %s", sum.alarms[kind], kind)
	}
}
