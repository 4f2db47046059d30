package saga_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// checkpoint is what these tests read of a checkpoint event.
type checkpoint struct {
	Position string                `json:"position"`
	FullPart int                   `json:"full_part"`
	Open     []struct{ ID string } `json:"open"`
	Closed   []struct{ ID string } `json:"closed"`
	bytes    int
}

func checkpoints(t testing.TB, store eventstore.Store, saga string) []checkpoint {
	t.Helper()
	var out []checkpoint
	stream := eventstore.StreamID{Tenant: eventstore.DefaultTenant, Category: "$saga", ID: saga + "@local"}
	for e, err := range store.Read(context.Background(), stream, 1) {
		must(t, err)
		if e.Kind != eventstore.KindSystem || e.Type != "saga.checkpoint.v1" {
			t.Errorf("a checkpoint is a %s of kind %s", e.Type, e.Kind)
		}
		c := checkpoint{bytes: len(e.Payload)}
		must(t, json.Unmarshal(e.Payload, &c))
		out = append(out, c)
	}
	return out
}

// sleeper starts an instance for every order, which waits for a day.
var sleeper = saga.Definition[int]{
	Name: "sleeper", Triggers: []string{"order.placed.v1"},
	Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
	React: func(s int, in saga.Input) (int, []saga.Action, error) {
		if _, ok := in.(saga.Fired); ok {
			return s, []saga.Action{saga.Complete{Outcome: "awake"}}, nil
		}
		return s, []saga.Action{saga.SetTimer{Name: "nap", After: 24 * time.Hour}}, nil
	},
}

func TestCheckpointsTellWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		shop := newShop(t, store)
		r := newRunner(t, store, shop, sleeper, saga.Options{CheckpointTriggers: 1 << 30})
		stop := run(t, r)
		const many = 4_500
		for n := range many {
			place(t, shop, fmt.Sprint(n), "A", 1)
		}
		idle(t, r, store)
		stop()

		r = newRunner(t, store, shop, sleeper, saga.Options{CheckpointTriggers: 1 << 30})
		stop = run(t, r)
		idle(t, r, store)
		before := len(checkpoints(t, store, "sleeper"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(checkpoints(t, store, "sleeper")); n != before {
			t.Errorf("a restart without anything new wrote %d checkpoints, want none", n-before)
		}
		place(t, shop, "first after the restart", "A", 1) // the first checkpoint of a life lists all instances, in parts
		time.Sleep(10 * time.Second)
		synctest.Wait()
		all := checkpoints(t, store, "sleeper")
		if last := all[len(all)-1]; last.FullPart != 3 {
			t.Errorf("the last part of a full checkpoint of %d instances is %d, want 3", many, last.FullPart)
		}
		place(t, shop, "late", "A", 1)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		now := checkpoints(t, store, "sleeper")
		if len(now) != len(all)+1 {
			t.Fatalf("one more instance made %d checkpoints, want 1", len(now)-len(all))
		}
		if last := now[len(now)-1]; len(last.Open) != 1 || last.FullPart != 0 {
			t.Errorf("the checkpoint after one more instance lists %d, want 1", len(last.Open))
		}
		// Where nothing happens nothing is written.
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(checkpoints(t, store, "sleeper")); n != len(now) {
			t.Errorf("%d checkpoints were written in an idle hour, want none", n-len(now))
		}
		stop()

		r = newRunner(t, store, shop, sleeper, saga.Options{})
		stop = run(t, r)
		idle(t, r, store)
		if r.Open() != many+2 {
			t.Errorf("%d instances are open after a restart, want %d", r.Open(), many+2)
		}
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if r.Open() != 0 {
			t.Errorf("%d instances are open after their timers, want none", r.Open())
		}
		stop()
	})
}

// counting counts the events that are read of the log's order.
type counting struct {
	eventstore.Store
	from eventstore.Position
}

func (c *counting) Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error) {
	c.from = after
	return c.Store.Subscribe(ctx, after, f)
}

func TestRestartReadsOnFromTheCheckpoint(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	r := newRunner(t, store, shop, checkoutSaga, saga.Options{})
	stop := run(t, r)
	for n := range 50 {
		place(t, shop, fmt.Sprint(n), "A", 100)
	}
	triggers := head(t, store)
	idle(t, r, store)
	stop()
	c := &counting{Store: store}
	r = newRunner(t, c, shop, checkoutSaga, saga.Options{})
	stop = run(t, r)
	idle(t, r, store)
	stop()
	// How far it had read beyond the last trigger is a matter of luck.
	for e, err := range store.ReadAll(context.Background(), c.from, eventstore.Filter{Types: checkoutSaga.Triggers}) {
		must(t, err)
		t.Errorf("the second run reads from %v and sees the trigger at %v again; the last was before %v", c.from, e.Position, triggers)
		break
	}
}

func TestCheckpointOfAnotherLifeIsNotTrusted(t *testing.T) {
	store := memstore.New(memstore.Options{})
	shop := newShop(t, store)
	place(t, shop, "1", "A", 100)
	_, err := store.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.StreamID{Tenant: "default", Category: "$saga", ID: "checkout"},
		Events: []eventstore.Event{{
			Type: "saga.checkpoint.v1", Kind: eventstore.KindSystem, Encoding: eventstore.JSON,
			Payload: []byte(`{"position":"7-500","full_part":1,"open":[{"tenant":"default","id":"ghost"}]}`),
		}},
	}}})
	must(t, err)
	r := newRunner(t, store, shop, checkoutSaga, saga.Options{})
	run(t, r)
	idle(t, r, store)
	if n := effects(t, store, "1")["order.confirmed.v1"]; n != 1 || r.Open() != 0 {
		t.Errorf("the order was confirmed %d times and %d instances are open, want once and none", n, r.Open())
	}
}

func TestBadCheckpointIsAnError(t *testing.T) {
	store := memstore.New(memstore.Options{})
	_, err := store.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.StreamID{Tenant: "default", Category: "$saga", ID: "checkout"},
		Events: []eventstore.Event{{Type: "saga.checkpoint.v1", Encoding: eventstore.JSON, Payload: []byte(`{`)}},
	}}})
	must(t, err)
	r := newRunner(t, store, newShop(t, store), checkoutSaga, saga.Options{})
	if err := r.Run(context.Background()); !errors.Is(err, eventstore.ErrCorrupt) {
		t.Errorf("Run gives %v, want ErrCorrupt", err)
	}
}

// brittle is a store that takes only the first part of a checkpoint while it is broken, and notes the largest request.
type brittle struct {
	eventstore.Store
	broken atomic.Bool
	most   atomic.Int64 // events of a checkpoint in one request
}

func (b *brittle) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if len(r.Appends) == 1 && r.Appends[0].Stream.Category == "$saga" {
		var c checkpoint
		if err := json.Unmarshal(r.Appends[0].Events[0].Payload, &c); err != nil {
			return eventstore.Receipt{}, err
		}
		if b.broken.Load() && c.FullPart != 1 {
			return eventstore.Receipt{}, eventstore.ErrUnavailable
		}
		b.most.Store(max(b.most.Load(), int64(len(r.Appends[0].Events))))
	}
	return b.Store.Append(ctx, r)
}

func TestACheckpointThatIsNotCompleteIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &brittle{Store: memstore.New(memstore.Options{})}
		shop := newShop(t, store)
		const many = 4_500
		live := func(id string) {
			t.Helper()
			r := newRunner(t, store, shop, sleeper, saga.Options{CheckpointTriggers: 1 << 30})
			stop := run(t, r)
			place(t, shop, id, "A", 1)
			idle(t, r, store)
			stop()
		}
		for n := range many {
			place(t, shop, fmt.Sprint(n), "A", 1)
		}
		live("first")
		live("second") // writes all parts
		if last := checkpoints(t, store, "sleeper"); last[len(last)-1].FullPart != 3 {
			t.Fatalf("the last checkpoint is part %d, want 3", last[len(last)-1].FullPart)
		}
		store.broken.Store(true)
		live("third")
		if last := checkpoints(t, store, "sleeper"); last[len(last)-1].FullPart != 1 {
			t.Fatalf("the last checkpoint is part %d, want 1", last[len(last)-1].FullPart)
		}
		store.broken.Store(false)
		r := newRunner(t, store, shop, sleeper, saga.Options{})
		stop := run(t, r)
		idle(t, r, store)
		if r.Open() != many+3 {
			t.Errorf("%d instances are open after a restart, want %d", r.Open(), many+3)
		}
		stop()
		if n := store.most.Load(); n != 1 {
			t.Errorf("a request held %d parts of a checkpoint, want 1", n)
		}
	})
}
