package commandtest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// Events are those of an aggregate or decider whose events another decider folds.
type Events[E any] struct {
	types  []string
	encode func(E) (eventstore.Event, error) // with its tags
	decode func(*eventstore.Recorded) (E, error)
}

// Source returns the events of an aggregate, for ForDecider.
func Source[S, C, E any](a commands.Aggregate[S, C, E]) Events[E] { return eventsOf(a.Codec, a.Tags) }

func eventsOf[E any](codec commands.Codec[E], tags func(E) []string) Events[E] {
	return Events[E]{types: codec.Types(), decode: codec.Decode, encode: func(e E) (eventstore.Event, error) {
		encoded, err := codec.Encode(e)
		if err == nil && tags != nil {
			encoded.Tags = tags(e)
		}
		return encoded, err
	}}
}

// ForDecider begins a scenario without events, of a decider and the sources whose events it folds beside its own. Given
// adds events of all of them, In says to which streams; which of them a command is decided on, its query says. State is
// folded over all of them.
func ForDecider[S, C, E any](t T, d commands.Decider[S, C, E], sources ...Events[E]) *Scenario[S, C, E] {
	sources = append([]Events[E]{eventsOf(d.Codec, d.Tags)}, sources...)
	return newScenario(t, subject[S, C, E]{
		zero: d.Zero,
		validate: func(c C) error {
			if err := optional(d.Validate, c); err != nil {
				return err
			}
			q := d.Query(c)
			if len(q) == 0 {
				return errors.New("the query is empty and would match every event")
			}
			return q.Validate()
		},
		decide: d.Decide,
		evolve: d.Evolve,
		stream: func(c C, e E) eventstore.StreamID {
			stream := d.Stream(c, e)
			stream.Tenant = eventstore.DefaultTenant
			return stream
		},
		encode: func(e E) (encoded eventstore.Event, err error) {
			for _, s := range sources {
				if encoded, err = s.encode(e); !errors.Is(err, commands.ErrUnknownEvent) {
					return encoded, err
				}
			}
			return encoded, fmt.Errorf("%w; is its aggregate among the sources of the scenario?", err)
		},
		decode: func(r *eventstore.Recorded) (e E, err error) {
			for _, s := range sources {
				if slices.Contains(s.types, r.Type) {
					return s.decode(r)
				}
			}
			return e, fmt.Errorf("%s: %w", r.Type, commands.ErrUnknownEvent)
		},
		query: d.Query,
		widen: d.Widen,
	}, []cmp.Option{})
}
