package commands_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// A command that was done at two sites, neither of which had heard of the other, counts once where all events do: what stands first in
// canonical order, at each site, whichever heard of the other first, in a state that was kept, one that is folded anew, one from a
// snapshot and in the judgement. C17.
func TestACommandDoneTwiceCountsOnce(t *testing.T) {
	for name, order := range map[string][]int{"the first hears first": {0, 1}, "the second hears first": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			a := keptPages(resolvers[commands.ByCRDT], 1)
			o := commands.Options{Snapshots: &commands.MemorySnapshots{}, Log: quiet}
			bj, sh := newSite(t, "bj", a, o), newSite(t, "sh", a, commands.Options{Log: quiet})
			sites := []*site{bj, sh}
			bj.note(t, "a")
			exchange(t, bj, sh)
			sh.clock = sh.clock.Add(time.Second)
			twice := commands.Meta{ID: "add-x"}
			dispatch(t, bj.Bus, twice, note{"x"})
			dispatch(t, sh.Bus, twice, note{"x"})
			dispatch(t, sh.Bus, commands.Meta{ID: "add-y"}, note{"y"}) // decided with the knowledge of the second one alone
			for _, i := range order {
				sites[i].from(t, sites[1-i], sites[1-i].own, 100)
				sites[i].sees(t, a, "axy")
			}
			for _, s := range sites {
				s.note(t, "b")
			}
			exchange(t, bj, sh)
			for _, s := range sites {
				s.sees(t, a, "axybb")
				s.start(t, a, o)
				s.sees(t, a, "axybb")
				j := s.judge(t)
				if len(j.Void) != 1 || j.Void[0].Event != (eventstore.Dot{Log: sh.own, Seq: 1}) || !strings.Contains(j.Void[0].Reason, "bj had done the same command") {
					t.Errorf("%s finds %+v void, want what sh did as add-x", s.own.Site, j.Void)
				}
				void, err := s.Void(t.Context(), pageStream)
				if err != nil || len(void) != 1 || void[j.Void[0].Event] != j.Void[0].Reason {
					t.Errorf("%s says that %v are void, %v, want %+v", s.own.Site, void, err, j.Void)
				}
			}
		})
	}
}

// A command that was done twice at one site counts twice: its id was free again. So does one that knew of the first.
func TestACommandThatKnewOfTheFirst(t *testing.T) {
	a := pages(resolvers[commands.ByCRDT])
	bj, sh := newSite(t, "bj", a, commands.Options{}), newSite(t, "sh", a, commands.Options{})
	dispatch(t, bj.Bus, commands.Meta{ID: "add-x"}, note{"x"})
	exchange(t, bj, sh)
	sh.clock = sh.clock.Add(time.Second)
	sh.note(t, "y")
	events := sh.events(t)
	events[1].CommandID = events[0].CommandID
	_, j, err := commands.Fold(a, events)
	if err != nil || len(j.Void) != 0 {
		t.Errorf("%+v are void, %v, want none", j.Void, err)
	}
}

// sees checks what a bus decides on, and what is folded anew.
func (s *site) sees(t *testing.T, a commands.Aggregate[page, any, noted], want string) {
	t.Helper()
	loaded, _, err := commands.Load(context.Background(), s.replica, a, "", "1")
	must(t, err)
	if kept := s.seen(t).Notes; kept != want || loaded.Notes != want {
		t.Errorf("%s sees %q, and %q folded anew, want %q", s.own.Site, kept, loaded.Notes, want)
	}
}
