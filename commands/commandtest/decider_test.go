package commandtest_test

import (
	"strings"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/eventstore"
)

// A room has shelves, and a rule that only full ones are counted for.

type room struct{ Limit, Units int }

type (
	limitRoom struct{ Units int }
	putMore   struct{ Units int }
	limited   struct{ Units int }
)

func (limited) event() {}

func rooms() commands.Decider[room, any, event] {
	return commands.Decider[room, any, event]{
		Name:  "room",
		Query: func(any) eventstore.Query { return eventstore.Query{{Types: []string{"room.limited.v1"}}} },
		Widen: func(s room, c any) eventstore.Query {
			if _, put := c.(putMore); !put || s.Limit == 0 {
				return nil
			}
			return eventstore.Query{{Types: []string{"shelf.added.v1"}, Tags: []string{"room:1"}}}
		},
		Decide: func(s room, c any) ([]event, error) {
			switch c := c.(type) {
			case limitRoom:
				return []event{limited(c)}, nil
			case putMore:
				if s.Limit > 0 && s.Units+c.Units > s.Limit {
					return nil, commands.Reject("room.full", "no more")
				}
			}
			return nil, nil
		},
		Evolve: func(s room, stream eventstore.StreamID, e event) room {
			switch e := e.(type) {
			case limited:
				s.Limit = e.Units
			case added:
				if stream.ID != "cellar" {
					s.Units += e.Units
				}
			}
			return s
		},
		Codec:  commands.JSONCodec(map[string]event{"room.limited.v1": limited{}}),
		Stream: func(any, event) eventstore.StreamID { return eventstore.Stream("room", "1") },
	}
}

func inRoom() commandtest.Events[event] {
	a := shelves()
	a.Tags = func(event) []string { return []string{"room:1"} }
	return commandtest.Source(a)
}

func TestGoodDeciderPasses(t *testing.T) {
	commandtest.ForDecider(t, rooms(), inRoom()).
		Given(added{"a", 5}).
		In("shelf", "cellar").Given(added{"b", 100}).
		When(putMore{1000}).Then().
		When(limitRoom{10}).Then(limited{10}).
		When(putMore{5}).Then().
		When(putMore{6}).ThenRejected("room.full").
		State(room{Limit: 10, Units: 5})
	// What the query does not match is not folded.
	untagged := commandtest.Source(shelves())
	commandtest.ForDecider(t, rooms(), untagged).Given(limited{10}, added{"a", 50}).When(putMore{10}).Then()
}

func TestFailuresOfDeciders(t *testing.T) {
	with := func(change func(*commands.Decider[room, any, event])) func(T) *commandtest.Scenario[room, any, event] {
		d := rooms()
		change(&d)
		return func(t T) *commandtest.Scenario[room, any, event] { return commandtest.ForDecider(t, d, inRoom()) }
	}
	calls := 0
	for name, c := range map[string]struct {
		scenario func(T)
		says     []string
	}{
		"no query": {
			func(t T) {
				with(func(d *commands.Decider[room, any, event]) { d.Query = func(any) eventstore.Query { return nil } })(t).When(limitRoom{1}).Then(limited{1})
			},
			[]string{"invalid", "query is empty"},
		},
		"Widen is impure": {
			func(t T) {
				with(func(d *commands.Decider[room, any, event]) {
					d.Widen = func(room, any) eventstore.Query {
						calls++
						return eventstore.Tagged(strings.Repeat("x", calls))
					}
				})(t).When(limitRoom{1}).Then(limited{1})
			},
			[]string{"Widen", "not pure"},
		},
		"bad stream": {
			func(t T) {
				with(func(d *commands.Decider[room, any, event]) {
					d.Stream = func(any, event) eventstore.StreamID { return eventstore.StreamID{} }
				})(t).When(limitRoom{1}).Then(limited{1})
			},
			[]string{"decided event 1", "category is empty"},
		},
		"no source": {
			func(t T) { commandtest.ForDecider(t, rooms()).Given(added{"a", 1}) },
			[]string{"given event 1", "among the sources"},
		},
		"not refused": {
			func(t T) {
				with(func(*commands.Decider[room, any, event]) {})(t).When(putMore{1}).ThenRejected("room.full")
			},
			[]string{"was accepted"},
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
