package commandtest_test

import (
	"strings"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
)

// roomyShelves are shelves on which a name can be put at one site only.
func roomyShelves() commands.Aggregate[shelf, any, event] {
	a := shelves()
	a.Resolver = commands.Domain[shelf, event]{Holds: func(s shelf, e event) string {
		if added, ok := e.(added); ok && s.units[added.Name] > 0 {
			return added.Name + " is there"
		}
		return ""
	}}
	return a
}

func TestSitesPass(t *testing.T) {
	commandtest.For(t, roomyShelves()).
		At("bj").Given(added{"a", 1}).
		Apart().
		At("bj").When(put{[]string{"b"}}).Then(added{"b", 1}).
		At("sh").State(shelf{units: map[string]int{"a": 1}}).
		When(put{[]string{"b", "c"}}).Then(added{"b", 1}, added{"c", 1}).Void().
		Together().
		Void(added{"b", 1}).
		Outcomes(commands.Voided, commands.Merged).
		State(shelf{units: map[string]int{"a": 1, "b": 1, "c": 1}}).
		When(put{[]string{"c"}}).Then(added{"c", 1}).Outcomes(commands.Voided, commands.Merged)
}

func TestFailuresOfSites(t *testing.T) {
	for name, c := range map[string]struct {
		scenario func(T)
		says     []string
	}{
		"another is void": {
			func(t T) {
				commandtest.For(t, roomyShelves()).At("bj").Apart().Given(added{"b", 1}).At("sh").Given(added{"b", 1}).Together().Void()
			},
			[]string{"void are 1 events", "b is there"},
		},
		"other outcomes": {
			func(t T) {
				commandtest.For(t, roomyShelves()).At("bj").Apart().Given(added{"b", 1}).At("sh").Given(added{"b", 1}).Together().Outcomes(commands.Merged)
			},
			[]string{"not as wanted", "voided"},
		},
		"sites of a decider": {
			func(t T) { commandtest.ForDecider(t, rooms(), inRoom()).At("bj") },
			[]string{"At is for aggregates"},
		},
		"At too late":             {func(t T) { commandtest.For(t, shelves()).Given(added{"b", 1}).At("bj") }, []string{"after 1 events"}},
		"no site's name":          {func(t T) { commandtest.For(t, shelves()).At("B J") }, []string{"site"}},
		"Apart alone":             {func(t T) { commandtest.For(t, shelves()).Apart() }, []string{"no sites"}},
		"Together alone":          {func(t T) { commandtest.For(t, shelves()).Together() }, []string{"no sites"}},
		"Void without a site":     {func(t T) { commandtest.For(t, shelves()).Void() }, []string{"no sites"}},
		"Outcomes without a site": {func(t T) { commandtest.For(t, shelves()).Outcomes() }, []string{"no sites"}},
		"Evolve panics": {
			func(t T) {
				a := roomyShelves()
				a.Evolve = func(shelf, event) shelf { panic("boom") }
				commandtest.For(t, a).At("bj").Given(added{"b", 1})
			},
			[]string{"folding the events", "boom"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := failure(c.scenario)
			if got == "" {
				t.Fatal("the scenario passed, want it to fail")
			}
			for _, text := range c.says {
				if !strings.Contains(got, text) {
					t.Errorf("the failure does not mention %q:\n%s", text, got)
				}
			}
		})
	}
}
