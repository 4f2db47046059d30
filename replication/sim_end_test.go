package replication_test

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// converged reports whether all sites have all there is, published what is theirs, and take writes.
func (w *world) converged() bool {
	for _, s := range w.sites {
		if !s.up || s.core == nil || s.core.Writable() != nil || w.unsure(s) || s.log.Durable() != s.log.Accepted() {
			return false
		}
		for i, t := range w.oracle.logs {
			if s.view.held.at(i) != uint64(len(t.births)) {
				return false
			}
			if t.id.Site == s.name && s.mirror.published[t.id].Seq < uint64(len(t.births)) {
				return false
			}
		}
	}
	return true
}

// behind says what keeps the sites from being alike.
func (w *world) behind() string {
	var b strings.Builder
	for _, s := range w.sites {
		switch {
		case !s.up || s.core == nil:
			b.WriteString("; " + s.name + " is down")
			continue
		case s.core.Writable() != nil:
			b.WriteString("; " + s.name + ": " + s.core.Writable().Error())
		case w.unsure(s):
			b.WriteString("; " + s.name + ": " + s.atHome().Error())
		}
		for i, t := range w.oracle.logs {
			if held := s.view.held.at(i); held != uint64(len(t.births)) {
				b.WriteString("; " + s.name + " has " + eventstore.Dot{Log: t.id, Seq: held}.String() + " of " + eventstore.Dot{Log: t.id, Seq: uint64(len(t.births))}.String())
			}
			if p := s.mirror.published[t.id].Seq; t.id.Site == s.name && p < uint64(len(t.births)) {
				b.WriteString("; " + s.name + " has published " + eventstore.Dot{Log: t.id, Seq: p}.String())
			}
		}
	}
	return strings.TrimPrefix(b.String(), "; ")
}

// judge compares what all sites have at the end with the truth and with each other.
func (o *oracle) judge() {
	for i, t := range o.logs {
		for _, b := range t.births {
			for _, s := range o.w.sites {
				if b.acked && s.view.held.at(i) < b.dot.Seq {
					o.violated("I1", "%s was acknowledged, and %s has %s only up to %d", b.dot, s.name, t.id, s.view.held.at(i))
				}
			}
		}
	}
	streams := o.streams()
	for _, events := range streams {
		if events[0].stream.Category == "vault" {
			o.kept(events)
		}
	}
	for _, s := range o.w.sites {
		o.chains(s)
		for _, events := range streams {
			o.stream(s, events)
		}
	}
	o.commandsAreDone()
}

// streams returns the events of every stream in canonical order, by sorting all there are.
func (o *oracle) streams() (streams [][]*birth) {
	var all []*birth
	for _, t := range o.logs {
		all = append(all, t.births...)
	}
	slices.SortFunc(all, func(a, b *birth) int {
		return cmp.Or(strings.Compare(a.stream.Category, b.stream.Category), strings.Compare(a.stream.ID, b.stream.ID),
			cmp.Compare(a.hlc, b.hlc), a.dot.Log.Compare(b.dot.Log), cmp.Compare(a.dot.Seq, b.dot.Seq))
	})
	for first := 0; first < len(all); {
		end := first + 1
		for end < len(all) && all[end].stream == all[first].stream {
			end++
		}
		streams = append(streams, all[first:end])
		first = end
	}
	return streams
}

// chains recomputes the hash chain of every log at a site from what is in it.
func (o *oracle) chains(s *site) {
	at := map[eventstore.LogID]eventstore.Hash{}
	for _, e := range s.log.Events() {
		chain, some := at[e.Dot.Log]
		if !some {
			chain = eventstore.ChainStart(e.Dot.Log)
		}
		content := eventstore.ContentHash(eventstore.AppendContent(nil, &e))
		chain = eventstore.NextChain(chain, e.Dot.Seq, e.HLC, e.Version, content)
		if chain != e.Chain {
			o.violated("I2", "%s has %s with another chain than its events give", s.name, e.Dot)
			return
		}
		at[e.Dot.Log] = chain
	}
}

// stream compares one stream at a site with the truth: its events and their order, what is folded from them, and the
// conflicts among them.
func (o *oracle) stream(s *site, want []*birth) {
	stream := want[0].stream
	got := s.log.Stream(stream)
	if len(got) != len(want) {
		o.violated("I4", "%s has %d events of %s, and there are %d", s.name, len(got), stream, len(want))
		return
	}
	events := make([]*eventstore.Recorded, len(want))
	for i, b := range want {
		events[i] = &b.event
		if got[i].Dot != b.dot {
			o.violated("I4", "%s reads %s as number %d of %s, where %s stands in canonical order", s.name, got[i].Dot, i+1, stream, b.dot)
			return
		}
	}
	if here, there := fold(got), fold(events); here != there {
		o.violated("I4", "%s folds %s to %s, and the truth is %s", s.name, stream, here, there)
	}
	o.conflicts(s, want, replication.Conflicts(got))
}

// conflicts compares conflict records with what was concurrent.
func (o *oracle) conflicts(s *site, want []*birth, got []replication.Conflict) {
	var buffer []*birth
	for i, f := range want {
		with := buffer[:0]
		kind := replication.Concurrent
		for _, e := range want[:i] {
			if o.concurrent(e, f) {
				with = append(with, e)
				if e.event.CommandID != "" && e.event.CommandID == f.event.CommandID {
					kind = replication.DuplicateCommand
				}
			}
		}
		buffer = with
		found := len(got) > 0 && got[0].Event == f.dot
		if s.index == 0 && len(with) > 0 {
			o.conflicting++
			o.pairs += len(with)
		}
		switch {
		case len(with) == 0 && found:
			o.violated("I6", "%s has a conflict on record for %s, which knew all before it", s.name, f.dot)
		case len(with) > 0 && !found:
			o.violated("I6", "%s has no conflict on record for %s, which did not know %s", s.name, f.dot, with[0].dot)
		case found && (got[0].Kind != kind || got[0].HLC != f.hlc || got[0].Stream != f.stream):
			o.violated("I6", "%s has %s on record as %s, and it is %s", s.name, f.dot, got[0].Kind, kind)
		case found && !covers(want[:i], with, got[0].With):
			o.violated("I6", "%s has %s on record with %v, and did not know %d from %s on", s.name, f.dot, got[0].With, len(with), with[0].dot)
		}
		if found {
			got = got[1:]
		}
	}
	if len(got) > 0 {
		o.violated("I6", "%s has %s in conflict, which is not of the stream or out of order", s.name, got[0].Event)
	}
}

// concurrent reports whether an event was decided without knowledge of one before it in canonical order.
func (o *oracle) concurrent(e, f *birth) bool {
	if e.dot.Log == f.dot.Log {
		return false
	}
	i := o.index[e.dot.Log]
	if f.folded != nil {
		return f.folded.at(i) < e.dot.Seq
	}
	return f.known.at(i) < e.dot.Seq
}

// covers reports whether spans name, of the events before one, exactly those that it did not know.
func covers(before, with []*birth, spans []replication.Span) bool {
	for i := 1; i < len(spans); i++ {
		if spans[i-1].Log.Compare(spans[i].Log) >= 0 {
			return false
		}
	}
	next := 0
	for _, e := range before {
		named := slices.ContainsFunc(spans, func(sp replication.Span) bool {
			return sp.Log == e.dot.Log && sp.From <= e.dot.Seq && e.dot.Seq <= sp.To
		})
		is := next < len(with) && with[next] == e
		if is {
			next++
		}
		if named != is {
			return false
		}
	}
	for _, sp := range spans { // no longer than what it stands for
		ends := 0
		for _, e := range with {
			if e.dot.Log == sp.Log && (e.dot.Seq == sp.From || e.dot.Seq == sp.To) {
				ends++
			}
		}
		if ends == 0 || ends == 1 && sp.From != sp.To {
			return false
		}
	}
	return true
}

// commandsAreDone checks that no log has a command twice.
func (o *oracle) commandsAreDone() {
	for _, t := range o.logs {
		done := map[string]eventstore.Dot{}
		for _, b := range t.births {
			id := b.event.CommandID
			if id == "" || b.dot.Seq != b.event.Batch.FirstSeq {
				continue
			}
			if earlier, twice := done[id]; twice {
				o.violated("I11", "command %s is done by %s and again by %s", id, earlier, b.dot)
			}
			done[id] = b.dot
		}
	}
}

// mostWait is how long, in the world's time, the sites may take to be alike once nothing goes wrong any more, and the time has come of all that was
// recorded by clocks that nobody could know to be ahead. Those that take little at a time may take longer.
const mostWait = 10 * time.Second

// run plays a whole history: work and faults, calm, and the sites have to become alike by themselves.
func (w *world) run() {
	defer w.endAll() // strands that wait would keep the world
	w.begin()
	w.runUntil(w.plan.duration)
	w.beCalm()
	w.calmAt = w.now
	if w.plan.forks {
		w.runUntil(w.now + mostWait/2)
		w.oracle.forks()
		return
	}
	most := mostWait
	if w.plan.config.MaxPull > 0 {
		most *= 3
	}
	waited := w.now
	for since := w.now; w.now-since < time.Second && !w.oracle.enough(); {
		w.runUntil(w.now + 50*time.Millisecond)
		if w.converged() {
			continue
		}
		since = w.now
		w.alike = w.now - w.calmAt
		if w.now <= w.oracle.forgiven.Time().Sub(epoch) && w.waitsForItsTime() {
			waited = w.now
			w.mostSteps += mostSteps / 1000
		}
		if w.now-waited > most {
			w.oracle.violated("I5", "the sites are not alike after %s of calm: %s", most, w.behind())
			break
		}
	}
	if len(w.oracle.violations) == 0 {
		w.oracle.judge()
	}
	for _, t := range w.oracle.logs {
		for _, b := range t.births {
			w.mix(uint64(b.hlc))
			w.mix(uint64(b.chain[0])<<8 | uint64(b.chain[1]))
		}
	}
}

// waitsForItsTime reports whether some event is of the future where it has come.
func (w *world) waitsForItsTime() bool {
	return slices.ContainsFunc(w.sites, func(s *site) bool {
		return s.core != nil && slices.ContainsFunc(s.core.Status(s.instant()).Logs, func(l replication.LogStatus) bool { return l.Early > 0 })
	})
}

// endAll ends what the sites' owners still wait for.
func (w *world) endAll() {
	for _, s := range w.sites {
		s.endKeeper()
	}
}
