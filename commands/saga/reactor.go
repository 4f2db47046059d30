package saga

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/tributary-es/tributary/eventstore"
)

// definition is a Definition with its type parameter erased.
type definition struct {
	name     string
	triggers []string
	instance func(*eventstore.Recorded) string
	fresh    func() reactor
}

// reactor is the state of one instance.
type reactor interface {
	// react brings the state forward. After an error the reactor is of no use.
	react(in Input) ([]Action, error)
}

type typedReactor[S any] struct {
	definition *Definition[S]
	state      S
}

func (t *typedReactor[S]) react(in Input) (actions []Action, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("reaction to %T panicked: %v\n%s", in, v, debug.Stack())
		}
	}()
	t.state, actions, err = t.definition.React(t.state, in)
	if err != nil {
		err = fmt.Errorf("reaction to %T: %w", in, err)
	}
	return actions, err
}

// erase checks a definition and erases its type parameter.
func erase[S any](d Definition[S]) (definition, error) {
	var faults []error
	if err := (eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: d.Name, ID: "x"}).Validate(); err != nil {
		faults = append(faults, err)
	}
	if len(d.Triggers) == 0 {
		faults = append(faults, errors.New("no triggers"))
	}
	if d.Instance == nil {
		faults = append(faults, errors.New("func Instance is nil"))
	}
	if d.React == nil {
		faults = append(faults, errors.New("func React is nil"))
	}
	fresh := func() reactor {
		t := &typedReactor[S]{definition: &d}
		if d.Zero != nil {
			t.state = d.Zero()
		}
		return t
	}
	return definition{d.Name, d.Triggers, d.Instance, fresh}, errors.Join(faults...)
}
