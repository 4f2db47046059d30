package commands

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/tributary-es/tributary/eventstore"
)

// Register adds an aggregate to the bus, with a sample of every command that it decides (only the samples' types count).
// Where C is a struct and not an interface, the samples may be left out. A command type or category that is registered
// already is an error, and so is an incomplete aggregate; in both cases nothing is registered.
//
// Register everything before the first Dispatch; it is not safe to do both at once.
func Register[S, C, E any](b *Bus, a Aggregate[S, C, E], samples ...C) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("register aggregate %q: %w", a.Category, err)
	}
	types := make(map[reflect.Type]bool, len(samples))
	for _, s := range samples {
		types[reflect.TypeOf(s)] = true
	}
	if t := reflect.TypeFor[C](); len(samples) == 0 && t.Kind() != reflect.Interface {
		types[t] = true
	}
	if err := b.add(a.Category, types, &typed[S, C, E]{a}); err != nil {
		return fmt.Errorf("register aggregate %q: %w", a.Category, err)
	}
	return nil
}

// check says what is missing from an aggregate.
func (a *Aggregate[S, C, E]) check() error {
	var faults []error
	if err := (eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: a.Category, ID: "x"}).Validate(); err != nil {
		faults = append(faults, err)
	}
	for name, missing := range map[string]bool{
		"ID": a.ID == nil, "Decide": a.Decide == nil, "Evolve": a.Evolve == nil, "Codec": a.Codec == nil,
	} {
		if missing {
			faults = append(faults, fmt.Errorf("%s is nil", name))
		}
	}
	if c, ok := a.Codec.(interface{ declaration() error }); ok {
		faults = append(faults, c.declaration())
	}
	return errors.Join(faults...)
}

// decider is an aggregate with its type parameters erased.
type decider interface {
	// streamID returns the id of the command's instance.
	streamID(cmd any) string
	validate(cmd any) error
	newInstance() instance
}

// typed erases the type parameters of an aggregate, once.
type typed[S, C, E any] struct{ Aggregate[S, C, E] }

func (t *typed[S, C, E]) streamID(cmd any) string { return t.ID(cmd.(C)) }

func (t *typed[S, C, E]) validate(cmd any) error {
	if t.Validate == nil {
		return nil
	}
	return t.Validate(cmd.(C))
}

func (t *typed[S, C, E]) newInstance() instance {
	return &typedInstance[S, C, E]{aggregate: &t.Aggregate, state: t.zero()}
}

func (a *Aggregate[S, C, E]) zero() (s S) {
	if a.Zero != nil {
		return a.Zero()
	}
	return s
}

// instance is the state of one aggregate instance. It is used by one goroutine at a time.
type instance interface {
	// decide returns the events that a command leads to, encoded. The state stays as it is.
	decide(cmd any) ([]eventstore.Event, error)
	// fold brings the state forward by one event. After an error the instance is of no use.
	fold(r *eventstore.Recorded) error
	// size estimates the bytes that the state holds.
	size() int
}

type typedInstance[S, C, E any] struct {
	aggregate *Aggregate[S, C, E]
	state     S
}

func (i *typedInstance[S, C, E]) decide(cmd any) ([]eventstore.Event, error) {
	decided, err := i.aggregate.Decide(i.state, cmd.(C))
	if err != nil {
		return nil, err
	}
	events := make([]eventstore.Event, len(decided))
	for n, e := range decided {
		if events[n], err = i.aggregate.Codec.Encode(e); err != nil {
			return nil, err
		}
		// Folding sees the event before the store fills its defaults.
		events[n].SchemaVersion = max(events[n].SchemaVersion, 1)
		if events[n].Encoding == 0 {
			events[n].Encoding = eventstore.Protobuf
		}
		if i.aggregate.Tags != nil {
			events[n].Tags = i.aggregate.Tags(e)
		}
	}
	return events, nil
}

func (i *typedInstance[S, C, E]) fold(r *eventstore.Recorded) error {
	e, err := i.aggregate.Codec.Decode(r)
	if err != nil {
		return err
	}
	i.state = i.aggregate.Evolve(i.state, e)
	return nil
}

func (i *typedInstance[S, C, E]) size() int { return sizeOf(i.state) }
