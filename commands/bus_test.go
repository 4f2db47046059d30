package commands_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDispatchAppendsWhatIsDecided(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	r := dispatch(t, b, commands.Meta{ID: "d1", Metadata: eventstore.Metadata{Actor: "teller", Correlation: "c"}}, deposit{"a", 10})
	want := []eventstore.StreamReceipt{{Stream: eventstore.Stream("account", "a"), First: 1, Last: 1}}
	if diff := cmp.Diff(want, r.Streams); diff != "" {
		t.Errorf("receipt's streams (-want +got):\n%s", diff)
	}
	for e, err := range store.Read(context.Background(), eventstore.Stream("account", "a"), 1) {
		must(t, err)
		if e.Type != "account.deposited.v1" || e.CommandID != "d1" || e.Actor != "teller" || e.Correlation != "c" || len(e.Tags) != 1 {
			t.Errorf("recorded event is %+v", e)
		}
	}
	dispatch(t, b, commands.Meta{}, withdraw{"a", 4})
	if got := balance(t, store, "a"); got != 6 {
		t.Errorf("balance is %d, want 6", got)
	}
}

func TestSeveralCommandsAreOne(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	// The second command of a sees what the first decided; b is written in the same request.
	r := dispatch(t, b, commands.Meta{}, deposit{"a", 10}, deposit{"b", 1}, withdraw{"a", 10}, withdraw{"a", 0})
	want := []eventstore.StreamReceipt{
		{Stream: eventstore.Stream("account", "a"), First: 1, Last: 3},
		{Stream: eventstore.Stream("account", "b"), First: 1, Last: 1},
	}
	if diff := cmp.Diff(want, r.Streams); diff != "" {
		t.Errorf("receipt's streams (-want +got):\n%s", diff)
	}
	_, err := b.Dispatch(context.Background(), commands.Meta{}, deposit{"b", 5}, deposit{"a", 5}, withdraw{"a", 6})
	var rejection *commands.Rejection
	if !errors.As(err, &rejection) || rejection.Code != "account.overdrawn" {
		t.Fatalf("error is %v, want the rejection", err)
	}
	if a, bb := balance(t, store, "a"), balance(t, store, "b"); a != 0 || bb != 1 {
		t.Errorf("balances are %d and %d after a refused message, want 0 and 1", a, bb)
	}
	// The state that had folded undecided events is not used any more.
	if _, err := b.Dispatch(context.Background(), commands.Meta{}, withdraw{"a", 5}); !errors.As(err, &rejection) {
		t.Errorf("error is %v, want the rejection: the deposit of the refused message must not count", err)
	}
	// Events of one message are folded once each, though some were folded before they were in the log.
	dispatch(t, b, commands.Meta{}, deposit{"a", 5}, withdraw{"a", 1})
	if _, err := b.Dispatch(context.Background(), commands.Meta{}, withdraw{"a", 5}); !errors.As(err, &rejection) {
		t.Errorf("error is %v, want the rejection: only 4 are left", err)
	}
	dispatch(t, b, commands.Meta{}, withdraw{"a", 4})
}

// forgetful finds no receipts, so that a repetition is noticed by Append alone.
type forgetful struct{ eventstore.Store }

func (forgetful) Receipt(context.Context, string, string) (eventstore.Receipt, eventstore.Hash, error) {
	return eventstore.Receipt{}, eventstore.Hash{}, eventstore.ErrNotFound
}

func TestRepetitionsThatOnlyTheStoreNotices(t *testing.T) {
	store := newStore(t)
	b := newBank(t, forgetful{store}, commands.Options{})
	var rejection *commands.Rejection
	for range 2 {
		dispatch(t, b, commands.Meta{ID: "d"}, deposit{"a", 5})
		dispatch(t, b, commands.Meta{ID: "e"}, deposit{"b", 5}, withdraw{"b", 1})
	}
	for id, has := range map[string]int{"a": 5, "b": 4} {
		if _, err := b.Dispatch(context.Background(), commands.Meta{}, withdraw{id, has + 1}); !errors.As(err, &rejection) {
			t.Errorf("error is %v, want the rejection: %s has %d, the repetition must not count", err, id, has)
		}
		dispatch(t, b, commands.Meta{}, withdraw{id, has})
	}
}

func TestConflictsAreDecidedAgain(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, deposit{"a", 10})
	foreign(t, store, "a", 5)
	before := b.Stats()
	r := dispatch(t, b, commands.Meta{}, withdraw{"a", 1})
	if r.Streams[0].Last != 3 {
		t.Errorf("the withdrawal is version %d, want 3", r.Streams[0].Last)
	}
	after := b.Stats()
	if got := after.Conflicts - before.Conflicts; got != 1 {
		t.Errorf("%d conflicts, want 1", got)
	}
	// One event that the bus appended and had not folded yet, one that the other writer appended.
	if got := after.Folded - before.Folded; got != 2 {
		t.Errorf("%d events were folded, want 2: only the tail is read after a conflict", got)
	}
}

func TestRefusalsAreNotBasedOnOldStates(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, deposit{"a", 1})
	foreign(t, store, "a", 100)
	dispatch(t, b, commands.Meta{}, withdraw{"a", 50})
	if got := balance(t, store, "a"); got != 51 {
		t.Errorf("balance is %d, want 51", got)
	}
}

// A decision that was made in vain leaves nothing in the cache: those after it rest on what is in the log.
func TestConflictLeavesNoStateBehind(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, deposit{"a", 10})
	foreign(t, store, "a", 5)
	dispatch(t, b, commands.Meta{}, withdraw{"a", 9})
	dispatch(t, b, commands.Meta{}, withdraw{"a", 6})
	if got := balance(t, store, "a"); got != 0 {
		t.Errorf("balance is %d, want 0", got)
	}
	if _, err := b.Dispatch(t.Context(), commands.Meta{}, withdraw{"a", 1}); eventstore.ClassOf(err) != eventstore.Rejected {
		t.Errorf("withdrawal from an empty account: %v, want a refusal", err)
	}
}

// Each stream of a message is looked at again before the message is refused, whichever of them the refusal is about.
func TestRefusalsAreCheckedAgainstEveryStream(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, deposit{"a", 1})
	dispatch(t, b, commands.Meta{}, deposit{"b", 1})
	foreign(t, store, "b", 100)
	dispatch(t, b, commands.Meta{}, deposit{"a", 50}, withdraw{"b", 50})
	if a, b := balance(t, store, "a"), balance(t, store, "b"); a != 51 || b != 51 {
		t.Errorf("balances are %d and %d, want 51 and 51", a, b)
	}
}

func TestExpect(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	ctx := context.Background()
	stream := eventstore.Stream("account", "a")
	dispatch(t, b, commands.Meta{Expect: eventstore.NoStream}, deposit{"a", 1})
	dispatch(t, b, commands.Meta{Expect: eventstore.Exactly(1)}, deposit{"a", 1})
	_, err := b.Dispatch(ctx, commands.Meta{Expect: eventstore.Exactly(1)}, deposit{"a", 1})
	var conflict *eventstore.ConflictError
	if !errors.As(err, &conflict) {
		t.Fatalf("error is %v, want a *ConflictError", err)
	}
	want := []eventstore.StreamConflict{{Stream: stream, Want: eventstore.Exactly(1), Got: 2}}
	if diff := cmp.Diff(want, conflict.Conflicts); diff != "" {
		t.Errorf("conflicts (-want +got):\n%s", diff)
	}
	if eventstore.ClassOf(err) != eventstore.Rejected {
		t.Errorf("its class is %v, want rejected", eventstore.ClassOf(err))
	}
	// What the caller knows may be newer than the cache.
	foreign(t, store, "a", 1)
	dispatch(t, b, commands.Meta{Expect: eventstore.Exactly(3)}, deposit{"a", 1})
	dispatch(t, b, commands.Meta{Expect: eventstore.Exists}, deposit{"a", 1})
	if _, err := b.Dispatch(ctx, commands.Meta{Expect: eventstore.Exists}, deposit{"b", 1}); !errors.Is(err, eventstore.ErrConflict) {
		t.Errorf("error is %v, want a conflict: there is no account b", err)
	}
}

func TestRepeatedMessagesGetTheOriginalReceipt(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, deposit{"a", 10})
	first := dispatch(t, b, commands.Meta{ID: "w", Expect: eventstore.Exactly(1)}, withdraw{"a", 10})
	// Decided anew it would be refused, and its expectation would not hold.
	again := dispatch(t, newBank(t, store, commands.Options{}), commands.Meta{ID: "w", Expect: eventstore.Exactly(1)}, withdraw{"a", 10})
	if !again.Duplicate {
		t.Error("the second receipt is not marked as a duplicate")
	}
	again.Duplicate = false
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("receipts differ (-first +again):\n%s", diff)
	}
	_, err := b.Dispatch(context.Background(), commands.Meta{ID: "w"}, withdraw{"a", 9})
	if !errors.Is(err, eventstore.ErrIDReused) {
		t.Errorf("another command under the same id gives %v, want ErrIDReused", err)
	}
}

func TestMessagesThatDecideNothing(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, deposit{"a", 1})
	stream := eventstore.Stream("account", "a")
	want := []eventstore.StreamReceipt{{Stream: stream, First: 0, Last: 1}}

	r := dispatch(t, b, commands.Meta{}, touch{"a"})
	if diff := cmp.Diff(want, r.Streams); diff != "" || r.Position.LSN != 1 {
		t.Errorf("receipt without an id has position %v and streams (-want +got):\n%s", r.Position, diff)
	}
	r = dispatch(t, b, commands.Meta{ID: "t"}, touch{"a"})
	if diff := cmp.Diff(want, r.Streams); diff != "" || r.Position.LSN != 2 {
		t.Errorf("receipt with an id has position %v, want 1-2, and streams (-want +got):\n%s", r.Position, diff)
	}
	again := dispatch(t, b, commands.Meta{ID: "t"}, touch{"a"})
	if again.Position != r.Position || !again.Duplicate {
		t.Errorf("the repeated receipt is %+v, want the position of the first, %v", again, r.Position)
	}
	// A message may leave its first stream alone and change another.
	r = dispatch(t, b, commands.Meta{}, touch{"a"}, deposit{"b", 1})
	if len(r.Streams) != 2 || r.Streams[0] != want[0] || r.Streams[1].Last != 1 {
		t.Errorf("streams are %+v, want a untouched and b at 1", r.Streams)
	}
}

func TestConcurrentRepetitionsHaveOneEffect(t *testing.T) {
	store := newStore(t)
	dispatch(t, newBank(t, store, commands.Options{}), commands.Meta{}, deposit{"a", 10})
	var wg sync.WaitGroup
	var originals atomic.Int64
	for range 4 { // buses know nothing of each other
		b := newBank(t, store, commands.Options{MaxAttempts: 100})
		for range 8 {
			wg.Go(func() {
				r, err := b.Dispatch(context.Background(), commands.Meta{ID: "once"}, withdraw{"a", 10})
				if err != nil {
					t.Errorf("a repetition was refused: %v", err)
				}
				if !r.Duplicate {
					originals.Add(1)
				}
				if r.Stream(eventstore.Stream("account", "a")).Last != 2 {
					t.Errorf("receipt is %+v, want version 2", r)
				}
			})
		}
	}
	wg.Wait()
	if originals.Load() != 1 || balance(t, store, "a") != 0 {
		t.Errorf("%d receipts say they are the first, balance %d; want 1 and 0", originals.Load(), balance(t, store, "a"))
	}
}

func TestConflictingDispatchers(t *testing.T) {
	store := newStore(t)
	const buses, workers, each = 3, 4, 50
	ids := []string{"a", "b", "c"}
	for _, id := range ids {
		foreign(t, store, id, 100)
	}
	var wg sync.WaitGroup
	for n := range buses {
		b := newBank(t, store, commands.Options{MaxAttempts: 10_000, CacheEntries: 2})
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					from, to := ids[(n+w+i)%3], ids[(w+2*i+1)%3]
					_, err := b.Dispatch(context.Background(), commands.Meta{}, withdraw{from, 7}, deposit{to, 7})
					if err != nil && eventstore.ClassOf(err) != eventstore.Rejected {
						t.Errorf("transfer: %v", err)
					}
				}
			})
		}
	}
	wg.Wait()
	sum := 0
	for _, id := range ids {
		state, version, err := commands.Load(context.Background(), store, accounts, "", id)
		must(t, err)
		if state.Balance < 0 {
			t.Errorf("account %s is overdrawn: %d", id, state.Balance)
		}
		if uint64(state.Events) != version {
			t.Errorf("account %s folded %d events at version %d", id, state.Events, version)
		}
		sum += state.Balance
	}
	if sum != 300 {
		t.Errorf("the balances add up to %d, want 300", sum)
	}
}

// contrary has another writer append to the stream before every append of the bus.
type contrary struct {
	eventstore.Store
	t testing.TB
}

func (c contrary) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	foreign(c.t, c.Store, r.Appends[0].Stream.ID, 1)
	return c.Store.Append(ctx, r)
}

func TestRetriesAreBounded(t *testing.T) {
	var waits []int
	b := newBank(t, contrary{newStore(t), t}, commands.Options{
		MaxAttempts: 5, Backoff: func(n int) time.Duration { waits = append(waits, n); return 0 },
	})
	_, err := b.Dispatch(context.Background(), commands.Meta{}, deposit{"a", 1})
	if !errors.Is(err, commands.ErrContended) || eventstore.ClassOf(err) != eventstore.Transient {
		t.Errorf("error is %v of class %v, want ErrContended, transient", err, eventstore.ClassOf(err))
	}
	if diff := cmp.Diff([]int{1, 2, 3, 4}, waits); diff != "" {
		t.Errorf("waited (-want +got):\n%s", diff)
	}
	// An expectation of the caller's is not tried again.
	waits = nil
	_, err = b.Dispatch(context.Background(), commands.Meta{Expect: eventstore.NoStream}, deposit{"b", 1})
	if !errors.Is(err, eventstore.ErrConflict) || len(waits) > 1 {
		t.Errorf("error is %v after %d waits, want a conflict found at once", err, len(waits))
	}
}

func TestFaults(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{Middleware: []commands.Middleware{commands.Recovery()}})
	ctx := context.Background()
	for name, c := range map[string]struct {
		cmds  []any
		is    error
		class eventstore.Class
		says  string
	}{
		"unknown command":     {[]any{42}, commands.ErrUnknownCommand, eventstore.Broken, "int"},
		"no commands":         {nil, eventstore.ErrInvalid, eventstore.Rejected, "no commands"},
		"invalid":             {[]any{deposit{"a", 0}, deposit{"b", -1}}, eventstore.ErrInvalid, eventstore.Rejected, "positive"},
		"empty id":            {[]any{deposit{"", 1}}, eventstore.ErrInvalid, eventstore.Rejected, "stream id is empty"},
		"error in Decide":     {[]any{explode{"a", errors.New("a bug")}}, nil, eventstore.Broken, "default/account/a"},
		"transient in Decide": {[]any{explode{"a", eventstore.ErrUnavailable}}, nil, eventstore.Broken, "unavailable"},
		"panic in Decide":     {[]any{explode{"a", nil}}, nil, eventstore.Broken, "boom"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.Dispatch(ctx, commands.Meta{}, c.cmds...)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("error is %v, want %v", err, c.is)
			}
			if got := eventstore.ClassOf(err); got != c.class {
				t.Errorf("class of %v is %v, want %v", err, got, c.class)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not mention %q", err, c.says)
			}
		})
	}
	// A panic leaves no lock behind.
	dispatch(t, b, commands.Meta{}, deposit{"a", 1})
}

func TestWaitingForAStreamEndsWithTheContext(t *testing.T) {
	store := newStore(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := accounts
	slow.Decide = func(s account, c accountCommand) ([]accountEvent, error) {
		close(entered)
		<-leave
		return nil, nil
	}
	b := commands.NewBus(store, commands.Options{})
	must(t, commands.Register[account, accountCommand, accountEvent](b, slow, touch{}))
	var wg sync.WaitGroup
	wg.Go(func() { dispatch(t, b, commands.Meta{}, touch{"a"}) })
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := b.Dispatch(ctx, commands.Meta{}, touch{"a"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want the context's", err)
	}
	close(leave)
	wg.Wait()
}

func TestRegister(t *testing.T) {
	b := newBank(t, newStore(t), commands.Options{})
	other := accounts
	other.Category = "other"
	bad := accounts
	bad.Category, bad.ID, bad.Codec = "Bad Name", nil, commands.JSONCodec(map[string]accountEvent{"oops": deposited{}})
	for name, c := range map[string]struct {
		err  error
		says []string
	}{
		"same category": {commands.Register[account, accountCommand, accountEvent](b, accounts, touch{}), []string{"account", "registered already"}},
		"same command":  {commands.Register[account, accountCommand, accountEvent](b, other, touch{}), []string{"commands_test.touch", `"account"`}},
		"no samples":    {commands.Register[account, accountCommand, accountEvent](b, other), []string{"samples"}},
		"nil sample":    {commands.Register[account, accountCommand, accountEvent](b, other, nil), []string{"nil"}},
		"incomplete":    {commands.Register[account, accountCommand, accountEvent](b, bad, touch{}), []string{"category", "ID is nil", `"oops"`}},
	} {
		if c.err == nil {
			t.Errorf("%s: registered, want an error", name)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(c.err.Error(), text) {
				t.Errorf("%s: error %q does not mention %s", name, c.err, text)
			}
		}
	}
	if diff := cmp.Diff([]string{"account"}, b.Categories()); diff != "" {
		t.Errorf("categories (-want +got):\n%s", diff)
	}
}

func TestContextCoversWhatWasFolded(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	dispatch(t, b, commands.Meta{}, deposit{"a", 1}) // seq 1
	dispatch(t, b, commands.Meta{}, deposit{"b", 1}) // seq 2
	dispatch(t, b, commands.Meta{}, deposit{"a", 1}) // seq 3
	dispatch(t, b, commands.Meta{}, deposit{"a", 1}) // seq 4
	log, err := store.Log(context.Background())
	must(t, err)
	for e, err := range store.Read(context.Background(), eventstore.Stream("account", "a"), 1) {
		must(t, err)
		if e.Version == 1 {
			if len(e.Context) != 0 {
				t.Errorf("the first event has context %v, want none", e.Context)
			}
			continue
		}
		// It covers every event of the stream before it, and not itself.
		if got := e.Context.At(log.ID); got < e.Dot.Seq-2 || got >= e.Dot.Seq {
			t.Errorf("version %d, seq %d, has context %v", e.Version, e.Dot.Seq, e.Context)
		}
	}
}

// halfDurable reaches no durability but the local one.
type halfDurable struct{ eventstore.Store }

func (h halfDurable) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	r.Durability = eventstore.Local
	receipt, err := h.Store.Append(ctx, r)
	if err == nil {
		err = eventstore.ErrDurabilityTimeout
	}
	return receipt, err
}

func TestReceiptComesWithADurabilityTimeout(t *testing.T) {
	store := newStore(t)
	b := newBank(t, halfDurable{store}, commands.Options{})
	for n := range 2 { // the second time it is found by its id, and waited for again
		r, err := b.Dispatch(context.Background(), commands.Meta{ID: "d", Durability: eventstore.Kafka}, deposit{"a", 1})
		if !errors.Is(err, eventstore.ErrDurabilityTimeout) || len(r.Streams) != 1 || r.Streams[0].Last != 1 {
			t.Errorf("time %d: receipt %+v with %v, want a valid one with ErrDurabilityTimeout", n+1, r, err)
		}
		if r.Duplicate != (n == 1) {
			t.Errorf("time %d: Duplicate is %v", n+1, r.Duplicate)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{CacheEntries: 10})
	for i := range 100 {
		dispatch(t, b, commands.Meta{}, deposit{fmt.Sprint(i), 1})
	}
	if s := b.Stats(); s.CachedStates != 10 {
		t.Errorf("%d states are cached, want 10", s.CachedStates)
	}
	b = newBank(t, store, commands.Options{CacheBytes: 4000})
	for i := range 100 {
		dispatch(t, b, commands.Meta{}, deposit{fmt.Sprint(i), 1})
	}
	if s := b.Stats(); s.CachedBytes > 4000 || s.CachedStates == 0 {
		t.Errorf("%d states take %d bytes, want some in at most 4,000", s.CachedStates, s.CachedBytes)
	}
	b = newBank(t, store, commands.Options{CacheEntries: -1})
	dispatch(t, b, commands.Meta{}, deposit{"1", 1})
	if s := b.Stats(); s.CachedStates != 0 {
		t.Errorf("%d states are cached, want none", s.CachedStates)
	}
}

func TestLongStreamsAreNotFoldedAnew(t *testing.T) {
	store := newStore(t)
	for range 5000 {
		foreign(t, store, "a", 1)
	}
	b := newBank(t, store, commands.Options{})
	for range 100 {
		dispatch(t, b, commands.Meta{}, withdraw{"a", 1})
	}
	if s := b.Stats(); s.Folded > 5100 || s.CacheMisses != 1 {
		t.Errorf("%d events were folded in %d loads, want 5,099 in one", s.Folded, s.CacheMisses)
	}
}

func TestLoad(t *testing.T) {
	store := newStore(t)
	b := newBank(t, store, commands.Options{})
	for i := range 5 {
		dispatch(t, b, commands.Meta{Tenant: "north"}, deposit{"a", i + 1})
	}
	ctx := context.Background()
	s, version, err := commands.Load(ctx, store, accounts, "north", "a")
	if must(t, err); s.Balance != 15 || version != 5 {
		t.Errorf("loaded %+v at version %d, want 15 at 5", s, version)
	}
	s, err = commands.LoadAt(ctx, store, accounts, "north", "a", 3)
	if must(t, err); s.Balance != 6 {
		t.Errorf("loaded %+v as of version 3, want 6", s)
	}
	if _, err := commands.LoadAt(ctx, store, accounts, "north", "a", 6); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("version 6 gives %v, want ErrNotFound", err)
	}
	// The log has nothing but these five.
	s, version, err = commands.LoadAsOf(ctx, store, accounts, "north", "a", eventstore.Position{Incarnation: 1, LSN: 4})
	if must(t, err); s.Balance != 10 || version != 4 {
		t.Errorf("loaded %+v at version %d as of position 1-4, want 10 at 4", s, version)
	}
	s, version, err = commands.LoadAsOf(ctx, store, accounts, "north", "a", eventstore.Position{})
	if must(t, err); s.Events != 0 || version != 0 {
		t.Errorf("loaded %+v at version %d as of before the log, want nothing", s, version)
	}
	if _, _, err := commands.LoadAsOf(ctx, store, accounts, "north", "a", eventstore.Position{Incarnation: 2, LSN: 4}); !errors.Is(err, eventstore.ErrWrongIncarnation) {
		t.Errorf("a position of another log gives %v, want ErrWrongIncarnation", err)
	}
	if s, version, err := commands.Load(ctx, store, accounts, "", "a"); err != nil || version != 0 || s.Events != 0 {
		t.Errorf("the default tenant has %+v at %d, %v; want nothing", s, version, err)
	}
}

// overtaken lets another dispatch go first, right after a receipt was looked for in vain.
type overtaken struct {
	eventstore.Store
	once  sync.Once
	other func()
}

func (o *overtaken) Receipt(ctx context.Context, tenant, id string) (eventstore.Receipt, eventstore.Hash, error) {
	r, hash, err := o.Store.Receipt(ctx, tenant, id)
	o.once.Do(o.other)
	return r, hash, err
}

func TestARepetitionThatIsOvertakenIsNotRefused(t *testing.T) {
	store := newStore(t)
	dispatch(t, newBank(t, store, commands.Options{}), commands.Meta{}, deposit{"a", 10})
	b := newBank(t, &overtaken{Store: store, other: func() {
		dispatch(t, newBank(t, store, commands.Options{}), commands.Meta{ID: "w"}, withdraw{"a", 10})
	}}, commands.Options{})
	r := dispatch(t, b, commands.Meta{ID: "w"}, withdraw{"a", 10})
	if !r.Duplicate || r.Streams[0].Last != 2 {
		t.Errorf("receipt is %+v, want the one of the dispatch that went first", r)
	}
}
