package replication

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// What a home wrote and its taker did not know is not acknowledged as being at another site, whoever holds it and whenever; what stands
// before that, what the home wrote when its fence knew, and what is not homed is. It shows I17.
func TestLapses(t *testing.T) {
	first, second := eventstore.LogID{Site: "a", Incarnation: 1}, eventstore.LogID{Site: "a", Incarnation: 2}
	event := func(log eventstore.LogID, seq uint64, kind string, n takeoverNote, dep ...eventstore.Dot) eventstore.Recorded {
		payload, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		return eventstore.Recorded{
			Event: eventstore.Event{Type: kind, Payload: payload}, Stream: TakeoverStream("a"), Dot: eventstore.Dot{Log: log, Seq: seq}, Dep: dep,
		}
	}
	taker := eventstore.LogID{Site: "b", Incarnation: 1}
	all := tenures{}
	read := func(e eventstore.Recorded) {
		t.Helper()
		if err := all.read([]eventstore.Recorded{e}); err != nil {
			t.Fatal(err)
		}
	}
	held := eventstore.Vector{{Log: first, Seq: 9}, {Log: second, Seq: 9}}
	holds := func(log eventstore.LogID, seq uint64, homed bool) bool {
		e := elsewhere{held: held, lapses: all.of("a").lapses}
		return e.holds(kept{eventstore.Dot{Log: log, Seq: seq}, homed})
	}
	read(event(first, 2, TakeoverBound, takeoverNote{Leased: true}))
	if !holds(first, 9, true) {
		t.Error("nobody has taken over, and what another site has is not acknowledged")
	}
	read(event(taker, 7, TakeoverDone, takeoverNote{Taker: "b", Round: 1}, eventstore.Dot{Log: first, Seq: 4}))
	for _, c := range []struct {
		log   eventstore.LogID
		seq   uint64
		homed bool
		want  bool
	}{{first, 4, true, true}, {first, 5, true, false}, {first, 5, false, true}, {second, 1, true, false}} {
		if got := holds(c.log, c.seq, c.homed); got != c.want {
			t.Errorf("before the home knows: %s/%d, homed %t, is acknowledged: %t", c.log, c.seq, c.homed, got)
		}
	}
	read(event(second, 3, TakeoverBound, takeoverNote{Leased: true, Knows: 1}))
	for _, c := range []struct {
		log  eventstore.LogID
		seq  uint64
		want bool
	}{{first, 4, true}, {first, 9, false}, {second, 2, false}, {second, 4, true}} {
		if got := holds(c.log, c.seq, true); got != c.want {
			t.Errorf("when the home knows: %s/%d is acknowledged: %t", c.log, c.seq, got)
		}
	}
}

// Before a site knows what is on record of takeovers nothing homed that it has recorded is acknowledged as being at another site, and what is
// not homed is. It shows I17.
func TestLapsesBeforeTheRecord(t *testing.T) {
	own := eventstore.LogID{Site: "a", Incarnation: 1}
	r := newRig("a")
	c := New(Config{Site: "a", Peers: []string{"b", "c"}, Leases: true, Begun: true}, own, &storage{ctx: t.Context(), store: r.stores["a"], takenIn: func() uint64 { return 0 }}, Instant{})
	holds := func(homed bool) bool {
		e := elsewhere{held: eventstore.Vector{{Log: own, Seq: 9}}, lapses: c.Lapses()}
		return e.holds(kept{eventstore.Dot{Log: own, Seq: 3}, homed})
	}
	if holds(true) || !holds(false) {
		t.Errorf("before it is known what is on record: homed %t, not homed %t is acknowledged", holds(true), holds(false))
	}
	c.Step(Instant{}, rand.New(rand.NewPCG(1, 1)), OnRecord{})
	if !holds(true) {
		t.Error("nobody has taken over, and what another site has is not acknowledged")
	}
}

// A member that proposed to take over, died in the middle of that, and left keeps no other one from doing so.
func TestProposedByOneWhoLeft(t *testing.T) {
	all := tenures{}
	payload, err := json.Marshal(takeoverNote{Taker: "b", Round: 3, Among: []string{"a", "b", "c"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := all.read([]eventstore.Recorded{{
		Event: eventstore.Event{Type: TakeoverAgreed, Payload: payload}, Stream: TakeoverStream("a"), Dot: eventstore.Dot{Log: eventstore.LogID{Site: "b", Incarnation: 1}, Seq: 1},
	}}); err != nil {
		t.Fatal(err)
	}
	if n, ok := all.of("a").proposed([]string{"a", "b", "c"}); !ok || n.Taker != "b" || n.Round != 3 {
		t.Errorf("proposed: %+v, %t", n, ok)
	}
	if n, ok := all.of("a").proposed([]string{"a", "c"}); ok {
		t.Errorf("proposed still, by one that has left: %+v", n)
	}
}

// Who takes over waits for what another site has said that it has of the home's log, also when that has less by now: the home may have
// acknowledged it as being there. What the home says of itself nobody else may have.
func TestCopiesThatWereHeardOf(t *testing.T) {
	s := newSite(t, "b", "a", "c")
	a := eventstore.LogID{Site: "a", Incarnation: 1}
	says := func(site string, seq uint64) {
		s.now.Mono += time.Second
		s.step(Heartbeat{
			Site: site, Direct: true, Sent: uint64(s.now.Mono), Wall: s.now.Wall, Log: eventstore.LogID{Site: site, Incarnation: 1},
			Heads: []eventstore.LogHead{{Log: a, Seq: seq, Chain: eventstore.Hash{1}}},
		})
	}
	wants := func(when string, want bool) {
		t.Helper()
		if log, lacks := s.core.lacksCopies("a"); lacks != want || lacks && log != a {
			t.Errorf("%s: it lacks copies of %s: %t, want %t", when, log, lacks, want)
		}
	}
	says("a", 30)
	wants("the home has more than others", false)
	says("c", 24)
	wants("another site has more", true)
	says("c", 22) // it was put back
	s.core.track(a).held.Seq = 22
	wants("the other one has it no more", true)
	s.core.track(a).held.Seq = 24
	wants("it is here", false)
}
