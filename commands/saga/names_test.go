package saga_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// asBefore writes a log again as it was written before steps named their triggers by dots, and instances their sites.
func asBefore(t *testing.T, from *memstore.Store) *memstore.Store {
	t.Helper()
	state, err := from.Log(context.Background())
	must(t, err)
	to := memstore.New(memstore.Options{LogID: state.ID})
	var r eventstore.Request
	for e, err := range from.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		must(t, err)
		r.Tenant, r.ID, r.Hash, r.Metadata = e.Stream.Tenant, e.CommandID, e.RequestHash, e.Metadata
		if e.Type == "checkout.step.v1" {
			var step map[string]any
			must(t, json.Unmarshal(e.Payload, &step))
			in := step["in"].(map[string]any)
			if in["kind"] == "triggered" {
				r.ID = fmt.Sprintf("step/checkout/%s/t/%s@%v", e.Stream.ID, in["stream"], in["version"])
				r.Hash = sha256.Sum256([]byte(r.ID))
			}
			delete(in, "dot")
			e.Payload, err = json.Marshal(step)
			must(t, err)
		}
		r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: e.Stream, Events: []eventstore.Event{e.Event}})
		if e.EndsBatch() {
			_, err := to.Append(context.Background(), r)
			must(t, err)
			r = eventstore.Request{}
		}
	}
	return to
}

// besideOthers is what a runner needs where there are other sites.
func besideOthers(store eventstore.Store, t testing.TB) saga.Options {
	return saga.Options{Void: newShop(t, store).Void}
}

// Instances that a program recorded which knew of one site go on under the names that they have, where others write too, each
// of their commands once; so do those of a site whose others have left. New ones get the site into their names (R12).
func TestInstancesKeepTheirNames(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after bool // whether there are others
		category      string
		rewrite       bool
	}{
		{"one site, then several", false, true, "checkout", true},
		{"several sites, then one", true, false, "checkout.local", false},
	} {
		for _, checkpointed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, checkpoint %v", c.name, checkpointed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memstore.New(memstore.Options{})
					options := func(others bool) (o saga.Options) {
						if others {
							o = besideOthers(store, t)
						}
						return o
					}
					r := newRunner(t, store, newShop(t, store), checkoutSaga, options(c.before))
					stop := run(t, r)
					place(t, newShop(t, store), "open", "A B", 0)
					place(t, newShop(t, store), "ended", "A", 100)
					idle(t, r, store)
					stop()
					if c.rewrite {
						store = asBefore(t, store)
					}
					var seen eventstore.Store = store
					if !checkpointed {
						seen = forgetful{store}
					}
					r = newRunner(t, seen, newShop(t, store), checkoutSaga, options(c.after))
					stop = run(t, r)
					idle(t, r, store)
					if p := r.Parked(); len(p) > 0 || r.Open() != 1 {
						t.Errorf("parked are %+v and %d open, want the one that waits for its timer", p, r.Open())
					}
					time.Sleep(payLater)
					place(t, newShop(t, store), "new", "A", 100)
					idle(t, r, store)
					time.Sleep(time.Second)
					synctest.Wait()
					stop()
					for id, want := range map[string]map[string]int{
						"open":  {"order.placed.v1": 1, "A+1": 1, "B+1": 1, "payment.charged.v1": 1, "order.confirmed.v1": 1},
						"ended": {"order.placed.v1": 1, "A+1": 1, "payment.charged.v1": 1, "order.confirmed.v1": 1},
					} {
						if diff := cmp.Diff(want, effects(t, store, id)); diff != "" {
							t.Errorf("effects of order %s (-want +got):\n%s", id, diff)
						}
						if n := len(steps(t, store, c.category, id)); n < 4 {
							t.Errorf("order %s has %d steps in %s, want all of them", id, n, c.category)
						}
					}
					is := map[bool]string{false: "checkout", true: "checkout.local"}[c.after]
					if n := len(steps(t, store, is, "new")); n != 4 {
						t.Errorf("an instance that began late has %d steps in %s, want all 4", n, is)
					}
				})
			})
		}
	}
}

// forgetful is a store in which sagas find no checkpoint.
type forgetful struct{ eventstore.Store }

func (f forgetful) Version(ctx context.Context, s eventstore.StreamID) (uint64, error) {
	if s.Category == "$saga" {
		s.ID += " of another name"
	}
	return f.Store.Version(ctx, s)
}

// exchange has each of some stores take in what the others hold of their own logs.
func exchange(t *testing.T, stores ...*memstore.Store) {
	t.Helper()
	ctx := context.Background()
	for _, to := range stores {
		heads, err := to.Heads(ctx)
		must(t, err)
		for _, from := range stores {
			state, err := from.Log(ctx)
			must(t, err)
			after := uint64(0)
			for _, h := range heads {
				if h.Log == state.ID {
					after = h.Seq
				}
			}
			var events []eventstore.Recorded
			for e, err := range from.ReadLog(ctx, state.ID, after) {
				must(t, err)
				events = append(events, e)
			}
			if from != to && len(events) > 0 {
				_, err := to.Receive(ctx, events)
				must(t, err)
			}
		}
	}
}

// Two sites have instances of one id: their steps stand apart, no command of the one is answered by what the other did, and each
// finds its trigger in the stream that both have written, also after a restart (R12).
func TestInstancesOfTwoSites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := checkoutSaga
		d.React = func(s checkout, in saga.Input) (checkout, []saga.Action, error) {
			if r, ok := in.(saga.Refused); ok && r.Code == commands.CodeVoid {
				return s, []saga.Action{saga.Complete{Outcome: "void"}}, nil
			}
			return reactToCheckout(s, in)
		}
		var stores []*memstore.Store
		for _, site := range []string{"bj", "sh"} {
			stores = append(stores, memstore.New(memstore.Options{LogID: eventstore.LogID{Site: site, Incarnation: 1}}))
		}
		var stops []func()
		var runners []*saga.Runner
		start := func() {
			runners, stops = nil, nil
			for _, s := range stores {
				r := newRunner(t, s, newShop(t, s), d, besideOthers(s, t))
				runners, stops = append(runners, r), append(stops, run(t, r))
			}
		}
		start()
		for n, s := range stores {
			place(t, newShop(t, s), "1", []string{"A", "B"}[n], 0)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		exchange(t, stores...)
		synctest.Wait()
		for _, stop := range stops {
			stop()
		}
		start()
		time.Sleep(payLater)
		synctest.Wait()
		exchange(t, stores...)
		synctest.Wait()
		for n, s := range stores {
			if p := runners[n].Parked(); len(p) > 0 || runners[n].Open() > 0 {
				t.Errorf("site %d has parked %+v, %d are open; want neither", n, p, runners[n].Open())
			}
			// Of the second order nothing is confirmed: it is void, and the first is not its checkout's to move.
			if confirmed := effects(t, s, "1")["order.confirmed.v1"]; confirmed != 1 {
				t.Errorf("%d orders are confirmed at site %d, want one", confirmed, n)
			}
			charges := map[string]bool{}
			for _, e := range steps(t, s, "payment", "1") {
				charges[e.CommandID] = true
			}
			if want := map[string]bool{"saga/checkout.bj/1/charge": true, "saga/checkout.sh/1/charge": true}; !cmp.Equal(charges, want) {
				t.Errorf("the charges at site %d are %v, want one of each site", n, charges)
			}
			for _, site := range []string{"bj", "sh"} {
				for _, e := range steps(t, s, "checkout."+site, "1") {
					if e.Dot.Log.Site != site {
						t.Errorf("a step of %s stands among those of %s", e.Dot.Log.Site, site)
					}
				}
			}
		}
		for _, stop := range stops {
			stop()
		}
	})
}

// A log in another life has lost steps, takes them again, and then learns the lost ones back: those that stand first count, and
// the instance goes on.
func TestStepsOfALostLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
		second := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 2}})
		place(t, newShop(t, first), "1", "A", 0)
		exchange(t, first, second)
		r := newRunner(t, first, newShop(t, first), checkoutSaga, besideOthers(first, t))
		stop := run(t, r)
		synctest.Wait()
		stop()
		time.Sleep(time.Second)
		r = newRunner(t, second, newShop(t, second), checkoutSaga, besideOthers(second, t))
		stop = run(t, r)
		synctest.Wait()
		exchange(t, first, second)
		synctest.Wait()
		stop()
		r = newRunner(t, second, newShop(t, second), checkoutSaga, besideOthers(second, t))
		stop = run(t, r)
		time.Sleep(payLater)
		synctest.Wait()
		if p := r.Parked(); len(p) > 0 || r.Open() > 0 {
			t.Errorf("parked are %+v, %d are open; want neither", p, r.Open())
		}
		if n := effects(t, second, "1")["order.confirmed.v1"]; n != 1 {
			t.Errorf("the order was confirmed %d times, want once", n)
		}
		stop()
	})
}

// A log in another life has gone further than the one that was lost, and then learns that back: the step of the lost life stands first, the
// others do not count, though the requests that recorded them are known. The instance takes its steps again, with the commands of them
// done once, and the next start finds it ended.
func TestStepsBesideThoseOfALostLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
		second := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 2}})
		place(t, newShop(t, first), "1", "A B", 0)
		exchange(t, first, second)
		away := flaky{newShop(t, first), func(commands.Meta) error { return eventstore.ErrUnavailable }}
		stop := run(t, newRunner(t, first, away, checkoutSaga, besideOthers(first, t)))
		synctest.Wait()
		stop()
		time.Sleep(time.Second)
		r := newRunner(t, second, newShop(t, second), checkoutSaga, besideOthers(second, t))
		stop = run(t, r)
		synctest.Wait()
		if n, m := len(steps(t, first, "checkout.bj", "1")), len(steps(t, second, "checkout.bj", "1")); n != 1 || m != 3 {
			t.Fatalf("the lives have recorded %d and %d steps, want 1 and 3", n, m)
		}
		exchange(t, first, second)
		time.Sleep(2 * payLater)
		synctest.Wait()
		stop()
		if p := r.Parked(); len(p) > 0 || r.Open() > 0 {
			t.Errorf("parked are %+v, %d are open; want neither", p, r.Open())
		}
		recorded := len(steps(t, second, "checkout.bj", "1"))
		for _, name := range []string{"again", "and again"} {
			r = newRunner(t, forgetful{second}, newShop(t, second), checkoutSaga, besideOthers(second, t))
			stop = run(t, r)
			time.Sleep(2 * payLater)
			synctest.Wait()
			stop()
			if p := r.Parked(); len(p) > 0 || r.Open() > 0 {
				t.Errorf("started %s parked are %+v, %d are open; want neither", name, p, r.Open())
			}
		}
		if n := len(steps(t, second, "checkout.bj", "1")); n != recorded {
			t.Errorf("an ended instance has %d steps, and had %d", n, recorded)
		}
		want := map[string]int{"order.placed.v1": 1, "A+1": 1, "B+1": 1, "payment.charged.v1": 1, "order.confirmed.v1": 1}
		if diff := cmp.Diff(want, effects(t, second, "1")); diff != "" {
			t.Errorf("effects of the order (-want +got):\n%s", diff)
		}
	})
}

// An instance that had ended, with steps that do not count since those of a lost life have come, goes on from these when all triggers
// are read again, with each of its commands done once.
func TestEndedBesideStepsOfALostLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
		second := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 2}})
		place(t, newShop(t, first), "1", "A", 100)
		exchange(t, first, second)
		stop := run(t, newRunner(t, first, newShop(t, first), checkoutSaga, besideOthers(first, t)))
		synctest.Wait()
		stop()
		time.Sleep(time.Second)
		// The later life finds nothing left, where the lost one has reserved, charged and confirmed.
		sold := flaky{newShop(t, second), func(m commands.Meta) error {
			if strings.Contains(m.ID, "reserve") {
				return commands.Reject("stock.short", "nothing left")
			}
			return nil
		}}
		r := newRunner(t, second, sold, checkoutSaga, besideOthers(second, t))
		stop = run(t, r)
		synctest.Wait()
		if n := effects(t, second, "1")["order.cancelled.v1"]; n != 1 || r.Open() > 0 {
			t.Fatalf("the order was cancelled %d times, and %d are open; want once, and none", n, r.Open())
		}
		// Of the lost life the first steps come, up to the reservation.
		var events []eventstore.Recorded
		for e, err := range first.ReadLog(context.Background(), eventstore.LogID{Site: "bj", Incarnation: 1}, 1) {
			must(t, err)
			if len(events) == 3 {
				break
			}
			events = append(events, e)
		}
		_, err := second.Receive(context.Background(), events)
		must(t, err)
		synctest.Wait()
		stop()
		r.Reread()
		stop = run(t, r)
		synctest.Wait()
		stop()
		if p := r.Parked(); len(p) > 0 || r.Open() > 0 {
			t.Errorf("parked are %+v, %d are open; want neither", p, r.Open())
		}
		if got := effects(t, second, "1"); got["A+1"] != 1 || got["payment.charged.v1"] != 1 {
			t.Errorf("effects of the order are %v, want what the lost life had reserved paid", got)
		}
	})
}

// Whatever ids orders have, names of instances are ids that a stream can have, and those of two sites differ.
func TestNamesOfInstances(t *testing.T) {
	var got []string
	for _, site := range []string{"bj", "sh"} {
		for _, id := range []string{"1", strings.Repeat("x", 256), strings.Repeat("x", 255) + "y"} {
			store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: site, Incarnation: 1}})
			d := script("script", nil)
			d.React = func(s int, in saga.Input) (int, []saga.Action, error) {
				got = append(got, in.(saga.Triggered).Instance)
				return s, []saga.Action{saga.Complete{Outcome: "done"}}, nil
			}
			r := newRunner(t, store, newShop(t, store), d, besideOthers(store, t))
			stop := run(t, r)
			place(t, newShop(t, store), id, "A", 1)
			idle(t, r, store)
			stop()
		}
	}
	if got[0] != "1@bj" || got[3] != "1@sh" {
		t.Errorf("instances are called %q and %q", got[0], got[3])
	}
	for i, name := range got {
		if err := eventstore.Stream("payment", name).Validate(); err != nil || slices.Index(got, name) != i {
			t.Errorf("instance %d is called %q: %v", i, name, err)
		}
	}
}
