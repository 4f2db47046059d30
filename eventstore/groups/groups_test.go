package groups_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

func open(t testing.TB, store eventstore.Store, o groups.Options) *groups.Groups {
	t.Helper()
	gs, err := groups.Open(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	return gs
}

func create(t testing.TB, gs *groups.Groups, name string, s groups.Settings) {
	t.Helper()
	if _, err := gs.Create(t.Context(), name, s); err != nil {
		t.Fatal(err)
	}
}

func join(t testing.TB, gs *groups.Groups, group, member string, capacity int) *groups.Member {
	t.Helper()
	m, err := gs.Join(t.Context(), group, member, capacity)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func next(t testing.TB, m *groups.Member) *groups.Delivery {
	t.Helper()
	d, err := m.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ack(t testing.TB, d *groups.Delivery) {
	t.Helper()
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
}

// fill appends n events to each of some streams of category order.
func fill(t testing.TB, store eventstore.Store, n int, ids ...string) {
	t.Helper()
	for range n {
		for _, id := range ids {
			_, err := store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("order", id), Events: []eventstore.Event{{Type: "order.changed.v1"}},
			}}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func closeAll(t testing.TB, gs *groups.Groups, store eventstore.Store) {
	t.Helper()
	if err := errors.Join(gs.Close(), gs.Close(), store.Close()); err != nil {
		t.Error(err)
	}
}

func describe(t testing.TB, gs *groups.Groups, name string) groups.Info {
	t.Helper()
	info, err := gs.Describe(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestCreateIsIdempotent(t *testing.T) {
	store := memstore.New(memstore.Options{})
	gs := open(t, store, groups.Options{})
	defer func() { closeAll(t, gs, store) }()
	ctx := t.Context()
	s := groups.Settings{Categories: []string{"order"}, Query: eventstore.Tagged("a:1"), Start: groups.Start{Time: time.Now()}}
	for i, want := range []bool{true, false} {
		if made, err := gs.Create(ctx, "g", s); err != nil || made != want {
			t.Fatalf("create, time %d: %v, %v", i+1, made, err)
		}
	}
	if err := gs.Close(); err != nil {
		t.Fatal(err)
	}
	gs = open(t, store, groups.Options{})
	if made, err := gs.Create(ctx, "g", s); err != nil || made {
		t.Fatalf("create after a restart: %v, %v", made, err)
	}
	other := s
	other.MaxTries = 3
	if _, err := gs.Create(ctx, "g", other); !errors.Is(err, groups.ErrExists) {
		t.Errorf("create with other settings: %v", err)
	}
	m := join(t, gs, "g", "a", 1)
	if err := gs.Delete(ctx, "g", "ops"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Next(ctx); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("a member of a group that was deleted: %v", err)
	}
	if _, err := gs.Join(ctx, "g", "a", 1); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("join a group that was deleted: %v", err)
	}
	if err := gs.Close(); err != nil {
		t.Fatal(err)
	}
	gs = open(t, store, groups.Options{})
	if made, err := gs.Create(ctx, "g", other); err != nil || !made {
		t.Errorf("create anew: %v, %v", made, err)
	}
	for name, s := range map[string]groups.Settings{
		"":      {},
		"$own":  {},
		"Upper": {},
		"own":   {Categories: []string{"$saga"}},
		"tries": {MaxTries: -1},
		"lease": {Lease: time.Millisecond},
		"twice": {Start: groups.Start{End: true, Time: time.Now()}},
		"query": {Query: eventstore.Query{{}}},
		"names": {Categories: []string{"Order"}},
		"types": {Types: []string{""}},
		"of":    {Tenant: "a b"},
	} {
		if _, err := gs.Create(ctx, name, s); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("create %q with %+v: %v, want ErrInvalid", name, s, err)
		}
	}
	if _, err := gs.Create(ctx, "far", groups.Settings{Start: groups.Start{Position: eventstore.Position{Incarnation: 2, LSN: 1}}}); !errors.Is(err, eventstore.ErrWrongIncarnation) {
		t.Errorf("create at a position of another log: %v", err)
	}
}

// TestStart begins groups at the beginning, at a position, at a time and at the end.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		gs := open(t, store, groups.Options{})
		defer func() { closeAll(t, gs, store) }()
		fill(t, store, 2, "1")
		then := time.Now()
		time.Sleep(time.Second)
		fill(t, store, 2, "1")
		for name, s := range map[string]groups.Start{
			"beginning": {}, "position": {Position: eventstore.Position{Incarnation: 1, LSN: 3}}, "time": {Time: then}, "end": {End: true},
		} {
			create(t, gs, name, groups.Settings{Start: s})
		}
		fill(t, store, 1, "1")
		for name, want := range map[string]uint64{"beginning": 1, "position": 4, "time": 3, "end": 5} {
			if d := next(t, join(t, gs, name, "a", 1)); d.Event.Version != want {
				t.Errorf("a group from %s begins with version %d, want %d", name, d.Event.Version, want)
			}
		}
	})
}

// TestLogGrowsLittle bounds what a group adds to the log: a checkpoint an interval while something moves, none at rest.
func TestLogGrowsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		gs := open(t, store, groups.Options{})
		defer func() { closeAll(t, gs, store) }()
		fill(t, store, 1000, "1", "2", "3")
		create(t, gs, "g", groups.Settings{}) // everything, but its own checkpoints
		before := head(t, store)
		m := join(t, gs, "g", "a", 10)
		began := time.Now()
		for range 3000 {
			d := next(t, m)
			if strings.HasPrefix(d.Event.Stream.Category, "$") {
				t.Fatalf("the group got an event of %s", d.Event.Stream)
			}
			ack(t, d)
			time.Sleep(time.Millisecond)
		}
		most := uint64(time.Since(began)/time.Second) + 1
		time.Sleep(time.Hour)
		if grown := head(t, store) - before; grown == 0 || grown > most {
			t.Errorf("the log has grown by %d events, want 1 to %d", grown, most)
		}
		if info := describe(t, gs, "g"); info.Lag > 10 || info.Checkpointed.LSN < before-1 {
			t.Errorf("after all is settled: %+v", info)
		}
	})
}

func head(t testing.TB, store eventstore.Store) uint64 {
	t.Helper()
	state, err := store.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state.Durable.LSN
}

// TestRestoredLog shows G4 over a restore: in the next life of a log, which was cut off on the way, a group goes on from
// the last checkpoint that is left.
func TestRestoredLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		gs := open(t, store, groups.Options{CheckpointEvery: time.Hour})
		fill(t, store, 10, "1", "2")
		create(t, gs, "g", groups.Settings{MaxTries: 1})
		m := join(t, gs, "g", "a", 10)
		for range 8 {
			d := next(t, m)
			if d.Event.Position.LSN == 6 {
				if err := d.Nack(0, "bad"); err != nil {
					t.Fatal(err)
				}
				continue
			}
			ack(t, d)
		}
		if err := m.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		kept := head(t, store)
		for range 4 { // acknowledged, and forgotten by the restore
			ack(t, next(t, m))
		}
		before := events(t, store, kept)
		closeAll(t, gs, store)

		restored := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "local", Incarnation: 2}})
		appendAll(t, restored, before)
		gs = open(t, restored, groups.Options{})
		defer func() { closeAll(t, gs, restored) }()
		parked, err := gs.ListParked(t.Context(), "g")
		if err != nil || len(parked) != 1 || parked[0].Position != (eventstore.Position{Incarnation: 2, LSN: 6}) || parked[0].Reason != "bad" || parked[0].Behind != 7 {
			t.Fatalf("parked after the restore: %+v, %v", parked, err)
		}
		m = join(t, gs, "g", "a", 10)
		if d := next(t, m); d.Event.Position != (eventstore.Position{Incarnation: 2, LSN: 11}) {
			t.Errorf("after the restore the group goes on at %s, want 2-11", d.Event.Position)
		}
	})
}

// events returns a log's events up to an lsn.
func events(t testing.TB, store eventstore.Store, upTo uint64) (out []eventstore.Recorded) {
	t.Helper()
	for e, err := range store.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{Until: eventstore.Position{Incarnation: 1, LSN: upTo}}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// appendAll makes a log of what another had, as a restore does.
func appendAll(t testing.TB, store eventstore.Store, all []eventstore.Recorded) {
	t.Helper()
	for _, e := range all {
		_, err := store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: e.Stream, Events: []eventstore.Event{e.Event}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyGroups has two hundred groups with three members each share one log, one member of each being lost on the way.
func TestManyGroups(t *testing.T) {
	const count, streams, each = 200, 5, 10
	store := memstore.New(memstore.Options{})
	gs := open(t, store, groups.Options{Window: 8})
	defer func() { closeAll(t, gs, store) }()
	for i := range count {
		create(t, gs, fmt.Sprintf("g%d", i), groups.Settings{Categories: []string{"order"}})
	}
	ids := make([]string, streams)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	var work sync.WaitGroup
	work.Go(func() { fill(t, store, each, ids...) })
	for i := range count {
		var mu sync.Mutex // guards seen and left
		seen, left := map[eventstore.StreamID]uint64{}, streams*each
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for w := range 3 {
			m := join(t, gs, fmt.Sprintf("g%d", i), fmt.Sprint(w), 4)
			work.Go(func() {
				for n := 0; ; n++ {
					d, err := m.Next(ctx)
					if err != nil {
						return
					}
					if w == 0 && n == 3 {
						m.Lose("it died")
						return
					}
					mu.Lock()
					if d.Event.Version != seen[d.Event.Stream]+1 {
						t.Errorf("version %d of %s after %d", d.Event.Version, d.Event.Stream, seen[d.Event.Stream])
					}
					seen[d.Event.Stream] = d.Event.Version
					if left--; left == 0 {
						cancel()
					}
					mu.Unlock()
					if err := d.Ack(); err != nil {
						t.Errorf("ack: %v", err)
					}
				}
			})
		}
	}
	work.Wait()
	list, err := gs.List(t.Context())
	if err != nil || len(list) != count {
		t.Fatalf("%d groups, %v", len(list), err)
	}
}

// TestSlowGroupHoldsNobody has a member that never settles: the window bounds what is read for it, and others go on.
func TestSlowGroupHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New(memstore.Options{})
		gs := open(t, store, groups.Options{Window: 16})
		defer func() { closeAll(t, gs, store) }()
		create(t, gs, "slow", groups.Settings{Lease: time.Hour})
		create(t, gs, "quick", groups.Settings{})
		fill(t, store, 500, "1", "2")
		slow, quick := join(t, gs, "slow", "a", 1), join(t, gs, "quick", "a", 1)
		next(t, slow)
		for range 1000 {
			ack(t, next(t, quick))
		}
		synctest.Wait()
		if info := describe(t, gs, "slow"); info.Waiting > 2*16 || info.Cursor.LSN != 2 || info.InFlight != 1 || info.Lag < 1000 {
			t.Errorf("the slow group: %+v", info)
		}
	})
}
