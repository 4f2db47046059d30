package replication_test

import (
	"flag"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tributary-es/tributary/internal/reliability"
)

var (
	seeds = flag.Int("seeds", 0, "how many seeds the simulation plays; 0: 2,000, and 100,000 in the long form")
	first = flag.Uint64("first", 1, "the first seed that the simulation plays")
	play  = flag.Bool("play", false, "print all that happens in the simulation; for one seed")
)

// TestSimulation plays histories of two to four sites under all faults, each from a seed, and holds every one against an
// oracle that knows the truth. A seed that fails is printed with the command that plays it again. It is T11, T13, T15, T21 and
// T23 of docs/reliability.md, and shows R1, R25, I1, I2, I3, I4, I5, I6, I7, I8, I9, I11, I12, I14, I16 and I17.
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
	if *seeds == 0 {
		sum.results(t)
	}
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
