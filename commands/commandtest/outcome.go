package commandtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
)

// Outcome is what a command led to. Exactly one of its Then methods says what it should have been.
type Outcome[S, C, E any] struct {
	scenario *Scenario[S, C, E]
	cmd      C
	events   []E
	err      error
	invalid  error
}

// Then checks that the command was accepted and decided exactly these events; none means that there was nothing to do. It
// returns the scenario with the decided events in its history, to go on with.
func (o *Outcome[S, C, E]) Then(want ...E) *Scenario[S, C, E] {
	s := o.scenario
	s.t.Helper()
	switch {
	case o.invalid != nil:
		s.t.Fatalf("%T was found invalid, wanted %s:\n%v", o.cmd, counted(len(want)), o.invalid)
	case o.err != nil:
		s.t.Fatalf("%T was refused, wanted %s:\n%v", o.cmd, counted(len(want)), o.err)
	}
	if diff := cmp.Diff(want, o.events, s.compare); diff != "" {
		s.t.Fatalf("%T decided %s, not as wanted (-want +got):\n%s", o.cmd, counted(len(o.events)), diff)
	}
	return o.accept()
}

// ThenAccepted checks that the command was accepted, whatever it decided, and returns the scenario to go on with.
func (o *Outcome[S, C, E]) ThenAccepted() *Scenario[S, C, E] {
	s := o.scenario
	s.t.Helper()
	if err := errors.Join(o.invalid, o.err); err != nil {
		s.t.Fatalf("%T was refused, wanted it accepted:\n%v", o.cmd, err)
	}
	return o.accept()
}

// ThenRejected checks that the command was refused with a *commands.Rejection of this code. It returns the scenario, whose
// history is as it was.
func (o *Outcome[S, C, E]) ThenRejected(code string) *Scenario[S, C, E] {
	s := o.scenario
	s.t.Helper()
	var r *commands.Rejection
	switch {
	case o.invalid != nil:
		s.t.Fatalf("%T was found invalid before it was decided, wanted it rejected with %q:\n%v", o.cmd, code, o.invalid)
	case o.err == nil:
		s.t.Fatalf("%T was accepted, wanted it rejected with %q; it decided%s", o.cmd, code, o.listed())
	case !errors.As(o.err, &r):
		s.t.Fatalf("%T was refused with %T, which a bus takes for a bug, wanted commands.Reject(%q, …):\n%v", o.cmd, o.err, code, o.err)
	case r.Code != code:
		s.t.Fatalf("%T was rejected with %q (%s), wanted %q", o.cmd, r.Code, r.Reason, code)
	}
	return s
}

// ThenInvalid checks that the command was found wrong in itself (by Validate, or for its stream id) with an error that
// mentions each of the given texts. It returns the scenario, whose history is as it was.
func (o *Outcome[S, C, E]) ThenInvalid(mentions ...string) *Scenario[S, C, E] {
	s := o.scenario
	s.t.Helper()
	if o.invalid == nil {
		s.t.Fatalf("%T was found valid, wanted it invalid", o.cmd)
	}
	for _, text := range mentions {
		if !strings.Contains(o.invalid.Error(), text) {
			s.t.Fatalf("%T was found invalid, wanted %q mentioned in:\n%v", o.cmd, text, o.invalid)
		}
	}
	return s
}

// accept adds the decided events to the history, which checks codec and Evolve.
func (o *Outcome[S, C, E]) accept() *Scenario[S, C, E] {
	s := o.scenario
	s.t.Helper()
	for i, e := range o.events {
		stream := instance
		if s.subject.stream != nil {
			stream = s.subject.stream(o.cmd, e)
		}
		s.record(fmt.Sprintf("decided event %d", i+1), stream, e)
	}
	s.fold(nil)
	return s
}

func (o *Outcome[S, C, E]) listed() string {
	if len(o.events) == 0 {
		return " no events"
	}
	var b strings.Builder
	for i, e := range o.events {
		fmt.Fprintf(&b, "\n\t%d. %T%+v", i+1, e, e)
	}
	return b.String()
}

func counted(n int) string {
	switch n {
	case 0:
		return "no events"
	case 1:
		return "1 event"
	}
	return fmt.Sprintf("%d events", n)
}
