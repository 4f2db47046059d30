package commands

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

func TestStreamLocksAreFairAndLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newStreamLocks()
		ctx := context.Background()
		a := eventstore.Stream("account", "a")
		if err := l.lock(ctx, a); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var order []int // written under the lock
		for n := range 5 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * time.Second)
				if err := l.lock(ctx, a); err != nil {
					t.Error(err)
					return
				}
				order = append(order, n)
				l.unlock(a)
			})
		}
		impatient, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
		defer cancel()
		if err := l.lock(impatient, a); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an impatient waiter gets %v, want its context's error", err)
		}
		time.Sleep(time.Minute)
		l.unlock(a)
		wg.Wait()
		for n := range order {
			if order[n] != n {
				t.Fatalf("they had their turns in the order %v, want first come, first served", order)
			}
		}
		if len(order) != 5 || len(l.held) != 0 {
			t.Errorf("%d had their turn and %d locks are left, want 5 and none", len(order), len(l.held))
		}
	})
}

func TestLockAllTakesAllOrNone(t *testing.T) {
	l := newStreamLocks()
	ctx := context.Background()
	a, b, c := eventstore.Stream("x", "a"), eventstore.Stream("x", "b"), eventstore.Stream("x", "c")
	if err := l.lock(ctx, b); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	// Whether a free lock is taken with an ended context is left to chance; b is not free.
	if err := l.lockAll(ended, []eventstore.StreamID{c, b, a}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, want the context's", err)
	}
	l.unlock(b)
	if len(l.held) != 0 {
		t.Errorf("%d locks are held after a failure, want none", len(l.held))
	}
	var wg sync.WaitGroup
	for _, order := range [][]eventstore.StreamID{{a, b, c}, {c, b, a}, {b, c, a}} {
		wg.Go(func() {
			for range 1000 {
				streams := append([]eventstore.StreamID(nil), order...)
				if err := l.lockAll(ctx, streams); err != nil {
					t.Error(err)
				}
				l.unlockAll(streams)
			}
		})
	}
	wg.Wait()
}
