package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// mixedStreams shows S34 and S36: versions are kept, a stream is in canonical order, and Revises is set where it should be.
func mixedStreams(f *fixture) {
	early, late := newFar("a", 1, time.Now().Add(-time.Hour)), newFar("z", 2, time.Now().Add(time.Hour))
	for range 4 {
		early.append(f, one(order, eventstore.Any, 2))
		late.append(f, one(order, eventstore.Any, 1))
	}
	want := []eventstore.Recorded{} // in the order of the log
	step := func(events []eventstore.Recorded, revises ...bool) {
		f.Helper()
		for i := range events {
			e := events[i]
			e.Position, e.Revises = at(uint64(len(want)+1)), revises[i]
			want = append(want, e)
		}
	}
	own := func(expect eventstore.Expect, n int) {
		f.Helper()
		before := f.version(order)
		r := f.mustAppend(one(order, expect, n))
		f.equal("receipt", r.Streams, []eventstore.StreamReceipt{{Stream: order, First: before + 1, Last: before + uint64(n)}})
		step(f.all(at(r.First.LSN-1), eventstore.Filter{}), make([]bool, n)...)
	}
	own(eventstore.NoStream, 2)
	f.receive(early.from(1, 2))
	step(early.from(1, 2), true, true)
	own(eventstore.Exactly(4), 1)
	f.receive(late.from(1, 2))
	step(late.from(1, 2), false, false)
	f.receive(early.from(3, 6))
	step(early.from(3, 6), true, true, true, true)
	own(eventstore.Exactly(11), 2)
	f.receive(late.from(3, 4))
	step(late.from(3, 4), false, false)
	var conflict *eventstore.ConflictError
	if _, err := f.store.Append(f.ctx, one(order, eventstore.Exactly(8), 1)); !errors.As(err, &conflict) || conflict.Conflicts[0].Got != 15 {
		f.Errorf("append at a version that is not the number of events: %v", err)
	}
	for range 2 {
		f.equal("log", f.all(eventstore.Position{}, eventstore.Filter{}), want)
		f.mixed(order, want)
		f.reopen()
	}
	f.receive(early.from(7, 8))
	step(early.from(7, 8), true, true)
	own(eventstore.Exactly(17), 1)
	f.mixed(order, want)

	// A stream that is larger than what is read at a time.
	big, many := eventstore.Stream("order", "big"), newFar("m", 1, time.Now().Add(-2*time.Hour))
	for i := range 40 {
		many.append(f, one(big, eventstore.Any, 10))
		f.mustAppend(one(big, eventstore.Any, 3))
		f.receive(many.from(uint64(10*i+1), uint64(10*i+10)))
	}
	for range 2 {
		f.mixed(big, f.all(eventstore.Position{}, eventstore.Filter{Categories: []string{"order"}})[len(want):])
		f.reopen()
	}
}

// mixed checks everything that reads a stream, given its events in the order of the log.
func (f *fixture) mixed(stream eventstore.StreamID, log []eventstore.Recorded) {
	f.Helper()
	canonical := slices.Clone(log)
	slices.SortFunc(canonical, func(a, b eventstore.Recorded) int { return a.CompareCanonical(&b) })
	n := uint64(len(log))
	f.equal("version", f.version(stream), n)
	step := max(1, n/6)
	for from := uint64(0); from <= n+1; from += step {
		f.equal(fmt.Sprintf("stream from %d", from), f.stream(stream, from), append([]eventstore.Recorded(nil), canonical[min(max(from, 1)-1, n):]...))
		back := slices.Clone(canonical[:n])
		if from > 0 {
			back = back[:min(from, n)]
		}
		slices.Reverse(back)
		f.equal(fmt.Sprintf("stream backwards from %d", from), f.backwards(stream, from), append([]eventstore.Recorded(nil), back...))
	}
	for i := uint64(0); i < n; i += step {
		f.equal("version at", f.versionAt(stream, log[i].Position), i+1)
		f.equal("version before", f.versionAt(stream, at(log[i].Position.LSN-1)), i)
	}
	top := &log[0]
	for i := range log {
		e := &log[i]
		if revises := e.CompareCanonical(top) < 0; e.Revises != revises {
			f.Errorf("event at %s revises: %v, want %v", e.Position, e.Revises, revises)
		} else if !revises {
			top = e
		}
	}
}

// ownEventsKnow shows S36.
func ownEventsKnow(f *fixture) {
	b, c := newFar("b", 2, time.Now().Add(time.Hour)), newFar("c", 1, time.Now().Add(2*time.Hour))
	for range 2 {
		b.append(f, one(order, eventstore.Any, 2))
		c.append(f, one(stock, eventstore.Any, 1))
	}
	last := func() eventstore.Recorded {
		f.Helper()
		r := f.mustAppend(one(order, eventstore.Any, 1))
		return f.all(at(r.Position.LSN-1), eventstore.Filter{})[0]
	}
	f.equal("nothing is known", last().Dep, eventstore.Vector(nil))
	f.receive(c.from(1, 1))
	e := last()
	f.equal("one log is known", e.Dep, eventstore.Vector{{Log: c.ID(), Seq: 1}})
	f.reopen()
	after := last()
	f.equal("one log is known after a start", after.Dep, e.Dep)
	if after.HLC <= c.from(1, 1)[0].HLC {
		f.Errorf("own event has clock %s, one that was received before it %s", after.HLC, c.from(1, 1)[0].HLC)
	}
	f.receive(b.from(1, 2)) // its clock is behind c's
	f.reopen()
	e = last()
	f.equal("two logs are known", e.Dep, eventstore.Vector{{Log: b.ID(), Seq: 2}, {Log: c.ID(), Seq: 1}})
	if e.HLC <= after.HLC {
		f.Errorf("the clock went back from %s to %s", after.HLC, e.HLC)
	}
	f.receive(c.from(2, 2))
	e = last()
	f.equal("more is known", e.Dep, eventstore.Vector{{Log: b.ID(), Seq: 2}, {Log: c.ID(), Seq: 2}})
	if e.HLC <= c.from(2, 2)[0].HLC {
		f.Errorf("own event has clock %s, one that was received before it %s", e.HLC, c.from(2, 2)[0].HLC)
	}
}

// mixedFeeds shows S34: what was received is found by all who look for it.
func mixedFeeds(f *fixture) {
	live := f.subscribe(eventstore.Position{}, eventstore.Filter{Chain: true})
	filtered := f.subscribe(eventstore.Position{}, eventstore.Filter{Categories: []string{"inventory"}})
	b := newFar("b", 1, time.Now().Add(-time.Hour))
	tagged := one(stock, eventstore.Any, 2)
	tagged.Appends[0].Events[0].Tags = []string{"sku:85123A"}
	f.mustAppend(one(order, eventstore.Any, 1))
	b.append(f, one(order, eventstore.Any, 1))
	b.append(f, tagged)
	f.receive(b.all())
	f.mustAppend(one(stock, eventstore.Any, 1))

	var seen []eventstore.Recorded
	var position eventstore.Position
	for len(seen) < 5 {
		chunk := f.next(live)
		seen, position = append(seen, chunk.Events...), chunk.Position
		own := uint64(0)
		for _, e := range seen {
			if e.Dot.Log.Site == "local" {
				own = e.Dot.Seq
			}
		}
		f.equal("own seq of a chunk", chunk.Seq, own)
	}
	f.equal("position", position, at(5))
	f.equal("with chains", seen, f.all(eventstore.Position{}, eventstore.Filter{Chain: true}))
	for range 2 {
		all := f.all(eventstore.Position{}, eventstore.Filter{})
		f.equal("by category", f.all(eventstore.Position{}, eventstore.Filter{Categories: []string{"inventory"}}), all[2:])
		f.equal("by type", f.all(at(1), eventstore.Filter{Types: []string{"order.changed.v1"}}), all[1:2])
		f.equal("by tag", f.all(eventstore.Position{}, eventstore.Filter{Query: eventstore.Query{{Tags: []string{"sku:85123A"}}}}), all[2:3])
		back := slices.Clone(all)
		slices.Reverse(back)
		f.equal("backwards", f.allBackwards(eventstore.Position{}, eventstore.Filter{}), back)
		sub := f.subscribe(at(2), eventstore.Filter{MaxChunk: 1})
		chunk := f.next(sub)
		f.equal("a chunk from the middle", chunk.Events, all[2:4])
		f.equal("its own seq", chunk.Seq, uint64(1))
		sub.Close()
		f.equal("until", f.all(at(1), eventstore.Filter{Until: at(3)}), all[1:3])

		r := one(eventstore.Stream("cart", "1"), eventstore.Any, 1)
		r.Condition = &eventstore.Condition{Query: eventstore.Query{{Tags: []string{"sku:85123A"}}}, After: at(2)}
		var conflict *eventstore.ConflictError
		if _, err := f.store.Append(f.ctx, r); !errors.As(err, &conflict) || conflict.Condition.Found != at(3) {
			f.Errorf("append with a condition that a received event stands against: %v", err)
		}
		live.Close()
		filtered.Close()
		f.reopen()
	}
}

// mixedPositionOfTime shows G6 where other logs have events of other times.
func mixedPositionOfTime(f *fixture) {
	early, late := newFar("a", 1, time.Now().Add(-time.Hour)), newFar("z", 1, time.Now().Add(time.Hour))
	early.append(f, one(order, eventstore.Any, 3))
	late.append(f, one(order, eventstore.Any, 2))
	f.receive(early.all()[:3])
	first := f.mustAppend(one(order, eventstore.Any, 2))
	f.receive(late.all())
	f.mustAppend(one(order, eventstore.Any, 1))
	log := f.all(eventstore.Position{}, eventstore.Filter{})
	for range 2 {
		f.equal("before all own events", f.positionAt(log[0].Time()), at(3))
		f.equal("at the first own batch", f.positionAt(log[first.Position.LSN-1].Time()), at(7))
		f.equal("at the last one", f.positionAt(log[7].Time()), at(8))
		f.equal("between", f.positionAt(log[7].Time().Add(-time.Millisecond)), at(7))
		f.reopen()
	}
}
