package replication

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// clockGuard watches the site's clock. What is recorded by a clock that is ahead is held back at the other sites until its time has come, and
// so is all that is recorded after, for a log's time does not go back.
//
// INVARIANT: a site that hears others records nothing while its clock is known to be ahead of theirs; and nothing after a start, or a jump that
// it has followed, before it is known that it is not, or nobody was heard for Config.ClockWait. It goes by a clock that does not jump
// (hlc.Steady), so that one that is right stays so.
//
// What is known are bounds (reading). To be refused, or called wrong, a clock has to be off whatever the truth between them is.
type clockGuard struct {
	began    time.Duration // when the site started, or followed a jump to where it may be ahead, by Instant.Mono
	compared bool          // it was found not to be ahead, or that was not waited for any longer
	found    bool          // it was found not to be ahead by what others have said
	origin   time.Time     // Instant.Wall when Instant.Mono was 0

	ClockStatus
	late time.Duration // how far behind it may be: what others record may be of so far in the future

	floor  time.Time     // of the last event of all logs
	astray bool          // it is off
	since  time.Duration // since when, by Instant.Mono
	fenced bool          // for longer than is put up with, which was said
	told   bool          // that the log is in the future was said
}

// ClockStatus says what is wrong with a site's clock, and how far it is off at least; zero where nothing is.
type ClockStatus struct {
	// Ahead and Behind are of the median of all sites' clocks: it is ahead, or behind.
	Ahead, Behind time.Duration
	// Jump is by how much the machine's time of day has moved in a way that the site does not follow.
	Jump time.Duration
	// Future is how far in the future the log's last event is: what is recorded comes after it, and waits for its time at other sites.
	Future time.Duration
}

// ErrClock: the site's clock is ahead of those of other sites, or has not been compared with them.
var ErrClock = errors.New("the site's clock is not to be trusted")

// ClockError says why nothing is recorded by the site's clock. It matches ErrClock and eventstore.ErrUnavailable.
type ClockError struct {
	// Mode is FencedClock when it is ahead, Unconfirmed when that is not known.
	Mode Mode
	Why  string
}

// Error says why.
func (e *ClockError) Error() string { return ErrClock.Error() + ": " + e.Why }

// Is makes errors.Is true for ErrClock and eventstore.ErrUnavailable.
func (e *ClockError) Is(target error) bool {
	return target == ErrClock || target == eventstore.ErrUnavailable
}

// shift notes by how much the clock has moved against the monotonic one: what is known of others is of the clock as it was.
func (g *clockGuard) shift(now Instant, peers []*peer) {
	origin := now.Wall.Add(-now.Mono)
	by := origin.Sub(g.origin)
	g.origin = origin
	if by == 0 {
		return
	}
	if g.Ahead > 0 {
		g.Ahead = max(g.Ahead+by, 0)
	}
	if g.late > 0 {
		g.late = max(g.late-by, 0)
	}
	for _, p := range peers {
		p.clock.shift(by)
	}
}

// judge compares the site's clock with those of the others.
func (g *clockGuard) judge(now Instant, c *Core, out *Effects) {
	g.Jump = now.Jump
	var heard, known []*peer
	for _, p := range c.peers {
		if p.clock.best() == nil {
			continue
		}
		known = append(known, p)
		if now.Mono-p.heard < c.cfg.Suspect {
			heard = append(heard, p)
		}
	}
	waited := now.Mono-g.began >= c.cfg.ClockWait
	if len(heard) > 0 { // else what was found stands
		g.compare(heard, known, c.cfg.MaxStray, waited)
	} else {
		g.compared = g.found || waited
	}
	if now.Jump != 0 && g.follow(now, known, c.cfg.MaxStray) {
		out.Follow = now.Jump
	}
	g.look(now, c, out)
}

// follow reports whether most of the other sites, as they were last heard, agree with a jump of the machine's time of day. Then it forgets what
// does not hold of a clock that follows it: that others have moved and it has not; and that it was found not to be ahead, unless what is known of
// them shows that of where it goes, too.
func (g *clockGuard) follow(now Instant, known []*peer, most time.Duration) bool {
	lows, agree := []time.Duration{0}, 0
	for _, p := range known {
		lows = append(lows, p.clock.best().low-now.Jump)
		if p.clock.agrees(now.Jump, most) {
			agree++
		}
	}
	if 2*agree <= len(known) {
		return false
	}
	for _, p := range known {
		p.clock.moved = false
	}
	slices.Sort(lows)
	if lows[(len(lows)-1)/2] < -most { // it is as after a start
		g.found, g.compared, g.began = false, false, now.Mono
	}
	return true
}

// compare compares the clock with others', of which each counts as much as the own one. Having waited, it takes a clock that may be ahead, and
// may not be, for all that the others have answered, for one that is not. Known are all that were heard at any time: neither silence nor what others
// do to their clocks sets this one right, so where it was found to be ahead it is that as long as it is ahead of those that have not moved, as they
// were last heard, and not behind of most that are heard.
func (g *clockGuard) compare(heard, known []*peer, most time.Duration, waited bool) {
	answered := !slices.ContainsFunc(heard, func(p *peer) bool { return p.clock.best().width() >= unbounded })
	lows, _ := bounds(heard)
	g.found = g.found || lows[(len(lows)-1)/2] >= -most || waited && answered
	g.compared = g.found // by patience only as long as nobody is heard
	g.late = beyond(lows[len(lows)/2], most)
	now := offOf(heard, most)
	if now.moved && g.Ahead > 0 {
		return // what was found stands: it was so before they moved
	}
	g.Behind = now.behind
	ahead := now.ahead
	right := now.right
	if g.Ahead > 0 && ahead == 0 && now.behind == 0 {
		last := offOf(stayed(known), most)
		ahead, right, answered = last.ahead, right && last.right, answered && last.right
	}
	if ahead > 0 || answered || right { // else what was found stands
		g.Ahead = ahead
	}
}

// off is how far a clock is ahead or behind at least, where that is more than is put up with; right says that it is surely not ahead, moved that
// half of the sites say one thing and half another, and some that have moved were left out.
type off struct {
	ahead, behind time.Duration
	right, moved  bool
}

// offOf compares the clock with the median of some sites and itself.
func offOf(peers []*peer, most time.Duration) off {
	lows, highs := bounds(peers)
	lower, upper := (len(lows)-1)/2, len(lows)/2
	moved := false
	if (highs[lower] < -most) != (highs[upper] < -most) || (lows[lower] > most) != (lows[upper] > most) {
		// Half of the sites say so and half do not, as always where there are two. This clock does not move by itself: those that have moved
		// since they were read first are the wrong ones.
		left := stayed(peers)
		moved = len(left) < len(peers)
		peers = left
		lows, highs = bounds(peers)
		lower, upper = (len(lows)-1)/2, len(lows)/2
	}
	return off{beyond(-highs[lower], most), beyond(lows[upper], most), lows[lower] >= -most, moved}
}

// stayed returns those of some sites whose clocks have not moved.
func stayed(peers []*peer) []*peer {
	return slices.DeleteFunc(slices.Clone(peers), func(p *peer) bool { return p.clock.moved })
}

// bounds returns the bounds of how far clocks are ahead of this one, itself among them, each in order.
func bounds(peers []*peer) (lows, highs []time.Duration) {
	lows, highs = []time.Duration{0}, []time.Duration{0}
	for _, p := range peers {
		r := p.clock.best()
		lows, highs = append(lows, r.low), append(highs, r.high)
	}
	slices.Sort(lows)
	slices.Sort(highs)
	return lows, highs
}

// beyond returns d when it is more than is put up with, else 0.
func beyond(d, most time.Duration) time.Duration {
	if d <= most {
		return 0
	}
	return d
}

// look says what is wrong when it has been so for a while.
func (g *clockGuard) look(now Instant, c *Core, out *Effects) {
	off := g.Ahead != 0 || g.Behind != 0 || g.Jump != 0
	if off && !g.astray {
		g.since = now.Mono
	}
	g.astray = off
	lasts := off && now.Mono-g.since >= c.cfg.ClockPatience
	if lasts && !g.fenced {
		out.alarm(AlarmClock, c.own, c.cfg.Site, "%s", g.Problem())
	}
	g.fenced = lasts
	g.Future = beyond(g.floor.Sub(now.Wall.Add(g.late)), c.cfg.MaxSkew+c.cfg.MaxStray)
	future := g.compared && g.Future > 0 // before, the clock may be what is wrong
	if future && !g.told {
		out.alarm(AlarmFuture, c.own, c.cfg.Site, "%s", g.future())
	}
	g.told = future
}

// latest is the time of day, as late as it may be. An event of then drags the log's time no further than it is.
func (g *clockGuard) latest(now Instant) time.Time {
	if g.Future > 0 {
		return g.floor
	}
	return now.Wall.Add(g.late)
}

// refuses returns nil when the clock may give events their time, else a *ClockError.
func (g *clockGuard) refuses(c *Config) error {
	switch {
	case g.Ahead > 0:
		return &ClockError{FencedClock, g.Problem()}
	case !g.compared:
		return &ClockError{Unconfirmed, fmt.Sprintf("no other site has confirmed yet that it is not ahead, which is waited for; for at most %s where none is heard", c.ClockWait)}
	}
	return nil
}

// Problem says what is wrong with the clock, and what to do; nothing when nothing is.
func (s ClockStatus) Problem() string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if s.Ahead > 0 {
		say("it is at least %s ahead of those of the other sites, which would hold back what is recorded: nothing is, until they agree; set right the one that is wrong", s.Ahead.Round(time.Millisecond))
	}
	if s.Behind > 0 {
		say("it is at least %s behind those of the other sites: what is recorded here loses against what is recorded there at the same time; set right the one that is wrong", s.Behind.Round(time.Millisecond))
	}
	if s.Jump != 0 {
		say("the machine's time of day has jumped by %s: the site goes on without that until other sites agree; set it right", s.Jump.Round(time.Millisecond))
	}
	if len(all) == 0 {
		return ""
	}
	return "this site's clock is off: " + strings.Join(all, "; ")
}

// future says what it means that the log is in the future.
func (g *clockGuard) future() string {
	return fmt.Sprintf("the last event here is of %s, %s in the future, as a clock gave it that was ahead: what is recorded here comes after it, and other sites hold it back until then, or until they are started with --max-skew %s",
		g.floor.UTC().Format(time.RFC3339), g.Future.Round(time.Second), (g.Future + time.Minute).Round(time.Minute))
}
