package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
)

// A reliability test has writers that append one request after another. The n-th request of a writer is the same in each
// life of a log, so that whoever knows the id knows what was asked: writers repeat, after a crash, the one whose answer
// they did not get, and examiners compare what is in the log with what was asked.
//
// Three kinds take turns: events in the writer's own stream, at exactly the version where it must stand, and in a stream
// that all share; a claim, which all writers try and one gets, by a condition on a tag; and a request without events.
type work struct{ writer, n int }

const (
	workWriters = 8
	workPeriod  = 12 // of the kinds
)

func (w work) id() string       { return fmt.Sprintf("%d-%d", w.writer, w.n) }
func (w work) isClaim() bool    { return w.n%4 == 3 }
func (w work) isEmpty() bool    { return w.n%workPeriod == 6 }
func (w work) claimTag() string { return fmt.Sprintf("claim:%d", w.n/4) }

// parseWork is the inverse of id.
func parseWork(id string) (work, bool) {
	var w work
	if n, _ := fmt.Sscanf(id, "%d-%d", &w.writer, &w.n); n != 2 || w.id() != id {
		return w, false
	}
	return w, w.writer >= 0 && w.writer < workWriters && w.n >= 0
}

// own returns how many events the request has for its writer's stream.
func (w work) own() int {
	if w.isClaim() || w.isEmpty() {
		return 0
	}
	return 1 + w.n%3
}

// ownBefore is the version at which the request finds its writer's stream.
var ownBefore = func() (at [workPeriod + 1]uint64) {
	for n := range workPeriod {
		at[n+1] = at[n] + uint64(work{n: n}.own())
	}
	return at
}()

func (w work) versionBefore() uint64 {
	return uint64(w.n/workPeriod)*ownBefore[workPeriod] + ownBefore[w.n%workPeriod]
}

func ownStream(writer int) eventstore.StreamID {
	return eventstore.Stream("writer", fmt.Sprint(writer))
}

// request makes the request anew: a store owns what it was given.
func (w work) request() eventstore.Request {
	r := eventstore.Request{ID: w.id()}
	event := func(what string, tags ...string) eventstore.Event {
		return eventstore.Event{Type: "work." + what + ".v1", Payload: fmt.Appendf(nil, "%s of %s", what, r.ID), Tags: tags}
	}
	shared := eventstore.StreamAppend{
		Stream: eventstore.Stream("shared", fmt.Sprint(w.n%2)),
		Events: []eventstore.Event{event("shared", fmt.Sprintf("by:%d", w.writer))},
	}
	switch {
	case w.isEmpty():
	case w.isClaim():
		r.Condition = &eventstore.Condition{Query: eventstore.Tagged(w.claimTag())}
		r.Appends = []eventstore.StreamAppend{
			{Stream: eventstore.Stream("claim", w.id()), Expect: eventstore.NoStream, Events: []eventstore.Event{event("claimed", w.claimTag(), "claims")}},
			shared,
		}
	default:
		own := eventstore.StreamAppend{Stream: ownStream(w.writer), Expect: eventstore.Exactly(w.versionBefore())}
		for i := range w.own() {
			own.Events = append(own.Events, event(fmt.Sprint("done", i), fmt.Sprintf("by:%d", w.writer)))
		}
		r.Appends = []eventstore.StreamAppend{own, shared}
	}
	return r
}

// place is where a request's events stand.
type place struct{ first, last uint64 }

func placeOf(r eventstore.Receipt) place { return place{r.First.LSN, r.Position.LSN} }

// ledger is what the writers were told. It may be used by many goroutines at once.
type ledger struct {
	mu      sync.Mutex     // guards what follows
	told    map[work]place // accepted, and where
	refused map[work]bool  // a claim that somebody else had
	next    [workWriters]int
	asked   [workWriters]int // numbers below it may have been asked for, in this life or an earlier one
	wrong   []string         // answers that could not be
}

func newLedger() *ledger { return &ledger{told: map[work]place{}, refused: map[work]bool{}} }

// copy returns the ledger as it is now.
func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{told: maps.Clone(l.told), refused: maps.Clone(l.refused), next: l.next, asked: l.asked, wrong: slices.Clone(l.wrong)}
}

// ask returns the writer's next request.
func (l *ledger) ask(writer int) work {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := work{writer, l.next[writer]}
	l.asked[writer] = max(l.asked[writer], w.n+1)
	return w
}

// tell notes the answer to a request; it returns false when there was none that settles it.
func (l *ledger) tell(w work, receipt eventstore.Receipt, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := placeOf(receipt)
	switch {
	case err == nil:
		if earlier, known := l.told[w]; known && earlier != at {
			l.wrong = append(l.wrong, fmt.Sprintf("request %s was told %v and then %v", w.id(), earlier, at))
		}
		l.told[w] = at
	case errors.Is(err, eventstore.ErrConflict) && w.isClaim():
		if _, known := l.told[w]; known {
			l.wrong = append(l.wrong, fmt.Sprintf("request %s was accepted and then refused", w.id()))
		}
		l.refused[w] = true
	case errors.Is(err, eventstore.ErrConflict):
		l.wrong = append(l.wrong, fmt.Sprintf("request %s was refused: %v", w.id(), err))
		return false
	default:
		return false
	}
	l.next[w.writer] = max(l.next[w.writer], w.n+1)
	return true
}

// append has a writer do its next request. An error is one of the store.
func (l *ledger) append(ctx context.Context, s *Store, writer int) error {
	w := l.ask(writer)
	receipt, err := s.Append(ctx, w.request())
	if !l.tell(w, receipt, err) {
		return fmt.Errorf("request %s: %w", w.id(), err)
	}
	return nil
}

// sideBySide does something for each number below count, at most so many at once, until one returns false.
func sideBySide(count, most int, do func(n int) bool) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range most {
		all.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				if !do(n) {
					next.Store(int64(count))
					return
				}
			}
		})
	}
	all.Wait()
}

// findings is what an examiner has to say.
type findings struct{ lost, duplicated, phantom, violations []string }

func note(to *[]string, format string, args ...any) { *to = append(*to, fmt.Sprintf(format, args...)) }

func (f *findings) add(other findings) {
	f.lost = append(f.lost, other.lost...)
	f.duplicated = append(f.duplicated, other.duplicated...)
	f.phantom = append(f.phantom, other.phantom...)
	f.violations = append(f.violations, other.violations...)
}

func (f *findings) count() int {
	return len(f.lost) + len(f.duplicated) + len(f.phantom) + len(f.violations)
}

// report fails the test with the first of each kind.
func (f *findings) report(t *testing.T, where string) {
	t.Helper()
	for _, kind := range []struct {
		name  string
		found []string
	}{{"lost", f.lost}, {"duplicated", f.duplicated}, {"phantom", f.phantom}, {"violations", f.violations}} {
		if n := len(kind.found); n > 0 {
			t.Errorf("%s: %s: %d, first: %s", where, kind.name, n, kind.found[0])
		}
	}
}

// examine compares a store that was recovered with a ledger of which everything was told before the fault: each request
// that was accepted is there, once, whole, where it was said to be; nothing is there that nobody asked for; every way of
// reading says the same; and repetitions get the original receipts.
func (l *ledger) examine(ctx context.Context, s *Store) (f findings) {
	var events []eventstore.Recorded
	for e, err := range s.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			note(&f.violations, "read all: %v", err)
			return f
		}
		events = append(events, e)
	}
	found := map[work]eventstore.Receipt{}
	claims := map[string]work{}
	versions := map[eventstore.StreamID]uint64{}
	next := uint64(1)
	for batch := range batchesOf(events) {
		id := batch[0].CommandID
		w, ok := parseWork(id)
		if !ok || w.n >= l.asked[w.writer] {
			note(&f.phantom, "request %q at lsn %d was never made", id, next)
		} else if _, twice := found[w]; twice {
			note(&f.duplicated, "request %s stands at lsn %d for the second time", id, next)
		}
		if l.refused[w] {
			note(&f.violations, "request %s was refused, and stands at lsn %d", id, next)
		}
		found[w] = eventstore.ReceiptOf(batch)
		if w.isClaim() {
			if other, taken := claims[w.claimTag()]; taken {
				note(&f.violations, "%s was got by request %s and by %s", w.claimTag(), other.id(), id)
			}
			claims[w.claimTag()] = w
		}
		if what := w.differs(batch, next, versions); what != "" {
			note(&f.violations, "request %s at lsn %d: %s", id, next, what)
		}
		next += uint64(len(batch))
	}
	for w, at := range l.told {
		if receipt, ok := found[w]; !ok {
			note(&f.lost, "request %s was acknowledged at %v and is not in the log of %d events", w.id(), at, len(events))
		} else if placeOf(receipt) != at {
			note(&f.violations, "request %s was acknowledged at %v and stands at %v", w.id(), at, placeOf(receipt))
		}
	}
	for w := range l.refused {
		if _, taken := claims[w.claimTag()]; !taken {
			note(&f.lost, "request %s was refused because of %s, which nobody has", w.id(), w.claimTag())
		}
	}
	f.violations = append(f.violations, l.wrong...)
	f.add(examineReads(ctx, s, events, versions))
	f.add(examineRequests(ctx, s, found))
	return f
}

// differs says what of a batch in the log is not as its request asked; versions are the streams' before it, and are moved.
func (w work) differs(batch []eventstore.Recorded, lsn uint64, versions map[eventstore.StreamID]uint64) string {
	type entry struct {
		Stream   eventstore.StreamID
		Version  uint64
		LSN, Seq uint64
		Batch    eventstore.Batch
		Type     string
		Payload  string
		Tags     []string
	}
	asked := w.request()
	n := 0
	for _, a := range asked.Appends {
		n += len(a.Events)
	}
	b := eventstore.Batch{FirstSeq: lsn, Count: uint32(max(n, 1))}
	var want, got []entry
	for _, a := range asked.Appends {
		if !a.Expect.Holds(versions[a.Stream]) {
			return fmt.Sprintf("stream %s stood at version %d, wanted was %s", a.Stream, versions[a.Stream], a.Expect)
		}
		for _, e := range a.Events {
			versions[a.Stream]++
			tags := slices.Sorted(slices.Values(e.Tags))
			want = append(want, entry{a.Stream, versions[a.Stream], lsn, lsn, b, e.Type, string(e.Payload), tags})
			lsn++
		}
	}
	for _, e := range batch {
		if n == 0 { // what a request without events leaves is the store's own
			versions[e.Stream]++
			want = append(want, entry{e.Stream, versions[e.Stream], lsn, lsn, b, eventstore.ReceiptType, string(e.Payload), e.Tags})
		}
		got = append(got, entry{e.Stream, e.Version, e.Position.LSN, e.Dot.Seq, e.Batch, e.Type, string(e.Payload), e.Tags})
	}
	return cmp.Diff(want, got)
}

// examineReads wants every way of reading to agree with the log that was read from its first event to its last.
func examineReads(ctx context.Context, s *Store, events []eventstore.Recorded, versions map[eventstore.StreamID]uint64) (f findings) {
	byStream := map[eventstore.StreamID][]uint64{}
	byTag := map[string][]uint64{}
	for i := range events {
		e := &events[i]
		byStream[e.Stream] = append(byStream[e.Stream], e.Position.LSN)
		for _, tag := range e.Tags {
			byTag[tag] = append(byTag[tag], e.Position.LSN)
		}
	}
	compare := func(what string, seq func(func(eventstore.Recorded, error) bool), want []uint64) {
		var got []uint64
		for e, err := range seq {
			if err != nil {
				note(&f.violations, "%s: %v", what, err)
				return
			}
			got = append(got, e.Position.LSN)
		}
		if !slices.Equal(got, want) {
			note(&f.violations, "%s: %s", what, cmp.Diff(want, got))
		}
	}
	backwards := func(lsns []uint64) []uint64 {
		lsns = slices.Clone(lsns)
		slices.Reverse(lsns)
		return lsns
	}
	for stream, lsns := range byStream {
		if v, err := s.Version(ctx, stream); err != nil || v != versions[stream] {
			note(&f.violations, "version of %s is %d, %v; the log has %d", stream, v, err, versions[stream])
		}
		compare("stream "+stream.String(), s.Read(ctx, stream, 1), lsns)
	}
	for tag, lsns := range byTag {
		filter := eventstore.Filter{Query: eventstore.Tagged(tag)}
		compare("tag "+tag, s.ReadAll(ctx, eventstore.Position{}, filter), lsns)
		compare("tag "+tag+" backwards", s.ReadAllBackwards(ctx, eventstore.Position{}, filter), backwards(lsns))
	}
	report, err := s.Verify(ctx, nil)
	if err != nil {
		note(&f.violations, "verify: %v", err)
	}
	for _, fault := range report.Faults {
		note(&f.violations, "verify: %s", fault)
	}
	return f
}

// examineRequests wants the receipt of every request in the log, asked for and got by repeating it, to be the original.
func examineRequests(ctx context.Context, s *Store, found map[work]eventstore.Receipt) (f findings) {
	repeat := 25 // of them are repeated as well; map order draws them
	for w, want := range found {
		want.Duplicate = true
		got, _, err := s.Receipt(ctx, "", w.id())
		if err == nil && repeat > 0 && s.writable() == nil {
			repeat--
			got, err = s.Append(ctx, w.request())
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			note(&f.violations, "receipt of request %s: %v, (-log +receipt)\n%s", w.id(), err, diff)
		}
	}
	return f
}
