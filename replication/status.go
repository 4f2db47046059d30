package replication

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Mode says what a site takes at present.
type Mode string

// The modes, the gravest last.
const (
	// Normal: every other site is heard, and nothing is missing for long.
	Normal Mode = "normal"
	// Degraded: a site is away, or behind.
	Degraded Mode = "degraded"
	// CatchingUp: this site lacks much of what others have.
	CatchingUp Mode = "catching-up"
	// Isolated: no other site is heard.
	Isolated Mode = "isolated"
	// FencedClock: this site's clock is off (ClockStatus); while it is ahead, the site takes no writes.
	FencedClock Mode = "fenced-clock"
	// WriteBlocked: something that has to be the same at all sites is not, and what it concerns is not written.
	WriteBlocked Mode = "write-blocked"
	// ReadOnly: an operator has the site take no writes, or its store takes none.
	ReadOnly Mode = "read-only"
	// Unconfirmed: this site takes no writes, until it is known whether its log is all there, and its clock not ahead.
	Unconfirmed Mode = "unconfirmed"
)

// ModeOf is the mode of a site that is in one as far as its core knows, when something homed is blocked, or when it is read-only.
func ModeOf(m Mode, blocked, readOnly bool) Mode {
	switch {
	case m == Unconfirmed || m == FencedClock:
		return m
	case readOnly:
		return ReadOnly
	case blocked:
		return WriteBlocked
	}
	return m
}

// Status is how a site stands with the others.
type Status struct {
	Mode  Mode
	Clock ClockStatus
	Logs  []LogStatus
	Peers []PeerStatus
}

// LogStatus is how far a log of others is here.
type LogStatus struct {
	Log eventstore.LogID
	// Held is the seq up to which it is here and durable, Known that up to which it is known to exist, Waiting how many events
	// beyond Held are here and have to wait.
	Held, Known uint64
	Waiting     int
	// Missing is for how long, at least, an event has been known to exist that is not held.
	Missing time.Duration
	// Early is how long the next event waits for its time, as this site's clock has it.
	Early time.Duration
	// Broken, when set, says why it is not received any further.
	Broken string
}

// PeerStatus is how another site is.
type PeerStatus struct {
	Site string
	// Heard is how long ago it spoke for itself, negative when it has not since this site started; Up says that it is not too
	// long ago.
	Heard time.Duration
	Up    bool
	// Ahead is how far its clock is ahead of this site's, Within how far that may be off; negative when it has not answered lately, and Ahead
	// is the least that it may be.
	Ahead, Within time.Duration
	// Behind is how many events of this site's log, as far as they have left it, that site has not.
	Behind uint64
	// Heads is how far it holds each log, as far as it has said, in the order of LogID.Compare.
	Heads []eventstore.LogHead
}

// Status returns how the site stands with the others.
func (c *Core) Status(now Instant) Status {
	s := Status{Mode: c.mode(now), Clock: c.clock.ClockStatus}
	for _, t := range c.logs {
		early := time.Duration(0)
		if t.skewed {
			early = max(t.until-now.Mono, 0)
		}
		missing := time.Duration(0)
		if t.mark > 0 {
			missing = now.Mono - t.marked
		}
		s.Logs = append(s.Logs, LogStatus{t.log, t.held.Seq, t.known, len(t.waiting), missing, early, t.broken})
	}
	for _, p := range c.peers {
		heard := time.Duration(-1)
		if p.ever {
			heard = now.Mono - p.heard
		}
		behind := uint64(0)
		if has := p.heads[c.own].Seq; has < c.origin.mirrored {
			behind = c.origin.mirrored - has
		}
		ahead, within := p.clock.around()
		heads := slices.SortedFunc(maps.Values(p.heads), func(a, b eventstore.LogHead) int { return a.Log.Compare(b.Log) })
		s.Peers = append(s.Peers, PeerStatus{p.name, heard, p.ever && heard < c.cfg.Suspect, ahead, within, behind, heads})
	}
	return s
}

// far is how many missing events make a site one that catches up.
const far = 10_000

func (c *Core) mode(now Instant) Mode {
	away, behind := 0, false
	for _, p := range c.peers {
		if !p.ever || now.Mono-p.heard >= c.cfg.Suspect {
			away++
		}
	}
	for _, t := range c.logs {
		behind = behind || t.known > t.held.Seq+far
	}
	switch {
	case c.confirmed() != nil:
		return Unconfirmed
	case c.clock.fenced || c.clock.Ahead > 0:
		return FencedClock
	case c.Writable() != nil:
		return Unconfirmed
	case len(c.peers) > 0 && away == len(c.peers):
		return Isolated
	case behind:
		return CatchingUp
	case away > 0:
		return Degraded
	}
	return Normal
}

// Whole returns nil when the site has all that was born there in earlier lives of its log, as far as its topic and the other
// sites tell; else what is missing. Until then it must not decide by itself on what it alone decides, such as its rights in an
// escrow: it may have used them, and forgotten.
func (c *Core) Whole() error {
	if c.own.Incarnation == 1 {
		return nil
	}
	if !c.origin.topic {
		return fmt.Errorf("%w: its topic, which may have more of earlier lives of %s, is being read", ErrUnconfirmed, c.own.Site)
	}
	for _, p := range c.peers {
		if !p.ever {
			return fmt.Errorf("%w: %s has not said what it has of earlier lives of %s", ErrUnconfirmed, p.name, c.own.Site)
		}
	}
	for _, t := range c.logs {
		if t.log.Site == c.own.Site && t.log.Shard == c.own.Shard && t.held.Seq < t.known {
			return fmt.Errorf("%w: of %s %d events are here, and there are %d", ErrUnconfirmed, t.log, t.held.Seq, t.known)
		}
	}
	return nil
}

// Elsewhere returns how far each log is held, durably, by some other site, as far as they have said. Of this site's own what was recorded
// as its home is safe there only where no Lapse has it.
func (c *Core) Elsewhere() eventstore.Vector {
	var held eventstore.Vector
	for _, p := range c.peers {
		for log, h := range p.heads {
			if log.Site == c.own.Site && log.Shard == c.own.Shard && c.cfg.Leases && c.bound() { // who may let another site take over has to have told what it has
				if h.Seq = min(h.Seq, p.kept[log]); !slices.Contains(c.leases.members, p.name) {
					h.Seq = 0
				}
			}
			if h.Seq > 0 && (log != c.own || c.origin.lost == "") { // what they have of a log that is not this one does not count
				held = held.With(eventstore.Dot{Log: log, Seq: h.Seq})
			}
		}
	}
	return held
}
