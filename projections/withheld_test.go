package projections

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

// noWrites is a writer of nothing.
type noWrites struct{}

func (noWrites) Mark() int                 { return 0 }
func (noWrites) Undo(int)                  {}
func (noWrites) Reverse(int)               {}
func (noWrites) Begin(eventstore.Position) {}

// TestReasonsHoldNothingPersonal: of an event that was opened it is not said why it cannot be applied, for the error may repeat
// what it says; what is parked of it stays sealed. Shows E1.
func TestReasonsHoldNothingPersonal(t *testing.T) {
	const name = "Grace Hopper"
	event := func(opened []byte, erased bool) eventstore.Recorded {
		e := logged(ownLog, 1, 1, "a", 1)
		e.Payload, e.Opened, e.Erased, e.KeyRef = []byte("sealed"), opened, erased, 1
		return e
	}
	p := Projection[noWrites]{Name: "people", Apply: func(_ noWrites, e *eventstore.Recorded) error {
		if strings.Contains(string(e.Body()), "panic") {
			panic("no such person: " + name)
		}
		return fmt.Errorf("no such person: %s", e.Body())
	}}
	for what, c := range map[string]struct {
		event eventstore.Recorded
		open  func(*eventstore.Recorded) error
		says  string
	}{
		"opened by the source": {event: event([]byte(name), false)},
		"panic":                {event: event([]byte("panic"), false)},
		"opened when retried": {event: event(nil, false), open: func(e *eventstore.Recorded) error {
			e.Opened = []byte(name)
			return nil
		}},
		"no key":     {event: event(nil, false), open: func(*eventstore.Recorded) error { return errors.New("the key cannot be had") }, says: "the key cannot be had"},
		"erased":     {event: event([]byte("nobody"), true), says: "no such person: nobody"},
		"not opened": {event: event(nil, false), says: "no such person: sealed"},
	} {
		p.Open = c.open
		parked, err := Fold(t.Context(), &p, noWrites{}, noWrites{}, &Lot{}, []eventstore.Recorded{c.event})
		if err != nil {
			t.Fatal(err)
		}
		if len(parked) != 1 || strings.Contains(parked[0].Reason, name) || !strings.Contains(parked[0].Reason, c.says) {
			t.Errorf("%s: parked %v, want it with %q", what, PlainParked(parked), c.says)
			continue
		}
		frame := eventstore.AppendFrame(nil, parked[0].Event, eventstore.AppendContent(nil, parked[0].Event))
		if strings.Contains(string(frame), name) || !strings.Contains(string(frame), "sealed") {
			t.Errorf("%s: the parked event is not sealed", what)
		}
	}
}
