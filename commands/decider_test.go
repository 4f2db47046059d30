package commands_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// The decider of these tests: the bank whose accounts all are may put a cap on what they hold together.

type (
	vault struct{ Cap, Held, Events int }

	vaultCommand interface{ vaultCommand() }

	// setCap puts a cap on what the accounts hold.
	setCap struct{ Cap int }
	// expectDeposit refuses a deposit that is above the cap, and decides nothing.
	expectDeposit struct{ Amount int }
	// checkCap refuses what was decided before it, when that is above the cap.
	checkCap struct{}
	// breakVault ends in an error that is no rejection.
	breakVault struct{ Err error }

	capped struct{ Cap int }
)

func (setCap) vaultCommand()        {}
func (expectDeposit) vaultCommand() {}
func (checkCap) vaultCommand()      {}
func (breakVault) vaultCommand()    {}

var vaults = commands.Decider[vault, vaultCommand, any]{
	Name:  "vault",
	Query: func(vaultCommand) eventstore.Query { return eventstore.Tagged("cap:north") },
	Widen: func(s vault, c vaultCommand) eventstore.Query {
		if _, ok := c.(setCap); ok || s.Cap == 0 {
			return nil
		}
		return eventstore.Tagged("bank:north")
	},
	Validate: func(c vaultCommand) error {
		if c, ok := c.(setCap); ok && c.Cap < 0 {
			return errors.New("the cap is negative")
		}
		return nil
	},
	Decide: func(s vault, c vaultCommand) ([]any, error) {
		switch c := c.(type) {
		case setCap:
			return []any{capped(c)}, nil
		case expectDeposit:
			if s.Cap > 0 && s.Held+c.Amount > s.Cap {
				return nil, commands.Reject("vault.full", fmt.Sprintf("it holds %d of %d", s.Held, s.Cap))
			}
		case checkCap:
			if s.Cap > 0 && s.Held > s.Cap {
				return nil, commands.Reject("vault.full", fmt.Sprintf("it would hold %d of %d", s.Held, s.Cap))
			}
		case breakVault:
			return nil, c.Err
		}
		return nil, nil
	},
	Evolve: func(s vault, _ eventstore.StreamID, e any) vault {
		s.Events++
		switch e := e.(type) {
		case capped:
			s.Cap = e.Cap
		case deposited:
			s.Held += e.Amount
		case withdrawn:
			s.Held -= e.Amount
		}
		return s
	},
	Codec:  commands.JSONCodec(map[string]any{"bank.capped.v1": capped{}}),
	Stream: func(vaultCommand, any) eventstore.StreamID { return eventstore.StreamID{Category: "bank", ID: "north"} },
	Tags:   func(any) []string { return []string{"cap:north"} },
}

// newVault returns a bus with the accounts and the vault.
func newVault(t testing.TB, store eventstore.Store, o commands.Options) *commands.Bus {
	t.Helper()
	b := newBank(t, store, o)
	must(t, commands.RegisterDecider[vault, vaultCommand, any](b, vaults, setCap{}, expectDeposit{}, checkCap{}, breakVault{}))
	return b
}

// foreignTagged is a deposit by a writer that does not use the bus, at the bank.
func foreignTagged(t testing.TB, store eventstore.Store, id string, amount int) {
	t.Helper()
	e, err := accounts.Codec.Encode(deposited{amount})
	must(t, err)
	e.Tags = []string{"bank:north"}
	_, err = store.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("account", id), Events: []eventstore.Event{e},
	}}})
	must(t, err)
}

func wantFull(t testing.TB, err error) {
	t.Helper()
	var rejection *commands.Rejection
	if !errors.As(err, &rejection) || rejection.Code != "vault.full" {
		t.Fatalf("error is %v, want vault.full", err)
	}
}

// heldAtMost replays the log and returns the most that the accounts ever held under a cap, and what they hold in the end.
func heldAtMost(t testing.TB, store eventstore.Store) (most, end int) {
	t.Helper()
	s := vault{}
	for r, err := range store.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		must(t, err)
		switch r.Type {
		case "bank.capped.v1":
			e, err := vaults.Codec.Decode(&r)
			must(t, err)
			s = vaults.Evolve(s, r.Stream, e)
		case "account.deposited.v1", "account.withdrawn.v1":
			e, err := accounts.Codec.Decode(&r)
			must(t, err)
			s = vaults.Evolve(s, r.Stream, e)
		}
		if s.Cap > 0 {
			most = max(most, s.Held)
		}
	}
	return most, s.Held
}

func TestDeciderFoldsTheEventsOfManyStreams(t *testing.T) {
	store := newStore(t)
	b := newVault(t, store, commands.Options{})
	ctx := context.Background()
	r := dispatch(t, b, commands.Meta{}, setCap{100})
	if want := eventstore.Stream("bank", "north"); len(r.Streams) != 1 || r.Streams[0].Stream != want || r.Streams[0].Last != 1 {
		t.Errorf("receipt is %+v, want %s at 1", r, want)
	}
	r = dispatch(t, b, commands.Meta{}, expectDeposit{60}, deposit{"a", 60})
	if want := eventstore.Stream("account", "a"); len(r.Streams) != 1 || r.Streams[0].Stream != want {
		t.Errorf("receipt is %+v, want it to name %s", r, want)
	}
	// Another writer is seen, by a refusal and by what is accepted.
	foreignTagged(t, store, "b", 30)
	_, err := b.Dispatch(ctx, commands.Meta{}, expectDeposit{11}, deposit{"c", 11})
	wantFull(t, err)
	dispatch(t, b, commands.Meta{}, expectDeposit{10}, deposit{"c", 10})
	dispatch(t, b, commands.Meta{}, withdraw{"a", 5})
	_, err = b.Dispatch(ctx, commands.Meta{}, expectDeposit{6}, deposit{"c", 6})
	wantFull(t, err)
	dispatch(t, b, commands.Meta{}, expectDeposit{5}, deposit{"c", 5})
	// A refused message leaves nothing behind, in log and states.
	if most, end := heldAtMost(t, store); most != 100 || end != 100 {
		t.Errorf("the accounts held %d at most and %d in the end, want 100 and 100", most, end)
	}
	// The cap itself is decided without the accounts, and what it decides counts at once.
	dispatch(t, b, commands.Meta{}, setCap{200}, expectDeposit{100}, deposit{"a", 100})
	_, err = b.Dispatch(ctx, commands.Meta{}, expectDeposit{1}, deposit{"a", 1})
	wantFull(t, err)
}

func TestDeciderSeesWhatItsMessageDecided(t *testing.T) {
	store := newStore(t)
	b := newVault(t, store, commands.Options{})
	ctx := context.Background()
	dispatch(t, b, commands.Meta{}, setCap{10})
	for range 2 { // the second time from what the first left in the cache
		_, err := b.Dispatch(ctx, commands.Meta{}, deposit{"a", 6}, deposit{"b", 5}, checkCap{})
		wantFull(t, err)
	}
	dispatch(t, b, commands.Meta{}, deposit{"a", 6}, checkCap{}, deposit{"b", 4}, checkCap{})
	// From what the checks saw of their own message and kept: a refusal in between would have it read anew.
	dispatch(t, b, commands.Meta{}, withdraw{"a", 2}, deposit{"b", 2}, checkCap{})
	_, err := b.Dispatch(ctx, commands.Meta{}, deposit{"a", 1}, checkCap{})
	wantFull(t, err)
	if most, end := heldAtMost(t, store); most != 10 || end != 10 {
		t.Errorf("the accounts held %d at most and %d in the end, want 10 and 10", most, end)
	}
}

// What a decider decides for a stream that an aggregate of the message works on is seen by both, and is one append.
func TestDeciderWritesToTheStreamOfAnAggregate(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	bonus := commands.Decider[vault, expectDeposit, any]{
		Name:   "bonus",
		Query:  func(expectDeposit) eventstore.Query { return eventstore.Tagged("bank:north") },
		Decide: func(s vault, c expectDeposit) ([]any, error) { return []any{deposited{c.Amount + s.Held}}, nil },
		Evolve: vaults.Evolve,
		Codec:  commands.JSONCodec(map[string]any{"account.deposited.v1": deposited{}}),
		Stream: func(expectDeposit, any) eventstore.StreamID { return eventstore.StreamID{Category: "account", ID: "a"} },
		Tags:   func(any) []string { return []string{"bank:north"} },
	}
	must(t, commands.RegisterDecider(b, bonus))
	r := dispatch(t, b, commands.Meta{}, deposit{"a", 1}, expectDeposit{1}, withdraw{"a", 3}, expectDeposit{10})
	if len(r.Streams) != 1 || r.Streams[0].Last != 4 {
		t.Errorf("receipt is %+v, want one stream at 4", r)
	}
	// 1, then 1 and the 1 that is held, then 3 taken, then 10 and the 0 that is held.
	if got := balance(t, store, "a"); got != 10 {
		t.Errorf("balance is %d, want 10", got)
	}
	// On a stream that nothing else of the message works on, the aggregate notices afterwards.
	dispatch(t, b, commands.Meta{}, expectDeposit{0})
	dispatch(t, b, commands.Meta{}, withdraw{"a", 20})
	if got := balance(t, store, "a"); got != 0 {
		t.Errorf("balance is %d, want 0", got)
	}
}

// TestRaceForACap shows C5: of many who race for what a decider gives out, exactly as many get it as there is for.
func TestRaceForACap(t *testing.T) {
	for name, c := range map[string]struct {
		buses int
		guard func(id string) []any
	}{
		"guard in front":       {1, func(id string) []any { return []any{expectDeposit{1}, deposit{id, 1}} }},
		"guard behind":         {1, func(id string) []any { return []any{deposit{id, 1}, checkCap{}} }},
		"from several writers": {4, func(id string) []any { return []any{expectDeposit{1}, deposit{id, 1}} }},
	} {
		t.Run(name, func(t *testing.T) {
			const room, dispatchers, each = 50, 16, 10
			store := newStore(t)
			var o commands.Options // on one bus nobody gives up
			if c.buses > 1 {
				o.MaxAttempts = 10_000
			}
			buses := make([]*commands.Bus, c.buses)
			for i := range buses {
				buses[i] = newVault(t, store, o)
			}
			dispatch(t, buses[0], commands.Meta{}, setCap{room})
			var accepted, refused atomic.Int64
			var wg sync.WaitGroup
			for n := range dispatchers {
				wg.Go(func() {
					for i := range each {
						_, err := buses[(n+i)%len(buses)].Dispatch(context.Background(), commands.Meta{}, c.guard(fmt.Sprint(n))...)
						var rejection *commands.Rejection
						switch {
						case err == nil:
							accepted.Add(1)
						case errors.As(err, &rejection):
							refused.Add(1)
						default:
							t.Errorf("neither accepted nor refused: %v", err)
						}
					}
				})
			}
			wg.Wait()
			if most, end := heldAtMost(t, store); most != room || end != room || accepted.Load() != room || refused.Load() != dispatchers*each-room {
				t.Errorf("held %d at most, %d in the end, %d accepted, %d refused; want %d of each and %d refused",
					most, end, accepted.Load(), refused.Load(), room, dispatchers*each-room)
			}
			if s := buses[0].Stats(); c.buses == 1 && s.Conflicts > 0 {
				t.Errorf("%d conflicts, want none: those who decide on the same wait for each other", s.Conflicts)
			}
		})
	}
}

// TestCapAgainstAnOracle shows C5 for random messages of several writers: replayed, the log never has more than the cap, and
// what was refused could not have been accepted at the place where it was.
func TestCapAgainstAnOracle(t *testing.T) {
	for seed := range uint64(20) {
		store := newStore(t)
		buses := []*commands.Bus{
			newVault(t, store, commands.Options{MaxAttempts: 10_000}),
			newVault(t, store, commands.Options{MaxAttempts: 10_000, CacheEntries: 2}),
			newVault(t, store, commands.Options{MaxAttempts: 10_000, CacheEntries: -1}),
		}
		var wg sync.WaitGroup
		for w := range 6 {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			wg.Go(func() {
				for range 30 {
					id, amount := fmt.Sprint(random.IntN(3)), 1+random.IntN(9)
					message := [][]any{
						{expectDeposit{amount}, deposit{id, amount}},
						{deposit{id, amount}, checkCap{}},
						{withdraw{id, amount}},
						{setCap{30 + random.IntN(20)}, checkCap{}},
						{expectDeposit{amount}},
					}[random.IntN(5)]
					_, err := buses[random.IntN(len(buses))].Dispatch(context.Background(), commands.Meta{}, message...)
					if err != nil && eventstore.ClassOf(err) != eventstore.Rejected {
						t.Errorf("seed %d: %v", seed, err)
					}
				}
			})
		}
		wg.Wait()
		s := vault{}
		batch := eventstore.Batch{}
		for r, err := range store.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
			must(t, err)
			if r.Batch != batch && s.Cap > 0 && s.Held > s.Cap {
				t.Fatalf("seed %d: before %s the accounts held %d of %d", seed, r.Position, s.Held, s.Cap)
			}
			batch = r.Batch
			codec := func(r *eventstore.Recorded) (any, error) { return vaults.Codec.Decode(r) }
			if r.Stream.Category == "account" {
				codec = func(r *eventstore.Recorded) (any, error) { return accounts.Codec.Decode(r) }
			}
			e, err := codec(&r)
			must(t, err)
			s = vaults.Evolve(s, r.Stream, e)
		}
	}
}

func TestWideningIsPaidForByThoseWhoNeedIt(t *testing.T) {
	store := newStore(t)
	for range 1000 {
		foreignTagged(t, store, "a", 1)
	}
	b := newVault(t, store, commands.Options{})
	for range 10 {
		dispatch(t, b, commands.Meta{}, expectDeposit{1}, deposit{"b", 1})
	}
	if s := b.Stats(); s.Folded > 10 {
		t.Errorf("%d events were folded without a cap, want at most those of the account", s.Folded)
	}
	dispatch(t, b, commands.Meta{}, setCap{1_000_000})
	before := b.Stats().Folded
	for range 10 {
		dispatch(t, b, commands.Meta{}, expectDeposit{1}, deposit{"b", 1})
	}
	if got := b.Stats().Folded - before; got < 1000 || got > 1100 {
		t.Errorf("%d events were folded with a cap, want the 1,011 once and then only what came", got)
	}
}

// meeting has appends wait for each other, so that two of them are under way at once or the test ends by its time-out.
type meeting struct {
	eventstore.Store
	both sync.WaitGroup
}

func (m *meeting) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	m.both.Done()
	m.both.Wait()
	return m.Store.Append(ctx, r)
}

func TestGuardsThatDoNotBiteDoNotMakeOthersWait(t *testing.T) {
	store := &meeting{Store: newStore(t)}
	store.both.Add(2)
	b := newVault(t, store, commands.Options{})
	var wg sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		wg.Go(func() { dispatch(t, b, commands.Meta{}, expectDeposit{1}, deposit{id, 1}) })
	}
	wg.Wait()
	if s := b.Stats(); s.Conflicts > 0 {
		t.Errorf("%d conflicts, want none", s.Conflicts)
	}
}

// between lets others write right before an append.
type between struct {
	eventstore.Store
	once  sync.Once
	other func()
}

func (s *between) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	s.once.Do(s.other)
	return s.Store.Append(ctx, r)
}

func TestDecisionsOverAQueryAreMadeAgain(t *testing.T) {
	inner := newStore(t)
	must(t, func() error {
		dispatch(t, newVault(t, inner, commands.Options{}), commands.Meta{}, setCap{10})
		return nil
	}())
	store := &between{Store: inner}
	store.other = func() { foreignTagged(t, inner, "b", 5) }
	b := newVault(t, store, commands.Options{})
	_, err := b.Dispatch(context.Background(), commands.Meta{}, expectDeposit{6}, deposit{"a", 6})
	wantFull(t, err)
	if s := b.Stats(); s.Conflicts != 1 || s.Attempts != 2 {
		t.Errorf("%d attempts, %d conflicts, want 2 and 1", s.Attempts, s.Conflicts)
	}
	// A guard that was released before the append is judged all the same.
	open := newStore(t)
	released := &between{Store: open}
	released.other = func() { dispatch(t, newVault(t, open, commands.Options{}), commands.Meta{}, setCap{3}) }
	_, err = newVault(t, released, commands.Options{}).Dispatch(context.Background(), commands.Meta{}, expectDeposit{6}, deposit{"a", 6})
	wantFull(t, err)
}

func TestRepetitionsOfDecidersCommands(t *testing.T) {
	store := newStore(t)
	b := newVault(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, setCap{10})
	for _, cmds := range [][]any{{expectDeposit{10}, deposit{"a", 10}}, {expectDeposit{0}}, {setCap{10}}} {
		meta := commands.Meta{ID: fmt.Sprint(cmds)}
		first := dispatch(t, b, meta, cmds...)
		again := dispatch(t, newVault(t, store, commands.Options{}), meta, cmds...)
		if !again.Duplicate {
			t.Errorf("%v: the second receipt is not marked as a duplicate", cmds)
		}
		again.Duplicate = false
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("%v: receipts differ (-first +again):\n%s", cmds, diff)
		}
	}
	// The store alone notices: the state must not count the repetition.
	forgets := newVault(t, forgetful{store}, commands.Options{})
	dispatch(t, forgets, commands.Meta{}, withdraw{"a", 5})
	for range 2 {
		dispatch(t, forgets, commands.Meta{ID: "d"}, expectDeposit{2}, deposit{"a", 2})
	}
	dispatch(t, forgets, commands.Meta{}, expectDeposit{3}, deposit{"a", 3})
	_, err := forgets.Dispatch(context.Background(), commands.Meta{}, expectDeposit{1}, deposit{"a", 1})
	wantFull(t, err)
}

func TestGuardsWithoutAnAppendAreFresh(t *testing.T) {
	store := newStore(t)
	b := newVault(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, setCap{10})
	dispatch(t, b, commands.Meta{}, expectDeposit{10})
	foreignTagged(t, store, "a", 5)
	_, err := b.Dispatch(context.Background(), commands.Meta{}, expectDeposit{6})
	wantFull(t, err)
	_, err = b.Dispatch(context.Background(), commands.Meta{ID: "g"}, expectDeposit{6})
	wantFull(t, err)
}

func TestFaultsOfDeciders(t *testing.T) {
	ctx := context.Background()
	store := newStore(t)
	b := newVault(t, store, commands.Options{})
	for name, c := range map[string]struct {
		meta  commands.Meta
		cmds  []any
		is    error
		class eventstore.Class
		says  string
	}{
		"invalid":         {commands.Meta{}, []any{setCap{-1}}, eventstore.ErrInvalid, eventstore.Rejected, "the cap is negative"},
		"error in Decide": {commands.Meta{}, []any{breakVault{errors.New("a bug")}}, nil, eventstore.Broken, `decider "vault": decide`},
		"transient":       {commands.Meta{}, []any{breakVault{eventstore.ErrUnavailable}}, nil, eventstore.Broken, "unavailable"},
		"a version of no stream": {
			commands.Meta{Expect: eventstore.Exactly(1)}, []any{setCap{1}}, eventstore.ErrInvalid, eventstore.Rejected, "none of the commands is for a stream",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Dispatch(ctx, c.meta, c.cmds...)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || eventstore.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v of class %v, want %v, %v and %q", err, eventstore.ClassOf(err), c.is, c.class, c.says)
			}
		})
	}
	// The version of the aggregate's stream is expected, with a guard in front of it.
	dispatch(t, b, commands.Meta{Expect: eventstore.NoStream}, expectDeposit{1}, deposit{"a", 1})
	if _, err := b.Dispatch(ctx, commands.Meta{Expect: eventstore.NoStream}, expectDeposit{1}, deposit{"a", 1}); !errors.Is(err, eventstore.ErrConflict) {
		t.Errorf("error is %v, want a conflict: account a is there", err)
	}

	dispatch(t, b, commands.Meta{}, setCap{100})
	strange := eventstore.Event{Type: "bank.robbed.v1", Tags: []string{"bank:north"}}
	_, err := store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("bank", "x"), Events: []eventstore.Event{strange}}}})
	must(t, err)
	_, err = b.Dispatch(ctx, commands.Meta{}, checkCap{})
	var fault *commands.DeciderError
	if !errors.As(err, &fault) || !errors.Is(err, commands.ErrUnknownEvent) || !strings.Contains(err.Error(), "bank.robbed.v1") {
		t.Errorf("an event that no codec knows gives %v, want a *DeciderError that names it", err)
	}
}

func TestRegisterDecider(t *testing.T) {
	b := newVault(t, newStore(t), commands.Options{})
	other := vaults
	other.Name = "other"
	bad := commands.Decider[vault, vaultCommand, any]{Name: "bad", Codec: commands.JSONCodec(map[string]any{"oops": capped{}})}
	empty := commands.Decider[int, int, any]{
		Name: "empty", Query: func(int) eventstore.Query { return nil }, Decide: func(int, int) ([]any, error) { return nil, nil },
		Evolve: func(s int, _ eventstore.StreamID, _ any) int { return s }, Codec: vaults.Codec, Stream: func(int, any) eventstore.StreamID { return eventstore.StreamID{} },
	}
	must(t, commands.RegisterDecider(b, empty))
	for name, c := range map[string]struct {
		err  error
		says []string
	}{
		"same name":    {commands.RegisterDecider[vault, vaultCommand, any](b, vaults, setCap{}), []string{`decider "vault" is registered already`}},
		"same command": {commands.RegisterDecider[vault, vaultCommand, any](b, other, setCap{}), []string{"commands_test.setCap", `decider "vault"`}},
		"an aggregate's command": {
			commands.RegisterDecider(b, commands.Decider[int, deposit, any]{
				Name: "third", Query: func(deposit) eventstore.Query { return nil }, Decide: func(int, deposit) ([]any, error) { return nil, nil },
				Evolve: func(s int, _ eventstore.StreamID, _ any) int { return s }, Codec: vaults.Codec, Stream: func(deposit, any) eventstore.StreamID { return eventstore.StreamID{} },
			}), []string{"commands_test.deposit", `category "account"`},
		},
		"incomplete":  {commands.RegisterDecider[vault, vaultCommand, any](b, bad, setCap{}), []string{"Query is missing", "Stream is missing", `"oops"`}},
		"empty query": {func() error { _, err := b.Dispatch(context.Background(), commands.Meta{}, 1); return err }(), []string{"query is empty"}},
	} {
		if c.err == nil {
			t.Errorf("%s: accepted, want an error", name)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(c.err.Error(), text) {
				t.Errorf("%s: error %q does not mention %s", name, c.err, text)
			}
		}
	}
}
