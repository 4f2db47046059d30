package commands_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// watched counts what is read of streams and of the log.
type watched struct {
	eventstore.Store
	reads int
}

func (w *watched) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	w.reads++
	return w.Store.Read(ctx, stream, from)
}

func (w *watched) ReadAll(ctx context.Context, from eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	w.reads++
	return w.Store.ReadAll(ctx, from, f)
}

// Where nothing may be decided on a category, no command is refused on a state of it and none is taken: not by the aggregate, not by a
// decider that names its events, in Query or in Widen, and not beside a command of another category. What was applied is answered.
func TestNothingIsDecidedOnAStateThatIsNotAllThere(t *testing.T) {
	store := &watched{Store: newStore(t)}
	missing := fmt.Errorf("%w: the earlier life is not back", eventstore.ErrUnavailable)
	closed := map[string]bool{}
	var asked []string
	b := newVault(t, store, commands.Options{CacheEntries: -1, Decidable: func(category string) error {
		asked = append(asked, category)
		if closed[category] {
			return missing
		}
		return nil
	}})
	must(t, commands.Register(b, pages(commands.CRDT[page, noted]{}), any(note{}), any(look{})))
	narrow := vaults
	narrow.Name, narrow.Widen = "narrow", nil
	narrow.Query = func(vaultCommand) eventstore.Query {
		return eventstore.Query{{Types: []string{"account.deposited.v1"}, Tags: []string{"bank:north"}}}
	}
	type narrowCommand struct{ breakVault }
	must(t, commands.RegisterDecider[vault, vaultCommand, any](b, narrow, narrowCommand{}))
	wide := vaults
	wide.Name = "wide"
	wide.Widen = func(s vault, _ vaultCommand) eventstore.Query {
		return eventstore.Query{{Types: []string{"account.withdrawn.v1"}, Tags: []string{"bank:north"}}}
	}
	type wideCommand struct{ breakVault }
	must(t, commands.RegisterDecider[vault, vaultCommand, any](b, wide, wideCommand{}))

	was := dispatch(t, b, commands.Meta{ID: "was"}, deposit{"a", 5})
	closed["account"], asked, store.reads = true, nil, 0
	for what, cmds := range map[string][]any{
		"a refusal":                   {withdraw{"a", 6}},
		"an event":                    {deposit{"a", 1}},
		"nothing":                     {touch{"a"}},
		"beside another category":     {note{"x"}, withdraw{"a", 6}},
		"by a decider's query":        {narrowCommand{}},
		"by what a decider asks then": {wideCommand{}},
	} {
		reads := store.reads
		_, err := b.Dispatch(context.Background(), commands.Meta{}, cmds...)
		if err != missing { //nolint:errorlint // as it is
			t.Errorf("%s: the answer is %v, want the error as it was given", what, err)
		}
		if n := store.reads - reads; what != "by what a decider asks then" && n > 0 {
			t.Errorf("%s: %d reads came before it was asked", what, n)
		}
	}
	if len(asked) == 0 {
		t.Error("nobody was asked")
	}
	if got := dispatch(t, b, commands.Meta{ID: "was"}, deposit{"a", 5}); got.Position != was.Position || !got.Duplicate {
		t.Errorf("what was applied before is answered with %+v, want its receipt", got)
	}
	dispatch(t, b, commands.Meta{}, note{"y"})
	if err := b.Decidable("account"); !errors.Is(err, missing) {
		t.Errorf("asked for the category the bus says %v", err)
	}
	closed["account"] = false
	var refused *commands.Rejection
	if _, err := b.Dispatch(context.Background(), commands.Meta{}, withdraw{"a", 6}); !errors.As(err, &refused) {
		t.Errorf("when all is there the answer is %v, want the refusal", err)
	}
	dispatch(t, b, commands.Meta{}, withdraw{"a", 5})
}
