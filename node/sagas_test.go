package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// lockedText is a log that is written and read at once.
type lockedText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// greeter is a saga that ends with its trigger.
var greeter = saga.Definition[int]{
	Name: "greeter", Triggers: []string{"note.v1"},
	Instance: func(r *eventstore.Recorded) string { return r.Stream.ID },
	React: func(s int, _ saga.Input) (int, []saga.Action, error) {
		return s, []saga.Action{saga.Complete{Outcome: "done"}}, nil
	},
}

// greeterOf returns the saga's runner over a store.
func greeterOf(t *testing.T, store eventstore.Store) sagaRunner {
	t.Helper()
	none := func(context.Context, eventstore.StreamID) (map[eventstore.Dot]string, error) { return nil, nil }
	r, err := saga.New(store, commands.NewBus(store, commands.Options{}), greeter, saga.Options{Void: none, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return sagaRunner{greeter.Name, r}
}

// logged returns the events of a store's own log, or those of an earlier life.
func logged(t *testing.T, store *memstore.Store, log eventstore.LogID) (events []eventstore.Recorded) {
	t.Helper()
	for r, err := range store.ReadLog(t.Context(), log, 0) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, r)
	}
	return events
}

// In another life of the log no instance is begun, and none goes on, before the steps of the earlier life are back; then each of them
// stands where it stood, and no step is recorded beside it.
func TestSagasWaitForEarlierLives(t *testing.T) {
	earlier := eventstore.LogID{Site: "bj", Incarnation: 1}
	lost := memstore.New(memstore.Options{LogID: earlier})
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 2}})
	if _, err := lost.Append(t.Context(), requestFor("note")); err != nil {
		t.Fatal(err)
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it never came that %s", what)
			}
		}
	}
	steps := eventstore.Stream("greeter.bj", "1")
	version := func(s *memstore.Store) uint64 {
		v, err := s.Version(t.Context(), steps)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	running := func(n *Node, s sagaRunner) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if err := ignoreCancel(n.runSaga(ctx, s)); err != nil {
				t.Error(err)
			}
		})
		return sync.OnceFunc(func() { cancel(); all.Wait() })
	}
	stop := running(&Node{sites: &sitesPart{}}, greeterOf(t, lost)) // without others it begins at once
	until("the first life has a step", func() bool { return version(lost) == 1 })
	stop()

	if _, err := store.Receive(t.Context(), logged(t, lost, earlier)[:1]); err != nil { // what it reacted to is back, the step is not
		t.Fatal(err)
	}
	p, other := laterLife(t, store, lost)
	p.earlier = countEarlier(store, eventstore.LogID{Site: "bj", Incarnation: 2})
	var said lockedText
	n := &Node{sites: p, log: slog.New(slog.NewTextHandler(&said, nil))}
	s := greeterOf(t, p.guarded(store))
	n.sagas = []sagaRunner{s}
	runPart(t, p)
	until("the site takes writes", func() bool { return p.refused() == nil })

	stop = running(n, s)
	stop() // the wait ends with its context
	stop = running(n, s)
	defer stop()
	close(other.speak)
	until("the saga says that it waits", func() bool { return strings.Contains(said.String(), "the saga waits") })
	if v := version(store); v > 0 {
		t.Errorf("%d steps were recorded before the earlier life is back", v)
	}
	if got := n.lastError(s); !strings.Contains(got, "earlier life") || !strings.Contains(got, earlier.String()) {
		t.Errorf("while the saga waits its status says %q", got)
	}
	if _, err := (parking{n}).RetryInstances(t.Context(), "greeter", "", ""); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("while the saga waits, parked instances are tried again with %v", err)
	}
	close(other.give)
	if err := s.Idle(t.Context(), eventstore.Position{Incarnation: 2, LSN: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.guarded(store).Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("note", "2"), Expect: eventstore.Any, Events: []eventstore.Event{{Type: "note.v1"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	until("a new instance has its step", func() bool {
		v, err := store.Version(t.Context(), eventstore.Stream("greeter.bj", "2"))
		return err == nil && v == 1
	})
	if v := version(store); v != 1 {
		t.Errorf("there are %d steps of an instance that had one", v)
	}
	if got := n.lastError(s); got != "" {
		t.Errorf("when the saga runs its status says %q", got)
	}

	// More of the earlier life comes than anybody had told of: the saga has ended an instance of which that has a step.
	if _, err := lost.Append(t.Context(), requestFor("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Receive(t.Context(), logged(t, lost, earlier)[2:]); err != nil {
		t.Fatal(err)
	}
	until("the saga looks at its instances again", func() bool { return strings.Contains(said.String(), "looks at all its instances again") })
	if _, err := p.guarded(store).Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("note", "3"), Expect: eventstore.Any, Events: []eventstore.Event{{Type: "note.v1"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	until("the saga runs again", func() bool {
		v, err := store.Version(t.Context(), eventstore.Stream("greeter.bj", "3"))
		return err == nil && v == 1
	})
	if v := version(store); v != 1 {
		t.Errorf("there are %d steps of an instance that had one, after all were looked at again", v)
	}
	if got := said.String(); strings.Count(got, "looks at all its instances again") != 1 {
		t.Errorf("the log says:\n%s", got)
	}
	if got := said.String(); strings.Count(got, "the saga waits") != 1 || strings.Count(got, "the saga goes on") != 1 {
		t.Errorf("the log says:\n%s", got)
	}
}
