package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// TestSupervise has followers that end again and again. What a repair may mend is told of once, and tried at growing distances
// that are short again after a good stretch; anything else is given up at once.
func TestSupervise(t *testing.T) {
	rot := fmt.Errorf("block 7: %w", eventstore.ErrDamaged)
	for name, tt := range map[string]struct {
		err        error
		steady     int // the number of the run that lasts; 0: none does
		runs       int // in ten minutes
		told, gone int
	}{
		"damaged files":                      {err: rot, runs: 24, told: 1},
		"a damaged archive":                  {err: &eventstore.ArchiveDamageError{Segment: "7", Cause: eventstore.ErrCorrupt}, runs: 24, told: 1},
		"damaged files, and a good stretch":  {err: rot, steady: 10, runs: 26, told: 2},
		"corrupt, and no repair mends it":    {err: eventstore.ErrCorrupt, runs: 1, gone: 1},
		"something else that will not go on": {err: errors.New("odd"), runs: 1, gone: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				n := &Node{log: slog.New(slog.NewTextHandler(&out, nil))}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				runs := 0
				err := n.supervise(ctx, "saga x", func(context.Context) error {
					if runs++; runs == tt.steady {
						time.Sleep(steadyRun)
					}
					return tt.err
				})
				if err != nil || runs != tt.runs {
					t.Errorf("%d runs, want %d; %v", runs, tt.runs, err)
				}
				told, gone := strings.Count(out.String(), "until the log is repaired"), strings.Count(out.String(), "gave up")
				if told != tt.told || gone != tt.gone {
					t.Errorf("told %d times that it goes on and %d times that it does not, want %d and %d", told, gone, tt.told, tt.gone)
				}
				if fault := n.followers.fault("saga x"); !errors.Is(fault, tt.err) {
					t.Errorf("health has %v, want %v", fault, tt.err)
				}
			})
		})
	}
}
