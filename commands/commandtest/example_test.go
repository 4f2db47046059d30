package commandtest_test

import (
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/commandtest"
)

type (
	door struct{ open bool }

	openDoor struct{ ID string }
	opened   struct{}
)

var doors = commands.Aggregate[door, openDoor, opened]{
	Category: "door",
	ID:       func(c openDoor) string { return c.ID },
	Decide: func(s door, c openDoor) ([]opened, error) {
		if s.open {
			return nil, commands.Reject("door.open", "it is open already")
		}
		return []opened{{}}, nil
	},
	Evolve: func(s door, e opened) door { return door{open: true} },
	Codec:  commands.JSONCodec(map[string]opened{"door.opened.v1": {}}),
}

// t stands for the *testing.T of a test.
var t = &fakeT{fail: func(s string) { fmt.Println(s) }}

func Example() {
	commandtest.For(t, doors).
		When(openDoor{"front"}).
		Then(opened{})

	commandtest.For(t, doors).
		Given(opened{}).
		When(openDoor{"front"}).
		ThenRejected("door.open")
	// Output:
}

// A scenario can go on with what was decided.
func ExampleScenario_When() {
	commandtest.For(t, doors).
		When(openDoor{"front"}).Then(opened{}).
		When(openDoor{"front"}).ThenRejected("door.open")
	// Output:
}

// A failure says what was wanted and what came.
func ExampleOutcome_ThenRejected() {
	commandtest.For(t, doors).
		When(openDoor{"front"}).
		ThenRejected("door.locked")
	// Output:
	// commandtest_test.openDoor was accepted, wanted it rejected with "door.locked"; it decided
	// 	1. commandtest_test.opened{}
}

func ExampleScenario_State() {
	commandtest.For(t, doors).Given(opened{}).State(door{open: true})
	// Output:
}
