package replication_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/reliability"
)

// tally is what was seen in many histories.
type tally struct {
	seeds, sites, steps, events int
	acked, excused              int
	conflicting, pairs          int
	forked                      int
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
	if !w.plan.forks {
		sum.alike = append(sum.alike, w.alike)
	}
	sum.forked += o.forked
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
	t.Logf("%d logs were forked, and that was told", sum.forked)
	p50, p99 := reliability.Percentiles(sum.alike)
	t.Logf("%d seeds from %d: %d sites, %d steps, %d events, %d acknowledged (%d of them taken by a disk before they had left), %d events in conflict, %d concurrent pairs",
		sum.seeds, *first, sum.sites, sum.steps, sum.events, sum.acked, sum.excused, sum.conflicting, sum.pairs)
	if len(sum.failed) > 0 {
		t.Logf("violations in %d of %d seeds, first in %d: %v", len(sum.failed), sum.seeds, slices.Min(slices.Collect(maps.Keys(sum.failed))), sum.violations)
	}
	if len(sum.alike) > 0 {
		t.Logf("alike after p50 %.0f ms, p99 %.0f ms, at most %.0f ms of calm", p50, p99, slices.Max(sum.alike).Seconds()*1000)
	}
	for i, n := range sum.faults {
		t.Logf("%8d %s", n, faultNames[i])
	}
	for _, kind := range slices.Sorted(maps.Keys(sum.alarms)) {
		t.Logf("%8d alarms: %s", sum.alarms[kind], kind)
	}
}

// results prints what docs/reliability.md is written from.
func (sum *tally) results(t *testing.T) {
	t.Helper()
	count := func(from, to fault) (n int) {
		for _, c := range sum.faults[from : to+1] {
			n += c
		}
		return n
	}
	v := sum.violations
	p50, p99 := reliability.Percentiles(sum.alike)
	rest := 0
	for number, n := range v {
		if number != "I1" && number != "I11" {
			rest += n
		}
	}
	for _, r := range []reliability.Result{
		{Test: "T11", What: "sites cut off from each other and from topics, in the simulation", Cycles: sum.seeds, Faults: count(partition, ownTopicCut),
			Violations: v["I4"] + v["I5"], P50: p50, P99: p99},
		{Test: "T13", What: "records and messages dropped, repeated and out of order, links that begin anew, in the simulation",
			Faults: count(linkFromStart, linkTooFar) + count(messageDropped, recordsReordered), Violations: v["I2"] + v["I3"]},
		{Test: "T15", What: "two to four sites under all faults", Seed: *first, Seeds: sum.seeds, Cycles: sum.seeds, Faults: count(0, numberFaults-1), Acked: sum.acked,
			Lost: v["I1"], Duplicated: v["I11"], Violations: rest,
			Extra: map[string]any{"events": sum.events, "forks told": sum.forked, "gone with a disk before they had left it": sum.excused}},
		{Test: "T21", What: "old backups restored, and put back without a word, in the simulation", Cycles: sum.faults[restore] + sum.faults[rollback],
			Violations: v["I9"] + v["I14"], Extra: map[string]any{"lives begun": sum.faults[livesBegun]}},
		{Test: "T23", What: "conflict records held against what the simulation's oracle knows", Cycles: sum.conflicting, Violations: v["I6"],
			Extra: map[string]any{"concurrent pairs": sum.pairs}},
	} {
		r.Print(t)
	}
}
