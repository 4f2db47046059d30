package replication

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// originLog is what the core knows of the site's own log: whether it is all there, as far as others can tell.
//
// A folder that was put back to an earlier state looks whole. Were it written to, the site would give dots again that others
// know with other content, which nothing could ever mend. But nothing of the log leaves the site except through its topic.
// So a site that has started reads its topic to the end first: an event there that the log lacks tells that it has lost some.
// Then, and when the topic cannot be read, the site goes on in another life, in which all dots are new; the rest of the
// earlier one comes back from others. A topic that is slow can be read: each answer renews the patience with it.
//
// INVARIANT: a site is writable only when its topic had nothing that its log lacks, in this life or a later one.
type originLog struct {
	since time.Duration // when the site started, by Instant.Mono
	patience
	confirmed bool
	empty     bool                        // the topic was read, and has nothing
	topic     bool                        // the topic was read
	known     uint32                      // the highest incarnation of the site's log that anybody has spoken of
	doubled   uint32                      // of which it was said that another process writes it
	others    map[eventstore.LogID]uint64 // how far other lives were when they were first heard of
	inTopic
	// ends is how the topic ended for earlier lives: the others are told, for nobody else may know that there is so much.
	ends    []eventstore.LogHead
	durable uint64 // seq, as it was last asked for
	lost    string // how the log was found to lack something; empty: it was not
}

// patience is how long the site has waited for its topic since it has started. It counts the time for which the site ran, not
// that for which its process stood still, or was hardly run on a busy machine: the topic is not to blame for that.
type patience struct {
	seen           time.Duration // when it was last counted, by Instant.Mono
	waited, silent time.Duration // in all, and since the topic has last answered
}

// pass counts the time until now.
func (p *patience) pass(now Instant, c *Config) {
	ran := min(now.Mono-p.seen, ranAtMost*c.Heartbeat)
	p.seen = now.Mono
	p.waited += ran
	p.silent += ran
}

// ranAtMost is after how many heartbeats without a step, of which there is one for each, a site has not run.
const ranAtMost = 4

// over reports whether the topic is waited for no longer.
func (p *patience) over(c *Config) bool {
	return p.silent >= c.TopicPatience || p.waited >= c.TopicAtMost
}

// whyUnknown says why it is not known whether others have something of the log that is not here.
func (c *Core) whyUnknown() string {
	o := &c.origin
	why := fmt.Sprintf("its topic could not be read to its end within %s, and has answered nothing more for %s", o.waited.Round(time.Second), o.silent.Round(time.Second))
	switch unheard := c.unheard(); {
	case o.empty && unheard != "":
		why = fmt.Sprintf("its topic is empty, and not all other sites were heard within %s%s", o.waited.Round(time.Second), unheard)
	case o.empty:
		why = "its topic is empty, as it would be had it lost what it had"
	}
	return why + ", so that nobody knows whether others have something of it that is not here"
}

// unheard names the sites that have not been heard since this one started.
func (c *Core) unheard() string {
	var names []string
	for _, p := range c.peers {
		if !p.ever {
			names = append(names, p.name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (not heard: " + strings.Join(names, ", ") + ")"
}

// ErrUnconfirmed: the site has just started, and does not know yet whether its log is all there.
var ErrUnconfirmed = errors.New("the site's log is not confirmed yet")

// Writable returns nil when the site may record events of its own, else what keeps it from that.
func (c *Core) Writable() error {
	if err := c.confirmed(); err != nil {
		return err
	}
	return c.clock.refuses(&c.cfg)
}

// confirmed returns nil when the log is known to be all there.
func (c *Core) confirmed() error {
	switch o := &c.origin; {
	case o.lost != "":
		return fmt.Errorf("%w: %s; it is about to begin another life", ErrUnconfirmed, o.lost)
	case !o.confirmed && o.empty:
		return fmt.Errorf("%w: its topic is empty; what it may write then is known when all other sites are heard, or %s after the start%s", ErrUnconfirmed, c.cfg.TopicPatience, c.unheard())
	case !o.confirmed:
		return fmt.Errorf("%w: its topic is being read, for which each answer may take %s, and all of it %s", ErrUnconfirmed, c.cfg.TopicPatience, c.cfg.TopicAtMost)
	}
	return nil
}

// life notes that a log exists.
func (o *originLog) life(own, log eventstore.LogID) {
	if log.Site == own.Site && log.Shard == own.Shard {
		o.known = max(o.known, log.Incarnation)
	}
}

// inTopic is how much of the site's log its topic is known to have: up to which seq the present life, and each earlier one.
type inTopic struct {
	mirrored uint64
	earlier  map[eventstore.LogID]uint64
}

// add notes that the topic has a life of the log up to an event.
func (t *inTopic) add(own eventstore.LogID, d eventstore.Dot) {
	if d.Log == own {
		t.mirrored = max(t.mirrored, d.Seq)
		return
	}
	if t.earlier == nil {
		t.earlier = map[eventstore.LogID]uint64{}
	}
	t.earlier[d.Log] = max(t.earlier[d.Log], d.Seq)
}

// mayLeave returns up to which seq a log may leave the site (Mirrored).
func (t *inTopic) mayLeave(own, log eventstore.LogID) uint64 {
	switch {
	case log == own:
		return t.mirrored
	case log.Site == own.Site && log.Shard == own.Shard && t.mirrored == 0:
		return t.earlier[log]
	}
	return math.MaxUint64
}

// topicRead takes how the site's own topic ends.
func (c *Core) topicRead(heads []eventstore.LogHead, out *Effects) {
	o := &c.origin
	o.topic = true
	for _, h := range heads {
		o.life(c.own, h.Log)
		if h.Log == c.own {
			o.mirrored = max(o.mirrored, h.Seq)
			c.compareOwn(h, c.cfg.Site, out)
			continue
		}
		t := c.track(h.Log)
		t.known = max(t.known, h.Seq)
		o.ends = append(o.ends, h)
		o.add(c.own, eventstore.Dot{Log: h.Log, Seq: h.Seq})
	}
	if o.known > c.own.Incarnation {
		c.lose(out, c.cfg.Site, fmt.Sprintf("its topic, or another site, has events of its life %d, and this is life %d", o.known, c.own.Incarnation))
	}
	o.confirmed = o.lost == ""
}

// compareOwn compares the own log with what somebody has of it.
func (c *Core) compareOwn(theirs eventstore.LogHead, site string, out *Effects) {
	if theirs.Seq == 0 {
		return
	}
	chain, held := c.store.ChainAt(c.own, theirs.Seq)
	switch {
	case !held && theirs.Seq <= c.ownHead().Seq: // it cannot be compared, and is not lost
	case !held:
		c.lose(out, site, fmt.Sprintf("%s has %s up to seq %d, and here it ends at %d", site, c.own, theirs.Seq, c.ownHead().Seq))
	case chain != theirs.Chain:
		c.lose(out, site, fmt.Sprintf("%s has another event than seq %d of %s, or before it", site, theirs.Seq, c.own))
	}
}

// lose notes that events of the own log are lost.
func (c *Core) lose(out *Effects, site, how string) {
	if c.origin.lost == "" {
		c.origin.lost = how
		out.alarm(AlarmLost, c.own, site, "%s", how)
	}
}

// beginLife asks for another life when it is known that one is needed, and which number is free.
func (c *Core) beginLife(now Instant, random *rand.Rand, out *Effects) {
	o := &c.origin
	impatient := o.over(&c.cfg)
	switch {
	case o.lost == "" && (o.confirmed || !impatient), !o.topic && !impatient:
	case o.topic || o.confirmed:
		out.Life, out.LifeWhy = o.known+1, o.lost
	default:
		out.LifeWhy = cmp.Or(o.lost, c.whyUnknown())
		// The topic may have events of lives that nobody here has heard of: their numbers are passed over, as far as chance goes.
		out.Life = o.known + 2 + random.Uint32N(1<<20)
	}
}
