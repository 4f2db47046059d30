package commandtest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"

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

// Scenario is the history of one aggregate instance, or of all that a decider may fold, to be continued with When.
type Scenario[S, C, E any] struct {
	t       T
	subject subject[S, C, E]
	compare cmp.Options
	in      eventstore.StreamID // of events that are given next
	history []eventstore.Recorded
	sites   *sites // nil as long as there is one
}

// instance is the stream of events that do not say otherwise.
var instance = eventstore.Stream("commandtest", "1")

// subject is what is tested: an aggregate or a decider.
type subject[S, C, E any] struct {
	zero     func() S
	validate func(C) error // of where the command leads, too
	decide   func(S, C) ([]E, error)
	evolve   func(S, eventstore.StreamID, E) S
	// stream says where an event of a command goes; nil: to the one instance.
	stream func(C, E) eventstore.StreamID
	encode func(E) (eventstore.Event, error) // with its tags
	decode func(*eventstore.Recorded) (E, error)
	// query and widen say what of the history a command is decided on; nil: on all.
	query func(C) eventstore.Query
	widen func(S, C) eventstore.Query
	// snapshots keep states; nil: they are not kept.
	snapshots *commands.Snapshots[S]
	// judge folds events of several sites, and seenFrom turns a state to one of them; nil: of deciders.
	judge    func([]eventstore.Recorded) (S, commands.Judgement, error)
	seenFrom func(S, string) S
}

// For begins a scenario of an instance without events. Options add to how values are compared.
func For[S, C, E any](t T, a commands.Aggregate[S, C, E], options ...cmp.Option) *Scenario[S, C, E] {
	return newScenario(t, subject[S, C, E]{
		zero: a.Zero,
		validate: func(c C) error {
			stream := eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: a.Category, ID: a.ID(c)}
			return errors.Join(stream.Validate(), optional(a.Validate, c))
		},
		decide: a.Decide,
		evolve: func(s S, _ eventstore.StreamID, e E) S { return a.Evolve(s, e) },
		encode: Source(a).encode,
		decode: a.Codec.Decode,

		snapshots: a.Snapshots,
		judge:     func(events []eventstore.Recorded) (S, commands.Judgement, error) { return commands.Fold(a, events) },
		seenFrom:  a.SeenFrom,
	}, options)
}

func newScenario[S, C, E any](t T, s subject[S, C, E], options []cmp.Option) *Scenario[S, C, E] {
	return &Scenario[S, C, E]{t: t, subject: s, in: instance, compare: append(cmp.Options{
		cmp.Exporter(func(reflect.Type) bool { return true }),
		cmpopts.EquateEmpty(),
		cmpopts.EquateErrors(),
		protocmp.Transform(),
	}, options...)}
}

// optional validates a command, where there is a way to.
func optional[C any](validate func(C) error, cmd C) error {
	if validate == nil {
		return nil
	}
	return validate(cmd)
}

// In says to which stream the events go that are given next. It matters to deciders that fold events of several.
func (s *Scenario[S, C, E]) In(category, id string) *Scenario[S, C, E] {
	s.in = eventstore.Stream(category, id)
	return s
}

// Given adds events to the history.
func (s *Scenario[S, C, E]) Given(events ...E) *Scenario[S, C, E] {
	s.t.Helper()
	for i, e := range events {
		s.record(fmt.Sprintf("given event %d", i+1), s.in, e)
	}
	s.fold(nil)
	return s
}

// When has a command validated and decided.
func (s *Scenario[S, C, E]) When(cmd C) *Outcome[S, C, E] {
	s.t.Helper()
	o := &Outcome[S, C, E]{scenario: s, cmd: cmd}
	before, hashErr := commands.HashOf(cmd)
	if o.invalid = s.subject.validate(cmd); o.invalid != nil {
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
	if diff := cmp.Diff(want, s.fold(nil), s.compare); diff != "" {
		s.t.Fatalf("state after %d events is not as wanted (-want +got):\n%s", len(s.history), diff)
	}
	return s
}

// decide decides on two equal states and compares everything that has to be equal after it.
func (s *Scenario[S, C, E]) decide(cmd C) ([]E, error) {
	s.t.Helper()
	q := s.queryOf(cmd)
	state, untouched := s.fold(q), s.fold(q)
	var events, again []E
	var err, againErr error
	s.guard(fmt.Sprintf("Decide of %T", cmd), func() { events, err = s.subject.decide(state, cmd) })
	if diff := cmp.Diff(untouched, state, s.compare); diff != "" {
		s.t.Fatalf("Decide of %T changed the state, which only Evolve may do (-before +after):\n%s", cmd, diff)
	}
	s.guard(fmt.Sprintf("Decide of %T", cmd), func() { again, againErr = s.subject.decide(untouched, cmd) })
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
func (s *Scenario[S, C, E]) record(what string, stream eventstore.StreamID, e E) {
	s.t.Helper()
	encoded, err := s.subject.encode(e)
	if err != nil {
		s.t.Fatalf("%s, %T: the codec cannot encode it: %v", what, e, err)
	}
	request := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: stream, Events: []eventstore.Event{encoded}}}}
	if err := request.Normalize(); err != nil {
		s.t.Fatalf("%s, %T: a store would refuse it: %v", what, e, err)
	}
	recorded := eventstore.Recorded{Stream: stream, Event: request.Appends[0].Events[0]}
	decoded := s.decode(what, &recorded)
	if diff := cmp.Diff(e, decoded, s.compare); diff != "" {
		s.t.Fatalf("%s, %T: it does not survive the codec (-event +decoded):\n%s", what, e, diff)
	}
	if s.sites != nil {
		s.sites.born(&recorded, uint64(len(s.history))+1)
	}
	s.history = append(s.history, recorded)
}

func (s *Scenario[S, C, E]) decode(what string, r *eventstore.Recorded) E {
	s.t.Helper()
	e, err := s.subject.decode(r)
	if err != nil {
		s.t.Fatalf("%s: the codec cannot decode its own %s: %v", what, r.Type, err)
	}
	return e
}

// queryOf returns what of the history a command is decided on.
func (s *Scenario[S, C, E]) queryOf(cmd C) eventstore.Query {
	s.t.Helper()
	if s.subject.query == nil {
		return nil
	}
	q := s.subject.query(cmd)
	if s.subject.widen == nil {
		return q
	}
	var more, again eventstore.Query
	state, untouched := s.fold(q), s.fold(q)
	what := fmt.Sprintf("Widen of %T", cmd)
	s.guard(what, func() { more = s.subject.widen(state, cmd) })
	if diff := cmp.Diff(untouched, state, s.compare); diff != "" {
		s.t.Fatalf("%s changed the state, which only Evolve may do (-before +after):\n%s", what, diff)
	}
	s.guard(what, func() { again = s.subject.widen(untouched, cmd) })
	if more.String() != again.String() {
		s.t.Fatalf("%s is not pure: the same state and command gave first %s, then %s", what, more, again)
	}
	return slices.Concat(q, more)
}

// fold returns the state after what of the history the query matches, new in all its parts. It folds twice and compares, so
// that an Evolve which depends on anything but its arguments is noticed.
func (s *Scenario[S, C, E]) fold(q eventstore.Query) S {
	s.t.Helper()
	first, second := s.foldOnce(q), s.foldOnce(q)
	if diff := cmp.Diff(first, second, s.compare); diff != "" {
		s.t.Fatalf("Evolve is not pure: the same %d events gave different states (-first +second):\n%s", len(s.history), diff)
	}
	if s.subject.snapshots != nil {
		s.checkSnapshot(second, first)
	}
	return first
}

// checkSnapshot takes a state through a snapshot and compares it with an equal one.
func (s *Scenario[S, C, E]) checkSnapshot(state, want S) {
	s.t.Helper()
	var err error
	s.guard("a snapshot", func() {
		var encoded []byte
		if encoded, err = s.subject.snapshots.Encode(state); err == nil {
			state, err = s.subject.snapshots.Decode(encoded)
		}
	})
	if err != nil {
		s.t.Fatalf("the state after %d events cannot be kept in a snapshot: %v", len(s.history), err)
	}
	if s.sites != nil {
		state = s.subject.seenFrom(state, s.sites.here)
	}
	if diff := cmp.Diff(want, state, s.compare); diff != "" {
		s.t.Fatalf("the state after %d events does not survive its snapshot (-state +restored):\n%s", len(s.history), diff)
	}
}

func (s *Scenario[S, C, E]) foldOnce(q eventstore.Query) (state S) {
	s.t.Helper()
	if s.sites != nil {
		state, _ = s.judged()
		return state
	}
	if s.subject.zero != nil {
		state = s.subject.zero()
	}
	for i := range s.history {
		if !q.Matches(&s.history[i]) {
			continue
		}
		what := fmt.Sprintf("event %d, %s", i+1, s.history[i].Type)
		e := s.decode(what, &s.history[i])
		s.guard("Evolve of "+what, func() { state = s.subject.evolve(state, s.history[i].Stream, e) })
		if again, err := s.subject.encode(e); err != nil || !bytes.Equal(again.Payload, s.history[i].Payload) {
			s.t.Fatalf("Evolve changed %s, which it must leave as it is; it is now:\n%+v", what, e)
		}
	}
	return state
}

// guard turns a panic of what is tested into a failure.
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
