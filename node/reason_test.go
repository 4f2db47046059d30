package node

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// Why an operator does something is text of 1 to 500 bytes wherever it is asked for, and a site that is not named is asked for by name.
func TestWhatOperatorsSayIsChecked(t *testing.T) {
	n, err := Open(t.Context(), Config{Data: t.TempDir(), Kafka: Off, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Homed: []string{"ledger"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, m := t.Context(), members{n: n}
	calls := map[string]func(reason string) error{
		"found": func(reason string) error {
			_, err := m.FoundSystem(ctx, &sitesv1.FoundSystemRequest{Without: []string{"sh"}, Reason: reason})
			return err
		},
		"leave": func(reason string) error {
			_, err := m.LeaveSite(ctx, &sitesv1.LeaveSiteRequest{Site: "sh", Reason: reason})
			return err
		},
		"promote": func(reason string) error {
			_, err := m.PromoteSite(ctx, &sitesv1.PromoteSiteRequest{Site: "sh", Reason: reason})
			return err
		},
		"take": func(reason string) error {
			_, err := (&cells{part: n.cells}).TakeCell(ctx, &sitesv1.TakeCellRequest{Cell: 1, Reason: reason})
			return err
		},
		"read-only": func(reason string) error {
			_, err := m.SetReadOnly(ctx, &sitesv1.SetReadOnlyRequest{Reason: reason})
			return err
		},
	}
	for name, call := range calls {
		for reason, says := range map[string]string{"": "say why", strings.Repeat("x", 501): "the limit is 500", "\xff": "not valid UTF-8"} {
			if name == "read-only" && reason == "" {
				continue // it takes writes again
			}
			if err := call(reason); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s with a reason of %d bytes: %v, want that it says %q", name, len(reason), err, says)
			}
		}
		if err := call(strings.Repeat("x", 500)); err != nil && strings.Contains(err.Error(), "reason") {
			t.Errorf("%s with a reason of 500 bytes: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"leave":   second(m.LeaveSite(ctx, &sitesv1.LeaveSiteRequest{Reason: "x"})),
		"promote": second(m.PromoteSite(ctx, &sitesv1.PromoteSiteRequest{Reason: "x"})),
		"join":    second(m.JoinSite(ctx, &sitesv1.JoinSiteRequest{Member: &sitesv1.Member{Grpc: "a:1", Kafka: "a:2"}})),
	} {
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "is missing (") {
			t.Errorf("%s of no site: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
