package cart_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/cart"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var at = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

const ms = 1291191960000

func carts(t *testing.T) *commandtest.Scenario[cart.State, cart.Command, cart.Event] {
	return commandtest.For(t, cart.Aggregate())
}

func add(line, code string, n int64) cart.Add {
	return cart.Add{ID: "1", Line: line, StockCode: code, Quantity: n, At: at}
}

func set(line, code string, n int64) cart.Set {
	return cart.Set{ID: "1", Line: line, StockCode: code, Quantity: n, At: at}
}

func added(line, code string, n int64, replaces ...string) *commercev1.CartLineAdded {
	return &commercev1.CartLineAdded{Line: line, StockCode: code, Quantity: n, Replaces: replaces, AtMs: ms}
}

func removed(lines ...string) *commercev1.CartLinesRemoved {
	return &commercev1.CartLinesRemoved{Lines: lines, AtMs: ms}
}

func TestCommands(t *testing.T) {
	empty := cart.Empty{ID: "1", At: at}
	carts(t).
		When(empty).Then().
		When(set("l0", "MUG", 0)).Then().
		When(add("l1", "MUG", 2)).Then(added("l1", "MUG", 2)).
		When(add("l2", "MUG", 1)).Then(added("l2", "MUG", 1)).
		When(add("l3", "PEN", 5)).Then(added("l3", "PEN", 5)).
		When(set("l4", "MUG", 4)).Then(added("l4", "MUG", 4, "l1", "l2")).
		When(set("l5", "MUG", 4)).Then().
		When(set("l6", "PEN", 0)).Then(removed("l3")).
		When(empty).Then(removed("l4")).
		When(empty).Then()
}

func TestLines(t *testing.T) {
	a := cart.Aggregate()
	state := a.Zero()
	for _, e := range []cart.Event{added("l1", "PEN", 2), added("l2", "MUG", 1), added("l3", "PEN", 3), added("l4", "MUG", 7, "l2")} {
		state = a.Evolve(state, e)
	}
	if got, want := state.Lines(), []cart.Line{{StockCode: "MUG", Quantity: 7}, {StockCode: "PEN", Quantity: 5}}; !slices.Equal(got, want) {
		t.Errorf("in the cart is %v, want %v", got, want)
	}
}

func TestFullCart(t *testing.T) {
	var full []cart.Event
	for i := range cart.MaxLines {
		full = append(full, added(fmt.Sprint("l", i), fmt.Sprint("C", i), 1))
	}
	carts(t).Given(full...).
		When(add("x", "C0", 1)).ThenRejected(cart.CodeFull).
		When(set("x", "NEW", 1)).ThenRejected(cart.CodeFull).
		When(set("x", "C0", 2)).Then(added("x", "C0", 2, "l0"))
}

func TestInvalidCommands(t *testing.T) {
	carts(t).
		When(cart.Add{ID: "1"}).ThenInvalid("line id has 0 bytes", "stock code", "quantity 0 is not 1", "time is missing").
		When(set("l1", "MUG", -1)).ThenInvalid("quantity -1 is not 0").
		When(add("l1", "MUG", cart.MaxQuantity+1)).ThenInvalid("quantity 1000001").
		When(cart.Empty{ID: "1"}).ThenInvalid("time is missing")
}

// TestChangedAtTwoSites: what is added at both is there, and what one takes out is what it has seen.
func TestChangedAtTwoSites(t *testing.T) {
	carts(t).At("bj").Given(added("l1", "MUG", 1)).Apart().
		At("bj").When(add("l2", "MUG", 2)).Then(added("l2", "MUG", 2)).
		At("sh").When(set("l3", "MUG", 5)).Then(added("l3", "MUG", 5, "l1")).
		Together().Void().Outcomes(commands.Merged).
		When(set("l4", "MUG", 7)).Then(added("l4", "MUG", 7, "l2", "l3"))
	carts(t).At("bj").Given(added("l1", "MUG", 1)).Apart().
		At("bj").When(cart.Empty{ID: "1", At: at}).Then(removed("l1")).
		At("sh").When(add("l2", "MUG", 2)).Then(added("l2", "MUG", 2)).
		Together().
		When(set("l3", "MUG", 2)).Then()
}

// TestDoneAtTwoSites: a command that was done at two sites adds its line once, and the line is gone when it was taken out after either.
func TestDoneAtTwoSites(t *testing.T) {
	carts(t).At("bj").Given(added("l0", "MUG", 1)).Apart().
		At("bj").When(add("k", "PEN", 2)).Then(added("k", "PEN", 2)).
		At("sh").When(add("k", "PEN", 2)).Then(added("k", "PEN", 2)).
		Together().Void().Outcomes(commands.Merged).
		When(set("l1", "PEN", 2)).Then().
		When(set("l1", "PEN", 3)).Then(added("l1", "PEN", 3, "k"))
	carts(t).At("bj").Given(added("l0", "MUG", 1)).Apart().
		At("bj").When(add("k", "PEN", 2)).Then(added("k", "PEN", 2)).
		At("bj").When(cart.Empty{ID: "1", At: at}).Then(removed("k", "l0")).
		At("sh").When(add("k", "PEN", 2)).Then(added("k", "PEN", 2)).
		Together().
		When(cart.Empty{ID: "1", At: at}).Then()
}

// TestEventsCommute: events that are decided at once lead to the same cart in either order, also where the sites begin with the same
// command.
func TestEventsCommute(t *testing.T) {
	a := cart.Aggregate()
	rapid.Check(t, func(t *rapid.T) {
		fold := func(events []cart.Event) cart.State {
			state := a.Zero()
			for _, e := range events {
				state = a.Evolve(state, e)
			}
			return state
		}
		n := 0
		command := func() cart.Command {
			n++
			code, line := rapid.SampledFrom([]string{"MUG", "PEN"}).Draw(t, "code"), fmt.Sprint("l", n)
			units := rapid.Int64Range(0, 3).Draw(t, "units")
			switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
			case kind == 0:
				return cart.Empty{ID: "1", At: at}
			case kind < 3:
				return add(line, code, units+1)
			}
			return set(line, code, units)
		}
		// after returns what commands lead to, one after the other, after a history.
		after := func(history []cart.Event, all ...cart.Command) (events []cart.Event) {
			for _, c := range all {
				more, err := a.Decide(fold(slices.Concat(history, events)), c)
				if err != nil {
					t.Fatal(err)
				}
				events = append(events, more...)
			}
			return events
		}
		some := func(least, most int, name string) (all []cart.Command) {
			for range rapid.IntRange(least, most).Draw(t, name) {
				all = append(all, command())
			}
			return all
		}
		history := after(nil, some(0, 8, "history")...)
		atBJ, atSH := some(1, 2, "at bj"), some(1, 2, "at sh")
		if rapid.Bool().Draw(t, "the same first") {
			atSH[0] = atBJ[0]
		}
		bj, sh := after(history, atBJ...), after(history, atSH...)
		if one, other := fold(slices.Concat(history, bj, sh)).Lines(), fold(slices.Concat(history, sh, bj)).Lines(); !slices.Equal(one, other) {
			t.Fatalf("after %v and %v the cart has %v one way and %v the other", bj, sh, one, other)
		}
	})
}
