package commands_test

import (
	"context"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// A decider's state is the same at all sites that hold the same events, whatever the order in which these came: of what was set at
// two sites at a time that which counts, of all streams. Commands are decided on it.
func TestDecidersOfSeveralSites(t *testing.T) {
	bank := func(name string) *site {
		s := newSite(t, name, pages(nil), commands.Options{})
		must(t, commands.Register[account, accountCommand, accountEvent](s.Bus, accounts, deposit{}, withdraw{}, touch{}, explode{}))
		must(t, commands.RegisterDecider[vault, vaultCommand, any](s.Bus, vaults, setCap{}, expectDeposit{}, checkCap{}, breakVault{}))
		return s
	}
	bj, sh := bank("bj"), bank("sh")
	capAt := func(s *site) int {
		t.Helper()
		v, _, err := commands.LoadFor[vault, vaultCommand, any](t.Context(), s.Bus, vaults, "", checkCap{})
		must(t, err)
		if v.Cap == 0 {
			t.Fatalf("site %s has no cap: %+v", s.own.Site, v)
		}
		return v.Cap
	}
	dispatch(t, bj.Bus, commands.Meta{}, setCap{100})
	dispatch(t, bj.Bus, commands.Meta{}, checkCap{}) // the cache has the state
	sh.clock = sh.clock.Add(time.Second)
	dispatch(t, sh.Bus, commands.Meta{}, setCap{10})
	dispatch(t, sh.Bus, commands.Meta{}, checkCap{})
	if bj, sh := capAt(bj), capAt(sh); bj != 100 || sh != 10 {
		t.Fatalf("before they meet the caps are %d and %d", bj, sh)
	}
	exchange(t, bj, sh)

	counts := 0
	for _, s := range []*site{bj, sh} {
		stream := eventstore.Stream("bank", "north")
		void, err := s.Void(t.Context(), stream)
		must(t, err)
		if len(void) != 1 {
			t.Fatalf("at %s void are %v; want one of the two caps", s.own.Site, void)
		}
		for r, err := range s.Read(t.Context(), stream, 1) {
			must(t, err)
			if _, no := void[r.Dot]; no {
				continue
			}
			e, err := vaults.Codec.Decode(&r)
			must(t, err)
			counts = e.(capped).Cap
		}
		if got := capAt(s); got != counts {
			t.Errorf("at %s the cap is %d, what counts is %d", s.own.Site, got, counts)
		}
		foreignTagged(t, s, s.own.Site, counts) // it holds as much as it may
		_, err = s.Dispatch(t.Context(), commands.Meta{}, expectDeposit{1})
		wantFull(t, err)
	}

	// What was set with the knowledge of both counts at both.
	sh.clock = sh.clock.Add(time.Second)
	dispatch(t, sh.Bus, commands.Meta{}, setCap{1000})
	exchange(t, bj, sh)
	for _, s := range []*site{bj, sh} {
		if got := capAt(s); got != 1000 {
			t.Errorf("at %s the cap is %d after it was set to 1000", s.own.Site, got)
		}
		dispatch(t, s.Bus, commands.Meta{}, expectDeposit{1})
	}
}

// arriving is a store into which events of another site come right before a call of Log.
type arriving struct {
	replica
	calls  int
	before int
	come   func()
}

func (a *arriving) Log(ctx context.Context) (eventstore.LogState, error) {
	if a.calls++; a.calls == a.before {
		a.come()
	}
	return a.replica.Log(ctx)
}

// A decider folds each event once, whenever in an attempt the first events of another site come: a state of the cache, which knows
// no others, is not folded over again.
func TestOthersComeWhileADeciderDecides(t *testing.T) {
	seen := vault{}
	tally := vaults
	tally.Query = func(vaultCommand) eventstore.Query { return eventstore.Tagged("bank:north") }
	tally.Widen = nil
	tally.Decide = func(s vault, _ vaultCommand) ([]any, error) { seen = s; return nil, nil }
	for when, came := 1, true; came; when++ {
		came = false
		bj, sh := newSite(t, "bj", pages(nil), commands.Options{}), newSite(t, "sh", pages(nil), commands.Options{})
		store := &arriving{replica: bj.replica}
		bus := commands.NewBus(store, commands.Options{})
		must(t, commands.Register[account, accountCommand, accountEvent](bus, accounts, deposit{}, withdraw{}, touch{}, explode{}))
		must(t, commands.RegisterDecider[vault, vaultCommand, any](bus, tally, expectDeposit{}))
		foreignTagged(t, bj, "1", 10)
		foreignTagged(t, sh, "2", 1)
		dispatch(t, bus, commands.Meta{}, expectDeposit{1}) // the cache has the state
		foreignTagged(t, bj, "3", 5)                        // past the bus: the attempt is made again, and reads on
		store.before, store.come = store.calls+when, func() { came = true; bj.from(t, sh, sh.own, 1) }
		dispatch(t, bus, commands.Meta{}, expectDeposit{1}, deposit{Account: "4", Amount: 1})
		if seen.Held != 15 && seen.Held != 16 {
			t.Errorf("events of another site come before call %d of Log: decided on %d, there are 15, or 16 with them", when, seen.Held)
		}
	}
}
