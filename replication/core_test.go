package replication

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// logStorage is a log as a core sees it.
type logStorage struct{ *memstore.Log }

func (s logStorage) Heads() []eventstore.LogHead { return s.DurableHeads() }

func (s logStorage) Durable() uint64 { return s.Log.Durable().LSN }

func (s logStorage) TakenIn() uint64 { return s.Durable() }

func (s logStorage) ChainAt(log eventstore.LogID, seq uint64) (eventstore.Hash, bool) {
	if seq == 0 {
		return eventstore.ChainStart(log), true
	}
	events := s.OfLog(log, seq-1, 1)
	if len(events) == 0 {
		return eventstore.Hash{}, false
	}
	return events[0].Chain, true
}

// site is a site whose messages the test carries by hand.
type site struct {
	log  *memstore.Log
	core *Core
	now  Instant
	rand *rand.Rand
}

func newSite(t *testing.T, name string, peers ...string) *site {
	t.Helper()
	s := &site{now: Instant{Mono: time.Hour, Wall: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)}, rand: rand.New(rand.NewPCG(1, 2))}
	s.log = memstore.NewLog(memstore.Options{
		LogID: eventstore.LogID{Site: name, Incarnation: 1},
		Clock: hlc.New(func() time.Time { return s.now.Wall }),
	})
	s.core = New(Config{Site: name, Peers: peers}, s.log.ID(), logStorage{s.log}, s.now)
	s.step(Topic{})
	return s
}

// step steps the core, and does at once what it wants of the store.
func (s *site) step(in Input) Effects {
	out := s.core.Step(s.now, s.rand, in)
	for more := out.Receive; len(more) > 0; {
		r := more[0]
		more = more[1:]
		if _, err := s.log.Receive(r.Events); err != nil {
			more = append(more, s.core.Step(s.now, s.rand, Refused{r.Log, err}).Receive...)
			continue
		}
		s.log.Sync()
		for _, h := range s.log.DurableHeads() {
			if h.Log == r.Log {
				after := s.core.Step(s.now, s.rand, Received{h})
				more = append(more, after.Receive...)
				out.Pulls = append(out.Pulls, after.Pulls...)
				out.Alarms = append(out.Alarms, after.Alarms...)
			}
		}
	}
	return out
}

func (s *site) write(t *testing.T, stream string, n int) []eventstore.Recorded {
	t.Helper()
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i].Type = "cart.changed.v1"
	}
	if _, err := s.log.Accept(eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("cart", stream), Events: events}}}); err != nil {
		t.Fatal(err)
	}
	s.log.Sync()
	all := s.log.OfLog(s.log.ID(), 0, 1000)
	s.step(Mirrored{all[len(all)-1].Dot})
	return all[len(all)-n:]
}

func (s *site) pass(d time.Duration) Effects {
	s.now.Mono += d
	s.now.Wall = s.now.Wall.Add(d)
	return s.step(Tick{})
}

// seconds passes them one by one, until the site wants another life.
func (s *site) seconds(n int) (out Effects) {
	for ; n > 0 && out.Life == 0; n-- {
		out = s.pass(time.Second)
	}
	return out
}

func held(s *site, log eventstore.LogID) uint64 {
	for _, h := range s.log.DurableHeads() {
		if h.Log == log {
			return h.Seq
		}
	}
	return 0
}

// What is missing in the middle and at the end is pulled from whoever has it; what depends on other logs waits for them.
func TestGapsAndCauses(t *testing.T) {
	a, b, c := newSite(t, "a", "b", "c"), newSite(t, "b", "a", "c"), newSite(t, "c", "a", "b")
	var ofA []eventstore.Recorded
	for range 3 {
		ofA = append(ofA, a.write(t, "1", 2)...)
	}
	for range ofA[:2] { // b gets the first batch twice
		b.step(Arrived{ofA[:2]})
	}
	if got := held(b, a.log.ID()); got != 2 {
		t.Fatalf("b holds %d events of a, want 2", got)
	}
	b.step(Arrived{ofA[2:]})
	ofB := b.write(t, "1", 1)

	// c gets what b decided with a's events before them.
	c.step(Arrived{ofB})
	if got := held(c, b.log.ID()); got != 0 {
		t.Fatalf("c received %d events of b before what they were decided with", got)
	}
	c.step(Arrived{ofA[4:]})
	beat := b.pass(time.Second).Beat
	if beat == nil {
		t.Fatal("b does not speak")
	}
	c.step(*beat)
	pulls := c.pass(300 * time.Millisecond).Pulls
	if len(pulls) != 1 || pulls[0].Site != "b" || pulls[0].Log != a.log.ID() || pulls[0].After != 0 {
		t.Fatalf("c asks %+v, want b for what a wrote", pulls)
	}
	c.step(Pulled{Pull: pulls[0], Chain: eventstore.ChainStart(a.log.ID()), Events: b.log.OfLog(a.log.ID(), 0, 4)})
	c.pass(time.Millisecond)
	if gotA, gotB := held(c, a.log.ID()), held(c, b.log.ID()); gotA != 6 || gotB != 1 {
		t.Errorf("c holds %d events of a and %d of b, want 6 and 1", gotA, gotB)
	}
	if conflicts := Conflicts(c.log.Stream(eventstore.Stream("cart", "1"))); len(conflicts) != 0 {
		t.Errorf("conflicts %+v, want none: b knew all of a", conflicts)
	}
}

// What an earlier life has left unpublished does not leave the site before it is in the topic, or anything of the present one is.
func TestEarlierLifeLeavesThroughTheTopic(t *testing.T) {
	a := newSite(t, "a", "b")
	a.write(t, "1", 1)
	first := a.log.ID()
	end := a.log.DurableHeads()
	a.write(t, "1", 1) // the topic does not have it
	a.log.Live(2)
	says := func() (seq uint64) {
		for _, h := range a.pass(time.Second).Beat.Heads {
			if h.Log == first {
				seq = h.Seq
			}
		}
		return seq
	}
	begin := func() {
		a.core = New(Config{Site: "a", Peers: []string{"b"}, Begun: true}, a.log.ID(), logStorage{a.log}, a.now)
		if got := says(); got != 0 {
			t.Errorf("before its topic is read, the site says that it has %d events of life 1", got)
		}
		a.step(Topic{end})
		if got := says(); got != 1 {
			t.Errorf("the site says that it has %d events of life 1, and its topic has 1", got)
		}
	}
	begin()
	a.step(Mirrored{eventstore.Dot{Log: first, Seq: 2}})
	if got := says(); got != 2 {
		t.Errorf("the site says that it has %d events of life 1, and its topic has both", got)
	}
	begin()
	a.step(Mirrored{eventstore.Dot{Log: a.log.ID(), Seq: 1}})
	if got := says(); got != 2 {
		t.Errorf("the site says that it has %d events of life 1, and cannot go on in it any more", got)
	}
}

// A site whose folder was put back learns it from its topic, or from others, and goes on in another life.
func TestFolderPutBack(t *testing.T) {
	a := newSite(t, "a", "b")
	a.write(t, "1", 2)
	backup := a.log.Copy(hlc.New(func() time.Time { return a.now.Wall }))
	a.write(t, "1", 1)
	end := a.log.DurableHeads()

	a.log = backup
	a.core = New(Config{Site: "a", Peers: []string{"b"}}, a.log.ID(), logStorage{a.log}, a.now)
	if a.core.Writable() == nil {
		t.Error("a site that has just started takes writes")
	}
	if out := a.step(Topic{end}); out.Life != 2 || len(out.Alarms) != 1 {
		t.Errorf("told of events that it lacks, the site does %+v, want life 2 and an alarm", out)
	}
	a.core = New(Config{Site: "a", Peers: []string{"b"}}, a.log.ID(), logStorage{a.log}, a.now)
	if out := a.seconds(11); out.Life < 3 {
		t.Errorf("without its topic, the site begins life %d, want one that nobody has used", out.Life)
	}
	a.core = New(Config{Site: "a", Peers: []string{"b"}, Begun: true}, a.log.ID(), logStorage{a.log}, a.now)
	out := a.seconds(11)
	if out.Life != 0 || a.core.Writable() != nil {
		t.Errorf("in the life that it has just begun, without its topic, the site wants life %d and says %v", out.Life, a.core.Writable())
	}
}

// A topic that is slow to be read is waited for as long as it answers more, a minute in all; so is one that could not be read because the
// process did not run.
func TestTopicIsSlowToBeRead(t *testing.T) {
	a := newSite(t, "a", "b")
	a.write(t, "1", 2)
	start := func() { a.core = New(Config{Site: "a", Peers: []string{"b"}}, a.log.ID(), logStorage{a.log}, a.now) }

	start()
	for range 6 {
		if out := a.seconds(9); out.Life != 0 {
			t.Fatalf("the topic is being read, and the site begins life %d: %s", out.Life, out.LifeWhy)
		}
		a.step(TopicAnswers{})
	}
	if a.core.Writable() == nil {
		t.Error("a site takes writes before its topic is read")
	}
	if out := a.step(Topic{a.log.DurableHeads()}); out.Life != 0 || a.core.Writable() != nil {
		t.Errorf("its topic is read, and the site wants life %d and says %v", out.Life, a.core.Writable())
	}

	start()
	waited := 0
	for ; waited < 100; waited++ {
		if out := a.step(TopicAnswers{}); out.Life != 0 {
			break
		}
		a.seconds(1)
	}
	if waited != 60 {
		t.Errorf("a topic that answers for ever is waited for for %d s, want 60", waited)
	}

	start()
	for range 9 {
		if out := a.pass(time.Minute); out.Life != 0 {
			t.Fatalf("the process stood still for a minute, and the site begins life %d: %s", out.Life, out.LifeWhy)
		}
	}
	if out := a.seconds(1); out.Life == 0 {
		t.Error("after 10 s in which the process ran, the site still waits for its topic")
	}
}

// A site that gets logs which depend on each other event by event, as those of sites that write at the same time, receives them step by
// step: a step costs what is ready, not what waits.
func TestLogsThatDependOnEachOther(t *testing.T) {
	a, b, c := newSite(t, "a", "b", "c"), newSite(t, "b", "a", "c"), newSite(t, "c", "a", "b")
	const each = 300
	var ofA, ofB []eventstore.Recorded
	for range each {
		ofA = append(ofA, a.write(t, "1", 1)...)
		b.step(Arrived{ofA[len(ofA)-1:]})
		ofB = append(ofB, b.write(t, "2", 1)...)
		a.step(Arrived{ofB[len(ofB)-1:]})
	}
	c.step(Arrived{ofB})
	if n := held(c, b.log.ID()); n != 0 {
		t.Fatalf("%d events are held before what they depend on", n)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.step(Arrived{ofA})
	runtime.ReadMemStats(&after)
	if n, m := held(c, a.log.ID()), held(c, b.log.ID()); n != each || m != each {
		t.Fatalf("%d and %d events are held of two times %d", n, m, each)
	}
	if taken := (after.TotalAlloc - before.TotalAlloc) / (2 * each); taken > 40<<10 {
		t.Errorf("an event takes %d bytes to be received while %d wait", taken, each)
	}
}

// A site that joins, or joins again, is not taken for one that has been silent all the time before: it has as long as any other to be
// heard. R16.
func TestSiteThatJoinsIsNotSilent(t *testing.T) {
	s := newSite(t, "bj", "sh")
	over := s.core.cfg.TakeOver
	for _, names := range [][]string{{"sh", "sz"}, {"sh"}, {"sh", "sz"}} {
		s.now.Mono += time.Hour
		s.core.Step(s.now, s.rand, Others{names})
	}
	joined := s.now
	for _, c := range []struct {
		after  time.Duration
		silent bool
	}{{0, false}, {over - time.Millisecond, false}, {over, true}} {
		now := joined
		now.Mono += c.after
		if got := s.core.silent(now, "sz"); got != c.silent {
			t.Errorf("%s after it has joined it is silent: %v", c.after, got)
		}
	}
}

// What a site said before does not take back what it has said since: a site that has just started waits for all that another one had when it
// answered, though an earlier message of that comes late. It shows R22.
func TestOvertakenHeartbeat(t *testing.T) {
	a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
	before := *b.speak()
	b.pass(250 * time.Millisecond)
	events := b.write(t, "1", 2)
	b.step(*a.speak())
	a.step(*b.speak())
	for _, late := range []Input{Tick{}, before} {
		a.step(late)
		if _, err := a.core.AtHome(a.now); err == nil {
			t.Errorf("after %T, of before, the site that has just started is at home, and lacks what another one had when it answered", late)
		}
	}
	a.step(Arrived{events})
	if _, err := a.core.AtHome(a.now); err != nil {
		t.Errorf("a site that has all that others had when they answered says %v", err)
	}
}
