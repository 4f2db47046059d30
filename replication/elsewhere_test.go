package replication

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/durable"
)

// peered appends with durability Peer at a site of a rig.
func (r *rig) peered(ctx context.Context, name, id string) (eventstore.Receipt, error) {
	s := durable.New(r.stores[name], map[eventstore.Durability]durable.Keeper{eventstore.Peer: r.sites[name]})
	return s.Append(ctx, eventstore.Request{ID: id, Durability: eventstore.Peer, Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
	}}})
}

// reachable waits until an append may wait for another site.
func (r *rig) reachable(t *testing.T, name string) {
	t.Helper()
	r.until(t, "site "+name+" has another to wait for", func() bool { return r.sites[name].Writable() == nil && r.sites[name].Available() == nil })
}

// What has come to another site, and is not on its disk, is not said to be there, however often that site speaks; the same
// request waits again, and is answered when the disk has it. Shows R13.
func TestPeerIsTheOtherSitesDisk(t *testing.T) {
	r := newRig("a", "b")
	open := make(chan struct{})
	r.start(t, func(name string, o *Options) {
		if name == "b" {
			o.Store = stuckStore{r.stores["b"], open}
		}
	})
	r.reachable(t, "a")
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	receipt, err := r.peered(short, "a", "p")
	if !errors.Is(err, eventstore.ErrDurabilityTimeout) || receipt.Reached != eventstore.Local || receipt.Dot.Seq != 1 {
		t.Fatalf("b has not synced the event: %+v, %v", receipt, err)
	}
	r.until(t, "b has the event in memory", func() bool {
		o, err := r.sites["b"].Overview(t.Context())
		return err == nil && len(o.Logs) == 1 && o.Logs[0].Known == 1 && o.Logs[0].Held == 0
	})
	beats, leave := r.sites["b"].subscribe()
	for range 3 {
		<-beats
	}
	leave()
	if r.sites["a"].Keeps(&receipt) {
		t.Error("an event that b has in memory is said to be on its disk")
	}
	close(open)
	receipt, err = r.peered(t.Context(), "a", "p")
	if err != nil || receipt.Reached != eventstore.Peer || !receipt.Duplicate {
		t.Errorf("repeated: %+v, %v", receipt, err)
	}
	if heads := r.heads(t, "b"); !strings.Contains(heads, "{shard-00@a/1 1 ") {
		t.Errorf("acknowledged, and b holds %s", heads)
	}
}

// What another site has synced it says at once, and not when it next speaks.
func TestHeldIsSaidAtOnce(t *testing.T) {
	const between = 2 * time.Second
	r := newRig("a", "b")
	r.start(t, func(_ string, o *Options) { o.Heartbeat, o.Suspect = between, 5*between })
	r.reachable(t, "a")
	begun := time.Now()
	for range 5 {
		if _, err := r.peered(t.Context(), "a", ""); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > 2*between {
		t.Errorf("five appends, one after the other, took %s, with heartbeats every %s", took, between)
	}
}

// With no other site that is heard and keeps up, appends that would wait for one are refused, with the mode, before anything is
// recorded.
func TestNobodyToWaitFor(t *testing.T) {
	r := newRig("a", "b")
	open := make(chan struct{})
	r.start(t, func(name string, o *Options) {
		o.MaxPeerBehind = 10
		if name == "b" {
			o.Store = stuckStore{r.stores["b"], open}
		}
	})
	refused := func(mode Mode, why string) {
		t.Helper()
		var unpeered *UnpeeredError
		r.until(t, "a says that it is "+string(mode), func() bool { return errors.As(r.sites["a"].Available(), &unpeered) && unpeered.Mode == mode })
		before := r.heads(t, "a")
		_, err := r.peered(t.Context(), "a", "")
		if !errors.Is(err, eventstore.ErrUnavailable) || !errors.As(err, &unpeered) || unpeered.Mode != mode || !strings.Contains(err.Error(), why) {
			t.Errorf("a, which is %s, answers %v", mode, err)
		}
		if after := r.heads(t, "a"); after != before {
			t.Errorf("a held %s before it refused, and holds %s", before, after)
		}
	}
	r.reachable(t, "a")
	for range 11 {
		r.write(t, "a", "1", 1, 10)
	}
	refused(Degraded, "b lacks 11 events")
	close(open)
	r.reachable(t, "a")
	if _, err := r.peered(t.Context(), "a", ""); err != nil {
		t.Errorf("b has caught up: %v", err)
	}
	r.cut("b", true)
	refused(Isolated, "none has been heard")
	r.write(t, "a", "1", 1, 10)
	r.cut("b", false)
	r.reachable(t, "a")
}

// A site that does not take what it lacked some time ago is not waited for, however little it lacks.
func TestLagIsSinceTheLogWasThere(t *testing.T) {
	f := follower{behind: 1, since: 3 * time.Second}
	if lag := f.lag(8 * time.Second); lag != 5*time.Second {
		t.Errorf("lag %s, want 5s", lag)
	}
	f.behind = 0
	if lag := f.lag(8 * time.Second); lag != 0 {
		t.Errorf("a site that has all lags %s behind", lag)
	}
}

// A heartbeat that was not taken goes with the next one: nothing that was said to be held is unsaid.
func TestHeartbeatsTogether(t *testing.T) {
	log := func(site string) eventstore.LogID { return eventstore.LogID{Site: site, Incarnation: 1} }
	beat := func(partial bool, heads ...eventstore.LogHead) *Heartbeat {
		return &Heartbeat{Site: "b", Partial: partial, Heads: heads}
	}
	a3, a5, b2, b9, c1 := eventstore.LogHead{Log: log("a"), Seq: 3}, eventstore.LogHead{Log: log("a"), Seq: 5}, eventstore.LogHead{Log: log("b"), Seq: 2},
		eventstore.LogHead{Log: log("b"), Seq: 9}, eventstore.LogHead{Log: log("c"), Seq: 1}
	for name, c := range map[string]struct{ before, after, want *Heartbeat }{
		"all, then more":      {beat(false, a3, b2), beat(true, a5), beat(false, a5, b2)},
		"more, then all":      {beat(true, a5, c1), beat(false, a3, b9), beat(false, a5, b9, c1)},
		"more, then more":     {beat(true, c1), beat(true, a5), beat(true, a5, c1)},
		"all, then all":       {beat(false, a3, b2), beat(false, a5, b9), beat(false, a5, b9)},
		"more of another log": {beat(true, a5), beat(true, a3), beat(true, a5)},
	} {
		if diff := cmp.Diff(*c.want, c.before.and(c.after)); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// A lease that a site does not acknowledge any more is not said to be, whoever speaks, and whatever lay there from before. It shows I17.
func TestWithdrawnGrantIsNotTold(t *testing.T) {
	r := newRig("b")
	s, err := NewSite(Options{Config: Config{Site: "b"}, Store: r.stores["b"], Topic: r.topics["b"]})
	if err != nil {
		t.Fatal(err)
	}
	beats, leave := s.subscribe()
	defer leave()
	told := func(granted ...string) {
		t.Helper()
		if h := <-beats; !slices.Equal(h.Grants, granted) {
			t.Errorf("the site says that it acknowledges the leases of %q, want %q", h.Grants, granted)
		}
	}
	s.grants.Store(&[]string{"a", "c"})
	s.spread(Heartbeat{Site: "b"})
	told("a", "c")
	s.spread(Heartbeat{Site: "b"})
	s.grants.Store(&[]string{"c"})
	s.spread(Heartbeat{Site: "b", Partial: true, Grants: []string{"a", "c"}}) // what was to be said before the withdrawal
	told("c")
	s.spread(Heartbeat{Site: "b"})
	s.grants.Store(&[]string{"a", "c"})
	s.spread(Heartbeat{Site: "b", Partial: true}) // has no answers of its own, but those of before
	told("c")
}

// What a site holds beyond what it has said counts once it has said all: what it says then is compared.
func TestMoreCountsAfterAll(t *testing.T) {
	r := newRig("a")
	own := eventstore.LogID{Site: "a", Incarnation: 1}
	if _, err := r.stores["a"].Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
	}}}); err != nil {
		t.Fatal(err)
	}
	storage := &storage{ctx: t.Context(), store: r.stores["a"]}
	random := rand.New(rand.NewPCG(1, 1))
	c := New(Config{Site: "a", Peers: []string{"b"}, Begun: true}, own, storage, Instant{})
	more := Heartbeat{Site: "b", Log: eventstore.LogID{Site: "b", Incarnation: 1}, Heads: []eventstore.LogHead{{Log: own, Seq: 1}}, Direct: true, Partial: true}
	c.Step(Instant{}, random, more)
	if held := c.Elsewhere(); len(held) > 0 {
		t.Errorf("before b has said all, %v counts as held elsewhere", held)
	}
	all := more
	all.Partial, all.Heads = false, nil
	c.Step(Instant{}, random, all)
	c.Step(Instant{}, random, more)
	if held := c.Elsewhere(); held.At(own) != 1 {
		t.Errorf("then %v is held elsewhere, want seq 1 of %s", held, own)
	}
	forked := all
	forked.Heads = []eventstore.LogHead{{Log: own, Seq: 1, Chain: eventstore.Hash{1}}}
	c.Step(Instant{}, random, forked)
	if held := c.Elsewhere(); held.At(own) != 0 {
		t.Errorf("b has another event there, and it counts: %v", held)
	}
}
