package commands_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// The aggregate of these tests: an account that may not be overdrawn.

type account struct {
	Balance int
	Events  int
}

type (
	accountCommand interface{ accountID() string }

	deposit struct {
		Account string
		Amount  int
	}
	withdraw struct {
		Account string
		Amount  int
	}
	// touch decides nothing.
	touch struct{ Account string }
	// explode panics while it is decided, or is an error that is no rejection.
	explode struct {
		Account string
		Err     error
	}
)

func (c deposit) accountID() string  { return c.Account }
func (c withdraw) accountID() string { return c.Account }
func (c touch) accountID() string    { return c.Account }
func (c explode) accountID() string  { return c.Account }

type (
	accountEvent interface{ accountEvent() }

	deposited struct{ Amount int }
	withdrawn struct{ Amount int }
)

func (deposited) accountEvent() {}
func (withdrawn) accountEvent() {}

var accounts = commands.Aggregate[account, accountCommand, accountEvent]{
	Category: "account",
	ID:       func(c accountCommand) string { return c.accountID() },
	Validate: func(c accountCommand) error {
		if d, ok := c.(deposit); ok && d.Amount <= 0 {
			return errors.New("the amount must be positive")
		}
		return nil
	},
	Decide: func(s account, c accountCommand) ([]accountEvent, error) {
		switch c := c.(type) {
		case deposit:
			return []accountEvent{deposited{c.Amount}}, nil
		case withdraw:
			if c.Amount > s.Balance {
				return nil, commands.Reject("account.overdrawn", "there is not enough on it")
			}
			return []accountEvent{withdrawn{c.Amount}}, nil
		case explode:
			if c.Err != nil {
				return nil, c.Err
			}
			panic("boom")
		}
		return nil, nil
	},
	Evolve: func(s account, e accountEvent) account {
		s.Events++
		switch e := e.(type) {
		case deposited:
			s.Balance += e.Amount
		case withdrawn:
			s.Balance -= e.Amount
		}
		return s
	},
	Codec: commands.JSONCodec(map[string]accountEvent{
		"account.deposited.v1": deposited{}, "account.withdrawn.v1": withdrawn{},
	}),
	Tags: func(e accountEvent) []string { return []string{"bank:north"} },
}

func newBank(t testing.TB, store eventstore.Store, o commands.Options) *commands.Bus {
	t.Helper()
	b := commands.NewBus(store, o)
	must(t, commands.Register[account, accountCommand, accountEvent](b, accounts, deposit{}, withdraw{}, touch{}, explode{}))
	return b
}

func newStore(t testing.TB) *memstore.Store {
	t.Helper()
	s := memstore.New(memstore.Options{})
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func dispatch(t failer, b *commands.Bus, m commands.Meta, cmds ...any) eventstore.Receipt {
	t.Helper()
	r, err := b.Dispatch(context.Background(), m, cmds...)
	must(t, err)
	return r
}

func balance(t testing.TB, store eventstore.Store, id string) int {
	t.Helper()
	s, _, err := commands.Load(context.Background(), store, accounts, "", id)
	must(t, err)
	return s.Balance
}

// failer is what helpers need of a *testing.T or a *rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// foreign is a deposit by a writer that does not use the bus.
func foreign(t testing.TB, store eventstore.Store, id string, amount int) {
	t.Helper()
	e, err := accounts.Codec.Encode(deposited{amount})
	must(t, err)
	_, err = store.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("account", id), Events: []eventstore.Event{e},
	}}})
	must(t, err)
}
