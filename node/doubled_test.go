package node

import (
	"errors"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
	"github.com/tributary-es/tributary/projections/memview"
)

const (
	basketCategory = "basket"
	putV1          = "basket.put.v1"
)

type (
	put  struct{ What string } // a command
	laid struct{ What string }
)

func baskets() commands.Aggregate[int, put, laid] {
	return commands.Aggregate[int, put, laid]{
		Category: basketCategory,
		ID:       func(put) string { return "B-1" },
		Decide:   func(_ int, c put) ([]laid, error) { return []laid{{c.What}}, nil },
		Evolve:   func(n int, _ laid) int { return n + 1 },
		Codec:    commands.JSONCodec(map[string]laid{putV1: {}}),
		Resolver: commands.CRDT[int, laid]{},
	}
}

// What a client asked of two sites, neither of which had heard of the other, is once in the read models of both, of keys and of rows:
// what counted twice until the sites met is taken back, whichever site hears of the other first, and models that are made anew say the
// same. C17.
func TestModelsTakeBackWhatWasDoneTwice(t *testing.T) {
	keys := projections.Projection[projections.Keys]{
		Name: "baskets", Version: 1, Types: []string{putV1}, Categories: []string{basketCategory},
		Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			w.HashAdd("baskets", e.Stream.ID, 1)
			w.HashSet("basket:"+e.Stream.ID, "last", e.Dot.String())
			return nil
		},
	}
	rows := projections.Projection[projections.Rows]{
		Name: "baskets", Version: 1, Types: []string{putV1}, Categories: []string{basketCategory},
		Apply: func(w projections.Rows, e *eventstore.Recorded) error {
			w.Insert("put", e.Stream.ID)
			return nil
		},
	}
	type doing struct {
		name string
		log  *memstore.Store
		bus  *commands.Bus
		keys *memview.Keys
		rows *memview.Rows
	}
	now := time.UnixMilli(1_300_000_000_000)
	models := func(s *doing) (*memview.Keys, *memview.Rows) {
		k, r := keys, rows
		k.History, r.History = counting.New(s.log, rulesOf(s.bus)), counting.New(s.log, rulesOf(s.bus))
		return memview.NewKeys(k), memview.NewRows(r)
	}
	newSite := func(name string) *doing {
		s := &doing{name: name}
		s.log = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: name, Incarnation: 1}, Clock: hlc.New(func() time.Time { return now })})
		s.bus = commands.NewBus(s.log, commands.Options{})
		if err := commands.Register(s.bus, baskets()); err != nil {
			t.Fatal(err)
		}
		s.keys, s.rows = models(s)
		return s
	}
	say := func(s *doing, what string, k *memview.Keys, r *memview.Rows, want string) {
		t.Helper()
		if err := errors.Join(projections.Replay(t.Context(), s.log, k, projections.Cursor{}), projections.Replay(t.Context(), s.log, r, projections.Cursor{})); err != nil {
			t.Fatal(err)
		}
		count, err := k.HashField(t.Context(), "baskets", "B-1")
		sum := 0
		for _, row := range r.Table("put") {
			sum += int(row.Sign)
		}
		if err != nil || count != want || string(rune('0'+sum)) != want {
			t.Errorf("%s: the %s model has %q in keys and %d in rows, want %s: %v", s.name, what, count, sum, want, err)
		}
	}
	for _, first := range []int{0, 1} {
		sites := []*doing{newSite("bj"), newSite("sh")}
		for _, s := range sites {
			now = now.Add(time.Second)
			if _, err := s.bus.Dispatch(t.Context(), commands.Meta{ID: "put-cup"}, put{"cup"}); err != nil {
				t.Fatal(err)
			}
			say(s, "kept", s.keys, s.rows, "1")
		}
		for _, by := range []int{first, 1 - first} {
			s, other := sites[by], sites[1-by]
			var events []eventstore.Recorded
			for e, err := range other.log.ReadLog(t.Context(), eventstore.LogID{Site: other.name, Incarnation: 1}, 0) {
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, e)
			}
			if _, err := s.log.Receive(t.Context(), events); err != nil {
				t.Fatal(err)
			}
			say(s, "kept", s.keys, s.rows, "1")
			k, r := models(s)
			say(s, "new", k, r, "1")
			last, err := s.keys.HashField(t.Context(), "basket:B-1", "last")
			if want := (eventstore.Dot{Log: eventstore.LogID{Site: "bj", Incarnation: 1}, Seq: 1}).String(); err != nil || last != want {
				t.Errorf("%s: what was put last is %s, %v, want %s", s.name, last, err, want)
			}
		}
	}
}
