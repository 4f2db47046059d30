package projectiontest

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
)

// rules void what was decided without the knowledge of an event before it that counts, unless its amount is even.
var rules = counting.Rules{
	AllCount: func(string) bool { return false },
	Void: func(_ string, events []eventstore.Recorded) (map[eventstore.Dot]bool, error) {
		void := make(map[eventstore.Dot]bool)
		for i := range events {
			amount, err := strconv.ParseInt(string(events[i].Payload), 10, 64)
			if err != nil {
				return nil, err
			}
			for j := range i {
				if !void[events[j].Dot] && !events[i].Knew(&events[j]) && amount%2 != 0 {
					void[events[i].Dot] = true
				}
			}
		}
		return void, nil
	},
}

// corrected is the suite's projection over a log that has events of several sites.
func (s *suite[W]) corrected(log *memstore.Store) patient[W] {
	p := s.projection(1)
	p.History = counting.New(log, rules)
	return p
}

// atOnce returns the logs of two sites that wrote the same accounts at once, and have heard of each other a little at a time.
func atOnce(t testing.TB, rounds int) [2]*memstore.Store {
	t.Helper()
	now := time.UnixMilli(1_300_000_000_000)
	var logs [2]*memstore.Store
	for i, site := range []string{"one", "two"} {
		logs[i] = memstore.New(memstore.Options{
			LogID: eventstore.LogID{Site: site, Incarnation: 1}, Clock: hlc.New(func() time.Time { return now }),
		})
	}
	for i := range rounds {
		now = now.Add(time.Millisecond)
		for j, log := range logs {
			typ := credited
			switch (i + 3*j) % 11 {
			case 5:
				typ = closed
			case 7:
				typ = ignored
			}
			append1(t, log, account((i+j)%3), event(typ, (i*7+j*4)%31-9))
		}
		if i%4 == 3 {
			hear(t, logs[i/4%2], logs[1-i/4%2])
		}
	}
	hear(t, logs[0], logs[1])
	hear(t, logs[1], logs[0])
	return logs
}

// hear has a site take in all that was born at another one.
func hear(t testing.TB, log, other *memstore.Store) {
	t.Helper()
	ctx := context.Background()
	of, err := other.Log(ctx)
	if err != nil {
		t.Fatalf("read the suite's log: %v", err)
	}
	var events []eventstore.Recorded
	for e, err := range other.ReadLog(ctx, of.ID, 0) {
		if err != nil {
			t.Fatalf("read the suite's log: %v", err)
		}
		events = append(events, e)
	}
	if _, err := log.Receive(ctx, events); err != nil {
		t.Fatalf("receive: %v", err)
	}
}

// testCorrected shows P9 and I13 for a sink: whatever the batches, and of keys whatever the order in which sites hear of each other,
// the model is the same.
func (s *suite[W]) testCorrected(t *testing.T) {
	logs := atOnce(t, 24)
	_, keys := any(s.projection(1).Projection).(projections.Projection[projections.Keys])
	for name, rules := range map[string]counting.Rules{"some are void": rules, "all count": {AllCount: func(string) bool { return true }}} {
		var first string
		for i, log := range logs {
			p := s.projection(1)
			storage := s.open(t)
			asTheyCame := empty(t, storage.Sink(t, p.Projection))
			if err := projections.Replay(t.Context(), log, asTheyCame, projections.Cursor{}); err != nil {
				t.Fatalf("Replay: %v", err)
			}
			plain := digest(t, asTheyCame)
			p.History = counting.New(log, rules)
			got := s.inBatches(t, log, p.Projection)
			if want := s.undisturbedBy(t, log, p.Projection); got != want {
				t.Errorf("%s, log %d: committed in many batches the digest is %s, in one %s", name, i, got, want)
			}
			storage = s.open(t)
			sink := empty(t, storage.Sink(t, p.Projection))
			if err := projections.Replay(t.Context(), log, sink, projections.Cursor{}); err != nil {
				t.Fatalf("Replay: %v", err)
			}
			if replayed := digest(t, sink); replayed != got {
				t.Errorf("%s, log %d: the log gives another model when it is read for the sink", name, i)
			}
			if voids := rules.Void != nil; (plain == got) != (!keys && !voids) {
				t.Errorf("%s, log %d: that the model is as events came is %t", name, i, plain == got)
			}
			switch {
			case !keys: // rows say at which position they came
			case i == 0:
				first = got
			case got != first:
				t.Errorf("%s: two sites that hold the same events have other keys", name)
			}
		}
	}
}

// inBatches returns the digest of a model of the whole log, committed a few events at a time.
func (s *suite[W]) inBatches(t testing.TB, log *memstore.Store, p projections.Projection[W]) string {
	t.Helper()
	storage := s.open(t)
	sink := empty(t, storage.Sink(t, p))
	var at projections.Cursor
	events, end := read(t, log, at)
	for n := 0; n < len(events); n += 7 {
		batch := events[n:min(n+7, len(events))]
		to := projections.Cursor{Position: batch[len(batch)-1].Position}
		if n+7 >= len(events) {
			to = end
		}
		if parked := commit(t, sink, at, to, batch); len(parked) > 0 {
			t.Fatalf("Commit parked %v", parked)
		}
		at = to
	}
	return digest(t, sink)
}

// testCrashCorrecting shows P1 and P9 for corrections.
func (s *suite[W]) testCrashCorrecting(t *testing.T) {
	if s.open(t).Crashing == nil {
		return // one step in memory: corrections are tested above
	}
	log := atOnce(t, 6)[0]
	all, end := read(t, log, projections.Cursor{})
	first := len(all) / 2
	middle := projections.Cursor{Position: all[first-1].Position}
	storage := s.open(t)
	half := empty(t, storage.Sink(t, s.corrected(log).Projection))
	commit(t, half, projections.Cursor{}, middle, all[:first])
	before, after := digest(t, half), s.undisturbedBy(t, log, s.corrected(log).Projection)
	s.dieAnywhere(t, log, func() patient[W] { return s.corrected(log) }, first, middle, end, before, after)
}

// testCorrectedBehindSkipped shows P10: what a skipped event would have written is neither written nor taken back by a correction, before or
// after, and what it makes void is.
func (s *suite[W]) testCorrectedBehindSkipped(t *testing.T) {
	f := s.fixture(t, 0)
	if _, ok := f.sink(t).(projections.Parking); !ok {
		return // nobody can skip
	}
	one := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "one", Incarnation: 1}, Clock: hlc.New(nil)})
	two := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "two", Incarnation: 1}, Clock: hlc.New(nil)})
	append1(t, one, account(1), event(garbled, 1)) // stands first
	append1(t, one, account(1), event(credited, 4))
	append1(t, two, account(1), event(credited, 3)) // void by it
	append1(t, two, account(1), event(credited, 6)) // decided on that, and counts
	hear(t, two, one)                               // so at two, 3 is taken back when what it did not know comes, and that is skipped
	p := s.corrected(two)
	p.ill.Store(true)
	storage := s.open(t)
	sink := empty(t, storage.Sink(t, p.Projection))
	events, to := read(t, two, projections.Cursor{})
	if parked := commit(t, sink, projections.Cursor{}, to, events); len(parked) != 2 {
		t.Fatalf("parked are %v, want two", parked)
	}
	if err := sink.(projections.Parking).Skip(t.Context(), events[2].Position); err != nil {
		t.Fatalf("Skip: %v", err)
	}
	if left, err := sink.(projections.Parking).Parked(t.Context()); err != nil || len(left) > 0 {
		t.Fatalf("after the skip %v is parked, %v", left, err)
	}
	got := digest(t, sink)
	// Filled again, with the event skipped from the beginning.
	if err := sink.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	if parked := commit(t, sink, projections.Cursor{}, to, events); len(parked) > 0 {
		t.Fatalf("parked are %v, want none", parked)
	}
	if again := digest(t, sink); again != got {
		t.Errorf("filled again, with an event skipped, the digest is %s, and was %s", again, got)
	}
	p.ill.Store(false)
	if whole := s.undisturbedBy(t, two, p.Projection); whole == got {
		t.Error("a skipped event is in the model")
	}
}

// testCorrectedWhenRetried: an event that stands before others, and was parked, comes to its place when it is tried again.
func (s *suite[W]) testCorrectedWhenRetried(t *testing.T) {
	one := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "one", Incarnation: 1}, Clock: hlc.New(nil)})
	two := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "two", Incarnation: 1}, Clock: hlc.New(nil)})
	append1(t, one, account(1), event(garbled, 1))
	append1(t, two, account(1), event(credited, 3))
	append1(t, two, account(1), event(credited, 7))
	hear(t, two, one)
	for name, rules := range map[string]counting.Rules{"some are void": rules, "all count": {AllCount: func(string) bool { return true }}} {
		p := s.projection(1)
		p.History = counting.New(two, rules)
		p.ill.Store(true)
		storage := s.open(t)
		sink := storage.Sink(t, p.Projection)
		lot, ok := sink.(projections.Parking)
		if !ok {
			return // nobody can retry
		}
		empty(t, sink)
		events, to := read(t, two, projections.Cursor{})
		if parked := commit(t, sink, projections.Cursor{}, to, events); len(parked) != 1 {
			t.Fatalf("%s: parked are %v, want one", name, parked)
		}
		p.ill.Store(false)
		if applied, err := lot.Retry(t.Context(), eventstore.StreamID{}); err != nil || applied != 1 {
			t.Fatalf("%s: Retry applied %d, %v, want 1", name, applied, err)
		}
		got := digest(t, sink)
		if want := s.undisturbedBy(t, two, p.Projection); got != want {
			t.Errorf("%s: the model differs from an undisturbed one", name)
		}
	}
}
