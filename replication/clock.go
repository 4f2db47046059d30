package replication

import (
	"slices"
	"time"
)

// clockGuard watches the site's clock: one that strays from those of the others makes its events win or lose against theirs
// for no reason.
type clockGuard struct {
	astray bool          // it strays
	since  time.Duration // since when, by Instant.Mono
	fenced bool          // it has strayed for longer than is put up with
}

// judge compares the site's clock with the median of the others'.
func (g *clockGuard) judge(now Instant, c *Core, out *Effects) {
	var ahead []time.Duration
	for _, p := range c.peers {
		if p.ever && now.Mono-p.heard < c.cfg.Suspect {
			ahead = append(ahead, p.ahead)
		}
	}
	if len(ahead) == 0 {
		return // nobody to compare with: what was found stands
	}
	slices.Sort(ahead)
	stray := ahead[len(ahead)/2]
	if stray.Abs() <= c.cfg.MaxStray {
		g.astray, g.fenced = false, false
		return
	}
	if !g.astray {
		g.astray, g.since = true, now.Mono
	}
	if !g.fenced && now.Mono-g.since >= c.cfg.ClockPatience {
		g.fenced = true
		out.alarm(AlarmClock, c.own, c.cfg.Site, "this site's clock is %s off the others': set it right", -stray)
	}
}
