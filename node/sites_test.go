package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/replication"
)

// earlierTopic is the topic of a site that has lost its earlier life.
type earlierTopic []eventstore.LogHead

func (t earlierTopic) Ends(context.Context) ([]eventstore.LogHead, error) { return t, nil }

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

// A site in another life takes everything but what is decided on rights that it may have used before, until it knows.
func TestEscrowWaitsForEarlierLives(t *testing.T) {
	lost := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 2}})
	if _, err := lost.Append(t.Context(), requestFor("stock")); err != nil {
		t.Fatal(err)
	}
	heads, err := lost.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := &keeper{lost, make(chan struct{}), make(chan struct{})}
	p := &sitesPart{readOnly: &readOnly{}, ready: make(chan struct{})}
	p.site, err = replication.NewSite(replication.Options{
		Config: replication.Config{Site: "bj", Begun: true, GapTimer: time.Millisecond}, Store: store, Topic: earlierTopic(heads),
		Peers: map[string]replication.Peer{"sh": other}, MaxBackoff: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	p.escrows(map[string]commands.ResolverKind{"stock": commands.ByEscrow, "note": commands.ByCRDT})
	guarded := p.guarded(store)
	if _, err := guarded.Append(t.Context(), requestFor("note")); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("before the site runs it answers %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() {
		if err := p.run(ctx, func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	})
	until := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
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
	}
	check("before any other site was heard")
	close(other.speak)
	until("the other site is heard", func() bool {
		o, err := p.site.Overview(ctx)
		return err == nil && o.Peers[0].Heard >= 0
	})
	check("before the earlier life is back")
	close(other.give)
	until("stock is taken", func() bool {
		_, err := guarded.Append(t.Context(), requestFor("stock"))
		return err == nil
	})
	if got, err := store.Heads(t.Context()); err != nil || got[0] != heads[0] {
		t.Errorf("stock is taken with %v (%v) here, and there was %v", got, err, heads)
	}
}
