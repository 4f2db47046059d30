package commandtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
)

// A shelf holds units of things by name; its parts are replaced below by faulty ones.

type shelf struct {
	units  map[string]int
	closed bool
}

type (
	put   struct{ Names []string }
	shut  struct{}
	event interface{ event() }
	added struct {
		Name  string
		Units int
	}
	shutDown struct{ Why *string }
)

func (added) event()    {}
func (shutDown) event() {}

func shelves() commands.Aggregate[shelf, any, event] {
	return commands.Aggregate[shelf, any, event]{
		Category: "shelf",
		ID:       func(any) string { return "1" },
		Zero:     func() shelf { return shelf{units: map[string]int{}} },
		Validate: func(c any) error {
			if p, ok := c.(put); ok && len(p.Names) == 0 {
				return errors.New("nothing to put")
			}
			return nil
		},
		Decide: func(s shelf, c any) (out []event, err error) {
			if s.closed {
				return nil, commands.Reject("shelf.closed", "it was shut")
			}
			switch c := c.(type) {
			case put:
				for _, n := range c.Names {
					out = append(out, added{n, 1})
				}
			case shut:
				out = append(out, shutDown{})
			}
			return out, nil
		},
		Evolve: func(s shelf, e event) shelf {
			switch e := e.(type) {
			case added:
				s.units[e.Name] += e.Units
			case shutDown:
				s.closed = true
			}
			return s
		},
		Codec: commands.JSONCodec(map[string]event{"shelf.added.v1": added{}, "shelf.shut_down.v1": shutDown{}}),
	}
}

// failure runs a scenario and returns how it failed; empty when it passed.
func failure(scenario func(commandtest.T)) (text string) {
	type stopped struct{}
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(stopped); !ok {
				panic(v)
			}
		}
	}()
	scenario(&fakeT{fail: func(s string) {
		text = s
		panic(stopped{})
	}})
	return ""
}

type fakeT struct{ fail func(string) }

func (*fakeT) Helper()                             {}
func (t *fakeT) Fatalf(format string, args ...any) { t.fail(fmt.Sprintf(format, args...)) }

type T = commandtest.T

func TestGoodAggregatePasses(t *testing.T) {
	commandtest.For(t, shelves()).
		When(put{[]string{"a", "a"}}).Then(added{"a", 1}, added{"a", 1}).
		State(shelf{units: map[string]int{"a": 2}}).
		When(put{}).ThenInvalid("nothing to put").
		When("something else").Then().
		When(shut{}).ThenAccepted().
		When(put{[]string{"a"}}).ThenRejected("shelf.closed")
	commandtest.For(t, shelves()).Given(added{"b", 5}).Given(shutDown{}).When(shut{}).ThenRejected("shelf.closed")
}

// TestFailures shows that a scenario notices what breaks C1 and C2.
func TestFailures(t *testing.T) {
	with := func(change func(*commands.Aggregate[shelf, any, event])) commands.Aggregate[shelf, any, event] {
		a := shelves()
		change(&a)
		return a
	}
	for name, c := range map[string]struct {
		scenario func(T)
		says     []string
	}{
		"other events": {
			func(t T) { commandtest.For(t, shelves()).When(put{[]string{"a"}}).Then(added{"b", 1}) },
			[]string{"put decided 1 event", `-`, `"b"`, `"a"`},
		},
		"refused": {
			func(t T) { commandtest.For(t, shelves()).Given(shutDown{}).When(shut{}).Then(shutDown{}) },
			[]string{"was refused", "shelf.closed"},
		},
		"accepted": {
			func(t T) { commandtest.For(t, shelves()).When(shut{}).ThenRejected("shelf.closed") },
			[]string{"was accepted", "shutDown"},
		},
		"other code": {
			func(t T) { commandtest.For(t, shelves()).Given(shutDown{}).When(shut{}).ThenRejected("shelf.full") },
			[]string{`"shelf.closed" (it was shut)`, `wanted "shelf.full"`},
		},
		"found invalid": {
			func(t T) { commandtest.For(t, shelves()).When(put{}).Then() },
			[]string{"invalid", "nothing to put"},
		},
		"found valid": {
			func(t T) { commandtest.For(t, shelves()).When(shut{}).ThenInvalid() },
			[]string{"found valid"},
		},
		"invalid otherwise": {
			func(t T) { commandtest.For(t, shelves()).When(put{}).ThenInvalid("too heavy") },
			[]string{`wanted "too heavy"`},
		},
		"no rejection": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Decide = func(shelf, any) ([]event, error) { return nil, errors.New("plain") }
				})).When(shut{}).ThenRejected("shelf.closed")
			},
			[]string{"takes for a bug", "commands.Reject"},
		},
		"state": {
			func(t T) {
				commandtest.For(t, shelves()).Given(added{"a", 2}).State(shelf{units: map[string]int{"a": 3}})
			},
			[]string{"state after 1 events", "units"},
		},
		"Decide changes the state": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Decide = func(s shelf, c any) ([]event, error) { s.units["a"]++; return nil, nil }
				})).When(shut{}).Then()
			},
			[]string{"changed the state"},
		},
		"Decide changes the command": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Decide = func(s shelf, c any) ([]event, error) { c.(put).Names[0] = "z"; return nil, nil }
				})).When(put{[]string{"a"}}).Then()
			},
			[]string{"changed the command"},
		},
		"Decide is impure": {
			func(t T) {
				n := 0
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Decide = func(s shelf, c any) ([]event, error) { n++; return []event{added{"a", n}}, nil }
				})).When(shut{}).ThenAccepted()
			},
			[]string{"not pure"},
		},
		"Decide panics": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Decide = func(s shelf, c any) ([]event, error) { panic("boom") }
				})).When(shut{}).ThenAccepted()
			},
			[]string{"Decide of commandtest_test.shut panicked: boom", "commandtest_test.go"},
		},
		"Decide returns both": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Decide = func(s shelf, c any) ([]event, error) { return []event{shutDown{}}, commands.Reject("a", "b") }
				})).When(shut{}).ThenRejected("a")
			},
			[]string{"one or the other"},
		},
		"Evolve refuses what was decided": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Evolve = func(s shelf, e event) shelf { panic("what is that") }
				})).When(shut{}).Then(shutDown{})
			},
			[]string{"Evolve of event 1, shelf.shut_down.v1 panicked: what is that"},
		},
		"Evolve is impure": {
			func(t T) {
				n := 0
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Evolve = func(s shelf, e event) shelf { n++; s.units["a"] = n; return s }
				})).Given(shutDown{})
			},
			[]string{"Evolve is not pure"},
		},
		"Evolve changes the event": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Evolve = func(s shelf, e event) shelf { *e.(shutDown).Why = "changed"; return s }
				})).Given(shutDown{Why: new(string)})
			},
			[]string{"Evolve changed event 1"},
		},
		"event unknown to the codec": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Codec = commands.JSONCodec(map[string]event{"shelf.added.v1": added{}})
				})).When(shut{}).Then(shutDown{})
			},
			[]string{"decided event 1", "cannot encode"},
		},
		"event that loses something": {
			func(t T) { commandtest.For(t, lossyAggregate()).Given(lossy{kept: 1}) },
			[]string{"does not survive the codec", "kept"},
		},
		"tags that a store refuses": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.Tags = func(event) []string { return []string{strings.Repeat("x", 300)} }
				})).Given(shutDown{})
			},
			[]string{"a store would refuse it", "tag"},
		},
		"bad stream id": {
			func(t T) {
				commandtest.For(t, with(func(a *commands.Aggregate[shelf, any, event]) {
					a.ID = func(any) string { return "" }
				})).When(shut{}).Then(shutDown{})
			},
			[]string{"stream id is empty"},
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

// lossy is an event with a field that its codec cannot see.
type lossy struct{ kept int }

func lossyAggregate() commands.Aggregate[int, int, lossy] {
	return commands.Aggregate[int, int, lossy]{
		Category: "lossy",
		ID:       func(int) string { return "1" },
		Decide:   func(int, int) ([]lossy, error) { return nil, nil },
		Evolve:   func(s int, e lossy) int { return s + e.kept },
		Codec:    commands.JSONCodec(map[string]lossy{"lossy.lost.v1": {}}),
	}
}
