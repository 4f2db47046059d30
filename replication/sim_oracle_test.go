package replication_test

import (
	"fmt"
	"slices"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/replication"
)

// oracle knows what no site knows: every event that was born, what its site had at that moment, and who has it. It learns
// that from what stands in the logs, in the order in which it stands there, and from nothing that the protocol says of
// itself: Dep, Context, versions and heads are what it judges.
type oracle struct {
	w     *world
	index map[eventstore.LogID]int
	logs  []*truth

	commands map[string][]*birth       // the first event of each batch that a command brought
	lost     map[eventstore.Dot]*birth // gone with a disk, as far as anybody could tell

	acked, excused     int // events that were acknowledged; of them those that a disk took with it before they had left the site
	conflicting, pairs int // events in conflict, and pairs of concurrent events
	alarms             map[replication.AlarmKind]int
	forked             int                       // logs of which there are two contents
	told               map[eventstore.LogID]bool // of which people were told that events are lost or two
	forgiven           hlc.Timestamp             // the latest time that was given by a clock of which nobody could know that it is ahead
	cells              map[uint16]*ownership     // of vaults
	violations         []string
	passed             int // violations that are none, for a log is forked
}

// truth is all there is of one log: dense from seq 1 on.
type truth struct {
	id     eventstore.LogID
	births []*birth
}

// birth is an event at the moment at which its site recorded it.
type birth struct {
	dot    eventstore.Dot
	stream eventstore.StreamID
	hlc    hlc.Timestamp
	chain  eventstore.Hash
	event  eventstore.Recorded
	// known is what the site had before it, folded what the decider had of the stream, where it said so; by index of the log.
	known, folded counts
	acked         bool
	peered        bool // of vaults: a client was told that another site has it, too
}

// counts says for each log, by its index, up to which seq it is meant.
type counts []uint64

func (c counts) at(log int) uint64 {
	if log < len(c) {
		return c[log]
	}
	return 0
}

func (c *counts) set(log int, seq uint64) {
	for len(*c) <= log {
		*c = append(*c, 0)
	}
	(*c)[log] = seq
}

func (c counts) covers(d counts) bool {
	for i, seq := range d {
		if c.at(i) < seq {
			return false
		}
	}
	return true
}

// view is what the oracle knows of a site's disk.
type view struct {
	next    int // place of the event to look at
	held    counts
	latest  hlc.Timestamp
	folds   map[uint64]map[eventstore.StreamID]counts // by the lsn of the first event of an accepted request
	crashed counts                                    // held when it crashed; nil after it was put back to something older
	count   map[eventstore.StreamID]uint64
	anew    bool // what is looked at was looked at before
}

// own returns how many events of the site's logs are on its disk.
func (v *view) own(w *world, site string) (n uint64) {
	for i, t := range w.oracle.logs {
		if t.id.Site == site {
			n += v.held.at(i)
		}
	}
	return n
}

func newOracle(w *world) *oracle {
	return &oracle{
		w: w, index: map[eventstore.LogID]int{}, commands: map[string][]*birth{}, lost: map[eventstore.Dot]*birth{}, cells: map[uint16]*ownership{},
		alarms: map[replication.AlarmKind]int{}, told: map[eventstore.LogID]bool{},
	}
}

// violated notes that something is not as it must be.
func (o *oracle) violated(number, format string, args ...any) {
	if o.enough() {
		return
	}
	if o.w.plan.forks && number != forkNumber {
		o.passed++ // where a log is forked nothing else can be held
		return
	}
	what := number + ": " + fmt.Sprintf(format, args...)
	o.violations = append(o.violations, what)
	o.w.tracef("VIOLATION %s", what)
}

// enough reports whether a history need not go on.
func (o *oracle) enough() bool { return len(o.violations) >= 5 || o.passed >= 1000 }

func (o *oracle) log(id eventstore.LogID) (int, *truth) {
	i, ok := o.index[id]
	if !ok {
		i = len(o.logs)
		o.index[id] = i
		o.logs = append(o.logs, &truth{id: id})
	}
	return i, o.logs[i]
}

// durable looks at what has become durable at a site, in the order in which it stands there.
func (o *oracle) durable(s *site) {
	v := &s.view
	events := s.log.Events()
	for ; v.next < len(events); v.next++ {
		e := &events[v.next]
		i, t := o.log(e.Dot.Log)
		if e.Dot.Seq != v.held.at(i)+1 {
			o.violated("I2", "%s has %s behind seq %d", s.name, e.Dot, v.held.at(i))
		}
		if e.Dot.Seq != e.Batch.FirstSeq && (v.next == 0 || events[v.next-1].Batch != e.Batch || events[v.next-1].Dot.Log != e.Dot.Log) {
			o.violated("I2", "%s has %s apart from its batch", s.name, e.Dot)
		}
		if e.Dot.Log == s.log.ID() {
			o.born(s, t, e)
		} else {
			o.taken(s, t, e)
		}
		if e.Stream.Category == "vault" && e.Dot.Log.Site == s.name {
			s.peering = append(s.peering, e.Dot)
		}
		v.held.set(i, e.Dot.Seq)
		v.count[e.Stream]++
		v.latest = max(v.latest, e.HLC)
	}
	if len(events) > 0 && !events[len(events)-1].EndsBatch() {
		o.violated("I2", "what is durable at %s ends within a batch, with %s", s.name, events[len(events)-1].Dot)
	}
}

// born takes in an event that its own site has durably.
func (o *oracle) born(s *site, t *truth, e *eventstore.Recorded) {
	v := &s.view
	b := &birth{dot: e.Dot, stream: e.Stream, hlc: e.HLC, chain: e.Chain, event: *e, known: slices.Clone(v.held)}
	if e.HLC <= v.latest {
		o.violated("I3", "%s has recorded %s at %s, and had events of %s", s.name, e.Dot, e.HLC, v.latest)
	}
	if e.Dot.Seq <= uint64(len(t.births)) {
		if there := t.births[e.Dot.Seq-1]; there.chain != e.Chain {
			o.violated("I14", "%s has given %s twice", s.name, e.Dot)
		}
		return
	}
	if e.Version != v.count[e.Stream]+1 {
		o.violated("I12", "%s has recorded %s as version %d of %s, behind %d events", s.name, e.Dot, e.Version, e.Stream, v.count[e.Stream])
	}
	first := e.Position.LSN - (e.Dot.Seq - e.Batch.FirstSeq)
	if fold, ok := v.folds[first][e.Stream]; ok {
		b.folded = fold
	}
	t.births = append(t.births, b)
	delete(o.lost, e.Dot)
	if e.Dot.Seq == e.Batch.FirstSeq && e.CommandID != "" {
		for _, earlier := range o.commands[e.CommandID] {
			if i, _ := o.log(earlier.dot.Log); v.held.at(i) >= earlier.dot.Seq {
				o.violated("I11", "%s had %s of command %s, and has done it again with %s", s.name, earlier.dot, e.CommandID, e.Dot)
			}
		}
		o.commands[e.CommandID] = append(o.commands[e.CommandID], b)
	}
	o.decided(s, b)
	switch e.Type {
	case replication.CellOpened:
		o.w.faults.count(cellsMoved)
	case replication.TakeoverAgreed:
		if o.w.plan.forgetful {
			for _, other := range o.w.sites {
				if other != s {
					other.backup()
				}
			}
		}
	case replication.TakeoverDone:
		o.w.faults.count(takeoversDone)
		o.w.tookOver(s, e.Stream.ID)
	case replication.TakeoverEnded:
		o.w.faults.count(takeoversEnded)
	}
}

// taken checks an event of another log that a site has durably.
func (o *oracle) taken(s *site, t *truth, e *eventstore.Recorded) {
	if gone := o.lost[e.Dot]; gone != nil && uint64(len(t.births))+1 == e.Dot.Seq && gone.chain == e.Chain {
		t.births = append(t.births, gone) // it had left the site after all
		delete(o.lost, e.Dot)
	}
	if e.Dot.Seq > uint64(len(t.births)) {
		o.violated("I2", "%s has %s, which was never born", s.name, e.Dot)
		return
	}
	b := t.births[e.Dot.Seq-1]
	if b.chain != e.Chain || b.hlc != e.HLC {
		o.violated("I2", "%s has another event as %s than was born", s.name, e.Dot)
	}
	for i, seq := range b.known {
		if o.logs[i] != t && s.view.held.at(i) < seq {
			o.violated("I3", "%s has %s before %s/%d, which its site had", s.name, e.Dot, o.logs[i].id, seq)
		}
	}
}

// peered checks what a core says of what is durable at another site too. Who is put back to an earlier state has said more
// than is true.
func (o *oracle) peered(s *site) {
	i, t := o.log(s.log.ID())
	seq := s.view.held.at(i)
	if seq == 0 || o.w.putBack || s.core == nil || s.core.Elsewhere().At(t.id) < seq {
		return
	}
	for _, other := range o.w.sites {
		if other != s && other.view.held.at(i) >= seq {
			return
		}
	}
	o.violated("peer", "%s says that another site has %s/%d, and none has", s.name, t.id, seq)
}

// opened looks at a site's disk anew.
func (o *oracle) opened(s *site) {
	before := s.view.crashed
	s.view = view{folds: map[uint64]map[eventstore.StreamID]counts{}, count: map[eventstore.StreamID]uint64{}}
	s.view.anew = true
	o.durable(s)
	s.view.anew = false
	for i := range o.logs {
		if before != nil && s.view.held.at(i) != before.at(i) {
			o.violated("I9", "%s had %s up to %d when it crashed, and has it up to %d", s.name, o.logs[i].id, before.at(i), s.view.held.at(i))
		}
	}
	for _, h := range (storage{s}).Heads() {
		if i, t := o.log(h.Log); s.view.held.at(i) != h.Seq || h.Seq > uint64(len(t.births)) || h.Seq > 0 && t.births[h.Seq-1].chain != h.Chain {
			o.violated("I9", "%s says it has %s up to %d, and has it up to %d", s.name, h.Log, h.Seq, s.view.held.at(i))
		}
	}
}

// putBack looks at a disk that is older than it was, and forgives what went with it.
func (o *oracle) putBack(s *site) {
	o.opened(s)
	o.excuse()
}

// crashed remembers what was durable.
func (o *oracle) crashed(s *site) { s.view.crashed = slices.Clone(s.view.held) }

// ack notes that a client was told that a request is recorded.
func (o *oracle) ack(s *site, r eventstore.Receipt) {
	events := s.log.Events()
	if r.Position.LSN > uint64(len(events)) {
		o.violated("I1", "%s acknowledges what is not durable, place %d", s.name, r.Position.LSN)
		return
	}
	for i := range events[r.First.LSN-1 : r.Position.LSN] {
		e := &events[r.First.LSN-1+uint64(i)]
		_, t := o.log(e.Dot.Log)
		if e.Dot.Seq > uint64(len(t.births)) || e.CommandID != r.ID {
			o.violated("I1", "%s acknowledges %s for command %s", s.name, e.Dot, r.ID)
			return
		}
		if b := t.births[e.Dot.Seq-1]; !b.acked {
			b.acked = true
			o.acked++
		}
	}
}

// excuse forgives what was lost with a disk or a topic, if it is nowhere else: neither on the disk of a site nor in a topic,
// or behind something that is nowhere. No protocol could bring that back.
func (o *oracle) excuse() {
	reach := o.reach()
	for i, t := range o.logs {
		for uint64(len(t.births)) > reach.at(i) {
			b := t.births[len(t.births)-1]
			t.births = t.births[:len(t.births)-1]
			o.lost[b.dot] = b
			if b.acked {
				o.excused++
			}
			if c := o.commands[b.event.CommandID]; len(c) > 0 {
				o.commands[b.event.CommandID] = slices.DeleteFunc(c, func(other *birth) bool { return other == b })
			}
		}
	}
}

// reach says how far each log can still come to all sites.
func (o *oracle) reach() counts {
	var reach counts
	for i := range o.logs {
		for _, s := range o.w.sites {
			reach.set(i, max(reach.at(i), s.view.held.at(i)))
		}
	}
	for more := true; more; {
		more = false
		for _, s := range o.w.sites {
			for r := range s.topic.records {
				e := &s.topic.records[r].event
				if s.topic.records[r].beat != nil {
					continue
				}
				i, t := o.log(e.Dot.Log)
				if e.Dot.Seq == reach.at(i)+1 && e.Dot.Seq <= uint64(len(t.births)) && reach.covers(t.births[e.Dot.Seq-1].known) {
					reach.set(i, e.Dot.Seq)
					more = true
				}
			}
		}
	}
	for i, t := range o.logs {
		if seq := min(reach.at(i), uint64(len(t.births))); seq > 0 && !t.births[seq-1].event.EndsBatch() {
			reach.set(i, t.births[seq-1].event.Batch.FirstSeq-1)
		}
	}
	return reach
}

// forkNumber is what the oracle calls a fork that nobody was told of.
const forkNumber = "I2, two contents"

// forks looks for dots of which sites have two contents.
func (o *oracle) forks() {
	content := map[eventstore.Dot]eventstore.Hash{}
	forked := map[eventstore.LogID]eventstore.Dot{}
	for _, s := range o.w.sites {
		for _, e := range s.log.Events() {
			if chain, known := content[e.Dot]; known && chain != e.Chain {
				if _, known := forked[e.Dot.Log]; !known {
					forked[e.Dot.Log] = e.Dot
				}
			}
			content[e.Dot] = e.Chain
		}
	}
	o.forked = len(forked)
	for _, t := range o.logs {
		if dot, is := forked[t.id]; is && !o.enough() && !o.told[t.id] {
			o.violated(forkNumber, "sites have two contents of %s, and nobody was told", dot)
		}
	}
}

// alarm notes what a core has people told.
func (o *oracle) alarm(s *site, a replication.Alarm) {
	o.alarms[a.Kind]++
	if a.Kind == replication.AlarmFork || a.Kind == replication.AlarmLost {
		o.told[a.Log] = true
	}
	o.w.tracef("%s: alarm %s: %s", s.name, a.Kind, a.Text)
	switch a.Kind {
	case replication.AlarmSkew:
		o.heldBack(s, a.Log)
	case replication.AlarmFork:
		o.violated("I2", "%s says that a log is forked: %s", s.name, a.Text)
	case replication.AlarmUnordered:
		o.violated("I2", "%s does not take what it was given: %s", s.name, a.Text)
	}
}
