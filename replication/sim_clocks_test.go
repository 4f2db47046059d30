package replication_test

import (
	"math"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/replication"
)

// newClock makes the clock of a process that has just started.
func (s *site) newClock() *hlc.Clock {
	s.steady = hlc.NewSteady(hlc.SteadyOptions{Read: func() (time.Time, time.Duration) {
		at := s.clock.at(s.w.now)
		return at.Wall, at.Mono
	}})
	s.steady.Hold()
	s.hlc = hlc.New(s.steady.Now)
	return s.hlc
}

// instant is what the site's clocks show.
func (s *site) instant() replication.Instant {
	now, mono, jump := s.steady.Read()
	return replication.Instant{Mono: mono, Wall: now, Jump: jump}
}

// follow has the site's time of day follow a jump of its machine's.
func (s *site) follow(jump time.Duration) {
	if !s.steady.Follow(jump) {
		s.w.tracef("%s does not follow a jump by %s: there was another one", s.name, jump)
		return
	}
	s.w.faults.count(jumpsFollowed)
	s.w.tracef("%s follows a jump by %s", s.name, jump)
}

// wrongBy is how far what the site goes by is ahead of the world's time.
func (s *site) wrongBy() time.Duration { return s.steady.Now().Sub(epoch) - s.w.now }

// startWrong has the site's process end, and start with a time of day that is off.
func (f *faults) startWrong(s *site) {
	w := f.w
	s.crash()
	s.clock.set(w.now, w.skew(), s.clock.rate)
	s.startIn(w.between(50*time.Millisecond, time.Second))
	f.end(w.between(2*time.Second, 6*time.Second), func() { s.clock.set(w.now, w.now, s.clock.rate) })
}

// These are more than what the core puts up with, for clocks that drift and messages that take their time.
const (
	mostHeld  = 3 * time.Second // how long an event may be held back because of its time
	mostWrong = 2 * time.Second // how far a clock may be off and count as right
)

// others returns how wrong the clocks are of a site and of those that it hears, in order.
func (s *site) others() (wrong []time.Duration) {
	wrong = append(wrong, s.wrongBy())
	for _, p := range s.core.Status(s.instant()).Peers {
		for _, o := range s.w.sites {
			if o.name == p.Site && p.Up {
				wrong = append(wrong, o.wrongBy())
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// timed notes, when a site is about to record, that nobody could know its clock to be ahead: the site has heard nobody since it started, or
// more that were as wrong when they spoke. Once somebody has answered it, who has spoken and not answered lately tells only that its clock is as
// far on as it said; and where half say one thing and half another, and some have moved, those may be the wrong ones. Whatever comes after that is
// of such a time, too.
func (o *oracle) timed(s *site) {
	heard, answered := s.heard(s.instant())
	own := s.wrongBy()
	wrong, median := []time.Duration{own}, 0
	for _, i := range heard {
		if s.moved[i] {
			median = 1
		}
		if says := s.hasSaid(i); !s.answered || slices.Contains(answered, i) || says >= own-mostWrong/2 {
			wrong = append(wrong, says)
		}
	}
	slices.Sort(wrong)
	if wrong[(len(wrong)-1+median)/2] > mostWrong/2 {
		o.forgiven = max(o.forgiven, hlc.At(s.steady.Now()))
	}
}

// heldBack has it looked at whether what a site does not take, because it is of the future, comes in time.
func (o *oracle) heldBack(s *site, log eventstore.LogID) {
	core, seq := s.core, s.headOf(log).Seq
	mayBe := func() bool {
		wrong := s.others()
		return len(wrong) == 1 || wrong[len(wrong)/2] < -mostWrong/2 // nobody tells it what time it is
	}
	if mayBe() {
		return
	}
	s.within(mostHeld, func() {
		i, t := o.log(log)
		if o.w.calm || s.core != core || mayBe() || s.view.held.at(i) != seq || uint64(len(t.births)) <= seq {
			return
		}
		if b := t.births[seq]; b.hlc.Time().Sub(o.forgiven.Time()) > mostWrong {
			for _, l := range core.Status(s.instant()).Logs {
				if l.Log == log && l.Early > 0 {
					o.violated(heldNumber, "%s holds back %s of %s for %s, and for %s more", s.name, b.dot, b.hlc.Time(), mostHeld, l.Early)
				}
			}
		}
	})
}

// heldNumber is what the oracle calls an event that is held back for long.
const heldNumber = "R25"

// said is how wrong another site's clock was when that spoke, as was heard at a moment of one's own monotonic clock, and of the world's.
type said struct{ wrong, at, world time.Duration }

// suspect is for how long a site counts as heard, by the monotonic clock of who hears it.
const suspect = 2 * time.Second

// hear notes what the site is told of another one's clock: of what a site has said, the last that was heard and what came shortly before that
// may be what it goes by.
func (s *site) hear(from *site, wrong time.Duration) {
	if s.core == nil {
		return
	}
	now, heard := s.instant().Mono, &s.said[from.index]
	if len(*heard) > 0 && ((*heard)[len(*heard)-1].wrong-wrong).Abs() > mostWrong/4 {
		s.moved[from.index] = true
	}
	*heard = append(*heard, said{wrong, now, s.w.now})
	*heard = slices.DeleteFunc(*heard, func(h said) bool { return h.at < now-suspect })
}

// hasSaid returns the most that another site's clock was wrong by when that spoke, in the last while in which it was heard.
func (s *site) hasSaid(i int) time.Duration {
	now, most := s.instant().Mono, time.Duration(math.MinInt64)
	for _, h := range s.said[i] {
		drifts := now - h.at - (s.w.now - h.world)
		most = max(most, h.wrong+drifts)
	}
	return most
}

// heard returns the sites that are heard, and those of them that have answered.
func (s *site) heard(now replication.Instant) (all, answered []int) {
	for _, p := range s.core.Status(now).Peers {
		for _, o := range s.w.sites {
			if o.name != p.Site || !p.Up {
				continue
			}
			all = append(all, o.index)
			if p.Within >= 0 {
				answered = append(answered, o.index)
			}
		}
	}
	return all, answered
}

// listen notes which sites are heard, and that one has answered. While none is, those that last were tell what time it is.
func (s *site) listen(now replication.Instant) {
	heard, answered := s.heard(now)
	if len(heard) > 0 {
		s.hears = heard
	}
	s.answered = s.answered || len(answered) > 0
}

// early checks that a site takes nothing that is of the future by its own clock and by most of the clocks that it has heard of: those of others
// as they were when they spoke, which may have been set back since.
func (o *oracle) early(s *site, takes []replication.Receive) {
	wrong := []time.Duration{s.wrongBy()}
	for _, i := range s.hears {
		wrong = append(wrong, s.hasSaid(i))
	}
	slices.Sort(wrong)
	by := max(s.wrongBy(), wrong[len(wrong)/2])
	latest := max(o.w.now+by, s.view.latest.Time().Sub(epoch)) // a log that is in the future goes on there
	for _, r := range takes {
		for i := range r.Events {
			if e := &r.Events[i]; e.Time().Sub(epoch)-latest > mostSkew {
				o.violated("skew", "%s takes %s, which is %s in the future by most clocks that it has heard of", s.name, e.Dot, e.Time().Sub(epoch)-latest)
				return
			}
		}
	}
}

// mostSkew is how far in the future an event may be that a site takes.
const mostSkew = 500 * time.Millisecond
