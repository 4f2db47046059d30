package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/cable"
	"github.com/tributary-es/tributary/internal/testenv"
)

func dial(t testing.TB, addr string, o *client.Options) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func one(id string, expect eventstore.Expect) eventstore.Request {
	return eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("thing", id), Expect: expect, Events: []eventstore.Event{{Type: "thing.happened.v1", Payload: []byte("x")}},
	}}}
}

// cutAgainAndAgain cuts the link after every so many appends, until done is closed.
func cutAgainAndAgain(link *cable.Cable, appended *atomic.Int64, every int64, done <-chan struct{}) (cuts int) {
	for next := every; ; {
		select {
		case <-done:
			return cuts
		case <-time.After(time.Millisecond):
		}
		if appended.Load() >= next {
			link.Cut()
			link.Restore()
			cuts++
			next = appended.Load() + every
		}
	}
}

// Appends whose connection breaks under way are recorded once: every one is acknowledged, those that expect a version
// meet it, and the streams hold no event more. A subscription over the same breaking link gives every event once, in
// order. Invariant A4.
func TestBrokenConnections(t *testing.T) {
	store := memory(t)
	link := testenv.Proxy(t, serve(t, "127.0.0.1:0", store).addr)
	c := dial(t, link.Addr(), nil)
	sub, err := c.Subscribe(t.Context(), eventstore.Position{}, eventstore.Filter{MaxChunk: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()

	const writers, each = 16, 150
	var appended atomic.Int64
	var writing, cutting sync.WaitGroup
	done := make(chan struct{})
	cuts := 0
	cutting.Go(func() { cuts = cutAgainAndAgain(link, &appended, 200, done) })
	for w := range writers {
		writing.Go(func() {
			for v := range uint64(each) {
				receipt, err := c.Append(t.Context(), one(fmt.Sprint(w), eventstore.Exactly(v)))
				if err != nil || receipt.Duplicate || receipt.Streams[0].Last != v+1 {
					t.Errorf("append %d of writer %d: %+v, %v", v+1, w, receipt, err)
					return
				}
				appended.Add(1)
			}
		})
	}
	seen := uint64(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for seen < writers*each && !t.Failed() {
		chunk, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("after %d events: %v", seen, err)
		}
		for i := range chunk.Events {
			if seen++; chunk.Events[i].Position.LSN != seen {
				t.Fatalf("event %d is at %s: a gap or a duplicate", seen, chunk.Events[i].Position)
			}
		}
	}
	writing.Wait()
	close(done)
	cutting.Wait()
	if cuts < 5 {
		t.Errorf("the link was cut %d times only", cuts)
	}
	state, err := store.Log(t.Context())
	if err != nil || state.Durable.LSN != writers*each {
		t.Errorf("the log is at %s (%v), want %d events", state.Durable, err, writers*each)
	}
}

// A server that stops and starts again at the same address is waited for, by appends, reads and subscriptions. Invariant A4.
func TestServerStartsAgain(t *testing.T) {
	store := memory(t)
	first := serve(t, "127.0.0.1:0", store)
	c := dial(t, first.addr, nil)
	sub, err := c.Subscribe(t.Context(), eventstore.Position{}, eventstore.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for v := range uint64(3) {
		if _, err := c.Append(t.Context(), one("1", eventstore.Exactly(2*v))); err != nil {
			t.Fatal(err)
		}
		first.stop()
		appended := make(chan error, 1)
		go func() {
			_, err := c.Append(t.Context(), one("1", eventstore.Exactly(2*v+1)))
			appended <- err
		}()
		first = serve(t, first.addr, store)
		if err := <-appended; err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range c.Read(t.Context(), eventstore.Stream("thing", "1"), 1) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		if want := int(2*v + 2); n != want {
			t.Fatalf("the stream has %d events, want %d", n, want)
		}
	}
	for lsn := uint64(1); lsn <= 6; {
		chunk, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range chunk.Events {
			if chunk.Events[i].Position.LSN != lsn {
				t.Fatalf("event at %s, want lsn %d", chunk.Events[i].Position, lsn)
			}
			lsn++
		}
	}
}

// holding is a store whose appends wait until the test lets them go.
type holding struct {
	eventstore.Store
	begun, open chan struct{}
}

func (h *holding) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	h.begun <- struct{}{}
	<-h.open
	return h.Store.Append(ctx, r)
}

// Without request ids an append whose connection breaks ends with an error, and is not sent again. Invariant A4.
func TestUnknownFate(t *testing.T) {
	store := &holding{memory(t), make(chan struct{}), make(chan struct{})}
	link := testenv.Proxy(t, serve(t, "127.0.0.1:0", store).addr)
	c := dial(t, link.Addr(), &client.Options{NoRequestIDs: true})
	failed := make(chan error, 1)
	go func() {
		_, err := c.Append(t.Context(), one("1", eventstore.Any))
		failed <- err
	}()
	<-store.begun
	link.Cut()
	var unknown *eventstore.OutcomeUnknownError
	if err := <-failed; !errors.As(err, &unknown) || unknown.ID != "" || errors.Is(err, eventstore.ErrUnavailable) || eventstore.ClassOf(err) != eventstore.Transient {
		t.Errorf("%v, want %v", err, eventstore.ErrOutcomeUnknown)
	}
	link.Restore()
	close(store.open)
	go func() { <-store.begun }()
	if _, err := c.Append(t.Context(), one("2", eventstore.NoStream)); err != nil {
		t.Errorf("after the connection is back: %v", err)
	}
}

// An append that a server has when the client's patience ends may be recorded: the error says so, and names the id with which
// it is applied once, however often it is repeated. Invariant A4.
func TestRepeatAfterUnknownOutcome(t *testing.T) {
	store := &holding{memory(t), make(chan struct{}), make(chan struct{})}
	link := testenv.Proxy(t, serve(t, "127.0.0.1:0", store).addr)
	c := dial(t, link.Addr(), &client.Options{Patience: 200 * time.Millisecond})
	failed := make(chan error, 1)
	go func() {
		_, err := c.Append(t.Context(), one("1", eventstore.Any))
		failed <- err
	}()
	<-store.begun
	link.Cut()
	var unknown *eventstore.OutcomeUnknownError
	if err := <-failed; !errors.As(err, &unknown) || unknown.ID == "" || errors.Is(err, eventstore.ErrUnavailable) || eventstore.ClassOf(err) != eventstore.Transient {
		t.Fatalf("%v, want %v with an id", err, eventstore.ErrOutcomeUnknown)
	}
	link.Restore()
	close(store.open)
	go func() { <-store.begun }()
	again := one("1", eventstore.Any)
	again.ID = unknown.ID
	if _, err := c.Append(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Version(t.Context(), eventstore.Stream("thing", "1")); err != nil || v != 1 {
		t.Errorf("the stream is at version %d (%v) after the repetition, want 1", v, err)
	}
}

// After a break that the client has got over, an append that meets a dead connection is tried again however long ago
// that break was. Invariant A4.
func TestPatienceBeginsAnew(t *testing.T) {
	const patience = 300 * time.Millisecond
	store := &holding{memory(t), make(chan struct{}), make(chan struct{})}
	link := testenv.Proxy(t, serve(t, "127.0.0.1:0", store).addr)
	c := dial(t, link.Addr(), &client.Options{Patience: patience})
	appended := make(chan error, 1)
	put := func(id string) {
		go func() {
			_, err := c.Append(t.Context(), one(id, eventstore.NoStream))
			appended <- err
		}()
		<-store.begun
	}
	put("1")
	store.open <- struct{}{}
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	link.Cut()
	link.Restore()
	time.Sleep(patience + 100*time.Millisecond) // the time itself is what is tested
	put("2")
	link.Cut()
	link.Restore()
	close(store.open)
	go func() { <-store.begun }() // of the repetition
	if err := <-appended; err != nil {
		t.Error(err)
	}
}

// Dial waits for a server as long as the client is patient, and says what it has waited for.
func TestDialToNobody(t *testing.T) {
	link := testenv.Proxy(t, "127.0.0.1:1")
	link.Cut()
	c, err := client.Dial(t.Context(), link.Addr(), &client.Options{Patience: 200 * time.Millisecond})
	if err == nil {
		err = c.Close()
	}
	if !errors.Is(err, eventstore.ErrUnavailable) || !strings.Contains(err.Error(), link.Addr()+": no server has answered") {
		t.Errorf("%v, want %v", err, eventstore.ErrUnavailable)
	}
}

// A server that stays away ends the client's patience, with an error that says that trying again may help.
func TestServerStaysAway(t *testing.T) {
	store := memory(t)
	server := serve(t, "127.0.0.1:0", store)
	c := dial(t, server.addr, &client.Options{Patience: 200 * time.Millisecond})
	server.stop()
	_, appending := c.Append(t.Context(), one("1", eventstore.Any))
	_, asking := c.Log(t.Context())
	var reading error
	for _, err := range c.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		reading = err
	}
	for what, err := range map[string]error{"append": appending, "log": asking, "read": reading} {
		if !errors.Is(err, eventstore.ErrUnavailable) || eventstore.ClassOf(err) != eventstore.Transient {
			t.Errorf("%s: %v, want %v", what, err, eventstore.ErrUnavailable)
		}
	}
}
