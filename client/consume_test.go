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
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/internal/testenv"
)

// seen remembers of each stream the version that was handled last, and wants no gap.
type seen struct {
	mu    sync.Mutex
	last  map[string]uint64
	again int
}

// take notes an event and returns how many different ones there were.
func (s *seen) take(t *testing.T, e *eventstore.Recorded) (total uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch last := s.last[e.Stream.ID]; {
	case e.Version <= last:
		s.again++
	case e.Version > last+1:
		t.Errorf("version %d of stream %s came after %d", e.Version, e.Stream.ID, last)
	default:
		s.last[e.Stream.ID] = e.Version
	}
	for _, v := range s.last {
		total += v
	}
	return total
}

// filled appends each events to some streams, and makes a group of them.
func filled(t *testing.T, store eventstore.Store, all *groups.Groups, streams, each int, settings groups.Settings) {
	t.Helper()
	for range each {
		for i := range streams {
			if _, err := store.Append(t.Context(), one(fmt.Sprint(i), eventstore.Any)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := all.Create(t.Context(), "g", settings); err != nil {
		t.Fatal(err)
	}
}

// A member whose connection breaks again and again gets every event, those of a stream in order; what it has settled when it leaves is
// in the group's cursor.
func TestConsumeOverBrokenConnections(t *testing.T) {
	const streams, each = 10, 60
	store := memory(t)
	all := openGroups(t, store)
	filled(t, store, all, streams, each, groups.Settings{Categories: []string{"thing"}, MaxTries: 1000})
	link := testenv.Proxy(t, serveGroups(t, store, all).addr)
	c := dial(t, link.Addr(), nil)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := seen{last: map[string]uint64{}}
	var handled atomic.Int64
	var cutting sync.WaitGroup
	done := make(chan struct{})
	cuts := 0
	cutting.Go(func() { cuts = cutAgainAndAgain(link, &handled, 50, done) })
	err := c.Consume(ctx, "g", &client.ConsumeOptions{Member: "a"}, func(_ context.Context, e *eventstore.Recorded, _ int) error {
		handled.Add(1)
		if s.take(t, e) == streams*each {
			cancel()
		}
		return nil
	})
	close(done)
	cutting.Wait()
	if err != nil || len(s.last) != streams || cuts < 3 {
		t.Errorf("Consume: %v; after %d cuts it has seen %v", err, cuts, s.last)
	}
	t.Logf("%d of %d events came again after %d cuts", s.again, streams*each, cuts)
	info, err := all.Describe(t.Context(), "g")
	if err != nil || info.InFlight != 0 || info.Parked != 0 || len(info.Members) != 0 {
		t.Errorf("after the member has left the group is %+v, %v", info, err)
	}
}

// What fails is tried again, and parked in the end or at once; what takes longer than its lease stays the member's.
func TestConsumeSettlesAsItsHandlerSays(t *testing.T) {
	store := memory(t)
	all := openGroups(t, store)
	filled(t, store, all, 4, 1, groups.Settings{Categories: []string{"thing"}, Lease: 300 * time.Millisecond, MaxTries: 3})
	c := dial(t, serveGroups(t, store, all).addr, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	tries := map[string]int{}
	var ended atomic.Int64
	err := c.Consume(ctx, "g", &client.ConsumeOptions{RetryAfter: 10 * time.Millisecond}, func(ctx context.Context, e *eventstore.Recorded, try int) error {
		mu.Lock()
		tries[e.Stream.ID]++
		mu.Unlock()
		var err error
		switch e.Stream.ID {
		case "0": // good the second time
			if try == 1 {
				return errors.New("not now")
			}
		case "1":
			if err = errors.New("never"); try < 3 {
				return err
			}
		case "2":
			err = fmt.Errorf("nonsense: %w", client.ErrPark)
		case "3": // three leases
			select {
			case <-time.After(900 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if ended.Add(1) == 4 {
			time.AfterFunc(100*time.Millisecond, cancel)
		}
		return err
	})
	if err != nil {
		t.Errorf("Consume: %v", err)
	}
	if fmt.Sprint(tries) != "map[0:2 1:3 2:1 3:1]" {
		t.Errorf("events were tried %v times", tries)
	}
	parked, err := all.ListParked(t.Context(), "g")
	if err != nil || len(parked) != 2 || !strings.Contains(fmt.Sprint(parked[0].Reason, parked[1].Reason), "never") || !strings.Contains(fmt.Sprint(parked[0].Reason, parked[1].Reason), "nonsense") {
		t.Errorf("parked are %+v, %v", parked, err)
	}
}

// A member that the server will not have is told so.
func TestConsumeIsRefused(t *testing.T) {
	store := memory(t)
	all := openGroups(t, store)
	filled(t, store, all, 1, 1, groups.Settings{Categories: []string{"thing"}})
	c := dial(t, serveGroups(t, store, all).addr, nil)
	never := func(context.Context, *eventstore.Recorded, int) error { return nil }
	if err := c.Consume(t.Context(), "nobody", nil, never); !errors.Is(err, eventstore.ErrNotFound) {
		t.Errorf("a group that is not there: %v", err)
	}
	replaced := make(chan error, 1)
	joined := make(chan struct{})
	go func() {
		replaced <- c.Consume(t.Context(), "g", &client.ConsumeOptions{Member: "a"}, func(ctx context.Context, _ *eventstore.Recorded, _ int) error {
			close(joined)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-joined
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := c.Consume(ctx, "g", &client.ConsumeOptions{Member: "a"}, func(context.Context, *eventstore.Recorded, int) error {
		cancel()
		return nil
	}); err != nil {
		t.Errorf("the second of the name: %v", err)
	}
	var refused *client.Error
	if err := <-replaced; !errors.As(err, &refused) || refused.Reason != "replaced" {
		t.Errorf("the first of the name: %v, want that it is replaced", err)
	}
}
