package replication

import (
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Instant is a moment as a site's clocks show it. Mono never goes back and is what waits are measured with; Wall is the
// time of day that events are given, which may be wrong. Jump is how far the machine's own is ahead of it, having jumped.
type Instant struct {
	Mono time.Duration
	Wall time.Time
	Jump time.Duration
}

// Input is something that happened: Arrived, Heartbeat, Pulled, Received, Refused, Mirrored, TopicAnswers, Topic, TopicHas, Others, OnRecord, Members, Tick.
type Input interface{ input() }

// Arrived are events of one log that came over a link, as they stood there: in any order, any of them repeated or missing.
type Arrived struct{ Events []eventstore.Recorded }

// Heartbeat is what a site says of itself every Config.Heartbeat, over each link to it; several ways may bring the same one.
type Heartbeat struct {
	Site string
	// Log is the site's own log, in its present life.
	Log eventstore.LogID
	// Heads says how far the site holds each log durably, in the order of LogID.Compare. Of its own log it says how much is in
	// its topic: what is not there yet has not left the site. Of earlier lives it may have less than its topic has; the topic
	// counts then too.
	Heads []eventstore.LogHead
	// Wall is the site's time of day when it was sent, Jump how far its machine's was ahead of that.
	Wall time.Time
	Jump time.Duration
	// Sent names the moment, as the site that sends it counts; it only rises while that runs. Echoes are what it heard last of others.
	Sent   uint64
	Echoes []Echo
	// Read says that the sender has read its own topic: Heads say of its earlier lives all that is known there.
	Read bool
	// Grants are the sites whose leases the sender acknowledges, as far as Echoes say that it has heard them.
	Grants []string
	// Terms is what has to be the same at all sites; nil where it was not said. The core passes it over (Options.Accord).
	Terms *Terms
	// Direct says that it came from the site itself just now, not from a topic where it may have stood for long.
	Direct bool
	// Partial says that Heads names only logs of which more is held than was said before; what was said of others stands.
	Partial bool
}

// Pulled is the answer to a Pull.
type Pulled struct {
	Pull
	// Chain is the chain of the log after Pull.After, as the one who answers holds it.
	Chain eventstore.Hash
	// Events are those after Pull.After, in order, up to Through or some before it, in whole batches.
	Events []eventstore.Recorded
	// Err, when set, says why there is no answer.
	Err error
}

// Received: the store has durably what a Receive gave it.
type Received struct{ Head eventstore.LogHead }

// Refused: the store has not taken what a Receive gave it.
type Refused struct {
	Log eventstore.LogID
	Err error
}

// Mirrored: the site's own log, in its present life or an earlier one, is in its topic up to an event.
//
// INVARIANT: nothing of the present life leaves the site before; and nothing of an earlier one before either it, or anything of
// the present one, is there: until then the site could be put back to where it goes on in the earlier life.
type Mirrored struct{ eventstore.Dot }

// TopicAnswers: on the way to its end, the site's own topic has answered more than it ever had since the site has started. Empty says that
// no event is in it, or it is not there, and that this alone tells nothing.
type TopicAnswers struct{ Empty bool }

// Topic says how the site's own topic ends, after it was read to there: for each life of the site's log the last event, with
// the chain after it. It is given once, and not at all where the topic cannot be read, or has no event although the store has
// some of its own: it then tells nothing of what others may have.
type Topic struct{ Heads []eventstore.LogHead }

// Others says which other sites there are from now on, in place of Config.Peers.
type Others struct{ Sites []string }

// Tick: time has passed. It is given when Effects.Wake says, and may be given at any time.
type Tick struct{}

func (Arrived) input()      {}
func (Heartbeat) input()    {}
func (Pulled) input()       {}
func (Received) input()     {}
func (Refused) input()      {}
func (Mirrored) input()     {}
func (TopicAnswers) input() {}
func (Topic) input()        {}
func (Others) input()       {}
func (Tick) input()         {}

// Receive asks for events to be given to the store, which is answered by Received or Refused. There is one under way for a
// log at a time.
type Receive struct {
	Log    eventstore.LogID
	Events []eventstore.Recorded
}

// Pull asks a site for the events of a log after After, up to Through. It is answered by Pulled, or never.
type Pull struct {
	// ID tells the answers of several pulls apart.
	ID             uint64
	Site           string
	Log            eventstore.LogID
	After, Through uint64
}

// Reread asks for the events of a log after After from the topic of the log's site: no site that can be asked has them. They
// may have been read before, and dropped, or lost with what waited here. Of the site's own topic it is answered by TopicHas, too.
type Reread struct {
	Log   eventstore.LogID
	After uint64
}

// Alarm is something that people should know.
type Alarm struct {
	Kind AlarmKind `json:"kind"`
	// Log is the log it is about, Site the site, where it is about one.
	Log  eventstore.LogID `json:"log"`
	Site string           `json:"site,omitempty"`
	Text string           `json:"text"`
	// At is when the site raised it last; zero as the core gives it.
	At time.Time `json:"at"`
}

// AlarmKind says what an alarm is about.
type AlarmKind string

// The kinds of alarms.
const (
	AlarmFork      AlarmKind = "fork"      // two contents of one log: it is not received any further
	AlarmSkew      AlarmKind = "skew"      // events from the future: the log waits
	AlarmClock     AlarmKind = "clock"     // this site's clock is off
	AlarmFuture    AlarmKind = "future"    // this site's log is of the future: what is recorded waits at other sites
	AlarmLost      AlarmKind = "lost"      // this site's log lacks events that others have
	AlarmTwins     AlarmKind = "twins"     // a site runs twice
	AlarmUnordered AlarmKind = "unordered" // what a link brought cannot be: batches that are not whole, wrong dots
)

// Effects is what a step wants done. All of it is for the caller to do, in any order.
type Effects struct {
	Receive []Receive
	Pulls   []Pull
	Rereads []Reread
	// Broken are logs that are not received any further: of them nothing is kept.
	Broken []eventstore.LogID
	// Entries are to be put on record by Owner.Enter, one after the other. Those that are not come again.
	Entries []Entry
	// Beat, when set, goes to all other sites.
	Beat   *Heartbeat
	Alarms []Alarm
	// Met says that the heartbeat was the first that its site has sent since this one, which may have been taken for gone, has asked.
	Met bool
	// Follow, when not 0, is a jump of the machine's time of day that the site's is to follow, for those of others agree with it.
	Follow time.Duration
	// Life, when not 0, is the incarnation in which the site's own log has to go on; the core is of no use until then, and
	// another one goes on from there. LifeWhy says why.
	Life    uint32
	LifeWhy string
	// Wake is when the core wants to be stepped again, at the latest.
	Wake time.Duration
}

// Storage is what the core asks of the site's store. Answers are of what is durable.
type Storage interface {
	// Heads returns how far each log is held, the site's own among them.
	Heads() []eventstore.LogHead
	// ChainAt returns the chain of a log after a seq; held is false when the log is not held that far, or what it has there was
	// dropped, is archived or cannot be had at present. It is called by who steps the core, and waits for no network.
	ChainAt(log eventstore.LogID, seq uint64) (chain eventstore.Hash, held bool)
	// Durable returns the place (eventstore.Position.LSN) up to which the site has its log durably. It is asked where Config.Leases is set.
	Durable() uint64
	// TakenIn returns the place up to which what is on record of cells is known to the site's fence, and of takeovers to the core (OnRecord).
	// It is asked where Config.Leases is set.
	TakenIn() uint64
}
