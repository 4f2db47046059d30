package replication

import (
	"errors"
	"testing"
	"time"
)

// Who puts a takeover on record waits until the site goes by it: a cell is not written before.
func TestOnRecordWaitsForTheSite(t *testing.T) {
	r := newRig("a", "b")
	r.start(t, nil)
	r.reachable(t, "a")
	s := r.sites["a"]
	busy, free, asked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		asked <- s.ask(t.Context(), func(*Core) {
			close(busy)
			<-free
		})
	}()
	<-busy
	told := make(chan error, 1)
	go func() { told <- s.OnRecord(t.Context(), nil) }()
	select {
	case err := <-told:
		t.Errorf("it is told that the site goes by what is on record (%v), which is busy with something else", err)
		told <- err
	case <-time.After(50 * time.Millisecond):
	}
	close(free)
	if err := errors.Join(<-asked, <-told); err != nil {
		t.Fatal(err)
	}
	if err := s.ask(t.Context(), func(c *Core) {
		if !c.leases.told {
			t.Error("the site does not go by what is on record, of which it was said that it does")
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// Of a site that is not met, or whose topic is not followed, it is told why, until it is.
func TestUnmetSitesAreNamed(t *testing.T) {
	r := newRig("a", "b")
	r.peers["a"]["b"].away.Store(true) // neither reaches the other
	r.peers["b"]["a"].away.Store(true)
	r.start(t, nil)
	unmet := func() error {
		o, err := r.sites["a"].Overview(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return o.Unmet["b"]
	}
	r.until(t, "it is told why b is not met", func() bool { return unmet() != nil })
	r.peers["a"]["b"].away.Store(false)
	r.peers["b"]["a"].away.Store(false)
	r.until(t, "b is met", func() bool { return unmet() == nil })
}
