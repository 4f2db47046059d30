package inventory_test

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// A site that leaves gives what it may sell to those that stay, but for what its reservations hold; done again, it gives nothing.
func TestGiveAway(t *testing.T) {
	ctx := t.Context()
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "sz", Incarnation: 1}})
	defer store.Close()
	bus := commands.NewBus(store, commands.Options{})
	if err := inventory.Register(bus); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(1)
	give := func(cmds ...any) {
		t.Helper()
		if _, err := bus.Dispatch(ctx, commands.Meta{}, cmds...); err != nil {
			t.Fatal(err)
		}
	}
	give(inventory.Receive{Code: "MUG", Quantity: 8, Reference: "1", At: at}, inventory.Try{Code: "MUG", Reservation: "A-1", Quantity: 3, At: at})
	give(inventory.Receive{Code: "CUP", Quantity: 1, Reference: "1", At: at})
	give(inventory.Receive{Code: "JAR", Quantity: 2, Reference: "1", At: at}, inventory.Try{Code: "JAR", Reservation: "A-1", Quantity: 2, At: at})

	got, err := inventory.GiveAway(ctx, bus, store, []string{"bj", "sh"}, at)
	if want := (inventory.Given{Units: 6, Codes: 2, Held: 5, HeldCodes: 2}); err != nil || got != want {
		t.Errorf("given %+v, %v; want %+v", got, err, want)
	}
	rights := func(code string) map[string]int64 {
		s, _, _, err := commands.LoadHere(ctx, bus, inventory.Aggregate(), "", code)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]int64{"bj": s.Books().Rights("bj"), "sh": s.Books().Rights("sh"), "sz": s.Books().Rights("sz")}
	}
	for code, want := range map[string][3]int64{"MUG": {3, 2, 3}, "CUP": {1, 0, 0}, "JAR": {0, 0, 2}} {
		if got := rights(code); got["bj"] != want[0] || got["sh"] != want[1] || got["sz"] != want[2] {
			t.Errorf("of %s the sites have %v, want %v at bj, sh and sz", code, got, want)
		}
	}
	again, err := inventory.GiveAway(ctx, bus, store, []string{"bj", "sh"}, at)
	if want := (inventory.Given{Held: 5, HeldCodes: 2}); err != nil || again != want {
		t.Errorf("given again %+v, %v; want %+v", again, err, want)
	}
}

// leaving is the store of a site that leaves, whose first events may have been dropped.
type leaving struct {
	*memstore.Store
	first    eventstore.Position // the first event that is left
	appended func()              // called after each append
}

func (l *leaving) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	receipt, err := l.Store.Append(ctx, r)
	if l.appended != nil {
		l.appended()
	}
	return receipt, err
}

func (l *leaving) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	if after.LSN+1 < l.first.LSN {
		return l.dropped()
	}
	return l.Store.ReadAll(ctx, after, f)
}

func (l *leaving) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	for r, err := range l.Store.Read(ctx, stream, from) {
		if err == nil && r.Position.LSN < l.first.LSN {
			return l.dropped()
		}
	}
	return l.Store.Read(ctx, stream, from)
}

func (l *leaving) dropped() iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		yield(eventstore.Recorded{}, &eventstore.TruncatedError{First: l.first})
	}
}

// newLeaving returns the store of a site with its bus.
func newLeaving(t *testing.T, site string) (*leaving, *commands.Bus) {
	t.Helper()
	store := &leaving{Store: memstore.New(memstore.Options{LogID: eventstore.LogID{Site: site, Incarnation: 1}})}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	bus := commands.NewBus(store, commands.Options{})
	if err := inventory.Register(bus); err != nil {
		t.Fatal(err)
	}
	return store, bus
}

// Units that others give to a site while it gives its own away go on to those that stay.
func TestWhatIsGivenToALeaverGoesOn(t *testing.T) {
	ctx, at := t.Context(), time.UnixMilli(1)
	bj, bjBus := newLeaving(t, "bj")
	sz, szBus := newLeaving(t, "sz")
	for _, d := range []struct {
		bus  *commands.Bus
		cmds []any
	}{
		{bjBus, []any{inventory.Receive{Code: "CUP", Quantity: 9, Reference: "1", At: at}, inventory.MoveRights{Code: "CUP", To: "sz", Quantity: 4, At: at}}},
		{szBus, []any{inventory.Receive{Code: "MUG", Quantity: 8, Reference: "1", At: at}}},
	} {
		if _, err := d.bus.Dispatch(ctx, commands.Meta{}, d.cmds...); err != nil {
			t.Fatal(err)
		}
	}
	sz.appended = func() { // once it has begun to give
		sz.appended = nil
		var events []eventstore.Recorded
		for e, err := range bj.ReadLog(ctx, eventstore.LogID{Site: "bj", Incarnation: 1}, 0) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		if _, err := sz.Receive(ctx, events); err != nil {
			t.Fatal(err)
		}
	}
	got, err := inventory.GiveAway(ctx, szBus, sz, []string{"bj"}, at)
	if want := (inventory.Given{Units: 12, Codes: 2}); err != nil || got != want {
		t.Errorf("given %+v, %v; want %+v", got, err, want)
	}
}

// Where the log's beginning was dropped, what came after it is given away; what cannot be told is named.
func TestGiveAwayAfterADrop(t *testing.T) {
	ctx, at := t.Context(), time.UnixMilli(1)
	store, bus := newLeaving(t, "sz")
	receive := func(code, reference string) eventstore.Receipt {
		t.Helper()
		r, err := bus.Dispatch(ctx, commands.Meta{}, inventory.Receive{Code: code, Quantity: 5, Reference: reference, At: at})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	receive("OLD", "1")
	last := receive("MUG", "1").Position
	store.first = receive("MUG", "2").Position
	receive("NEW", "1")
	got, err := inventory.GiveAway(ctx, bus, store, []string{"bj"}, at)
	if want := (inventory.Given{Units: 5, Codes: 1, Dropped: last, DroppedCodes: 1}); err != nil || got != want {
		t.Errorf("given %+v, %v; want %+v", got, err, want)
	}
}
