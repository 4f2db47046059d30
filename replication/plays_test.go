package replication_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/replication"
)

// TestPlays plays the files in testdata/plays, each of which tells one idea of the protocol; together they show R4, I2, I3, I5,
// I6, I11 and I14. Nothing happens by itself: every
// message is carried by a line of the play, and what comes of it stands below. Logs are written as site/incarnation, events
// as site/incarnation/seq. Regenerate with -rewrite, and read the difference. The verbs:
//
//	sites NAME…                     begins, with sites that have nothing
//	record SITE STREAM [id=…]       a site records an event, durably
//	publish SITE [n=…]              copies durable events to the site's topic, all or n
//	beat SITE [to=…] [how=topic]    a site speaks, to all others or to one, by itself or by its topic
//	read SITE from=OWNER [seqs=…]   a site reads what is new in a topic, or what of its present log has these seqs
//	answer SITE                     carries what a site has asked of others there, and the answers back
//	lose SITE                       loses what a site has asked of others
//	wait DURATION [only=SITE]       time passes
//	clock SITE by=DURATION          sets a site's time of day wrong
//	jump SITE by=DURATION           has its machine's jump, which it follows when others agree
//	backup SITE | put-back SITE     keeps what a site has; and puts it back, as it was, without a word
//	cut-topic SITE n=…              the topic loses its last records
//	live SITE incarnation=…         begins another life of a site's log
//	restart SITE [clock-wait=…]     a site starts; it is given how its topic ends with read-topic
//	read-topic SITE
//	heads SITE | events SITE | stream SITE NAME | conflicts SITE NAME | status SITE
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata/plays", func(t *testing.T, path string) {
		p := &stage{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			p.t, p.d = t, d
			p.perform()
			out := p.said.String()
			p.said.Reset()
			return out
		})
	})
}

// stage is where a play is played.
type stage struct {
	t      *testing.T
	d      *datadriven.TestData
	said   strings.Builder
	random *rand.Rand
	actors []*actor
}

// actor is a site of a play.
type actor struct {
	name   string
	now    replication.Instant
	log    *memstore.Log
	core   *replication.Core
	topic  topic
	read   map[string]int // offsets in the topics of others
	pulls  []replication.Pull
	backup *memstore.Log
	beat   time.Duration
}

func (a *actor) clock() *hlc.Clock { return hlc.New(func() time.Time { return a.now.Wall }) }

func (p *stage) sayf(format string, args ...any) { fmt.Fprintf(&p.said, format+"\n", args...) }

func (p *stage) actor(name string) *actor {
	for _, a := range p.actors {
		if a.name == name {
			return a
		}
	}
	p.t.Fatalf("%s: there is no site %q", p.d.Pos, name)
	return nil
}

// arg returns an argument of the line, or the given default.
func (p *stage) arg(key, other string) string {
	for _, a := range p.d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Join(a.Vals, ",")
		}
	}
	return other
}

func (p *stage) number(key string, other int) int {
	n, err := strconv.Atoi(p.arg(key, strconv.Itoa(other)))
	if err != nil {
		p.t.Fatalf("%s: %v", p.d.Pos, err)
	}
	return n
}

func (p *stage) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		p.t.Fatalf("%s: %v", p.d.Pos, err)
	}
	return d
}

// start has a core begin over what an actor's store has.
func (p *stage) start(a *actor) {
	var peers []string
	for _, other := range p.actors {
		if other != a {
			peers = append(peers, other.name)
		}
	}
	a.pulls, a.read = nil, map[string]int{}
	a.core = replication.New(replication.Config{Site: a.name, Peers: peers, ClockWait: p.duration(p.arg("clock-wait", "-1s"))}, a.log.ID(), playStorage{a.log}, a.now)
	p.step(a, replication.Tick{})
}

// step gives a core something, has the store do what it wants at once, and says what came of it.
func (p *stage) step(a *actor, in replication.Input) {
	before := a.core.Writable()
	out := a.core.Step(a.now, p.random, in)
	if out.Beat != nil {
		a.beat = a.now.Mono
	}
	p.told(a, &out)
	for _, pull := range out.Pulls {
		p.sayf("%s: pulls %s %d..%d from %s", a.name, logName(pull.Log), pull.After+1, pull.Through, pull.Site)
		a.pulls = append(a.pulls, pull)
	}
	for _, r := range out.Rereads {
		p.sayf("%s: wants the topic of %s read again behind %s/%d", a.name, r.Log.Site, logName(r.Log), r.After)
	}
	if out.Life != 0 {
		p.sayf("%s: has to go on in life %d", a.name, out.Life)
	}
	if after := a.core.Writable(); (before == nil) != (after == nil) && out.Life == 0 {
		p.sayf("%s: takes writes: %t", a.name, after == nil)
	}
	for _, r := range out.Receive {
		if _, err := a.log.Receive(r.Events); err != nil {
			p.sayf("%s: the store refuses: %s", a.name, short(err.Error()))
			p.step(a, replication.Refused{Log: r.Log, Err: err})
			continue
		}
		a.log.Sync()
		p.sayf("%s: receives %s", a.name, short(run(r.Events)))
		for _, h := range a.log.DurableHeads() {
			if h.Log == r.Log {
				p.step(a, replication.Received{Head: h})
			}
		}
	}
}

// told says what a core says of itself.
func (p *stage) told(a *actor, out *replication.Effects) {
	for _, alarm := range out.Alarms {
		p.sayf("%s: alarm: %s: %s", a.name, alarm.Kind, short(alarm.Text))
	}
	if out.Follow != 0 {
		a.now.Wall, a.now.Jump = a.now.Wall.Add(out.Follow), a.now.Jump-out.Follow
		p.sayf("%s: follows the jump by %s", a.name, out.Follow)
	}
}

// perform does what a line says.
func (p *stage) perform() {
	if p.d.Cmd == "sites" {
		p.sites()
		return
	}
	if p.d.Cmd == "wait" {
		p.wait(p.duration(p.d.CmdArgs[0].Key))
		return
	}
	a := p.actor(p.d.CmdArgs[0].Key)
	switch p.d.Cmd {
	case "record":
		p.record(a, p.d.CmdArgs[1].Key)
	case "publish":
		p.publish(a)
	case "beat":
		p.speak(a)
	case "read":
		p.readTopic(a, p.actor(p.arg("from", "")))
	case "answer":
		p.answer(a)
	case "lose":
		a.pulls = nil
	case "clock":
		a.now.Wall = a.now.Wall.Add(p.duration(p.arg("by", "")))
	case "jump":
		a.now.Jump += p.duration(p.arg("by", ""))
		p.step(a, replication.Tick{})
	case "backup":
		a.backup = a.log.Copy(a.clock())
	case "put-back":
		a.log = a.backup.Copy(a.clock())
	case "cut-topic":
		a.topic.records = a.topic.records[:len(a.topic.records)-p.number("n", 1)]
	case "live":
		a.log.Live(uint32(p.number("incarnation", 0)))
		p.start(a)
	case "restart":
		p.start(a)
	case "read-topic":
		p.step(a, replication.Topic{Heads: a.topic.heads()})
	default:
		p.show(a)
	}
}

func (p *stage) sites() {
	p.random = rand.New(rand.NewPCG(1, 1))
	for _, arg := range p.d.CmdArgs {
		a := &actor{name: arg.Key, now: replication.Instant{Mono: time.Hour, Wall: epoch}}
		ids := byte(0)
		a.log = memstore.NewLog(memstore.Options{
			LogID: eventstore.LogID{Site: a.name, Incarnation: 1, Shard: 1}, Clock: a.clock(),
			NewID: func() uuid.UUID { ids++; return uuid.UUID{a.name[0], ids} },
		})
		p.actors = append(p.actors, a)
	}
	for _, a := range p.actors {
		p.start(a)
		a.core.Step(a.now, p.random, replication.Topic{})
	}
}

func (p *stage) record(a *actor, stream string) {
	if err := a.core.Writable(); err != nil {
		p.sayf("%s: %v", a.name, err)
		return
	}
	receipt, err := a.log.Accept(eventstore.Request{ID: p.arg("id", ""), Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream("play", stream), Events: []eventstore.Event{{Type: "happened.v1"}},
	}}})
	if err != nil {
		p.sayf("%s: %v", a.name, err)
		return
	}
	a.log.Sync()
	e := a.log.Events()[receipt.Position.LSN-1]
	p.sayf("%s, version %d%s", dot(e.Dot), e.Version, depends(e.Dep))
	for i := range p.actors { // a millisecond passes, so that nothing is at one time by chance
		p.actors[i].now.Wall = p.actors[i].now.Wall.Add(time.Millisecond)
		p.actors[i].now.Mono += time.Millisecond
	}
}

func (p *stage) publish(a *actor) {
	published := map[eventstore.LogID]uint64{}
	for _, h := range a.topic.heads() {
		published[h.Log] = h.Seq
	}
	left := p.number("n", 1<<30)
	for _, e := range a.log.Events() {
		if e.Dot.Log.Site == a.name && e.Dot.Seq == published[e.Dot.Log]+1 && left > 0 {
			a.topic.records = append(a.topic.records, record{event: e})
			published[e.Dot.Log]++
			left--
		}
	}
	for _, log := range slices.SortedFunc(maps.Keys(published), eventstore.LogID.Compare) {
		p.step(a, replication.Mirrored{Dot: eventstore.Dot{Log: log, Seq: published[log]}})
	}
}

// speak has a site's next heartbeat heard.
func (p *stage) speak(a *actor) {
	if wait := a.beat + 250*time.Millisecond - a.now.Mono; wait > 0 {
		p.pass(wait, "")
	}
	out := a.core.Step(a.now, p.random, replication.Tick{})
	if out.Beat == nil {
		p.t.Fatalf("%s: %s has nothing to say", p.d.Pos, a.name)
	}
	p.told(a, &out)
	a.beat = a.now.Mono
	beat := *out.Beat
	beat.Direct = p.arg("how", "") != "topic"
	for _, other := range p.actors {
		if other != a && (p.arg("to", other.name) == other.name) {
			p.step(other, beat)
		}
	}
}

// readTopic has a site read a topic: all that is new there, or events of its last log by their seqs.
func (p *stage) readTopic(a, owner *actor) {
	seqs := p.arg("seqs", "")
	if seqs == "" {
		for _, r := range owner.topic.records[min(a.read[owner.name], len(owner.topic.records)):] {
			p.step(a, replication.Arrived{Events: []eventstore.Recorded{r.event}})
		}
		a.read[owner.name] = len(owner.topic.records)
		return
	}
	var events []eventstore.Recorded
	for seq := range strings.SplitSeq(seqs, ",") {
		for i := range owner.topic.records {
			if e := owner.topic.records[i].event; strconv.FormatUint(e.Dot.Seq, 10) == seq && e.Dot.Log == owner.log.ID() {
				events = append(events, e)
			}
		}
	}
	p.step(a, replication.Arrived{Events: events})
	a.read[owner.name] = len(owner.topic.records)
}

// answer carries pulls there and back.
func (p *stage) answer(a *actor) {
	pulls := a.pulls
	a.pulls = nil
	for _, pull := range pulls {
		from := p.actor(pull.Site)
		answer := replication.Pulled{Pull: pull}
		chain, held := playStorage{from.log}.ChainAt(pull.Log, pull.After)
		if held {
			answer.Chain, answer.Events = chain, from.log.OfLog(pull.Log, pull.After, int(pull.Through-pull.After))
		} else {
			answer.Err = errNotHeld
			p.sayf("%s: has not that of %s", from.name, logName(pull.Log))
		}
		p.step(a, answer)
	}
}

func (p *stage) wait(d time.Duration) {
	p.pass(d, p.arg("only", ""))
	for _, a := range p.actors {
		if only := p.arg("only", a.name); only == a.name {
			p.step(a, replication.Tick{})
		}
	}
}

func (p *stage) pass(d time.Duration, only string) {
	for _, a := range p.actors {
		if only == "" || only == a.name {
			a.now.Mono += d
			a.now.Wall = a.now.Wall.Add(d)
		}
	}
}

// show says what a site has.
func (p *stage) show(a *actor) {
	var events []*eventstore.Recorded
	if len(p.d.CmdArgs) > 1 {
		events = a.log.Stream(eventstore.Stream("play", p.d.CmdArgs[1].Key))
	}
	switch p.d.Cmd {
	case "heads":
		for _, h := range a.log.DurableHeads() {
			p.sayf("%s", dot(eventstore.Dot{Log: h.Log, Seq: h.Seq}))
		}
	case "events":
		for _, e := range a.log.Events() {
			p.sayf("%d: %s", e.Position.LSN, dot(e.Dot))
		}
	case "stream":
		for _, e := range events {
			p.sayf("%s, version %d%s", dot(e.Dot), e.Version, depends(e.Dep))
		}
	case "conflicts":
		for _, c := range replication.Conflicts(events) {
			for _, span := range c.With {
				p.sayf("%s with %s/%d..%d: %s", dot(c.Event), logName(span.Log), span.From, span.To, c.Kind)
			}
		}
	case "status":
		status := a.core.Status(a.now)
		p.sayf("%s", status.Mode)
		for _, l := range status.Logs {
			broken := ""
			if l.Broken != "" {
				broken = ", broken: " + short(l.Broken)
			}
			p.sayf("%s: %d of %d, %d waiting%s", logName(l.Log), l.Held, l.Known, l.Waiting, broken)
		}
	default:
		p.t.Fatalf("%s: unknown verb %q", p.d.Pos, p.d.Cmd)
	}
}

func logName(l eventstore.LogID) string { return fmt.Sprintf("%s/%d", l.Site, l.Incarnation) }

func dot(d eventstore.Dot) string { return fmt.Sprintf("%s/%d", logName(d.Log), d.Seq) }

// short leaves out of a text what all logs of a play have in common.
func short(text string) string { return strings.ReplaceAll(text, "shard-01@", "") }

func depends(dep eventstore.Vector) string {
	if len(dep) == 0 {
		return ""
	}
	names := make([]string, len(dep))
	for i, d := range dep {
		names[i] = dot(d)
	}
	return ", depends on " + strings.Join(slices.Sorted(slices.Values(names)), " ")
}

// playStorage is a log as a core sees it.
type playStorage struct{ *memstore.Log }

func (s playStorage) Heads() []eventstore.LogHead { return s.DurableHeads() }

func (s playStorage) Durable() uint64 { return s.Log.Durable().LSN }

func (s playStorage) TakenIn() uint64 { return s.Durable() }

func (s playStorage) ChainAt(log eventstore.LogID, seq uint64) (chain eventstore.Hash, held bool) {
	if seq == 0 {
		return eventstore.ChainStart(log), true
	}
	events := s.OfLog(log, seq-1, 1)
	if len(events) == 0 {
		return chain, false
	}
	return events[0].Chain, true
}
