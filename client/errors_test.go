package client_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
	"time"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
)

// refusing is a store that answers everything with an error.
type refusing struct {
	eventstore.Store
	err error
}

func (r *refusing) Append(context.Context, eventstore.Request) (eventstore.Receipt, error) {
	return eventstore.Receipt{}, fmt.Errorf("append: %w", r.err)
}

func (r *refusing) Version(context.Context, eventstore.StreamID) (uint64, error) {
	return 0, fmt.Errorf("version: %w", r.err)
}

// Every error of package eventstore comes out of a client as the one that went in at the server, with the same class.
// Invariant A2.
func TestErrorsSurviveTheWire(t *testing.T) {
	sent := map[string]error{
		"ErrInvalid": eventstore.ErrInvalid, "ErrTooLarge": eventstore.ErrTooLarge, "ErrConflict": eventstore.ErrConflict,
		"ErrIDReused": eventstore.ErrIDReused, "ErrNotFound": eventstore.ErrNotFound, "ErrUnsupported": eventstore.ErrUnsupported,
		"ErrUnavailable": eventstore.ErrUnavailable, "ErrOutcomeUnknown": eventstore.ErrOutcomeUnknown,
		"ErrDurabilityTimeout": eventstore.ErrDurabilityTimeout, "ErrWrongIncarnation": eventstore.ErrWrongIncarnation,
		"ErrReadOnly": eventstore.ErrReadOnly, "ErrErased": eventstore.ErrErased,
		"ErrArchiveUnavailable": &eventstore.ArchiveError{}, "ErrTruncated": &eventstore.TruncatedError{First: eventstore.Position{Incarnation: 3, LSN: 77}},
		"ErrCorrupt": eventstore.ErrCorrupt, "ErrDamaged": eventstore.ErrDamaged, "ErrArchiveDamaged": &eventstore.ArchiveDamageError{Cause: eventstore.ErrCorrupt}, "ErrClosed": eventstore.ErrClosed,
	}
	for _, name := range declared(t) {
		if sent[name] == nil {
			t.Errorf("eventstore.%s is not tried", name)
		}
	}
	sent["full disk"] = wire.ErrFull
	for name, err := range sent {
		t.Run(name, func(t *testing.T) {
			want := err
			switch name {
			case "ErrCorrupt", "ErrDamaged", "ErrArchiveDamaged": // of the server's data, of which a client learns nothing
				want = nil
			case "ErrClosed": // the client is open
				want = eventstore.ErrUnavailable
			case "ErrArchiveUnavailable":
				want = eventstore.ErrArchiveUnavailable
			case "ErrTruncated":
				want = eventstore.ErrTruncated
			case "full disk":
				want = eventstore.ErrReadOnly
			}
			server := serve(t, "127.0.0.1:0", &refusing{memory(t), err})
			c := dial(t, server.addr, &client.Options{Patience: 200 * time.Millisecond})
			_, appending := c.Append(t.Context(), one("1", eventstore.Any))
			_, asking := c.Version(t.Context(), eventstore.Stream("thing", "1"))
			for what, got := range map[string]error{"append": appending, "version": asking} {
				if got == nil || want != nil && !errors.Is(got, want) || eventstore.ClassOf(got) != eventstore.ClassOf(err) {
					t.Errorf("%s: %v, %s, want %v, %s", what, got, eventstore.ClassOf(got), want, eventstore.ClassOf(err))
				}
			}
			var dropped *eventstore.TruncatedError
			if errors.As(asking, &dropped) != (name == "ErrTruncated") || dropped != nil && dropped.First != (eventstore.Position{Incarnation: 3, LSN: 77}) {
				t.Errorf("it is said that events before %v were dropped", dropped)
			}
		})
	}
}

// declared returns the names of package eventstore's errors.
func declared(t *testing.T) (out []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "../eventstore/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		if vars, ok := d.(*ast.GenDecl); ok && vars.Tok == token.VAR {
			for _, s := range vars.Specs {
				out = append(out, s.(*ast.ValueSpec).Names[0].Name)
			}
		}
	}
	if len(out) < 10 {
		t.Fatalf("%d errors found: %v", len(out), out)
	}
	return out
}

// A filter may ask for chunks beyond what the server gives, as with every store. Invariant A2.
func TestLargeChunksAreClamped(t *testing.T) {
	c := dial(t, serve(t, "127.0.0.1:0", memory(t)).addr, nil)
	sub, err := c.Subscribe(t.Context(), eventstore.Position{}, eventstore.Filter{MaxChunk: wire.MaxChunk + 1})
	if err != nil {
		t.Fatal(err)
	}
	sub.Close()
}
