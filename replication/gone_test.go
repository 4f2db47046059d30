package replication

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// reborn is a site that goes on in its second life, with nothing of the first, and beside it site b, which goes on in its second as well
// and has nothing of any earlier one.
type reborn struct {
	*site
	earlier eventstore.LogID
	sent    uint64 // by the site, last
	losses  []string
}

func newReborn() *reborn {
	s := &site{now: Instant{Mono: time.Hour, Wall: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)}, rand: rand.New(rand.NewPCG(1, 2))}
	s.log = memstore.NewLog(memstore.Options{
		LogID: eventstore.LogID{Site: "c", Incarnation: 2}, Clock: hlc.New(func() time.Time { return s.now.Wall }),
	})
	s.core = New(Config{Site: "c", Peers: []string{"b"}}, s.log.ID(), logStorage{s.log}, s.now)
	r := &reborn{site: s, earlier: eventstore.LogID{Site: "c", Incarnation: 1}}
	r.do(Tick{})
	return r
}

// do steps the core and notes what it says.
func (r *reborn) do(in Input) Effects {
	out := r.step(in)
	if out.Beat != nil {
		r.sent = out.Beat.Sent
	}
	for _, a := range out.Alarms {
		if a.Kind == AlarmLost {
			r.losses = append(r.losses, a.Text)
		}
	}
	return out
}

// heard has b answer, which has what is named.
func (r *reborn) heard(heads ...eventstore.LogHead) {
	r.now.Mono += 250 * time.Millisecond
	r.do(Tick{})
	r.do(Heartbeat{
		Site: "b", Log: eventstore.LogID{Site: "b", Incarnation: 2}, Heads: heads, Wall: r.now.Wall, Sent: r.sent + 1,
		Echoes: []Echo{{Site: "c", Sent: r.sent}}, Read: true, Direct: true,
	})
}

// says returns how much of its earlier life the site tells others of.
func (r *reborn) says() uint64 {
	r.now.Mono += time.Second
	out := r.do(Tick{})
	for _, h := range out.Beat.Heads {
		if h.Log == r.earlier {
			return h.Seq
		}
	}
	return 0
}

// What was decided with something that is gone is given up only when the site's topic was read: before, that would have to be judged again by
// who drops what comes of it. Shows I5.
func TestOrphansAreGivenUpWhenTheTopicWasRead(t *testing.T) {
	for _, late := range []bool{false, true} {
		b, c := newSite(t, "b", "c"), newSite(t, "c", "b")
		c.step(Arrived{b.write(t, "x", 1)})
		orphans := c.write(t, "x", 3)
		head := c.core.ownHead()

		r := newReborn()
		topic := func() {
			r.do(Topic{[]eventstore.LogHead{head, {Log: r.log.ID(), Chain: eventstore.ChainStart(r.log.ID())}}})
		}
		if !late {
			topic()
		}
		r.do(Arrived{slices.Clone(orphans)})
		r.heard()
		if late {
			topic()
		}
		for range 10 { // it is read again as often as it is asked for
			r.heard()
			r.do(Arrived{slices.Clone(orphans)})
		}
		if err := r.core.Whole(); err != nil {
			t.Errorf("topic read late: %t: the site waits for what nobody has: %v", late, err)
		}
		if len(r.losses) != 1 || !strings.Contains(r.losses[0], "from seq 1 to 3 are lost for good") {
			t.Errorf("topic read late: %t: it is said that these are lost: %q; want that all 3 events are", late, r.losses)
		}
		if said := r.says(); said != 0 {
			t.Errorf("topic read late: %t: others are told that there are %d events of the earlier life", late, said)
		}
	}
}

// Of an earlier life that its topic and all other sites tell of, a site waits for what can be read there, and for nothing else. Shows I5.
func TestWhatATopicCannotGiveIsGivenUp(t *testing.T) {
	r := newReborn()
	head := eventstore.LogHead{Log: r.earlier, Seq: 3, Chain: eventstore.Hash{1}}
	has := func(after, through uint64, empty bool) {
		r.do(TopicHas{Log: r.earlier, After: after, Through: through, Empty: empty})
	}
	waits := func(why string) {
		t.Helper()
		if err := r.core.Whole(); err == nil || len(r.losses) > 0 {
			t.Fatalf("%s, and it is not waited for what there was before: %q", why, r.losses)
		}
	}
	r.heard(head)
	r.heard()
	has(0, 0, false)
	waits("the topic was not read to its end")
	r.do(Topic{[]eventstore.LogHead{head, {Log: r.log.ID(), Chain: eventstore.ChainStart(r.log.ID())}}})
	waits("the topic ends with the earlier life")
	has(0, 2, false)
	waits("the topic has a batch that can be read")
	has(0, 0, true)
	waits("the topic was made anew")
	has(2, 2, false)
	waits("the topic was asked for something else")
	r.heard(head)
	has(0, 0, false)
	waits("another site has it")
	r.heard()
	has(0, 0, false)
	if err := r.core.Whole(); err != nil || len(r.losses) != 1 {
		t.Errorf("the site waits for what neither its topic nor another site can give: %v; it says %q", err, r.losses)
	}
	if said := r.says(); said != 0 {
		t.Errorf("others are told that there are %d events of the earlier life", said)
	}
}

// barrenTopic tells of lives of which it can give nothing any more.
type barrenTopic struct{ *memTopic }

func (barrenTopic) Behind(_ context.Context, log eventstore.LogID, held []eventstore.LogHead) (through uint64, anything bool, err error) {
	for _, h := range held {
		if h.Log == log {
			through = h.Seq
		}
	}
	return through, true, nil
}

// A site looks into its topic for each of its earlier lives. Shows I5.
func TestTopicIsLookedInto(t *testing.T) {
	r := newRig("a", "b")
	life := func(incarnation uint32, seq uint64) eventstore.LogHead {
		return eventstore.LogHead{Log: eventstore.LogID{Site: "a", Incarnation: incarnation}, Seq: seq}
	}
	r.stores["a"] = memstore.New(memstore.Options{LogID: life(3, 0).Log})
	r.topics["a"] = newMemTopic(r.stores["a"])
	r.topics["a"].ends = []eventstore.LogHead{life(1, 4), life(2, 7), {Log: life(3, 0).Log, Chain: eventstore.ChainStart(life(3, 0).Log)}}
	r.links["b"]["a"].of = r.stores["a"]
	r.start(t, func(name string, o *Options) {
		if o.PullTimeout = 50 * time.Millisecond; name == "a" {
			o.Topic = barrenTopic{r.topics["a"]}
		}
	})
	r.until(t, "the site waits for nothing of its earlier lives", func() bool { return r.sites["a"].Whole() == nil })
	o, err := r.sites["a"].Overview(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lost []uint32
	for _, a := range o.Alarms {
		if a.Kind == AlarmLost {
			lost = append(lost, a.Log.Incarnation)
		}
	}
	slices.Sort(lost)
	if !slices.Equal(lost, []uint32{1, 2}) {
		t.Errorf("it is said that events of the lives %v are lost, want 1 and 2", lost)
	}
}
