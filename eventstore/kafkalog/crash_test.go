package kafkalog_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/internal/testenv"
)

// load appends to a store until it is stopped, at some thousands of events a second.
func load(t testing.TB, s eventstore.Appender) (stop func()) {
	return loadEvery(t, s, time.Millisecond)
}

// loadEvery appends a request of three events or so to a store at every tick, until it is stopped.
func loadEvery(t testing.TB, s eventstore.Appender, pause time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, err := s.Append(ctx, request(1+rand.IntN(5))); err != nil && ctx.Err() == nil {
				t.Errorf("append under load: %v", err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// progress waits until a mirror has written at least n events more.
func progress(t testing.TB, m *kafkalog.Mirror, n uint64) {
	t.Helper()
	begun := m.Status().Events
	eventually(t, "the mirror's progress", func() bool { return m.Status().Events >= begun+n })
}

// TestMirrorRestartedInFullFlight shows M1.
func TestMirrorRestartedInFullFlight(t *testing.T) {
	restarts := 40
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		stop := load(t, s)
		for range restarts {
			m := runMirror(t, s, fast(addr))
			if rand.IntN(3) > 0 {
				progress(t, m.Mirror, 1+rand.Uint64N(300))
			} else {
				// Anywhere, in the middle of taking over too.
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
			}
			if err := m.end(); err != nil {
				t.Fatal(err)
			}
		}
		stop()
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}

// TestOlderMirrorIsFenced shows M2.
func TestOlderMirrorIsFenced(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		stop := load(t, s)
		m := runMirror(t, s, fast(addr))
		for range 12 {
			progress(t, m.Mirror, 1+rand.Uint64N(100))
			next := runMirror(t, s, fast(addr))
			select {
			case <-m.done:
			case <-time.After(within):
				t.Fatalf("older mirror goes on: %+v", m.Status())
			}
			if err := m.end(); !errors.Is(err, kafkalog.ErrFenced) {
				t.Fatalf("older mirror ended with %v", err)
			}
			if state := m.Status().State; state != kafkalog.StateFenced {
				t.Fatalf("older mirror is %s", state)
			}
			m = next
		}
		stop()
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}

// An older mirror that is fenced between two of its sessions does not take the partition back in the next one. Shows M2. On
// Kafka only: an embedded broker belongs to one process, and its mirrors take turns.
func TestOlderMirrorDoesNotComeBack(t *testing.T) {
	const takeovers = 12
	t.Cleanup(kafkalog.SetSessionLife(3 * time.Millisecond)) // it begins sessions all the time
	addr := testenv.SharedKafka(t).Addr()
	s := newStore(t)
	stop := load(t, s)
	m := runMirror(t, s, fast(addr))
	for n := range takeovers {
		want := m.Status().Events + 1 + rand.Uint64N(20)
		eventually(t, "the mirror's progress", func() bool {
			select {
			case <-m.done:
				t.Fatalf("takeover %d: the newer mirror ended with %v", n, m.end())
			default:
			}
			return m.Status().Events >= want
		})
		next := runMirror(t, s, fast(addr))
		select {
		case <-m.done:
		case <-next.done:
			t.Fatalf("takeover %d: the older mirror took the partition back: %v", n, next.end())
		case <-time.After(within):
			t.Fatalf("takeover %d: older mirror goes on: %+v", n, m.Status())
		}
		if err := m.end(); !errors.Is(err, kafkalog.ErrFenced) {
			t.Fatalf("takeover %d: older mirror ended with %v", n, err)
		}
		m = next
	}
	stop()
	waitFor(t, m.Mirror, s)
	sameAsStore(t, addr, s)
}

// TestBrokerKilledUnderLoad shows M1 and M5.
func TestBrokerKilledUnderLoad(t *testing.T) {
	onServers(t, func(t *testing.T, broker server) {
		s := newStore(t)
		stop := load(t, s)
		m := runMirror(t, s, fast(broker.Addr()))
		for range 4 {
			progress(t, m.Mirror, 300)
			broker.Kill()
			if err := broker.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		progress(t, m.Mirror, 300)
		stop()
		waitFor(t, m.Mirror, s)
		sameAsStore(t, broker.Addr(), s)
	})
}

// TestBrokerPausedUnderLoad shows M1 and M5.
func TestBrokerPausedUnderLoad(t *testing.T) {
	onServers(t, func(t *testing.T, broker server) {
		s := newStore(t)
		stop := load(t, s)
		o := fast(broker.Addr())
		o.RequestTimeout = time.Second
		m := runMirror(t, s, o)
		for range 3 {
			progress(t, m.Mirror, 300)
			if err := broker.Pause(); err != nil {
				t.Fatal(err)
			}
			// Long enough that requests time out, and are sent again, while the broker may still get the first.
			eventually(t, "the mirror notices", func() bool { return m.Status().State == kafkalog.StateConnecting })
			if err := broker.Resume(); err != nil {
				t.Fatal(err)
			}
		}
		progress(t, m.Mirror, 300)
		stop()
		waitFor(t, m.Mirror, s)
		sameAsStore(t, broker.Addr(), s)
	})
}

// Everything at once: the broker is killed while mirrors replace each other.
func TestBrokerAndMirrorsKilled(t *testing.T) {
	onServers(t, func(t *testing.T, broker server) {
		s := newStore(t)
		stop := load(t, s)
		for range 5 {
			a, b := runMirror(t, s, fast(broker.Addr())), runMirror(t, s, fast(broker.Addr()))
			time.Sleep(time.Duration(100+rand.IntN(200)) * time.Millisecond)
			broker.Kill()
			if err := broker.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
			for _, m := range []mirrorRun{a, b} {
				if err := m.end(); err != nil && !errors.Is(err, kafkalog.ErrFenced) {
					t.Fatal(err)
				}
			}
		}
		stop()
		m := runMirror(t, s, fast(broker.Addr()))
		waitFor(t, m.Mirror, s)
		sameAsStore(t, broker.Addr(), s)
	})
}

// A mirror renews its hold on the partition, in time for the brokers not to forget it.
func TestMirrorRenewsItsSession(t *testing.T) {
	defer kafkalog.SetSessionLife(20 * time.Millisecond)()
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		stop := load(t, s)
		m := runMirror(t, s, fast(addr))
		eventually(t, "sessions", func() bool { return m.Status().Sessions >= 20 })
		stop()
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}
