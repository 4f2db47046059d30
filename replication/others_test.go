package replication_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/replication"
)

// choosy takes one site for one of another system.
type choosy struct{ foreign string }

func (c choosy) Terms() replication.Terms { return replication.Terms{Format: replication.TermsFormat} }

func (c choosy) Met(site string, t *replication.Terms) error { return c.Heard(site, t) }

func (c choosy) Heard(site string, _ *replication.Terms) error {
	if site == c.foreign {
		return fmt.Errorf("%w: %s", replication.ErrForeign, site)
	}
	return nil
}

// speaker is a site that says something, and has a topic with an event.
type speaker struct {
	name     string
	store    *memstore.Store
	followed atomic.Bool
	told     chan error
}

func newSpeaker(t *testing.T, name string) *speaker {
	t.Helper()
	s := &speaker{name: name, store: memstore.New(memstore.Options{LogID: eventstore.LogID{Site: name, Incarnation: 1}}), told: make(chan error)}
	t.Cleanup(func() { _ = s.store.Close() })
	if _, err := s.store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("note", name), Events: []eventstore.Event{{Type: "note.made.v1"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *speaker) Pull(context.Context, replication.Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error) {
	return chain, nil, errors.New("it gives nothing")
}

func (s *speaker) Meet(ctx context.Context, _ <-chan replication.Heartbeat, heard func(context.Context, replication.Heartbeat) error) error {
	err := heard(ctx, replication.Heartbeat{
		Site: s.name, Log: eventstore.LogID{Site: s.name, Incarnation: 1}, Wall: time.Now(), Direct: true, Terms: &replication.Terms{},
	})
	select {
	case s.told <- err:
	case <-ctx.Done():
	}
	return err
}

func (s *speaker) Follow(ctx context.Context, _ func(context.Context) ([]eventstore.LogHead, error),
	events func(context.Context, []eventstore.Recorded) error, _ func(context.Context, eventstore.LogHead) error,
) error {
	s.followed.Store(true)
	for e, err := range s.store.ReadLog(ctx, eventstore.LogID{Site: s.name, Incarnation: 1}, 0) {
		if err != nil {
			return err
		}
		if err := events(ctx, []eventstore.Recorded{e}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// emptyTopic is the topic of a site that has published nothing.
type emptyTopic struct{}

func (emptyTopic) Ends(context.Context, func()) ([]eventstore.LogHead, error) { return nil, nil }

func (emptyTopic) Behind(context.Context, eventstore.LogID, []eventstore.LogHead) (through uint64, anything bool, err error) {
	return 0, false, nil
}

func (emptyTopic) Mirrored(ctx context.Context, _ func(context.Context, eventstore.Dot) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// Of a site of another system nothing is taken, and it is told so; one that comes while the site runs is followed from then on, and
// no more when it has gone. R17, R18.
func TestForeignSiteIsRefused(t *testing.T) {
	foreign, comes := newSpeaker(t, "sz"), newSpeaker(t, "gz")
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	t.Cleanup(func() { _ = store.Close() })
	site, err := replication.NewSite(replication.Options{
		Config: replication.Config{Site: "bj", Begun: true, Heartbeat: 5 * time.Millisecond}, Store: store, Topic: emptyTopic{}, MaxBackoff: time.Millisecond,
		Links: map[string]replication.Link{"sz": foreign}, Peers: map[string]replication.Peer{"sz": foreign}, Accord: choosy{"sz"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- site.Run(ctx) }()
	for range 3 {
		if err := <-foreign.told; !errors.Is(err, replication.ErrForeign) {
			t.Errorf("a site of another system is told %v", err)
		}
	}
	if err := site.With(ctx, "gz", comes, comes); err != nil {
		t.Fatal(err)
	}
	if err := <-comes.told; err != nil {
		t.Errorf("a site that comes is told %v", err)
	}
	go func() { // it goes on speaking
		for range comes.told {
		}
	}()
	until := func(what string, holds func(replication.Overview) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			o, err := site.Overview(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if holds(o) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("it never came that %s: %+v", what, o)
			}
		}
	}
	until("the event of the site that comes is here", func(o replication.Overview) bool {
		return len(o.Logs) == 1 && o.Logs[0].Log.Site == "gz" && o.Logs[0].Held == 1
	})
	if err := site.Without(ctx, "gz"); err != nil {
		t.Fatal(err)
	}
	until("the site is no other any more", func(o replication.Overview) bool { return len(o.Peers) == 1 && o.Peers[0].Site == "sz" })
	if foreign.followed.Load() {
		t.Error("the topic of a site of another system is followed")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	close(comes.told)
}
