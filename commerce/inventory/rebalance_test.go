package inventory_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// A site gives units to another that has none, of codes that something happens to, as long as the other can be reached; then it
// leaves them where they are.
func TestRebalancer(t *testing.T) { synctest.Test(t, testRebalancer) }

func testRebalancer(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	defer store.Close()
	bus := commands.NewBus(store, commands.Options{})
	if err := inventory.Register(bus); err != nil {
		t.Fatal(err)
	}
	give := func(cmds ...any) {
		t.Helper()
		if _, err := bus.Dispatch(ctx, commands.Meta{}, cmds...); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now()
	give(inventory.Receive{Code: "OLD", Quantity: 100, Reference: "1", At: at})

	reachable := make(chan []string, 1)
	reachable <- []string{"bj"}
	r := inventory.Rebalancer{Bus: bus, Log: store, Now: time.Now, Sites: func(context.Context) ([]string, error) {
		sites := <-reachable
		reachable <- sites
		return sites, nil
	}}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	rights := func(code, site string) int64 {
		t.Helper()
		s, _, _, err := commands.LoadHere(ctx, bus, inventory.Aggregate(), "", code)
		if err != nil {
			t.Fatal(err)
		}
		return s.Books().Rights(site)
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it never came that %s", what)
			}
		}
	}

	// While nobody else can be reached nothing is given away: the first sale after that is what has it looked at.
	give(inventory.Receive{Code: "MUG", Quantity: 1000, Reference: "1", At: at})
	time.Sleep(time.Minute) // many looks
	if n := rights("MUG", "bj"); n != 1000 {
		t.Fatalf("%d units are left with the site while it hears nobody", n)
	}
	<-reachable
	reachable <- []string{"bj", "sh"}
	sold := 0
	until("the other site has units", func() bool {
		sold++
		give(inventory.Try{Code: "MUG", Reservation: time.Now().Format(time.StampNano), Quantity: 1, At: time.Now()})
		return rights("MUG", "sh") > 0
	})
	// It asks for nothing: it has the floor of its share, a twentieth of the mean of the demand.
	available := float64(1000 - sold)
	if n := rights("MUG", "sh"); math.Abs(float64(n)-available*0.025/1.025) > 3 {
		t.Errorf("%d units of %v were given to a site that asks for nothing", n, available)
	}
	if n := rights("OLD", "sh"); n != 0 {
		t.Errorf("%d units were given away of what nothing has happened to", n)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// Rebalance gives by demand, and nothing to who has enough, or to sites that are not named.
func TestRebalance(t *testing.T) {
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	defer store.Close()
	bus := commands.NewBus(store, commands.Options{Middleware: []commands.Middleware{commands.Validation()}})
	if err := inventory.Register(bus); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1_700_000_000_000)
	dispatch := func(cmds ...any) (eventstore.Receipt, error) {
		return bus.Dispatch(t.Context(), commands.Meta{}, cmds...)
	}
	if _, err := dispatch(inventory.Receive{Code: "MUG", Quantity: 100, Reference: "1", At: at}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		demand map[string]float64
		moved  bool
	}{
		{map[string]float64{"bj": 1}, false},
		{map[string]float64{"bj": 1, "sh": 3}, true},
		{map[string]float64{"bj": 1, "sh": 3}, false},
	} {
		r, err := dispatch(inventory.Rebalance{Code: "MUG", Demand: c.demand, At: at})
		if err != nil || (r.Streams[0].First > 0) != c.moved {
			t.Errorf("with demand %v: %+v, %v; want a move: %v", c.demand, r, err, c.moved)
		}
	}
	s, _, _, err := commands.LoadHere(t.Context(), bus, inventory.Aggregate(), "", "MUG")
	if err != nil || s.Books().Rights("sh") != 75 || s.Available() != 25 {
		t.Errorf("sh has %d, bj %d (%v)", s.Books().Rights("sh"), s.Available(), err)
	}
	for name, demand := range map[string]map[string]float64{
		"no site's name": {"SH": 1}, "negative": {"sh": -1}, "no number": {"sh": math.NaN()}, "without end": {"sh": math.Inf(1)},
	} {
		if _, err := dispatch(inventory.Rebalance{Code: "MUG", Demand: demand, At: at}); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
