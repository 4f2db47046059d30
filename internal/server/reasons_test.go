package server

import (
	"fmt"
	"testing"

	"github.com/tributary-es/tributary/eventstore/wire"
)

// An error of the store leaves under the name by which a client knows it. Invariant A2.
func TestReasonsAreThoseOfTheWire(t *testing.T) {
	for _, r := range wire.Reasons {
		if p, internal := problemOf(fmt.Errorf("append: %w", r.Err), false); p.reason() != r.Name || internal {
			t.Errorf("%v leaves as %q, want %q", r.Err, p.reason(), r.Name)
		}
	}
}
