package saga_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// mortal is a store as a process sees it that dies at one of its appends: the append is carried out or not, its caller
// never hears, and from then on nothing works.
type mortal struct {
	eventstore.Store
	kill func()

	mu      sync.Mutex // guards what follows
	appends int        // that are left
	applied bool       // whether the last one is carried out
	dead    bool
}

var errDead = fmt.Errorf("the process is dead: %w", eventstore.ErrClosed)

func (m *mortal) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return eventstore.Receipt{}, errDead
	}
	if m.appends--; m.appends >= 0 {
		return m.Store.Append(ctx, r)
	}
	m.dead = true
	if m.applied {
		if _, err := m.Store.Append(ctx, r); err != nil && !errors.Is(err, eventstore.ErrConflict) {
			return eventstore.Receipt{}, err
		}
	}
	m.kill()
	return eventstore.Receipt{}, errDead
}

func (m *mortal) Version(ctx context.Context, s eventstore.StreamID) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return 0, errDead
	}
	return m.Store.Version(ctx, s)
}

// life is how long a process lives and what it does meanwhile.
type life struct {
	Appends int
	Applied bool
	Workers int
	Place   []placeOrder // when it begins
}

func drawLives(t *rapid.T) []life {
	next := 0
	one := rapid.Custom(func(t *rapid.T) placeOrder {
		return placeOrder{
			Codes: rapid.SampledFrom([]string{"A", "B", "A B C", "A none", "none", "B A"}).Draw(t, "codes"),
			Price: rapid.SampledFrom([]int{0, 100, 5000}).Draw(t, "price"),
		}
	})
	lives := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) life {
		return life{
			Appends: rapid.IntRange(0, 12).Draw(t, "appends"),
			Applied: rapid.Bool().Draw(t, "applied"),
			Workers: rapid.SampledFrom([]int{1, 3}).Draw(t, "workers"),
			Place:   rapid.SliceOfN(one, 0, 3).Draw(t, "place"),
		}
	}), 1, 12).Draw(t, "lives")
	for l := range lives {
		for p := range lives[l].Place {
			next++
			lives[l].Place[p].ID = fmt.Sprint(next)
		}
	}
	return lives
}

// expected returns the effects of an order that went through checkout once.
func expected(o placeOrder) map[string]int {
	out := map[string]int{"order.placed.v1": 1, "order.confirmed.v1": 1}
	reserve := func(codes ...string) {
		for _, c := range codes {
			out[c+"+1"]++
		}
	}
	release := func(codes ...string) {
		for _, c := range codes {
			out[c+"-1"]++
		}
		delete(out, "order.confirmed.v1")
		out["order.cancelled.v1"] = 1
	}
	codes := map[string][]string{"A": {"A"}, "B": {"B"}, "A B C": {"A", "B", "C"}, "A none": {"A"}, "none": nil, "B A": {"B", "A"}}[o.Codes]
	reserve(codes...)
	switch {
	case o.Codes == "A none" || o.Codes == "none" || o.Price > 1000:
		release(codes...)
	default:
		out["payment.charged.v1"] = 1
	}
	return out
}

// TestEveryCommandHasOneEffect cuts a runner off at any append, over and over, and starts a new one over the same log (C3).
func TestEveryCommandHasOneEffect(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lives := drawLives(rt)
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = liveAndDie(t, lives) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

func liveAndDie(t *testing.T, lives []life) (problem string) {
	store := memstore.New(memstore.Options{})
	var placed []placeOrder
	shop := newShop(t, store)
	for n, l := range lives {
		for _, o := range l.Place {
			place(t, shop, o.ID, o.Codes, o.Price)
			placed = append(placed, o)
		}
		ctx, kill := context.WithCancel(context.Background())
		m := &mortal{Store: store, kill: kill, appends: l.Appends, applied: l.Applied}
		r := newRunner(t, m, newShop(t, m), checkoutSaga, saga.Options{
			Workers: l.Workers, CheckpointTriggers: 2, Log: slog.New(slog.DiscardHandler),
		})
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		// Some lives end by themselves, at an append; others, when their timers have fired.
		time.Sleep(payLater * time.Duration(n%3))
		synctest.Wait()
		if parked := r.Parked(); len(parked) > 0 {
			problem = fmt.Sprintf("life %d parked %+v", n, parked)
		}
		kill()
		if err := <-done; err != nil && !errors.Is(err, eventstore.ErrClosed) {
			problem = fmt.Sprintf("life %d ended with %v", n, err)
		}
	}
	if problem != "" {
		return problem
	}
	last := newRunner(t, store, newShop(t, store), checkoutSaga, saga.Options{})
	stop := run(t, last)
	defer stop()
	time.Sleep(2 * payLater)
	idle(t, last, store)
	if last.Open() > 0 {
		return fmt.Sprintf("%d instances are open at the end; parked: %+v", last.Open(), last.Parked())
	}
	for _, o := range placed {
		if diff := cmp.Diff(expected(o), effects(t, store, o.ID)); diff != "" {
			return fmt.Sprintf("effects of order %+v (-want +got):\n%s", o, diff)
		}
		inputs := map[string]bool{}
		for _, e := range steps(t, store, "checkout", o.ID) {
			if inputs[e.CommandID] {
				return fmt.Sprintf("order %s: input %s has two steps", o.ID, e.CommandID)
			}
			inputs[e.CommandID] = true
		}
	}
	return ""
}

// TestTwoRunnersOfOneSaga are useless but harmless.
func TestTwoRunnersOfOneSaga(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	var runners []*saga.Runner
	for range 2 {
		r := newRunner(t, store, newShop(t, store), checkoutSaga, saga.Options{CheckpointTriggers: 5})
		run(t, r)
		runners = append(runners, r)
	}
	const n = 60
	for i := range n {
		place(t, shop, fmt.Sprint(i), "A B", []int{100, 5000}[i%2])
	}
	for _, r := range runners {
		idle(t, r, store)
		if p := r.Parked(); len(p) > 0 {
			t.Fatalf("parked: %+v", p)
		}
	}
	for i := range n {
		want := expected(placeOrder{Codes: "A B", Price: 100})
		want["A+1"], want["B+1"] = 1, 1
		if i%2 == 1 {
			want = map[string]int{"order.placed.v1": 1, "order.cancelled.v1": 1, "A+1": 1, "A-1": 1, "B+1": 1, "B-1": 1}
		}
		if diff := cmp.Diff(want, effects(t, store, fmt.Sprint(i))); diff != "" {
			t.Fatalf("effects of order %d (-want +got):\n%s", i, diff)
		}
	}
}
