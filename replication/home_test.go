package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// A site whose process stood still for longer than others wait for it writes nothing homed, though nothing has told it so yet; what it
// is no home of it says at once. R22.
func TestStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := homes(t, "bj", "sh")
		defer func() { _ = errors.Join(all[0].store.Close(), all[1].store.Close()) }()
		mine, theirs := all[0].streamOf(all[0]), all[0].streamOf(all[1])
		site := &Site{o: Options{Config: Config{Site: "bj"}.withDefaults()}, start: time.Now()}
		site.home.Store(&homeLease{until: site.o.lease()})
		all[0].fence.Watch(site.AtHome)
		if err := all[0].pay(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		time.Sleep(site.o.lease())
		if err := all[0].pay(t.Context(), mine); !errors.Is(err, ErrAway) || eventstore.ClassOf(err) != eventstore.Transient {
			t.Errorf("a home that stood still answers %v", err)
		}
		if err := all[0].pay(t.Context(), theirs); !errors.Is(err, eventstore.ErrNotHome) {
			t.Errorf("a stream of another site: %v", err)
		}
	})
}

// streamOf returns a stream that another one is the home of.
func (h *home) streamOf(other *home) eventstore.StreamID {
	for i := 0; ; i++ {
		stream := eventstore.Stream("payment", string(rune('a'+i)))
		if c, _ := h.fence.Cell(eventstore.CellOf(stream)); c.Home == other.shard {
			return stream
		}
	}
}

// A site that may have been taken for gone gives no cell away, and opens none: in an earlier life of its log, or while it was away, both may
// have happened. When it is at home again it does. It shows I16.
func TestNothingGivenWhileAway(t *testing.T) {
	all := homes(t, "bj", "sh")
	bj, sh := all[0], all[1]
	mine := bj.streamOf(bj)
	cell := eventstore.CellOf(mine)
	away := fmt.Errorf("%w: %w", eventstore.ErrUnavailable, ErrAway)
	where := func(h *home) Cell {
		t.Helper()
		c, _, err := h.owner.read(t.Context(), cell)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	var why error
	bj.fence.Watch(func() error { return why })
	sh.fence.Watch(func() error { return why })

	why = away
	if err := bj.owner.Move(t.Context(), cell, sh.shard); !errors.Is(err, ErrAway) {
		t.Errorf("a site that is away gives a cell away: %v", err)
	}
	why = nil
	if c := where(bj); c.Sealed {
		t.Errorf("the cell is sealed for %s", c.Next)
	}
	if err := bj.pay(t.Context(), mine); err != nil {
		t.Errorf("at home again, it does not write what it has not given away: %v", err)
	}
	if err := bj.owner.Move(t.Context(), cell, sh.shard); err != nil {
		t.Fatal(err)
	}

	sh.learnSealed(t, bj)
	why = away
	if err := sh.owner.openSealed(t.Context()); !errors.Is(err, ErrAway) || !passes(err) {
		t.Errorf("a site that is away opens a cell: %v", err)
	}
	why = nil
	if c := where(sh); !c.Sealed {
		t.Error("the cell is open")
	}
	if err := sh.owner.openSealed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := where(sh); c.Home != sh.shard || c.Sealed {
		t.Errorf("at home again, it has not opened the cell that it was given: %+v", c)
	}
}

// learnSealed receives all that another site has, and has the fence know it without opening anything.
func (h *home) learnSealed(t *testing.T, from *home) {
	t.Helper()
	log := eventstore.LogID{Site: from.shard.Region, Shard: from.shard.Number, Incarnation: 1}
	for e, err := range from.store.ReadLog(t.Context(), log, 0) {
		if err == nil {
			_, err = h.store.Receive(t.Context(), []eventstore.Recorded{e})
		}
		if cell, ok := cellOf(&e); ok && err == nil {
			err = h.owner.learn(t.Context(), cell)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// lateStorage is a storage whose fence knows less than is durable.
type lateStorage struct {
	Storage
	durable, takenIn uint64
}

func (s *lateStorage) Durable() uint64 { return s.durable }
func (s *lateStorage) TakenIn() uint64 { return s.takenIn }

// A site that has what others did meanwhile is not at home before its fence knows it, and in a later life of its log it takes nothing that it
// has recorded for known at other sites before it knows what is on record of that. It shows I16 and I17.
func TestReceivedAndNotTakenIn(t *testing.T) {
	for _, life := range []uint32{1, 2} {
		own := eventstore.LogID{Site: "a", Incarnation: life}
		r := newRig("a")
		s := &lateStorage{Storage: &storage{ctx: t.Context(), store: r.stores["a"]}, durable: 9, takenIn: 8}
		c := New(Config{Site: "a", Peers: []string{"b"}, Leases: true, Begun: true}, own, s, Instant{})
		random := rand.New(rand.NewPCG(1, 1))
		c.Step(Instant{}, random, OnRecord{})
		c.Step(Instant{}, random, Topic{})
		b := Heartbeat{Site: "b", Log: eventstore.LogID{Site: "b", Incarnation: 1}, Direct: true, Read: true}
		sent := c.Step(Instant{Mono: c.cfg.Heartbeat}, random, Tick{}).Beat.Sent
		b.Echoes = []Echo{{Site: "a", Sent: sent}}
		at := Instant{Mono: c.cfg.Heartbeat + time.Millisecond}
		c.Step(at, random, b)
		if _, err := c.AtHome(at); !errors.Is(err, ErrAway) || c.vigil.keeps {
			t.Errorf("life %d: at home though the fence does not know what is here: %v", life, err)
		}
		if late := len(c.Lapses()) > 0; late != (life > 1) {
			t.Errorf("life %d: before it is known what is on record: lapses %v", life, c.Lapses())
		}
		s.durable, s.takenIn = 12, 9 // what comes later is not waited for
		c.Step(at, random, Tick{})
		if _, err := c.AtHome(at); err != nil {
			t.Errorf("life %d: not at home: %v", life, err)
		}
		if lapses := c.Lapses(); len(lapses) > 0 {
			t.Errorf("life %d: lapses %v", life, lapses)
		}
	}
}

// What came between a start and the answers of the others has to be known before the site votes, also when it is told who takes part only after
// they have answered.
func TestVotesWhenItKnows(t *testing.T) {
	for _, early := range []bool{true, false} {
		own := eventstore.LogID{Site: "a", Incarnation: 2}
		s := &lateStorage{Storage: &storage{ctx: t.Context(), store: newRig("a").stores["a"]}, durable: 3, takenIn: 3}
		c := New(Config{Site: "a", Peers: []string{"b", "c"}, Leases: true, Begun: true}, own, s, Instant{})
		at, random := Instant{}, rand.New(rand.NewPCG(1, 1))
		tellMembers := func(now bool) {
			if now {
				c.Step(at, random, Members{Sites: []string{"a", "b", "c"}, Auto: true, Takes: true})
			}
		}
		tellMembers(early)
		c.Step(at, random, OnRecord{})
		c.Step(at, random, Topic{})
		at.Mono = c.cfg.Heartbeat
		sent := c.Step(at, random, Tick{}).Beat.Sent
		hear := func(seq uint64, echoes ...Echo) {
			for _, site := range []string{"b", "c"} {
				log := eventstore.LogID{Site: site, Incarnation: 1}
				c.Step(at, random, Heartbeat{Site: site, Log: log, Direct: true, Read: true, Sent: seq, Heads: []eventstore.LogHead{{Log: log, Seq: 3}}, Echoes: echoes})
			}
		}
		hear(1)
		for _, site := range []string{"b", "c"} {
			c.track(eventstore.LogID{Site: site, Incarnation: 1}).held.Seq = 3
		}
		s.durable = 9
		at.Mono += time.Millisecond
		hear(2, Echo{Site: "a", Sent: sent})
		tellMembers(!early)
		if c.mayVote() {
			t.Errorf("members told first: %t: the site votes, and does not know what is on record of what it held when all had answered", early)
		}
		s.takenIn = 9
		c.Step(at, random, Tick{})
		if !c.mayVote() {
			t.Errorf("members told first: %t: the site knows all, and does not vote", early)
		}
	}
}

// What the fence says that it has taken in, the one who is told of takeovers has taken in, too.
func TestTakenInWhenTold(t *testing.T) {
	all := homes(t, "bj", "sh", "sz")
	bj := all[0]
	told := make(chan bool, 1)
	bj.owner.Told = func(_ context.Context, events []eventstore.Recorded) error {
		if len(events) > 0 {
			told <- bj.fence.TakenIn() >= events[len(events)-1].Position.LSN
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bj.owner.Run(ctx) }()
	agree := Entry{site: "sh", kind: TakeoverAgreed, note: takeoverNote{Taker: "sz", Round: 1, Among: []string{"bj", "sh", "sz"}}}
	if err := bj.owner.Enter(t.Context(), agree); err != nil {
		t.Fatal(err)
	}
	if <-told {
		t.Error("the fence has taken in what nobody was told yet")
	}
	waitFor(t, "it is taken in", func() bool {
		state, err := bj.store.Log(t.Context())
		return err == nil && bj.fence.TakenIn() >= state.Durable.LSN
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
