package durable_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/durable"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// shelf keeps what it is let keep.
type shelf struct {
	mu     sync.Mutex // guards what follows
	away   error
	keeps  uint64 // up to this lsn
	change chan struct{}
}

func newShelf() *shelf { return &shelf{change: make(chan struct{})} }

func (s *shelf) Available() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

func (s *shelf) Keeps(r *eventstore.Receipt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keeps >= r.Position.LSN
}

func (s *shelf) Await(ctx context.Context, r *eventstore.Receipt) error {
	for {
		s.mu.Lock()
		change := s.change
		s.mu.Unlock()
		if s.Keeps(r) {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// set says up to where the shelf keeps the log, and why it keeps no more.
func (s *shelf) set(keeps uint64, away error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeps, s.away = keeps, away
	close(s.change)
	s.change = make(chan struct{})
}

func asks(class eventstore.Durability, id string) eventstore.Request {
	return eventstore.Request{ID: id, Durability: class, Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
	}}}
}

// slow is a store that answers what is enqueued after Enqueue has returned, as stores with a disk do.
type slow struct{ eventstore.Store }

func (s slow) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	for i, r := range requests {
		receipt, err := s.Append(ctx, r)
		time.AfterFunc(time.Millisecond, func() { done(i, eventstore.Answer{Receipt: receipt, Err: err}) })
	}
}

// rig is a store with both keepers.
func rig() (s *durable.Store, topic, site *shelf) {
	topic, site = newShelf(), newShelf()
	return durable.New(slow{memstore.New(memstore.Options{})}, map[eventstore.Durability]durable.Keeper{eventstore.Kafka: topic, eventstore.Peer: site}), topic, site
}

func seq(t *testing.T, s eventstore.Store) uint64 {
	t.Helper()
	state, err := s.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state.Seq
}

// begin appends in the background, and returns what it will have come to.
func begin(t *testing.T, s eventstore.Store, r eventstore.Request) (answered func() (eventstore.Receipt, bool)) {
	var receipt atomic.Pointer[eventstore.Receipt]
	go func() {
		got, err := s.Append(t.Context(), r)
		if err != nil {
			t.Errorf("append %s: %v", r.ID, err)
		}
		receipt.Store(&got)
	}()
	synctest.Wait()
	return func() (eventstore.Receipt, bool) {
		synctest.Wait()
		if got := receipt.Load(); got != nil {
			return *got, true
		}
		return eventstore.Receipt{}, false
	}
}

// An append waits for the keeper of its class and of those below it, and no longer; receipts say what holds when they are given.
func TestAppendWaitsForItsClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, topic, site := rig()
		if r, err := s.Append(t.Context(), asks(eventstore.Local, "l")); err != nil || r.Reached != eventstore.Local {
			t.Errorf("local: %+v, %v", r, err)
		}
		inTopic := begin(t, s, asks(eventstore.Kafka, "k"))
		atPeer := begin(t, s, asks(eventstore.Peer, "p"))
		topic.set(1, nil)
		if _, done := inTopic(); done {
			t.Error("an append is answered before the topic has it")
		}
		topic.set(3, nil)
		if r, done := inTopic(); !done || r.Reached != eventstore.Kafka {
			t.Errorf("with the event in the topic: %t, %+v", done, r)
		}
		site.set(2, nil)
		if _, done := atPeer(); done {
			t.Error("an append is answered before another site has it")
		}
		site.set(3, nil)
		if r, done := atPeer(); !done || r.Reached != eventstore.Peer {
			t.Errorf("with the event at another site: %t, %+v", done, r)
		}
		for _, id := range []string{"l", "k", "p"} {
			if r, _, err := s.Receipt(t.Context(), "", id); err != nil || r.Reached != eventstore.Peer {
				t.Errorf("the receipt of %s says %+v, %v", id, r, err)
			}
		}
	})
}

// What is not reached in time is answered with what was, and is recorded: the same request waits again.
func TestTimeoutSaysWhatWasReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, topic, site := rig()
		topic.set(1, nil)
		start := time.Now()
		for n, reached := range []eventstore.Durability{eventstore.Kafka, eventstore.Kafka} {
			r, err := s.Append(t.Context(), asks(eventstore.Peer, "p"))
			if !errors.Is(err, eventstore.ErrDurabilityTimeout) || r.Reached != reached || r.Duplicate != (n > 0) || r.Position.LSN != 1 {
				t.Errorf("time %d: %+v, %v", n+1, r, err)
			}
		}
		if waited := time.Since(start); waited != 2*durable.DefaultTimeout {
			t.Errorf("waited %s, want twice %s", waited, durable.DefaultTimeout)
		}
		again := begin(t, s, asks(eventstore.Peer, "p"))
		site.set(1, nil)
		if r, done := again(); !done || r.Reached != eventstore.Peer || !r.Duplicate {
			t.Errorf("repeated once more: %t, %+v", done, r)
		}
		if got := seq(t, s); got != 1 {
			t.Errorf("the log has %d events, want 1", got)
		}
	})
}

// What cannot come about is refused before anything is recorded, whoever is away; what asks for less goes on. A request that is
// recorded already is told so.
func TestRefusedBeforeItIsRecorded(t *testing.T) {
	s, topic, site := rig()
	away := fmt.Errorf("%w: away", eventstore.ErrUnavailable)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Append(short, asks(eventstore.Peer, "before")); !errors.Is(err, eventstore.ErrDurabilityTimeout) {
		t.Fatal(err)
	}
	for name, set := range map[string]func(error){
		"the topic":  func(err error) { topic.set(0, err) },
		"other site": func(err error) { site.set(0, err) },
	} {
		set(away)
		if r, err := s.Append(t.Context(), asks(eventstore.Peer, "new")); !errors.Is(err, eventstore.ErrUnavailable) || !r.Position.IsZero() {
			t.Errorf("%s away: %+v, %v", name, r, err)
		}
		if _, err := s.Append(t.Context(), asks(eventstore.Peer, "")); !errors.Is(err, eventstore.ErrUnavailable) {
			t.Errorf("%s away, without an id: %v", name, err)
		}
		r, err := s.Append(t.Context(), asks(eventstore.Peer, "before"))
		if !errors.Is(err, eventstore.ErrDurabilityTimeout) || r.Position.LSN != 1 || r.Reached != eventstore.Local {
			t.Errorf("%s away, recorded before: %+v, %v", name, r, err)
		}
		other := asks(eventstore.Peer, "before")
		other.Appends[0].Events[0].Type = "cart.emptied.v1"
		if _, err := s.Append(t.Context(), other); !errors.Is(err, eventstore.ErrIDReused) {
			t.Errorf("%s away, another request of the same id: %v", name, err)
		}
		set(nil)
	}
	if got := seq(t, s); got != 1 {
		t.Errorf("the log has %d events, want 1", got)
	}
	site.set(1, away)
	if r, err := s.Append(t.Context(), asks(eventstore.Peer, "before")); err != nil || r.Reached != eventstore.Peer {
		t.Errorf("away, and it has come there before: %+v, %v", r, err)
	}
	if r, err := s.Append(t.Context(), asks(eventstore.Local, "l")); err != nil || r.Position.LSN != 2 {
		t.Errorf("local with all away: %+v, %v", r, err)
	}
	alone := durable.New(memstore.New(memstore.Options{}), map[eventstore.Durability]durable.Keeper{eventstore.Kafka: topic})
	if _, err := alone.Append(t.Context(), asks(eventstore.Peer, "p")); !errors.Is(err, eventstore.ErrUnsupported) || seq(t, alone) != 0 {
		t.Errorf("a class that nobody keeps: %v", err)
	}
	alone.Lacks = map[eventstore.Durability]string{eventstore.Peer: "needs another site"}
	_, err := alone.Append(t.Context(), asks(eventstore.Peer, "p"))
	answered := make(chan error, 1)
	alone.Enqueue(t.Context(), []eventstore.Request{asks(eventstore.Peer, "q")}, func(_ int, a eventstore.Answer) { answered <- a.Err })
	for _, err := range []error{err, <-answered} {
		if !errors.Is(err, eventstore.ErrUnsupported) || !strings.HasSuffix(err.Error(), "durability peer, which needs another site") {
			t.Errorf("a class that nobody keeps, of which is known why: %v", err)
		}
	}
}

// Of what is enqueued each waits for its own class, and what is refused keeps nothing from being recorded.
func TestEnqueuedWaitForTheirClasses(t *testing.T) {
	s, topic, site := rig()
	topic.set(9, nil)
	conflict := asks(eventstore.Peer, "conflict")
	conflict.Appends[0].Expect = eventstore.Exactly(7)
	ask := func() map[int]eventstore.Answer {
		requests := []eventstore.Request{asks(eventstore.Local, ""), asks(eventstore.Kafka, ""), asks(eventstore.Peer, ""), conflict, asks(eventstore.Local, "")}
		answers := map[int]eventstore.Answer{}
		var mu sync.Mutex // guards answers
		var all sync.WaitGroup
		all.Add(len(requests))
		s.Enqueue(t.Context(), requests, func(i int, a eventstore.Answer) {
			mu.Lock()
			defer mu.Unlock()
			answers[i] = a
			all.Done()
		})
		all.Wait()
		return answers
	}
	answers := ask()
	for i, waits := range []bool{false, true, true, false, false} {
		if a := answers[i]; (a.Wait != nil) != waits || (a.Err != nil) != (i == 3) {
			t.Errorf("request %d: %+v", i, a)
		}
	}
	if r, err := answers[1].Wait(t.Context()); err != nil || r.Reached != eventstore.Kafka {
		t.Errorf("kafka: %+v, %v", r, err)
	}
	site.set(9, nil)
	if r, err := answers[2].Wait(t.Context()); err != nil || r.Reached != eventstore.Peer {
		t.Errorf("peer: %+v, %v", r, err)
	}
	site.set(9, fmt.Errorf("%w: away", eventstore.ErrUnavailable))
	answers = ask()
	for i, refused := range []bool{false, false, true, true, false} {
		if a := answers[i]; errors.Is(a.Err, eventstore.ErrUnavailable) != refused {
			t.Errorf("with no other site, request %d: %+v", i, a)
		}
	}
	if got := seq(t, s); got != 7 {
		t.Errorf("the log has %d events, want 7", got)
	}
}

// full is a store that takes nothing.
type full struct{ eventstore.Store }

func (full) Writable() error { return fmt.Errorf("%w: the disk is full", eventstore.ErrReadOnly) }

func (f full) Append(context.Context, eventstore.Request) (eventstore.Receipt, error) {
	return eventstore.Receipt{}, f.Writable()
}

// A store with a full disk says so, whatever class is asked for, and does not name a keeper that is on the same disk.
func TestAFullDiskIsNamed(t *testing.T) {
	topic := newShelf()
	topic.set(0, fmt.Errorf("%w: the broker does not answer", eventstore.ErrUnavailable))
	s := durable.New(full{memstore.New(memstore.Options{})}, map[eventstore.Durability]durable.Keeper{eventstore.Kafka: topic})
	for _, class := range []eventstore.Durability{eventstore.Local, eventstore.Kafka} {
		if _, err := s.Append(t.Context(), asks(class, "")); !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), "disk is full") || strings.Contains(err.Error(), "broker") {
			t.Errorf("%s: %v; want it refused for the disk", class, err)
		}
	}
}
