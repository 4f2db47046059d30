package replication

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// sync has one of two sites speak, the other answer after a while, and the time pass that both ways take, at all sites.
func (s *site) sync(there, back, idle time.Duration, other *site, rest ...*site) {
	all := append([]*site{s, other}, rest...)
	wait := func(d time.Duration) {
		for _, each := range all {
			each.now.Mono += d
			each.now.Wall = each.now.Wall.Add(d)
		}
	}
	said := *s.speak()
	wait(there)
	other.step(said)
	wait(idle)
	answer := *other.speak()
	wait(back)
	s.step(answer)
}

// speak returns what the site says when it is asked to now.
func (s *site) speak() *Heartbeat {
	s.core.nextBeat = s.now.Mono
	return s.step(Tick{}).Beat
}

// starts has a site's process start with its time of day off by so much from what it was.
func (s *site) starts(by time.Duration, peers ...string) {
	s.now.Wall = s.now.Wall.Add(by)
	s.now.Jump = 0
	s.core = New(Config{Site: s.log.ID().Site, Peers: peers}, s.log.ID(), logStorage{s.log}, s.now)
	s.step(Topic{s.log.DurableHeads()})
}

// jumps has the time of day of a site's machine jump.
func (s *site) jumps(by time.Duration) { s.now.Jump += by }

// follows steps a site, which is to follow the jump of its machine, or is not to.
func (s *site) follows(t *testing.T, want bool) {
	t.Helper()
	out := s.step(Tick{})
	if got := out.Follow != 0; got != want || got && out.Follow != s.now.Jump {
		t.Fatalf("site %s, whose machine has jumped by %s, follows by %s; want that it does: %t", s.log.ID().Site, s.now.Jump, out.Follow, want)
	}
	s.now.Wall = s.now.Wall.Add(out.Follow)
	s.now.Jump -= out.Follow
}

// takes checks whether a site takes writes, and what mode it is in.
func (s *site) takes(t *testing.T, want bool, mode Mode) {
	t.Helper()
	s.step(Tick{})
	err, status := s.core.Writable(), s.core.Status(s.now)
	if (err == nil) != want || status.Mode != mode {
		t.Errorf("site %s is %s (%+v) and answers %v; want %s, taking writes: %t", s.log.ID().Site, status.Mode, status.Clock, err, mode, want)
	}
	if err != nil && (!errors.Is(err, ErrClock) || !errors.Is(err, eventstore.ErrUnavailable) || eventstore.ClassOf(err) != eventstore.Transient) {
		t.Errorf("site %s refuses with %v, want ErrClock and ErrUnavailable, to be tried again", s.log.ID().Site, err)
	}
}

const ms = time.Millisecond

// However long messages take, each way by itself, a clock is off by something between the bounds that are read.
func TestReadingsHoldTheTruth(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		some := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
		a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
		truth := some(4*time.Hour) - 2*time.Hour
		b.now.Wall = b.now.Wall.Add(truth)
		b.starts(0, "a")
		for range 20 {
			a.sync(some(time.Second), some(time.Second), some(250*ms), b)
			if random.IntN(5) == 0 { // its time of day is set
				by := some(time.Second) - 500*ms
				a.now.Wall = a.now.Wall.Add(by)
				truth -= by
				a.step(Tick{})
			}
			r := a.core.peer("b").clock.best()
			if r == nil || r.low > truth || r.high < truth {
				t.Fatalf("seed %d: the other clock is ahead by %s, and was read as %+v", seed, truth, r)
			}
			if p := a.core.Status(a.now).Peers[0]; p.Within >= 0 && (p.Ahead-truth).Abs() > p.Within {
				t.Fatalf("seed %d: the other clock is ahead by %s, and is said to be by %s ± %s", seed, truth, p.Ahead, p.Within)
			}
		}
	}
}

// A machine that is busy hears late and answers late. Its clock is right, and nobody says otherwise; and one that is wrong is found by the
// message that was quick.
func TestLateHeartbeats(t *testing.T) {
	a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
	for i := range 100 {
		slow := 600 * ms
		if i%5 == 0 {
			slow = ms
		}
		a.sync(slow/20, slow, 100*ms, b)
		a.takes(t, true, Normal)
	}
	for range 20 { // nothing is quick any more
		a.sync(1500*ms, 10*ms, 10*ms, b)
		a.takes(t, true, Normal)
		a.sync(10*ms, 1500*ms, 10*ms, b)
		a.takes(t, true, Normal)
	}
	a.starts(600*ms, "b")
	for range 4 {
		a.sync(300*ms, 300*ms, 10*ms, b)
	}
	if a.core.clock.Ahead != 0 {
		t.Errorf("the site is said to be ahead by %s, and messages take as long", a.core.clock.Ahead)
	}
	a.sync(ms, ms, 10*ms, b)
	a.sync(300*ms, 300*ms, 10*ms, b)
	a.takes(t, false, FencedClock)
	if p := a.core.Status(a.now).Peers[0]; p.Within < 0 || p.Within > 2*ms {
		t.Errorf("a message that was quick told of the other clock, and a slow one has come since: it is said to be ahead by %s ± %s", p.Ahead, p.Within)
	}
}

// After a start nothing is recorded before another site has said what time it is: the first that it says is enough when it says that the
// clock is not ahead. A site that hears nobody goes on. It shows R25.
func TestStartWaitsForAnother(t *testing.T) {
	for _, by := range []time.Duration{0, -time.Hour, 300 * ms} {
		a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
		a.starts(by, "b")
		a.takes(t, false, Unconfirmed)
		a.step(*b.speak())
		if err := a.core.Writable(); err != nil {
			t.Errorf("off by %s, the site has heard another and answers %v", by, err)
		}
	}
	a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
	a.starts(time.Hour, "b")
	a.step(*b.speak())
	a.takes(t, false, Unconfirmed) // the message may have been under way for an hour
	for range 10 {
		a.pass(time.Second)
		b.pass(time.Second)
		a.step(*b.speak())
		if a.core.Writable() == nil {
			t.Fatal("the site takes writes, and another, which has not answered, says that it is an hour ahead")
		}
	}
	a.sync(ms, ms, 0, b)
	a.takes(t, false, FencedClock)
	for range 10 { // it is not heard any more, and so not answered
		a.pass(time.Second)
		b.pass(time.Second)
		a.step(*b.speak())
		a.takes(t, false, FencedClock)
	}

	a.starts(time.Hour, "b")
	a.pass(5 * time.Second) // it stands still, and hears nobody who speaks
	a.takes(t, false, Unconfirmed)
	for range 4 {
		a.pass(time.Second)
	}
	a.pass(999 * ms)
	a.takes(t, false, Unconfirmed)
	a.pass(ms)
	a.takes(t, true, Isolated)
	a.step(*b.speak()) // and then it hears one that does not hear it
	a.takes(t, false, Unconfirmed)
}

// Of two sites the one that is ahead refuses, and the other takes what it has at once; but a site whose clock others have found right does not
// refuse because another one starts with a wrong one. It shows R25.
func TestClocksOfTwo(t *testing.T) {
	a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
	meet := func(n int) {
		for range n {
			a.sync(ms, ms, 20*ms, b)
			b.sync(ms, ms, 200*ms, a)
		}
	}
	a.starts(0, "b")
	b.starts(0, "a")
	meet(10)
	a.takes(t, true, Normal)
	b.takes(t, true, Normal)
	before := a.write(t, "1", 1)

	b.starts(-time.Hour, "a")
	b.step(Arrived{before}) // it is of an hour later
	if held(b, a.log.ID()) != 0 {
		t.Error("a site that has heard nobody takes what is of the future")
	}
	meet(10)
	if held(b, a.log.ID()) != 1 {
		t.Error("a site that is behind holds back what another one has recorded")
	}
	a.takes(t, true, Normal)
	b.takes(t, true, FencedClock)

	b.starts(time.Hour, "a")
	meet(10)
	b.takes(t, true, Normal)

	b.starts(time.Hour, "a")
	meet(10)
	a.takes(t, true, Normal)
	b.takes(t, false, FencedClock)
	b.jumps(-time.Hour) // it is set right
	b.follows(t, true)
	meet(3)
	a.takes(t, true, Normal)
	b.takes(t, true, Normal)

	// Both start, and none knows who was right.
	b.starts(time.Hour, "a")
	a.starts(0, "b")
	meet(10)
	b.takes(t, false, FencedClock)
	a.takes(t, true, FencedClock)
}

// Of three sites the one is wrong that the other two say is, whichever was there first. It shows R25.
func TestClocksOfThree(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, 450 * ms, -450 * ms, 350 * ms} {
		a, b, c := newSite(t, "a", "b", "c"), newSite(t, "b", "a", "c"), newSite(t, "c", "a", "b")
		a.starts(by, "b", "c")
		b.starts(0, "a", "c")
		c.starts(0, "a", "b")
		for range 10 {
			a.sync(ms, ms, 20*ms, b, c)
			a.sync(ms, ms, 20*ms, c, b)
			b.sync(ms, ms, 20*ms, c, a)
			b.sync(ms, ms, 20*ms, a, c)
			c.sync(ms, ms, 20*ms, a, b)
			c.sync(ms, ms, 200*ms, b, a)
		}
		b.takes(t, true, Normal)
		c.takes(t, true, Normal)
		switch {
		case by > 400*ms:
			a.takes(t, false, FencedClock)
		case by < -400*ms:
			a.takes(t, true, FencedClock)
		default:
			a.takes(t, true, Normal)
		}
		// A site that is behind takes what the others record.
		if b.write(t, "1", 1); by < 0 {
			a.step(Arrived{b.log.OfLog(b.log.ID(), 0, 1)})
			if held(a, b.log.ID()) != 1 {
				t.Errorf("off by %s, the site holds back what another one has recorded", by)
			}
		}
		if by == time.Hour { // what it recorded before anybody could tell it is not taken
			a.write(t, "2", 1)
			b.step(Arrived{a.log.OfLog(a.log.ID(), 0, 1)})
			if held(b, a.log.ID()) != 0 {
				t.Error("what is an hour in the future is taken")
			}
		}
	}
}

// A jump of a machine's time of day is followed when the machines of other sites agree with it, and not before; also when all have jumped, and none
// has followed. It shows R24.
func TestJumpsAreAgreedOn(t *testing.T) {
	a, b, c := newSite(t, "a", "b", "c"), newSite(t, "b", "a", "c"), newSite(t, "c", "a", "b")
	meet := func() {
		a.sync(ms, ms, 20*ms, b, c)
		a.sync(ms, ms, 20*ms, c, b)
		b.sync(ms, ms, 20*ms, c, a)
		b.sync(ms, ms, 20*ms, a, c)
		c.sync(ms, ms, 20*ms, a, b)
		c.sync(ms, ms, 20*ms, b, a)
	}
	for _, by := range []time.Duration{time.Hour, -time.Hour, 600 * ms} {
		for range 10 {
			meet()
		}
		a.jumps(by)
		for range 20 {
			meet()
			a.follows(t, false)
		}
		a.takes(t, true, FencedClock)
		if got := a.core.Status(a.now).Clock; got.Jump != by || got.Ahead != 0 || got.Behind != 0 {
			t.Errorf("the machine has jumped by %s, and the clock is said to be %+v", by, got)
		}
		b.jumps(by)
		meet()
		a.follows(t, false) // one of two is not most of them
		b.follows(t, false)
		c.jumps(by)
		meet()
		a.follows(t, true)
		b.follows(t, true)
		c.follows(t, true)
		for range 10 {
			meet()
		}
		a.takes(t, true, Normal)
	}
}

// A jump that leads ahead of what the others go by is not followed, unless their machines are there: who stays behind is kept from nothing. Nor
// is one that leads to where no other machine is, though it may be nearer to them than what all go by. It shows R24.
func TestJumpsBeyondAreNotFollowed(t *testing.T) {
	for _, by := range []time.Duration{time.Hour + 10*time.Second, time.Hour - 10*time.Second, time.Hour} {
		a, b, c := newSite(t, "a", "b", "c"), newSite(t, "b", "a", "c"), newSite(t, "c", "a", "b")
		a.starts(-time.Hour, "b", "c")
		for range 10 {
			a.sync(ms, ms, 20*ms, b, c)
			a.sync(ms, ms, 200*ms, c, b)
		}
		a.jumps(by)
		a.follows(t, by <= time.Hour)
		a.sync(ms, ms, 20*ms, b, c)
		if err := a.core.Writable(); err != nil {
			t.Errorf("the machine of a site that was an hour behind has jumped by %s, and the site answers %v", by, err)
		}
	}
	a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
	for range 10 {
		a.sync(ms, ms, 20*ms, b)
		b.sync(ms, ms, 200*ms, a)
	}
	b.jumps(time.Hour)
	a.sync(ms, ms, 20*ms, b)
	a.jumps(35 * time.Minute)
	a.follows(t, false)
	a.takes(t, true, Normal)
	a.jumps(25 * time.Minute)
	a.follows(t, true)
}

// A site that has followed a jump knows no more of its clock than one that has started: where the others have not said that it is not ahead, it
// records nothing until they do; and it is not the others that have moved. It shows R25.
func TestFollowedClockIsFoundAgain(t *testing.T) {
	a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
	meet := func() {
		for range 10 {
			a.sync(ms, ms, 20*ms, b)
			b.sync(ms, ms, 200*ms, a)
		}
	}
	meet()
	b.starts(time.Hour, "a")
	meet()
	a.takes(t, true, Normal) // it is b that has moved
	for range 20 {           // b does not hear a any more: how far it is ahead at most is not known
		a.pass(250 * ms)
		b.pass(250 * ms)
		a.step(*b.speak())
	}
	a.jumps(time.Hour + 10*time.Minute)
	a.follows(t, true)
	if err := a.core.Writable(); !errors.Is(err, ErrClock) {
		t.Errorf("the site has followed a jump that may lead ahead of the others, and answers %v before they have said more", err)
	}
	a.step(*b.speak())
	a.takes(t, false, Unconfirmed)
	a.sync(ms, ms, 20*ms, b)
	a.takes(t, false, FencedClock)

	// What others are ahead by has become less: it is not to be dragged by what it takes from them.
	a, b = newSite(t, "a", "b"), newSite(t, "b", "a")
	a.starts(-time.Hour, "b")
	meet()
	b.now.Wall = b.now.Wall.Add(30 * time.Minute)
	b.write(t, "1", 1)
	for range 10 {
		a.pass(time.Second) // b is not heard
	}
	a.jumps(time.Hour)
	a.follows(t, true)
	a.step(Arrived{b.log.OfLog(b.log.ID(), 0, 1)})
	if held(a, b.log.ID()) != 0 {
		t.Error("a site that was behind, and has followed a jump, takes what is of the future")
	}
}

// A site that starts with a clock that is far ahead has moved, which its first message tells: it does not make one of four, which two others say
// is ahead, right. It shows R25.
func TestMessageTellsThatAClockHasMoved(t *testing.T) {
	a, b := newSite(t, "a", "b", "c", "d"), newSite(t, "b", "a", "c", "d")
	c, d := newSite(t, "c", "a", "b", "d"), newSite(t, "d", "a", "b", "c")
	meet := func() {
		for range 10 {
			a.sync(ms, ms, 10*ms, b, c, d)
			a.sync(ms, ms, 10*ms, c, b, d)
			a.sync(ms, ms, 200*ms, d, b, c)
		}
	}
	a.starts(2*time.Minute, "b", "c", "d")
	for range 3 {
		meet()
	}
	c.starts(-15*time.Minute, "a", "b", "d")
	meet()
	a.takes(t, false, FencedClock)
	b.starts(time.Hour, "a", "c", "d")
	a.step(*b.speak())
	a.takes(t, false, FencedClock)
	meet()
	a.takes(t, false, FencedClock)
}

// A site that most others have found ahead is that still when one of them has fallen silent, and another is further ahead, or starts anew there; but
// not when most are. It shows R25.
func TestSilenceSetsNoClockRight(t *testing.T) {
	a, b := newSite(t, "a", "b", "c", "d"), newSite(t, "b", "a", "c", "d")
	c, d := newSite(t, "c", "a", "b", "d"), newSite(t, "d", "a", "b", "c")
	a.starts(30*time.Second, "b", "c", "d")
	c.starts(2*time.Minute, "a", "b", "d")
	for range 30 {
		a.sync(ms, ms, 10*ms, b, c, d)
		a.sync(ms, ms, 10*ms, c, b, d)
		a.sync(ms, ms, 200*ms, d, b, c)
	}
	a.takes(t, false, FencedClock)
	for range 20 { // b is silent
		a.sync(ms, ms, 10*ms, c, b, d)
		a.sync(ms, ms, 200*ms, d, b, c)
		a.takes(t, false, FencedClock)
	}
	a.jumps(-30 * time.Second)
	a.follows(t, true)
	a.sync(ms, ms, 200*ms, d, b, c)
	a.takes(t, true, Degraded)

	a, b, c = newSite(t, "a", "b", "c"), newSite(t, "b", "a", "c"), newSite(t, "c", "a", "b")
	a.starts(30*time.Second, "b", "c")
	meet := func() {
		for range 10 {
			a.sync(ms, ms, 10*ms, b, c)
			a.sync(ms, ms, 200*ms, c, b)
		}
	}
	meet()
	a.takes(t, false, FencedClock)
	c.starts(2*time.Minute, "a", "b")
	meet()
	a.takes(t, false, FencedClock)
	b.starts(2*time.Minute, "a", "c")
	meet()
	a.takes(t, true, FencedClock)
	if got := a.core.Status(a.now).Clock; got.Ahead != 0 || got.Behind < time.Minute {
		t.Errorf("most others are ahead, and the clock is said to be %+v", got)
	}
}

// A site that was found ahead and stood still comes upon messages that lay in its sockets, the first from one that has moved further ahead: what
// others have not answered since does not set it right. It shows R25.
func TestStandingStillSetsNoClockRight(t *testing.T) {
	a, b, c := newSite(t, "a", "b", "c"), newSite(t, "b", "a", "c"), newSite(t, "c", "a", "b")
	a.starts(30*time.Second, "b", "c")
	for range 10 {
		a.sync(ms, ms, 10*ms, b, c)
		a.sync(ms, ms, 200*ms, c, b)
	}
	a.takes(t, false, FencedClock)
	c.starts(2*time.Minute, "a", "b")
	pass := func(d time.Duration) {
		for _, s := range []*site{a, b, c} {
			s.now.Mono += d
			s.now.Wall = s.now.Wall.Add(d)
		}
	}
	pass(3 * time.Second)
	late := []Heartbeat{*b.speak(), *c.speak()}
	pass(2 * time.Second)
	for _, m := range late {
		a.step(m)
	}
	a.takes(t, false, FencedClock)
	a.sync(ms, ms, 200*ms, b, c)
	a.takes(t, false, FencedClock)

	// Of two the other one starts anew, and is not as far behind as it was: its first message tells that it has moved, and no more.
	a, b = newSite(t, "a", "b"), newSite(t, "b", "a")
	a.starts(30*time.Second, "b")
	for range 10 {
		a.sync(ms, ms, 200*ms, b)
	}
	a.takes(t, false, FencedClock)
	b.starts(20*time.Second, "a")
	a.step(*b.speak())
	a.takes(t, false, FencedClock)
	a.sync(ms, ms, 200*ms, b)
	a.takes(t, false, FencedClock)
}

// Of four sites two are ahead, and not alike: neither takes itself for right because one of the others, which says that it is not, was set a
// little otherwise. It shows R25.
func TestMovingOtherwiseSetsNoClockRight(t *testing.T) {
	a, b := newSite(t, "a", "b", "c", "d"), newSite(t, "b", "a", "c", "d")
	c, d := newSite(t, "c", "a", "b", "d"), newSite(t, "d", "a", "b", "c")
	c.starts(31*time.Second, "a", "b", "d")
	a.starts(30*time.Second, "b", "c", "d")
	meet := func() {
		for range 10 {
			a.sync(ms, ms, 10*ms, b, c, d)
			a.sync(ms, ms, 10*ms, c, b, d)
			a.sync(ms, ms, 200*ms, d, b, c)
		}
	}
	meet()
	a.takes(t, false, FencedClock)
	b.starts(-600*ms, "a", "c", "d")
	meet()
	a.takes(t, false, FencedClock)
}

// A log that ends in the future is named, once, when it is known that it is not the clock that is behind; what comes of others does not drag it
// further than it is. It shows R26.
func TestLogOfTheFuture(t *testing.T) {
	a, b := newSite(t, "a", "b"), newSite(t, "b", "a")
	a.now.Wall = a.now.Wall.Add(time.Hour)
	a.write(t, "1", 1)
	a.starts(-time.Hour, "b")
	alarms := 0
	for i := range 20 {
		for _, alarm := range append(a.step(*b.speak()).Alarms, a.pass(250*ms).Alarms...) {
			if alarm.Kind == AlarmFuture {
				alarms++
			}
		}
		b.pass(250 * ms)
		if got := a.core.Status(a.now).Clock.Future; i > 1 && (got > time.Hour || got < time.Hour-10*time.Second) {
			t.Fatalf("the log is said to be %s in the future", got)
		}
	}
	if alarms != 1 {
		t.Errorf("that the log is in the future was said %d times, want once", alarms)
	}
	a.takes(t, true, Normal)
	now := b.now.Wall
	for _, late := range []time.Duration{2 * time.Hour, time.Hour - time.Minute} {
		b.now.Wall = now.Add(late)
		b.write(t, late.String(), 1)
		b.now.Wall = now
	}
	a.step(Arrived{b.log.OfLog(b.log.ID(), 0, 2)})
	if held(a, b.log.ID()) != 0 {
		t.Error("an event beyond what the log has is taken")
	}
	c := newSite(t, "c", "a")
	c.now.Wall = a.now.Wall.Add(time.Hour - time.Minute)
	c.write(t, "1", 1)
	a.core.others(a.now, []string{"b", "c"})
	a.step(Arrived{c.log.OfLog(c.log.ID(), 0, 1)})
	if held(a, c.log.ID()) != 1 {
		t.Error("an event of the future before the log's last one waits")
	}

	// A site whose clock is behind does not say it of a log that is well.
	d := newSite(t, "d", "b")
	d.write(t, "1", 1)
	d.starts(-time.Hour, "b")
	for range 20 {
		d.step(*b.speak())
		if out := d.pass(250 * ms); d.core.clock.told {
			t.Fatalf("a site whose clock is behind says that its log is in the future: %+v", out.Alarms)
		}
		b.pass(250 * ms)
	}
}
