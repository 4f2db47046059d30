package inventory_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// site sells the stock of code.
type site struct {
	log   eventstore.LogID
	store *memstore.Store
	bus   *commands.Bus
}

// TestNoSiteSellsWhatIsNotItsOwn shows C14 and C15: three sites are given random commands, and take in what the others have
// recorded in random pieces. As seen from each, at every moment, no site has less than nothing, and no more is promised and
// gone than came in.
func TestNoSiteSellsWhatIsNotItsOwn(t *testing.T) {
	a := inventory.Aggregate()
	names := []string{"bj", "sh", "sz"}
	rapid.Check(t, func(t *rapid.T) {
		sites := map[string]*site{}
		for _, name := range names {
			s := &site{log: eventstore.LogID{Site: name, Incarnation: 1}}
			s.store = memstore.New(memstore.Options{LogID: s.log})
			s.bus = commands.NewBus(s.store, commands.Options{})
			if err := inventory.Register(s.bus); err != nil {
				t.Fatal(err)
			}
			sites[name] = s
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			s := sites[rapid.SampledFrom(names).Draw(t, "site")]
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				s.takeIn(t, sites[rapid.SampledFrom(names).Draw(t, "from")], rapid.IntRange(1, 5).Draw(t, "events"))
			case 2:
				s.give(t, move(rapid.SampledFrom(names).Draw(t, "to"), rapid.Int64Range(1, 9).Draw(t, "moved")))
			default:
				s.give(t, draw(t))
			}
			state, _, _, err := commands.LoadHere(t.Context(), s.bus, a, "", code)
			if err != nil {
				t.Fatal(err)
			}
			books := state.Books()
			if err := books.Check(); err != nil {
				t.Fatalf("as seen from %s: %v", s.log.Site, err)
			}
			received, held, used := books.Total()
			if state.OnHand != received-used || state.Reserved != held {
				t.Fatalf("as seen from %s %d are on hand and %d reserved; the books say %d and %d", s.log.Site, state.OnHand, state.Reserved, received-used, held)
			}
		}
	})
}

// give has the site decide a command, which it may refuse.
func (s *site) give(t *rapid.T, c inventory.Command) {
	_, err := s.bus.Dispatch(t.Context(), commands.Meta{}, c)
	if rejection := new(commands.Rejection); err != nil && !errors.As(err, &rejection) {
		t.Fatalf("%T %+v: %v", c, c, err)
	}
}

// takeIn has the site take in the next events of another, as far as it has what they were decided with.
func (s *site) takeIn(t *rapid.T, other *site, count int) {
	if s == other {
		return
	}
	heads, err := s.store.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var held eventstore.Vector
	for _, h := range heads {
		held = held.With(eventstore.Dot{Log: h.Log, Seq: h.Seq})
	}
	for r, err := range other.store.ReadLog(t.Context(), other.log, held.At(other.log)) {
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range r.Dep {
			if held.At(d.Log) < d.Seq {
				return
			}
		}
		if _, err := s.store.Receive(t.Context(), []eventstore.Recorded{r}); err != nil {
			t.Fatal(err)
		}
		if count--; count == 0 {
			return
		}
	}
}
