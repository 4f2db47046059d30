package commands_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

func Example() {
	store := memstore.New(memstore.Options{})
	defer store.Close()
	bus := commands.NewBus(store, commands.Options{})
	if err := commands.Register[account, accountCommand, accountEvent](bus, accounts, deposit{}, withdraw{}); err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()

	receipt, err := bus.Dispatch(ctx, commands.Meta{ID: "salary-2010-12"}, deposit{"ada", 100})
	fmt.Println(receipt.Position, err)

	// The same again is the same receipt.
	receipt, err = bus.Dispatch(ctx, commands.Meta{ID: "salary-2010-12"}, deposit{"ada", 100})
	fmt.Println(receipt.Position, receipt.Duplicate, err)

	// A transfer is two commands that take effect together, or not at all.
	_, err = bus.Dispatch(ctx, commands.Meta{}, withdraw{"ada", 500}, deposit{"bob", 500})
	var refused *commands.Rejection
	fmt.Println(errors.As(err, &refused), err)

	state, version, err := commands.Load(ctx, store, accounts, "", "ada")
	fmt.Println(state.Balance, version, err)
	// Output:
	// 1-1 <nil>
	// 1-1 true <nil>
	// true account.overdrawn: there is not enough on it
	// 100 1 <nil>
}

func ExampleUpcastJSON() {
	type named struct{ First, Last string }
	codec := commands.JSONCodec(
		map[string]named{"user.named.v2": {}},
		commands.UpcastJSON("user.named.v1", func(old struct{ Name string }) (named, error) {
			return named{Last: old.Name}, nil
		}),
	)
	fmt.Println(codec.Types())
	// Output: [user.named.v1 user.named.v2]
}
