package replication_test

import (
	"maps"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// topic is what a site publishes: its own events and, between them, its heartbeats. Kafka keeps the order, may drop the
// oldest (retention), may lose the newest, and may be made anew with nothing in it.
type topic struct {
	first   int // offset of the first record that is still there
	records []record
}

// record is an event or a heartbeat.
type record struct {
	event eventstore.Recorded
	beat  *replication.Heartbeat
}

func (t *topic) end() int { return t.first + len(t.records) }

// heads returns for each log the last event that was in the topic, as its records and heartbeats tell, in the order of
// LogID.Compare.
func (t *topic) heads() (heads []eventstore.LogHead) {
	for i := range t.records {
		r := &t.records[i]
		h := eventstore.LogHead{Log: r.event.Dot.Log, Seq: r.event.Dot.Seq, HLC: r.event.HLC, Chain: r.event.Chain}
		if r.beat != nil {
			h = r.beat.Heads[slices.IndexFunc(r.beat.Heads, func(o eventstore.LogHead) bool { return o.Log == r.beat.Log })]
		}
		at := slices.IndexFunc(heads, func(o eventstore.LogHead) bool { return o.Log == h.Log })
		if at < 0 {
			heads = append(heads, h)
		} else if heads[at].Seq < h.Seq {
			heads[at] = h
		}
	}
	slices.SortFunc(heads, func(a, b eventstore.LogHead) int { return a.Log.Compare(b.Log) })
	return heads
}

// behind returns up to which seq there are whole batches of a log, one behind the other, after a seq: to the end of the next one.
func (t *topic) behind(log eventstore.LogID, after uint64) uint64 {
	next := after + 1
	for i := range t.records {
		switch e := &t.records[i].event; {
		case t.records[i].beat != nil || e.Dot.Log != log || e.Dot.Seq != next:
		case e.EndsBatch():
			return next
		default:
			next++
		}
	}
	return after
}

// mirror copies a site's own events to its topic, of every life each once and in order. It keeps nothing: when it begins, and
// when the topic is not what it left, it compares.
type mirror struct {
	copying   bool
	next      int // place in the log of the event to look at
	published map[eventstore.LogID]eventstore.LogHead
	left      int // where the topic ended when it was last written to
}

// wake has the mirror go on in a while.
func (s *site) wakeMirror() {
	if s.mirror.copying || !s.up || s.mirror.published == nil {
		return
	}
	s.mirror.copying = true
	s.within(s.w.between(s.w.plan.mirrorDelay/4, s.w.plan.mirrorDelay), func() {
		s.mirror.copying = false
		s.copyToTopic()
	})
}

// compareTopic finds out how far the topic has the site's logs.
func (s *site) compareTopic() {
	s.mirror.published = map[eventstore.LogID]eventstore.LogHead{}
	for _, h := range s.topic.heads() {
		s.mirror.published[h.Log] = h
	}
	s.mirror.next, s.mirror.left = 0, s.topic.end()
}

func (s *site) copyToTopic() {
	if s.w.network.topics[s.index][s.index] {
		s.within(100*time.Millisecond, s.wakeMirror)
		return
	}
	if s.topic.end() != s.mirror.left {
		s.compareTopic()
	}
	events := s.log.Events()
	limit := 1 + s.w.rand.IntN(40)
	for ; s.mirror.next < len(events) && limit > 0; s.mirror.next++ {
		e := events[s.mirror.next]
		if e.Dot.Log.Site != s.name || e.Dot.Seq != s.mirror.published[e.Dot.Log].Seq+1 {
			continue
		}
		s.topic.records = append(s.topic.records, record{event: e})
		s.mirror.published[e.Dot.Log] = eventstore.LogHead{Log: e.Dot.Log, Seq: e.Dot.Seq, HLC: e.HLC, Chain: e.Chain}
		limit--
	}
	s.mirror.left = s.topic.end()
	s.topicGrew()
	s.tellMirrored()
	if s.mirror.next < len(events) {
		s.wakeMirror()
	}
}

// tellMirrored tells the core how much of each life of the log is in the topic.
func (s *site) tellMirrored() {
	for _, log := range slices.SortedFunc(maps.Keys(s.mirror.published), eventstore.LogID.Compare) {
		s.step(replication.Mirrored{Dot: eventstore.Dot{Log: log, Seq: s.mirror.published[log].Seq}})
	}
}

// beatToTopic has a heartbeat stand in the topic, behind what it says of the own log. Where the topic is not as the mirror left it, it
// compares, as it does when it has events to write.
func (s *site) beatToTopic(beat replication.Heartbeat) {
	switch {
	case s.w.network.topics[s.index][s.index] || s.mirror.published == nil:
		return
	case s.topic.end() != s.mirror.left:
		s.wakeMirror()
		return
	}
	s.topic.records = append(s.topic.records, record{beat: &beat})
	s.mirror.left = s.topic.end()
	s.topicGrew()
}

// topicGrew tells those who read the topic.
func (s *site) topicGrew() {
	for _, reader := range s.w.sites {
		if reader != s && reader.up {
			reader.links[s.index].wake()
		}
	}
}

// link reads the topic of another site, from where the site's hold of its logs ends.
type link struct {
	to      *site
	owner   *site
	offset  int
	reading bool
}

// wake has the link read in a while, unless it is about to.
func (l *link) wake() {
	if l.reading || !l.to.up {
		return
	}
	l.reading = true
	l.to.within(l.to.w.between(time.Millisecond, l.to.w.plan.linkDelay), func() {
		l.reading = false
		l.read()
	})
}

// begin has the link read on from the first event that the site does not hold.
func (l *link) begin() {
	held := map[eventstore.LogID]uint64{}
	for _, h := range (storage{l.to}).Heads() {
		held[h.Log] = h.Seq
	}
	t := l.owner.topic
	l.offset, l.reading = t.end(), false
	for i := range t.records {
		if e := &t.records[i].event; t.records[i].beat == nil && e.Dot.Seq > held[e.Dot.Log] {
			l.offset = t.first + i
			break
		}
	}
	l.wake()
}

// reread has a topic read again from where the site's hold of its logs ends.
func (s *site) reread(r replication.Reread) {
	for _, l := range s.links {
		if l.owner.name == r.Log.Site {
			l.begin()
		}
	}
	if r.Log.Site != s.name {
		return
	}
	s.within(s.w.between(5*time.Millisecond, 300*time.Millisecond), func() {
		if !s.w.network.topics[s.index][s.index] {
			held := s.headOf(r.Log).Seq
			s.step(replication.TopicHas{Log: r.Log, After: held, Through: s.topic.behind(r.Log, held), Empty: len(s.topic.records) == 0})
		}
	})
}

func (l *link) read() {
	w, t := l.to.w, l.owner.topic
	if w.network.topics[l.to.index][l.owner.index] {
		l.to.within(100*time.Millisecond, l.wake)
		return
	}
	if l.offset < t.first || l.offset > t.end() { // what was read is gone, or the topic is another one
		l.offset = t.first
		if w.rand.IntN(2) == 0 {
			l.offset = t.end()
		}
	}
	records := t.records[l.offset-t.first:]
	records = records[:min(len(records), 1+w.rand.IntN(60))]
	l.offset += len(records)
	l.hand(records)
	if l.offset < t.end() {
		l.wake()
	}
}

// hand gives what was read to the core: events that stand together, of one log, at once, as faults leave them.
func (l *link) hand(records []record) {
	w := l.to.w
	faulty := !w.calm && w.plan.linkFaults
	var events []eventstore.Recorded
	flush := func() {
		if len(events) == 0 {
			return
		}
		if faulty && w.chance(w.plan.reordered) {
			w.faults.count(recordsReordered)
			w.rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		}
		l.to.step(replication.Arrived{Events: events})
		events = nil
	}
	for i := range records {
		r := &records[i]
		if faulty && w.chance(w.plan.recordsDropped) {
			w.faults.count(recordDropped)
			continue
		}
		if r.beat != nil {
			flush()
			l.to.step(*r.beat)
			continue
		}
		if len(events) > 0 && events[0].Dot.Log != r.event.Dot.Log {
			flush()
		}
		events = append(events, r.event)
		if faulty && w.chance(w.plan.recordsDuplicated) {
			w.faults.count(recordDuplicated)
			events = append(events, r.event)
		}
	}
	flush()
}
