package commandtest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// T is what a scenario needs of a *testing.T.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Scenario is the history of one aggregate instance, to be continued with When.
type Scenario[S, C, E any] struct {
	t         T
	aggregate commands.Aggregate[S, C, E]
	compare   cmp.Options
	history   []eventstore.Event
}

// For begins a scenario of an instance without events. Options add to how values are compared.
func For[S, C, E any](t T, a commands.Aggregate[S, C, E], options ...cmp.Option) *Scenario[S, C, E] {
	return &Scenario[S, C, E]{t: t, aggregate: a, compare: append(cmp.Options{
		cmp.Exporter(func(reflect.Type) bool { return true }),
		cmpopts.EquateEmpty(),
		cmpopts.EquateErrors(),
		protocmp.Transform(),
	}, options...)}
}

// Given adds events to the history.
func (s *Scenario[S, C, E]) Given(events ...E) *Scenario[S, C, E] {
	s.t.Helper()
	for i, e := range events {
		s.record(fmt.Sprintf("given event %d", i+1), e)
	}
	s.fold()
	return s
}

// When has the aggregate validate and decide a command.
func (s *Scenario[S, C, E]) When(cmd C) *Outcome[S, C, E] {
	s.t.Helper()
	o := &Outcome[S, C, E]{scenario: s, cmd: cmd}
	before, hashErr := commands.HashOf(cmd)
	stream := eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: s.aggregate.Category, ID: s.aggregate.ID(cmd)}
	o.invalid = stream.Validate()
	if s.aggregate.Validate != nil {
		o.invalid = errors.Join(o.invalid, s.aggregate.Validate(cmd))
	}
	if o.invalid != nil {
		return o
	}
	o.events, o.err = s.decide(cmd)
	if after, err := commands.HashOf(cmd); hashErr == nil && err == nil && after != before {
		s.t.Fatalf("Decide changed the command %T, which it must leave as it is; it is now:\n%+v", cmd, cmd)
	}
	return o
}

// State checks the state that the history leads to.
func (s *Scenario[S, C, E]) State(want S) *Scenario[S, C, E] {
	s.t.Helper()
	if diff := cmp.Diff(want, s.fold(), s.compare); diff != "" {
		s.t.Fatalf("state after %d events is not as wanted (-want +got):\n%s", len(s.history), diff)
	}
	return s
}

// decide decides on two equal states and compares everything that has to be equal after it.
func (s *Scenario[S, C, E]) decide(cmd C) ([]E, error) {
	s.t.Helper()
	state, untouched := s.fold(), s.fold()
	var events, again []E
	var err, againErr error
	s.guard(fmt.Sprintf("Decide of %T", cmd), func() { events, err = s.aggregate.Decide(state, cmd) })
	if diff := cmp.Diff(untouched, state, s.compare); diff != "" {
		s.t.Fatalf("Decide of %T changed the state, which only Evolve may do (-before +after):\n%s", cmd, diff)
	}
	s.guard(fmt.Sprintf("Decide of %T", cmd), func() { again, againErr = s.aggregate.Decide(untouched, cmd) })
	if (err == nil) != (againErr == nil) {
		s.t.Fatalf("Decide of %T is not pure: the same state and command gave first error %v, then error %v", cmd, err, againErr)
	}
	if diff := cmp.Diff(events, again, s.compare); diff != "" {
		s.t.Fatalf("Decide of %T is not pure: the same state and command gave other events (-first +second):\n%s", cmd, diff)
	}
	if err != nil && len(events) > 0 {
		s.t.Fatalf("Decide of %T returned %d events together with the error %q; it must return one or the other", cmd, len(events), err)
	}
	return events, err
}

// record takes an event through the codec into the history.
func (s *Scenario[S, C, E]) record(what string, e E) {
	s.t.Helper()
	encoded, err := s.aggregate.Codec.Encode(e)
	if err != nil {
		s.t.Fatalf("%s, %T: the codec cannot encode it: %v", what, e, err)
	}
	if s.aggregate.Tags != nil {
		encoded.Tags = s.aggregate.Tags(e)
	}
	stream := eventstore.Stream("commandtest", "1")
	request := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: stream, Events: []eventstore.Event{encoded}}}}
	if err := request.Normalize(); err != nil {
		s.t.Fatalf("%s, %T: a store would refuse it: %v", what, e, err)
	}
	encoded = request.Appends[0].Events[0]
	decoded := s.decode(what, &encoded)
	if diff := cmp.Diff(e, decoded, s.compare); diff != "" {
		s.t.Fatalf("%s, %T: it does not survive the codec (-event +decoded):\n%s", what, e, diff)
	}
	s.history = append(s.history, encoded)
}

func (s *Scenario[S, C, E]) decode(what string, encoded *eventstore.Event) E {
	s.t.Helper()
	e, err := s.aggregate.Codec.Decode(&eventstore.Recorded{Event: *encoded})
	if err != nil {
		s.t.Fatalf("%s: the codec cannot decode its own %s: %v", what, encoded.Type, err)
	}
	return e
}

// fold returns the state after the history, new in all its parts. It folds twice and compares, so that an Evolve which
// depends on anything but its arguments is noticed.
func (s *Scenario[S, C, E]) fold() S {
	s.t.Helper()
	first, second := s.foldOnce(), s.foldOnce()
	if diff := cmp.Diff(first, second, s.compare); diff != "" {
		s.t.Fatalf("Evolve is not pure: the same %d events gave different states (-first +second):\n%s", len(s.history), diff)
	}
	return first
}

func (s *Scenario[S, C, E]) foldOnce() (state S) {
	s.t.Helper()
	if s.aggregate.Zero != nil {
		state = s.aggregate.Zero()
	}
	for i := range s.history {
		what := fmt.Sprintf("event %d, %s", i+1, s.history[i].Type)
		e := s.decode(what, &s.history[i])
		s.guard("Evolve of "+what, func() { state = s.aggregate.Evolve(state, e) })
		if again, err := s.aggregate.Codec.Encode(e); err != nil || !bytes.Equal(again.Payload, s.history[i].Payload) {
			s.t.Fatalf("Evolve changed %s, which it must leave as it is; it is now:\n%+v", what, e)
		}
	}
	return state
}

// guard turns a panic of the aggregate into a failure.
func (s *Scenario[S, C, E]) guard(what string, f func()) {
	s.t.Helper()
	var panicked any
	var stack []byte
	func() {
		defer func() {
			if panicked = recover(); panicked != nil {
				stack = debug.Stack()
			}
		}()
		f()
	}()
	if panicked != nil {
		s.t.Fatalf("%s panicked: %v\n%s", what, panicked, stack)
	}
}
