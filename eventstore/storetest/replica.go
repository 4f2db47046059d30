package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

// replicaTests are for stores that implement eventstore.Replica.
var replicaTests = []test{
	{"whole batches in order", receivedInOrder},
	{"what is held already", receivedAgain},
	{"gaps and forks", receivedWrong},
	{"what cannot be received", receivedInvalid},
	{"streams of several logs", mixedStreams},
	{"what own events know", ownEventsKnow},
	{"feeds, filters and conditions", mixedFeeds},
	{"requests that were done elsewhere", foreignRequests},
	{"heads and logs", headsAndLogs},
	{"the position of a time", mixedPositionOfTime},
	{"side by side", receivedSideBySide},
}

// far is the log of another site, whose clock says what it is told.
type far struct {
	*memstore.Log
	now time.Time
	ids int
}

func newFar(site string, incarnation uint32, now time.Time) *far {
	l := &far{now: now}
	l.Log = memstore.NewLog(memstore.Options{
		LogID: eventstore.LogID{Site: site, Incarnation: incarnation}, Clock: hlc.New(func() time.Time { return l.now }),
		NewID: func() uuid.UUID {
			l.ids++
			return uuid.NewSHA1(uuid.Nil, fmt.Append(nil, site, incarnation, l.ids))
		},
	})
	return l
}

// append records a request at the other site a minute after the one before.
func (l *far) append(f *fixture, r eventstore.Request) eventstore.Receipt {
	f.Helper()
	l.now = l.now.Add(time.Minute)
	receipt, err := l.Accept(r)
	if err != nil {
		f.Fatalf("append at %s: %v", l.ID(), err)
	}
	l.Sync()
	return receipt
}

// from returns copies of the log's events from a seq to another, without what is its own of them.
func (l *far) from(first, last uint64) []eventstore.Recorded {
	out := slices.Clone(l.OfLog(l.ID(), first-1, int(last-first+1)))
	for i := range out {
		out[i].Position, out[i].Chain, out[i].Revises = eventstore.Position{}, eventstore.Hash{}, false
	}
	return out
}

// all returns the events of the log itself.
func (l *far) all() []eventstore.Recorded { return l.from(1, uint64(len(l.Events()))) }

func (f *fixture) replica() eventstore.Replica {
	f.Helper()
	r, ok := f.store.(eventstore.Replica)
	if !ok {
		f.Fatalf("store is no Replica, Features say it is")
	}
	return r
}

func (f *fixture) receive(events []eventstore.Recorded) eventstore.Position {
	f.Helper()
	p, err := f.replica().Receive(f.ctx, slices.Clone(events))
	if err != nil {
		f.Fatalf("receive %s to seq %d: %v", events[0].Dot, events[len(events)-1].Dot.Seq, err)
	}
	return p
}

// refuse wants Receive to refuse the events and to leave nothing. as, when not nil, is set to the error.
func (f *fixture) refuse(what string, events []eventstore.Recorded, want error, as any) {
	f.Helper()
	before := f.head()
	_, err := f.replica().Receive(f.ctx, slices.Clone(events))
	if !errors.Is(err, want) {
		f.Fatalf("receive %s: %v, want %v", what, err, want)
	}
	if as != nil && !errors.As(err, as) {
		f.Fatalf("receive %s: %v is no %T", what, err, as)
	}
	f.equal("the log after "+what, f.head(), before)
}

func (f *fixture) heads() []eventstore.LogHead {
	f.Helper()
	heads, err := f.replica().Heads(f.ctx)
	if err != nil {
		f.Fatalf("heads: %v", err)
	}
	return heads
}

func (f *fixture) ofLog(log eventstore.LogID, after uint64) []eventstore.Recorded {
	f.Helper()
	var out []eventstore.Recorded
	for e, err := range f.replica().ReadLog(f.ctx, log, after) {
		if err != nil {
			f.Fatalf("read %s after seq %d: %v", log, after, err)
		}
		out = append(out, e)
	}
	return out
}

// placed returns received events as the log has them from an lsn on.
func placed(events []eventstore.Recorded, lsn uint64) []eventstore.Recorded {
	out := slices.Clone(events)
	for i := range out {
		out[i].Position = at(lsn + uint64(i))
	}
	return out
}

// receivedInOrder shows S33.
func receivedInOrder(f *fixture) {
	b := newFar("b", 3, time.Now().Add(-time.Hour))
	b.append(f, one(order, eventstore.Any, 2))
	b.append(f, one(stock, eventstore.Any, 1))
	b.append(f, one(order, eventstore.Any, 3))
	all := b.all()
	f.mustAppend(one(eventstore.Stream("cart", "1"), eventstore.NoStream, 1))
	f.equal("position", f.receive(all[:3]), at(4))
	f.mustAppend(one(eventstore.Stream("cart", "1"), eventstore.Exactly(1), 2))
	f.equal("position", f.receive(all[3:]), at(9))
	for range 2 {
		log := f.all(eventstore.Position{}, eventstore.Filter{})
		f.equal("number of events", len(log), 9)
		f.equal("received first", log[1:4], placed(all[:3], 2))
		f.equal("received then", log[6:], placed(all[3:], 7))
		for i := range log {
			f.equal("position", log[i].Position, at(uint64(i+1)))
		}
		f.equal("own seq", []uint64{log[0].Dot.Seq, log[4].Dot.Seq, log[5].Dot.Seq, f.head().Seq}, []uint64{1, 2, 3, 3})
		f.equal("streams", f.head().Streams, uint64(3))
		f.reopen()
	}
	f.mustAppend(one(stock, eventstore.Exactly(1), 1))
}

// receivedAgain shows S33: events that come again are passed over.
func receivedAgain(f *fixture) {
	b := newFar("b", 1, time.Now())
	for range 6 {
		b.append(f, one(order, eventstore.Any, 2))
	}
	all := b.all()
	f.receive(all[:4])
	for range 2 {
		f.equal("again", f.receive(all[:4]), at(4))
		f.equal("a part again", f.receive(all[2:4]), at(4))
		f.equal("the first again", f.receive(all[:2]), at(2))
		f.equal("head", f.head().Durable, at(4))
		f.reopen()
	}
	f.equal("some again", f.receive(all[2:8]), at(8))
	f.equal("all again", f.receive(all), at(12))
	f.equal("log", f.all(eventstore.Position{}, eventstore.Filter{}), placed(all, 1))
}

// receivedWrong shows S33 and S35.
func receivedWrong(f *fixture) {
	b := newFar("b", 1, time.Now())
	for range 6 {
		b.append(f, one(order, eventstore.Any, 2))
	}
	all := b.all()
	var gap *eventstore.GapError
	f.refuse("from the middle of a log that is not held", all[2:], eventstore.ErrGap, &gap)
	if *gap != (eventstore.GapError{Log: b.ID(), Held: 0, Got: 3}) {
		f.Errorf("gap is %+v", gap)
	}
	f.receive(all[:4])
	for range 2 {
		f.refuse("behind a gap", all[6:], eventstore.ErrGap, &gap)
		if *gap != (eventstore.GapError{Log: b.ID(), Held: 4, Got: 7}) {
			f.Errorf("gap is %+v", gap)
		}
		for i := range 4 {
			other := slices.Clone(all)
			other[i].Payload = []byte(`{"n":"other"}`)
			var fork *eventstore.ForkError
			f.refuse("an event that is another", other[i/2*2:], eventstore.ErrFork, &fork)
			if fork.Dot != other[i].Dot || fork.Held == fork.Got {
				f.Errorf("event %d is another: fork is %+v", i, fork)
			}
			held, _, err := f.replica().ChainAt(f.ctx, b.ID(), fork.Dot.Seq)
			if err != nil || held != fork.Held {
				f.Errorf("chain at %s is %x, %v; the fork says %x", fork.Dot, held, err, fork.Held)
			}
		}
		other := slices.Clone(all)
		for i := range 3 {
			other[3+i].Batch = eventstore.Batch{FirstSeq: 4, Count: 3}
		}
		other[2].Batch.Count = 1
		f.refuse("a batch of which a part is held", other[2:6], eventstore.ErrInvalid, nil)
		f.reopen()
	}
	f.receive(all)
}

// receivedInvalid shows S33.
func receivedInvalid(f *fixture) {
	b, c := newFar("b", 1, time.Now()), newFar("c", 1, time.Now())
	b.append(f, one(order, eventstore.Any, 3))
	b.append(f, one(order, eventstore.Any, 2))
	c.append(f, one(order, eventstore.Any, 5))
	all := b.all()
	f.refuse("nothing", nil, eventstore.ErrInvalid, nil)
	f.refuse("a batch without its end", all[:2], eventstore.ErrInvalid, nil)
	f.refuse("a batch without its beginning", all[1:], eventstore.ErrInvalid, nil)
	f.refuse("two logs", append(all[:3:3], c.all()[3:]...), eventstore.ErrInvalid, nil)
	f.refuse("two in the wrong order", append(all[3:5:5], all[:3]...), eventstore.ErrInvalid, nil)
	f.refuse("own life", newOwn(f).all(), eventstore.ErrInvalid, nil)
	noVersion := slices.Clone(all)
	noVersion[1].Version = 0
	f.refuse("an event without a version", noVersion, eventstore.ErrInvalid, nil)
	noStream := slices.Clone(all)
	noStream[1].Stream = eventstore.StreamID{}
	f.refuse("an event without a stream", noStream, eventstore.ErrInvalid, nil)
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	if _, err := f.replica().Receive(ctx, all); !errors.Is(err, context.Canceled) {
		f.Errorf("receive with a context that has ended: %v", err)
	}
	other := newFar("local", 7, time.Now())
	other.append(f, one(order, eventstore.Any, 2))
	f.equal("another life of this log", f.receive(other.all()), at(2))
}

// newOwn returns a log with the name of the one under test.
func newOwn(f *fixture) *far {
	own := newFar("local", 1, time.Now())
	own.append(f, one(order, eventstore.Any, 1))
	return own
}

// foreignRequests shows S7 over sites: a retry at another site gets the receipt of what the first did.
func foreignRequests(f *fixture) {
	ask := func(id string, n int) eventstore.Request {
		r := one(order, eventstore.Any, n)
		r.ID = id
		return r
	}
	b, c := newFar("b", 1, time.Now()), newFar("c", 1, time.Now())
	b.append(f, one(stock, eventstore.Any, 1))
	b.append(f, ask("x", 2))
	b.append(f, eventstore.Request{ID: "none"})
	c.append(f, ask("x", 2))
	own := f.mustAppend(ask("y", 1))
	f.receive(b.all())
	want := eventstore.Receipt{
		ID: "x", Streams: []eventstore.StreamReceipt{{Stream: order, First: 1, Last: 2}}, First: at(3), Position: at(4), Duplicate: true,
		Dot: eventstore.Dot{Log: b.ID(), Seq: 3},
	}
	b.append(f, ask("y", 1))
	f.receive(c.all())
	f.receive(b.all())
	own.Duplicate = true
	for range 2 {
		f.equal("receipt of what was done at another site", f.mustAppend(ask("x", 2)), want)
		f.equal("receipt of what decided nothing there", f.mustAppend(eventstore.Request{ID: "none"}).Position, at(5))
		f.equal("receipt of what was done here first", f.mustAppend(ask("y", 1)), own)
		receipt, _, err := f.store.Receipt(f.ctx, "", "x")
		if err != nil {
			f.Fatal(err)
		}
		f.equal("receipt by id", receipt, want)
		if _, err := f.store.Append(f.ctx, ask("x", 3)); !errors.Is(err, eventstore.ErrIDReused) {
			f.Errorf("append with an id that was used at another site: %v", err)
		}
		f.reopen()
	}
}

// headsAndLogs shows S33 and S35: each log has a chain of its own, and is read by itself.
func headsAndLogs(f *fixture) {
	b, c := newFar("b", 2, time.Now()), newFar("zz", 1, time.Now().Add(-time.Hour))
	empty := f.heads()
	f.equal("heads of an empty store", empty, []eventstore.LogHead{{Log: f.head().ID, Chain: eventstore.ChainStart(f.head().ID)}})
	f.equal("nothing held of a log", len(f.ofLog(b.ID(), 0)), 0)
	for i := range 30 {
		b.append(f, one(order, eventstore.Any, 1+i%7))
		c.append(f, one(stock, eventstore.Any, 1+i%3))
	}
	wantB, wantC := b.OfLog(b.ID(), 0, 1000), c.OfLog(c.ID(), 0, 1000)
	deliver := func(l *far, i int) {
		var batch []eventstore.Recorded
		for _, e := range l.all() {
			if batch = append(batch, e); e.EndsBatch() {
				if i--; i < 0 {
					break
				}
				batch = nil
			}
		}
		f.receive(batch)
	}
	for i := range 30 {
		deliver(b, i)
		if i%2 == 0 {
			f.mustAppend(one(order, eventstore.Any, 1+i%2))
			deliver(c, i/2)
		}
	}
	wantC = wantC[:29]
	for !wantC[len(wantC)-1].EndsBatch() {
		wantC = wantC[:len(wantC)-1]
	}
	logs := map[eventstore.LogID][]eventstore.Recorded{b.ID(): wantB, c.ID(): f.ofLog(c.ID(), 0)}
	f.equal("own events", len(f.ofLog(f.head().ID, 0)), 15)
	for range 2 {
		state := f.head()
		heads := f.heads()
		f.equal("number of heads", len(heads), 3)
		for i, h := range heads {
			f.equal("log of a head", h.Log, []eventstore.LogID{b.ID(), state.ID, c.ID()}[i])
			got := f.ofLog(h.Log, 0)
			last := got[len(got)-1]
			f.equal("head", h, eventstore.LogHead{Log: h.Log, Seq: last.Dot.Seq, HLC: last.HLC, Chain: last.Chain})
			if want := logs[h.Log]; want != nil {
				f.equal("number of events of "+h.Log.String(), len(got), len(want))
			}
			chain := eventstore.ChainStart(h.Log)
			for i, e := range got {
				content := eventstore.ContentHash(eventstore.AppendContent(nil, &e))
				chain = eventstore.NextChain(chain, uint64(i+1), e.HLC, e.Version, content)
				at, held, err := f.replica().ChainAt(f.ctx, h.Log, uint64(i+1))
				if e.Dot != (eventstore.Dot{Log: h.Log, Seq: uint64(i + 1)}) || e.Chain != chain || at != chain || !held || err != nil {
					f.Fatalf("event %d of %s is %s with chain %x, at it stands %x (%v), should %x", i+1, h.Log, e.Dot, e.Chain[:8], at[:8], err, chain[:8])
				}
			}
			for after := range uint64(len(got)) + 2 {
				f.equal(fmt.Sprintf("%s after %d", h.Log, after), len(f.ofLog(h.Log, after)), max(0, len(got)-int(after)))
			}
			f.equal("the end", f.ofLog(h.Log, h.Seq-2), got[len(got)-2:])
			start, held, err := f.replica().ChainAt(f.ctx, h.Log, 0)
			if err != nil || !held || start != eventstore.ChainStart(h.Log) {
				f.Errorf("chain before the first event: %x, %v, %v", start[:8], held, err)
			}
			if _, held, err := f.replica().ChainAt(f.ctx, h.Log, h.Seq+1); held || err != nil {
				f.Errorf("chain beyond the head: held %v, %v", held, err)
			}
		}
		f.reopen()
	}
}

// receivedSideBySide has several Receives of two logs under way at once, among appends (S33).
func receivedSideBySide(f *fixture) {
	const batches, together = 24, 4
	logs := []*far{newFar("b", 1, time.Now().Add(-time.Hour)), newFar("c", 1, time.Now())}
	results := make(chan error)
	receive := func(l *far, all []eventstore.Recorded, first int) {
		for i := first; i < batches; i += together {
			for {
				_, err := f.replica().Receive(f.ctx, slices.Clone(all[3*i:3*i+3]))
				if errors.Is(err, eventstore.ErrGap) { // another has not come yet
					continue
				}
				if err != nil {
					results <- fmt.Errorf("receive batch %d of %s: %w", i, l.ID(), err)
					return
				}
				break
			}
		}
		results <- nil
	}
	for _, l := range logs {
		for range batches {
			l.append(f, one(order, eventstore.Any, 3))
		}
		for first := range together {
			go receive(l, l.all(), first)
		}
	}
	go func() {
		for range batches {
			if _, err := f.store.Append(f.ctx, one(order, eventstore.Any, 2)); err != nil {
				results <- err
				return
			}
		}
		results <- nil
	}()
	for range 2*together + 1 {
		if err := <-results; err != nil {
			f.Error(err)
		}
	}
	for _, l := range logs {
		f.equal("events of "+l.ID().String(), len(f.ofLog(l.ID(), 0)), 3*batches)
	}
	log := f.all(eventstore.Position{}, eventstore.Filter{})
	var batch *eventstore.Recorded
	for i := range log {
		e := &log[i]
		if batch != nil && (e.Dot.Log != batch.Dot.Log || e.Batch != batch.Batch) {
			f.Fatalf("event %s stands in the middle of the batch of %s", e.Dot, batch.Dot)
		}
		if batch = e; e.EndsBatch() {
			batch = nil
		}
	}
	f.mixed(order, log)
}
