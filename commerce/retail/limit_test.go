package retail

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestTooManyLines: what is more than may be kept in memory is refused with its place, and reading ends with its context.
func TestTooManyLines(t *testing.T) {
	r := reader{ctx: t.Context(), builder: newBuilder(), most: 2}
	r.readSource(content("a", header+goodLine+goodLine))
	if err := r.problems.err(); err != nil {
		t.Fatalf("two lines: %v", err)
	}
	r.readSource(content("b", header+goodLine))
	if err := r.problems.err(); err == nil || !strings.Contains(err.Error(), "b: line 2: more than 2 lines at once") {
		t.Errorf("a third line in another file: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadSources(ctx, content("a", header+strings.Repeat(goodLine, 5000))); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %v", err)
	}
}
