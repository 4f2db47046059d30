package inventory_test

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// A site that leaves gives what it may sell to those that stay, but for what its reservations hold; done again, it gives nothing.
func TestGiveAway(t *testing.T) {
	ctx := t.Context()
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "sz", Incarnation: 1}})
	defer store.Close()
	bus := commands.NewBus(store, commands.Options{})
	if err := inventory.Register(bus); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1)
	give := func(cmds ...any) {
		t.Helper()
		if _, err := bus.Dispatch(ctx, commands.Meta{}, cmds...); err != nil {
			t.Fatal(err)
		}
	}
	give(inventory.Receive{Code: "MUG", Quantity: 8, Reference: "1", At: at}, inventory.Try{Code: "MUG", Reservation: "A-1", Quantity: 3, At: at})
	give(inventory.Receive{Code: "CUP", Quantity: 1, Reference: "1", At: at})
	give(inventory.Receive{Code: "JAR", Quantity: 2, Reference: "1", At: at}, inventory.Try{Code: "JAR", Reservation: "A-1", Quantity: 2, At: at})

	got, err := inventory.GiveAway(ctx, bus, store, []string{"bj", "sh"}, at)
	if want := (inventory.Given{Units: 6, Codes: 2, Held: 5, HeldCodes: 2}); err != nil || got != want {
		t.Errorf("given %+v, %v; want %+v", got, err, want)
	}
	rights := func(code string) map[string]int64 {
		s, _, _, err := commands.LoadHere(ctx, bus, inventory.Aggregate(), "", code)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]int64{"bj": s.Books().Rights("bj"), "sh": s.Books().Rights("sh"), "sz": s.Books().Rights("sz")}
	}
	for code, want := range map[string][3]int64{"MUG": {3, 2, 3}, "CUP": {1, 0, 0}, "JAR": {0, 0, 2}} {
		if got := rights(code); got["bj"] != want[0] || got["sh"] != want[1] || got["sz"] != want[2] {
			t.Errorf("of %s the sites have %v, want %v at bj, sh and sz", code, got, want)
		}
	}
	again, err := inventory.GiveAway(ctx, bus, store, []string{"bj", "sh"}, at)
	if want := (inventory.Given{Held: 5, HeldCodes: 2}); err != nil || again != want {
		t.Errorf("given again %+v, %v; want %+v", again, err, want)
	}
}
