package escrow_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commands/escrow"
)

func TestBooks(t *testing.T) {
	var b escrow.Books
	b.Receive("bj", 10)
	b.Hold("bj", 4)
	b.Move("bj", "sh", 5)
	b.Take("bj", 3)
	b.Release("bj", 1)
	b.Hold("sh", 5)
	b.Receive("bj", -1)
	want := []escrow.Row{
		{Site: "bj", Received: 9, Used: 3, Sent: []escrow.Sent{{To: "sh", Units: 5}}},
		{Site: "sh", Held: 5},
	}
	if diff := cmp.Diff(want, b.Rows()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	for site, want := range map[string][2]int64{"bj": {1, 1}, "sh": {5, 0}, "sz": {0, 0}} {
		if got := [2]int64{b.Rights(site), b.Available(site)}; got != want {
			t.Errorf("%s has rights to and available %v, want %v", site, got, want)
		}
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
	if got := b.Stranded(); got != 1 {
		t.Errorf("%d are stranded, want the one of bj", got)
	}
	b.Release("sh", 1)
	if got := b.Stranded(); got != 0 {
		t.Errorf("%d are stranded while both have some", got)
	}
	b.Hold("sh", 2)
	if err := b.Check(); err == nil {
		t.Error("what is overdrawn passes the check")
	}
}

// event is one of a site's, with how much of each site's its decider had heard of.
type event struct {
	apply func(*escrow.Books)
	heard []int
}

// world is some sites, each with what it has decided and heard.
type world struct {
	names []string
	logs  [][]event
	heard [][]int // by site: how many events of each
	books []escrow.Books
	holds [][]int64
}

func newWorld(names ...string) *world {
	w := &world{names: names, logs: make([][]event, len(names)), books: make([]escrow.Books, len(names)), holds: make([][]int64, len(names))}
	for range names {
		w.heard = append(w.heard, make([]int, len(names)))
	}
	return w
}

// decide has a site record an event.
func (w *world) decide(i int, apply func(*escrow.Books)) {
	w.logs[i] = append(w.logs[i], event{apply, slices.Clone(w.heard[i])})
	apply(&w.books[i])
	w.heard[i][i]++
}

// hear has a site take in the next event of another, unless it lacks what that was decided with.
func (w *world) hear(i, from int) bool {
	next := w.heard[i][from]
	if i == from || next == len(w.logs[from]) {
		return false
	}
	e := w.logs[from][next]
	for j, n := range e.heard {
		if w.heard[i][j] < n {
			return false
		}
	}
	e.apply(&w.books[i])
	w.heard[i][from]++
	return true
}

// TestNothingIsSoldTwice shows C14 and C15: over random decisions of three sites, each on what it has heard, no books of any
// site, at any moment, break E1 or E2, and neither do those of all events together.
func TestNothingIsSoldTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld("bj", "sh", "sz")
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			i := rapid.IntRange(0, 2).Draw(t, "site")
			site, free := w.names[i], w.books[i].Available(w.names[i])
			step := rapid.IntRange(0, 7).Draw(t, "step")
			units := rapid.Int64Range(1, 10).Draw(t, "units")
			switch {
			case step == 0:
				w.decide(i, func(b *escrow.Books) { b.Receive(site, units) })
			case step == 1 && units <= free:
				w.decide(i, func(b *escrow.Books) { b.Receive(site, -units) })
			case step == 2 && units <= free:
				w.decide(i, func(b *escrow.Books) { b.Hold(site, units) })
				w.holds[i] = append(w.holds[i], units)
			case step == 3 && len(w.holds[i]) > 0:
				held := w.holds[i][0]
				w.holds[i] = w.holds[i][1:]
				w.decide(i, func(b *escrow.Books) { b.Take(site, held) })
			case step == 4 && len(w.holds[i]) > 0:
				held := w.holds[i][0]
				w.holds[i] = w.holds[i][1:]
				w.decide(i, func(b *escrow.Books) { b.Release(site, held) })
			case step == 5 && units <= free:
				to := w.names[(i+rapid.IntRange(1, 2).Draw(t, "to"))%3]
				w.decide(i, func(b *escrow.Books) { b.Move(site, to, units) })
			default:
				from := rapid.IntRange(0, 2).Draw(t, "from")
				for range rapid.IntRange(1, 5).Draw(t, "events") {
					w.hear(i, from)
				}
			}
			w.check(t)
		}
		var all escrow.Books
		for _, log := range w.logs {
			for _, e := range log {
				e.apply(&all)
			}
		}
		if err := all.Check(); err != nil {
			t.Fatalf("all events together: %v", err)
		}
		for again := true; again; {
			again = false
			for i := range w.names {
				for j := range w.names {
					again = w.hear(i, j) || again
				}
			}
			w.check(t)
		}
		for i := range w.names {
			if diff := cmp.Diff(all.Rows(), w.books[i].Rows()); diff != "" {
				t.Fatalf("books of %s, who has heard everything (-all +%s):\n%s", w.names[i], w.names[i], diff)
			}
		}
	})
}

func (w *world) check(t *rapid.T) {
	for i := range w.books {
		if err := w.books[i].Check(); err != nil {
			t.Fatalf("as seen from %s: %v", w.names[i], err)
		}
	}
}

func TestPlan(t *testing.T) {
	now := time.Unix(1000, 0)
	books := func(units ...int64) (b escrow.Books) {
		for i, n := range units {
			b.Receive(fmt.Sprint("s", i), n)
		}
		return b
	}
	even := map[string]float64{"s0": 1, "s1": 1}
	evens := map[string]float64{"s0": 1, "s1": 1, "s2": 1}
	for name, c := range map[string]struct {
		site   string
		books  escrow.Books
		demand map[string]float64
		last   time.Time
		want   escrow.Move
	}{
		"all at one site":       {"s0", books(90, 0), even, time.Time{}, escrow.Move{From: "s0", To: "s1", Units: 45}},
		"no demand known":       {"s0", books(90, 0), nil, time.Time{}, escrow.Move{From: "s0", To: "s1", Units: 45}},
		"a site that is new":    {"s0", books(90), map[string]float64{"s1": 1}, time.Time{}, escrow.Move{From: "s0", To: "s1", Units: 87}},
		"by demand":             {"s0", books(100, 0), map[string]float64{"s0": 1, "s1": 3}, time.Time{}, escrow.Move{From: "s0", To: "s1", Units: 75}},
		"the floor":             {"s0", books(1000, 0), map[string]float64{"s0": 2}, time.Time{}, escrow.Move{From: "s0", To: "s1", Units: 24}},
		"above low water":       {"s0", books(60, 10), even, time.Time{}, escrow.Move{}},
		"below low water":       {"s0", books(64, 6), even, time.Time{}, escrow.Move{From: "s0", To: "s1", Units: 29}},
		"too soon":              {"s0", books(90, 0), even, now.Add(-2*time.Second + 1), escrow.Move{}},
		"soon enough":           {"s0", books(90, 0), even, now.Add(-2 * time.Second), escrow.Move{From: "s0", To: "s1", Units: 45}},
		"nothing to spare":      {"s1", books(90, 0), even, time.Time{}, escrow.Move{}},
		"the neediest first":    {"s0", books(95, 4, 1), evens, time.Time{}, escrow.Move{From: "s0", To: "s2", Units: 33}},
		"two givers share":      {"s0", books(60, 60, 0), evens, time.Time{}, escrow.Move{From: "s0", To: "s2", Units: 20}},
		"nobody has anything":   {"s0", books(0, 0), even, time.Time{}, escrow.Move{}},
		"one unit is not split": {"s0", books(1, 0), even, time.Time{}, escrow.Move{}},
		"a site without rights": {"s9", books(90, 0), even, time.Time{}, escrow.Move{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := escrow.Planner{}.Plan(c.site, c.books, c.demand, c.last, now)
			if got != c.want || ok != (c.want != escrow.Move{}) {
				t.Errorf("plan is %+v %v, want %+v", got, ok, c.want)
			}
		})
	}
}

// What a site has that takes part no more neither counts nor is added to.
func TestPlanAmong(t *testing.T) {
	var b escrow.Books
	b.Receive("bj", 90)
	b.Receive("gone", 900)
	b.Receive("out", 0)
	got, ok := escrow.Planner{Among: []string{"bj", "sh"}}.Plan("bj", b, nil, time.Time{}, time.Unix(1000, 0))
	if want := (escrow.Move{From: "bj", To: "sh", Units: 45}); !ok || got != want {
		t.Errorf("plan is %+v %v, want %+v", got, ok, want)
	}
	if got, ok := (escrow.Planner{Among: []string{"bj", "sh"}}).Plan("gone", b, nil, time.Time{}, time.Unix(1000, 0)); ok {
		t.Errorf("a site that takes no part is to give %+v", got)
	}
}

func TestDemand(t *testing.T) {
	var d escrow.Demand
	now := time.Unix(1000, 0)
	for range 6000 { // 10 a second for ten minutes
		d.Observe(1, now)
		now = now.Add(100 * time.Millisecond)
	}
	if got := d.PerSecond(now); got < 9.5 || got > 10.5 {
		t.Errorf("demand of 10 a second is taken for %.2f", got)
	}
	if got := d.PerSecond(now.Add(30 * time.Second)); got < 4.7 || got > 5.3 {
		t.Errorf("half a minute later it is %.2f, want the half", got)
	}
	d.Observe(1, now.Add(-time.Hour))
	if got := d.PerSecond(now); got < 9.5 || got > 10.6 {
		t.Errorf("after a time that goes back it is %.2f", got)
	}
}
