package commands_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// The aggregate of these tests is a word list whose state is a map, so that Evolve changes it in place.

type addWord struct{ List, Word string }

type wordAdded struct{ Word string }

var errListIsFull = commands.Reject("list.full", "three words are enough")

// wordLists is an aggregate whose Evolve counts the word, and then calls trap.
func wordLists(trap func()) commands.Aggregate[map[string]int, addWord, wordAdded] {
	return commands.Aggregate[map[string]int, addWord, wordAdded]{
		Category: "list",
		ID:       func(c addWord) string { return c.List },
		Zero:     func() map[string]int { return map[string]int{} },
		Decide: func(s map[string]int, c addWord) ([]wordAdded, error) {
			total := 0
			for _, n := range s {
				total += n
			}
			if total >= 3 {
				return nil, errListIsFull
			}
			return []wordAdded{{c.Word}}, nil
		},
		Evolve: func(s map[string]int, e wordAdded) map[string]int {
			s[e.Word]++
			trap()
			return s
		},
		Codec: commands.JSONCodec(map[string]wordAdded{"list.added.v1": {}}),
	}
}

// A state that Evolve left half done is not decided on again, wherever Evolve was called.
func TestAPanicInEvolveLeavesNoState(t *testing.T) {
	for name, meet := range map[string]func(t *testing.T, store eventstore.Store, b *commands.Bus) error{
		"events that were appended before": func(t *testing.T, _ eventstore.Store, b *commands.Bus) error {
			_, err := b.Dispatch(context.Background(), commands.Meta{}, addWord{"a", "z"})
			return err
		},
		"events of the same message": func(t *testing.T, _ eventstore.Store, b *commands.Bus) error {
			_, err := b.Dispatch(context.Background(), commands.Meta{}, addWord{"b", "x"}, addWord{"b", "y"})
			return err
		},
		"events of another writer": func(t *testing.T, store eventstore.Store, b *commands.Bus) error {
			e, err := wordLists(nil).Codec.Encode(wordAdded{"y"})
			must(t, err)
			_, err = store.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("list", "b"), Events: []eventstore.Event{e},
			}}})
			must(t, err)
			_, err = b.Dispatch(context.Background(), commands.Meta{}, addWord{"b", "z"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			armed := false
			b := commands.NewBus(store, commands.Options{Middleware: []commands.Middleware{commands.Recovery()}})
			must(t, commands.Register(b, wordLists(func() {
				if armed {
					panic("boom")
				}
			})))
			// One event is in the log and not folded yet.
			dispatch(t, b, commands.Meta{}, addWord{"a", "x"})
			armed = true
			var panicked *commands.PanicError
			for range 2 {
				if err := meet(t, store, b); !errors.As(err, &panicked) {
					t.Fatalf("error is %v, want the panic", err)
				}
			}
			armed = false
			for _, list := range []string{"a", "b"} {
				for range 3 - versionOf(t, store, list) {
					dispatch(t, b, commands.Meta{}, addWord{list, "more"})
				}
				var rejection *commands.Rejection
				if _, err := b.Dispatch(context.Background(), commands.Meta{}, addWord{list, "more"}); !errors.As(err, &rejection) {
					t.Errorf("a fourth word of %s gives %v, want the rejection", list, err)
				}
			}
		})
	}
}

func versionOf(t *testing.T, store eventstore.Store, list string) uint64 {
	t.Helper()
	v, err := store.Version(context.Background(), eventstore.Stream("list", list))
	must(t, err)
	return v
}
