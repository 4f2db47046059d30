package main

import (
	"strings"
	"testing"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// A person sees of an event that it is void, and why, and that the personal data in it are gone.
func TestEventsThatDoNotCountAreMarked(t *testing.T) {
	for _, c := range []struct {
		event *apiv1.Event
		ends  string
	}{
		{&apiv1.Event{PayloadJson: "{}"}, "{}\n"},
		{&apiv1.Event{PayloadJson: "{}", Erased: true}, "{}  (personal data erased)\n"},
		{&apiv1.Event{PayloadJson: "{}", Voided: true, VoidReason: "it was shipped"}, "{}  (void: it was shipped)\n"},
		{&apiv1.Event{PayloadJson: "{}", Erased: true, Voided: true, VoidReason: "x"}, "{}  (personal data erased)  (void: x)\n"},
	} {
		var out strings.Builder
		if err := printEvent(&globals{out: &out}, c.event); err != nil || !strings.HasSuffix(out.String(), c.ends) {
			t.Errorf("%v is printed as %q, %v; want it to end with %q", c.event, out.String(), err, c.ends)
		}
	}
}
