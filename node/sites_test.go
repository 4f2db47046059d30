package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/replication"
)

// earlierTopic is the topic of a site that has lost its earlier life.
type earlierTopic []eventstore.LogHead

func (t earlierTopic) Ends(context.Context, func()) ([]eventstore.LogHead, error) { return t, nil }

func (earlierTopic) Behind(context.Context, eventstore.LogID, []eventstore.LogHead) (through uint64, anything bool, err error) {
	return 0, false, nil
}

func (t earlierTopic) Mirrored(ctx context.Context, _ func(context.Context, eventstore.Dot) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// keeper is another site, which has what the site has lost. It says so, and gives it, once it is asked to.
type keeper struct {
	store *memstore.Store
	speak chan struct{}
	give  chan struct{}
}

func (k *keeper) Pull(ctx context.Context, p replication.Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error) {
	select {
	case <-k.give:
	default:
		return chain, nil, errors.New("not yet")
	}
	for e, err := range k.store.ReadLog(ctx, p.Log, p.After) {
		if err != nil {
			return chain, nil, err
		}
		events = append(events, e)
	}
	chain, _, err = k.store.ChainAt(ctx, p.Log, p.After)
	return chain, events, err
}

func (k *keeper) Meet(ctx context.Context, _ <-chan replication.Heartbeat, heard func(context.Context, replication.Heartbeat) error) error {
	select {
	case <-k.speak:
	case <-ctx.Done():
		return ctx.Err()
	}
	heads, err := k.store.Heads(ctx)
	if err != nil {
		return err
	}
	if err := heard(ctx, replication.Heartbeat{Site: "sh", Log: eventstore.LogID{Site: "sh", Incarnation: 1}, Heads: heads, Wall: time.Now(), Direct: true}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func requestFor(category string) eventstore.Request {
	return eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream(category, "1"), Expect: eventstore.Any, Events: []eventstore.Event{{Type: category + ".v1"}},
	}}}
}

// runPart runs a node's part in a system of sites until the test ends.
func runPart(t *testing.T, p *sitesPart) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.run(ctx, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// sell is the command of an escrow of which there is nothing.
type sell struct{}

// sellingBus returns a bus over the store as the node would have it, at which everything is sold out.
func sellingBus(t *testing.T, p *sitesPart, store eventstore.Store) *commands.Bus {
	t.Helper()
	b := commands.NewBus(p.guarded(store), commands.Options{Decidable: p.decidable})
	type sold struct{}
	if err := commands.Register(b, commands.Aggregate[int, sell, sold]{
		Category: "stock",
		ID:       func(sell) string { return "none" },
		Decide: func(units int, _ sell) ([]sold, error) {
			if units == 0 {
				return nil, commands.Reject("stock.none", "there is none")
			}
			return []sold{{}}, nil
		},
		Evolve:   func(units int, _ sold) int { return units - 1 },
		Codec:    commands.JSONCodec(map[string]sold{"stock.sold.v1": {}}),
		Resolver: commands.Escrow[int, sold]{At: func(units int, _ string) int { return units }},
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// laterLife returns the part of site bj in a later life, of which store is the log, and another site, which has lost, the log of the earlier
// one. Nothing runs yet.
func laterLife(t *testing.T, store, lost *memstore.Store) (*sitesPart, *keeper) {
	t.Helper()
	heads, err := lost.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := &keeper{lost, make(chan struct{}), make(chan struct{})}
	p := &sitesPart{readOnly: &readOnly{}, ready: make(chan struct{})}
	p.site, err = replication.NewSite(replication.Options{
		Config: replication.Config{Site: "bj", Begun: true, GapTimer: time.Millisecond, ClockWait: -1}, Store: store, Topic: earlierTopic(heads),
		Peers: map[string]replication.Peer{"sh": other}, MaxBackoff: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, other
}

// A site in another life takes everything but what is decided on rights that it may have used before, until it knows.
func TestEscrowWaitsForEarlierLives(t *testing.T) {
	lost := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 2}})
	if _, err := lost.Append(t.Context(), requestFor("stock")); err != nil {
		t.Fatal(err)
	}
	p, other := laterLife(t, store, lost)
	bus := sellingBus(t, p, store)
	p.escrows(map[string]commands.ResolverKind{"stock": commands.ByEscrow, "note": commands.ByCRDT})
	guarded := p.guarded(store)
	if _, err := guarded.Append(t.Context(), requestFor("note")); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("before the site runs it answers %v", err)
	}

	if _, err := bus.Dispatch(t.Context(), commands.Meta{}, sell{}); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("before the site runs a sale is answered with %v", err)
	}

	runPart(t, p)
	until := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it never came that %s", what)
			}
		}
	}
	until("the site takes writes", func() bool { return p.refused() == nil })
	check := func(when string) {
		t.Helper()
		answers := make([]error, 2)
		var answered sync.WaitGroup
		answered.Add(len(answers))
		eventstore.Enqueue(t.Context(), guarded, []eventstore.Request{requestFor("stock"), requestFor("note")}, func(i int, a eventstore.Answer) {
			answers[i] = a.Err
			answered.Done()
		})
		answered.Wait()
		_, err := guarded.Append(t.Context(), requestFor("stock"))
		for _, err := range []error{err, answers[0]} {
			if !errors.Is(err, eventstore.ErrUnavailable) || !errors.Is(err, replication.ErrUnconfirmed) {
				t.Errorf("%s stock is answered with %v", when, err)
			}
		}
		if answers[1] != nil {
			t.Errorf("%s another category is answered with %v", when, answers[1])
		}
		if _, err := bus.Dispatch(t.Context(), commands.Meta{}, sell{}); !errors.Is(err, eventstore.ErrUnavailable) || !errors.Is(err, replication.ErrUnconfirmed) {
			t.Errorf("%s a sale of what the log has no units of is answered with %v", when, err)
		}
	}
	check("before any other site was heard")
	close(other.speak)
	until("the other site is heard", func() bool {
		o, err := p.site.Overview(t.Context())
		return err == nil && o.Peers[0].Heard >= 0
	})
	check("before the earlier life is back")
	close(other.give)
	until("stock is taken", func() bool {
		_, err := guarded.Append(t.Context(), requestFor("stock"))
		return err == nil
	})
	var refused *commands.Rejection
	if _, err := bus.Dispatch(t.Context(), commands.Meta{}, sell{}); !errors.As(err, &refused) {
		t.Errorf("when all is back a sale of what there is none of is answered with %v", err)
	}
	there, err := lost.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := store.Heads(t.Context()); err != nil || got[0] != there[0] {
		t.Errorf("stock is taken with %v (%v) here, and there was %v", got, err, there)
	}
}

// punctual is another site, whose clock is right: it answers what it is told at once.
type punctual struct{}

func (punctual) Pull(context.Context, replication.Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error) {
	return chain, nil, errors.New("there is nothing")
}

func (punctual) Meet(ctx context.Context, beats <-chan replication.Heartbeat, heard func(context.Context, replication.Heartbeat) error) error {
	begun := time.Now()
	var last replication.Heartbeat
	for {
		answer := replication.Heartbeat{Site: "sh", Log: eventstore.LogID{Site: "sh", Incarnation: 1}, Wall: time.Now(), Sent: 1 + uint64(time.Since(begun)), Direct: true}
		if last.Sent != 0 {
			answer.Echoes = []replication.Echo{{Site: last.Site, Sent: last.Sent}}
		}
		if err := heard(ctx, answer); err != nil {
			return err
		}
		select {
		case last = <-beats:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A site whose machine's time of day is an hour ahead when it starts records nothing, whoever asks, until it is right; when it jumps later, what is
// recorded has the time that it is. Both are said. It shows R25.
func TestWrongClock(t *testing.T) {
	var off atomic.Int64 // how far the machine's time of day is ahead
	off.Store(int64(time.Hour))
	zero := time.Now()
	steady := hlc.NewSteady(hlc.SteadyOptions{Read: func() (time.Time, time.Duration) {
		now := time.Now()
		return now.Round(0).Add(time.Duration(off.Load())), now.Sub(zero)
	}})
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}, Clock: hlc.New(steady.Now)})
	p := &sitesPart{readOnly: &readOnly{}, ready: make(chan struct{})}
	var err error
	if p.site, err = replication.NewSite(replication.Options{
		Config: replication.Config{Site: "bj", Heartbeat: 10 * time.Millisecond, ClockPatience: 50 * time.Millisecond}, Store: store, Clock: steady, Topic: earlierTopic(nil),
		Peers: map[string]replication.Peer{"sh": punctual{}}, MaxBackoff: time.Millisecond,
	}); err != nil {
		t.Fatal(err)
	}
	guarded := p.guarded(store)
	runPart(t, p)
	until := func(mode replication.Mode, jump bool) (o replication.Overview) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			var err error
			if o, err = p.site.Overview(t.Context()); err != nil {
				t.Fatal(err)
			}
			if o.Mode == mode && (o.Clock.Jump != 0) == jump {
				return o
			}
			if time.Now().After(end) {
				t.Fatalf("the site is %s, with its clock %+v; want %s, a jump: %t", o.Mode, o.Clock, mode, jump)
			}
		}
	}
	record := func(category string) error {
		t.Helper()
		_, err := guarded.Append(t.Context(), requestFor(category))
		if err != nil {
			return err
		}
		heads, err := store.Heads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if early := time.Until(heads[0].HLC.Time()); early > time.Second {
			t.Errorf("what is recorded is of %s in the future", early)
		}
		return nil
	}
	says := func(o *replication.Overview, want bool) {
		t.Helper()
		if health := clockHealth(o); (len(health) == 1) != want || want && health[0].Problem == "" {
			t.Errorf("with its clock %+v the site's health is %+v", o.Clock, health)
		}
	}

	o := until(replication.FencedClock, false)
	says(&o, true)
	for _, category := range []string{"note", "$saga"} {
		var clock *replication.ClockError
		if err := record(category); !errors.As(err, &clock) || clock.Mode != replication.FencedClock || !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("an hour ahead, %s is answered with %v", category, err)
		}
		eventstore.Enqueue(t.Context(), guarded, []eventstore.Request{requestFor(category)}, func(_ int, a eventstore.Answer) {
			if !errors.Is(a.Err, replication.ErrClock) {
				t.Errorf("an hour ahead, %s is answered in a session with %v", category, a.Err)
			}
		})
	}
	if state, err := store.Log(t.Context()); err != nil || state.Seq != 0 {
		t.Errorf("what was refused has left %d events (%v)", state.Seq, err)
	}
	off.Store(0)
	o = until(replication.Normal, false)
	says(&o, false)
	<-p.ready
	if err := record("note"); err != nil {
		t.Error(err)
	}

	off.Store(int64(time.Hour))
	if err := record("note"); err != nil { // before anybody has looked
		t.Error(err)
	}
	o = until(replication.FencedClock, true)
	says(&o, true)
	if err := record("note"); err != nil {
		t.Error(err)
	}
	off.Store(0)
	o = until(replication.Normal, false)
	says(&o, false)
}
