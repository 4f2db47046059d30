package conflictview

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/projections/counting"
	"github.com/tributary-es/tributary/replication"
)

type (
	words struct{ Said map[string]int }
	say   struct{ Word string }
	said  struct{ Word string }
)

var everyResolver = []commands.Resolver[words, said]{
	commands.Home[words, said]{},
	commands.Manual[words, said]{},
	commands.CRDT[words, said]{},
	commands.LastWriter[words, said]{Fields: func(e said) []string { return []string{e.Word} }},
	commands.Domain[words, said]{Holds: func(s words, e said) string {
		if s.Said[e.Word] > 1 {
			return e.Word + " was said twice"
		}
		return ""
	}},
	commands.Escrow[words, said]{
		At:     func(s words, _ string) words { return s },
		Review: func(s words, e said) string { return map[bool]string{true: "said before"}[s.Said[e.Word] > 0] },
	},
}

// talk returns the log of a third site, which has heard what two others say at once, now and then of each other, the oftener the more they
// listen: in the order in which it came.
func talk(t *testing.T, random *rand.Rand, events, streams, listen int) *memstore.Store {
	t.Helper()
	now := time.UnixMilli(1000)
	newSite := func(name string) *memstore.Store {
		return memstore.New(memstore.Options{
			LogID: eventstore.LogID{Site: name, Incarnation: 1}, Clock: hlc.New(func() time.Time { return now }),
			Fence: func(eventstore.StreamID, uint16) (uint32, error) {
				return uint32(now.UnixMilli()/40) + random.Uint32N(2), nil
			},
		})
	}
	sites := []*memstore.Store{newSite("bj"), newSite("sh"), newSite("sz")}
	var held [3][3]uint64
	hear := func(by, of, most int) {
		var heard []eventstore.Recorded
		for e, err := range sites[of].ReadLog(t.Context(), eventstore.LogID{Site: []string{"bj", "sh", "sz"}[of], Incarnation: 1}, held[by][of]) {
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range e.Dep { // causes first
				for site, name := range []string{"bj", "sh", "sz"} {
					if d.Log.Site == name && site != by && d.Seq > held[by][site] {
						most = 0
					}
				}
			}
			if most--; most < 0 {
				break
			}
			heard = append(heard, e)
		}
		if len(heard) == 0 {
			return
		}
		if _, err := sites[by].Receive(t.Context(), heard); err != nil {
			t.Fatal(err)
		}
		held[by][of] += uint64(len(heard))
	}
	for n := range events {
		now = now.Add(time.Duration(random.IntN(3)) * time.Millisecond)
		by := random.IntN(3)
		e := eventstore.Event{Type: "talk.said.v1", Encoding: eventstore.JSON, Payload: fmt.Appendf(nil, `{"Word":"%c"}`, 'a'+random.IntN(6))}
		r := eventstore.Request{}
		if random.IntN(10) == 0 {
			r.ID = fmt.Sprint("command-", n/20, "-", random.IntN(2)) // the same one at several sites
		}
		r.Appends = []eventstore.StreamAppend{{Stream: eventstore.Stream("talk", fmt.Sprint(random.IntN(streams))), Events: []eventstore.Event{e}}}
		if _, _, err := sites[by].Receipt(t.Context(), "", r.ID); r.ID == "" || err != nil {
			if _, err := sites[by].Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		for range random.IntN(listen) {
			if by, of := random.IntN(3), random.IntN(3); by != of {
				hear(by, of, 1+random.IntN(8))
			}
		}
	}
	for range 3 {
		for by := range 3 {
			for of := range 3 {
				if by != of {
					hear(by, of, events)
				}
			}
		}
	}
	return sites[random.IntN(3)]
}

// whole returns the records of a stream, but for when and where they are written, from all of its events.
func whole(t *testing.T, judge Judge, events []eventstore.Recorded) map[string]*Record {
	t.Helper()
	pointers := make([]*eventstore.Recorded, len(events))
	places := map[eventstore.Dot]*eventstore.Recorded{}
	for i := range events {
		pointers[i], places[events[i].Dot] = &events[i], &events[i]
	}
	conflicts := replication.Conflicts(pointers)
	outcomes := map[eventstore.Dot]*commands.Outcome{}
	long := len(events) > maxJudged || len(conflicts) > maxConflicts
	if len(conflicts) > 0 && !long {
		judged, err := judge("talk", events)
		if err != nil {
			t.Fatal(err)
		}
		for i := range judged.Outcomes {
			outcomes[judged.Outcomes[i].Event] = &judged.Outcomes[i]
		}
	}
	records := map[string]*Record{}
	for i := range conflicts {
		o := outcomes[conflicts[i].Event]
		if long {
			o = &commands.Outcome{Verdict: NotJudged, Reason: unjudged}
			for n := range conflicts[i].With {
				conflicts[i].With[n].To = 0
			}
		}
		r := record(&conflicts[i], places[conflicts[i].Event], o)
		records[r.ID] = r
	}
	return records
}

// What is written with an event is what the whole stream with it says otherwise than the whole stream without it, whatever the finder
// remembers: of a reader that goes through the log, of another one that begins again meanwhile, and of one that forgets all. R8.
func TestRecordsComeFromTheWholeStream(t *testing.T) {
	for n, resolver := range everyResolver {
		for seed := range uint64(4) {
			random := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // a test that can be repeated
			store := talk(t, random, 120, 3, 3)
			compareWithWhole(t, store, resolver, random, fmt.Sprintf("%T, seed %d", resolver, seed))
		}
	}
}

// A stream that becomes too long to be judged, by its events or by those in conflict, says so in all its records, at the event with which it
// does, whether that is in conflict or not, and goes on with the rest.
func TestRecordsOfAStreamThatBecomesTooLong(t *testing.T) {
	crossed := map[string]int{}
	for seed := uint64(0); seed < 40 && len(crossed) < 3; seed++ {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test that can be repeated
		store := talk(t, random, maxJudged+200, 1, 3+int(seed%2)*40)
		at, how := crossing(t, store)
		if crossed[how]++; crossed[how] == 1 {
			compareWithWhole(t, tail{store, at - 20, at + 20}, everyResolver[2], random, fmt.Sprintf("a long stream, by %s, seed %d", how, seed))
		}
	}
	if len(crossed) != 3 {
		t.Errorf("streams became too long in these ways: %v, want all of three", crossed)
	}
}

// crossing returns with which event of a log its stream becomes too long, and how.
func crossing(t *testing.T, store *memstore.Store) (at uint64, how string) {
	t.Helper()
	var stream []*eventstore.Recorded
	conflicts := map[eventstore.Dot]bool{}
	var known replication.StreamConflicts
	for e, err := range store.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		known.Add(&e)
		stream = append(stream, &e)
		for _, f := range stream {
			if _, ok := known.Of(f); ok {
				conflicts[f.Dot] = true
			}
		}
		concurrent, err := counting.NewKnown(store).Concurrent(t.Context(), &e)
		switch {
		case err != nil:
			t.Fatal(err)
		case len(conflicts) > maxConflicts:
			return e.Position.LSN, "conflicts"
		case len(stream) > maxJudged:
			return e.Position.LSN, fmt.Sprint("events, the last one in conflict ", concurrent)
		}
	}
	t.Fatal("no stream becomes too long")
	return 0, ""
}

// tail is a log of which the first events, and the last ones, are not shown.
type tail struct {
	eventstore.Reader
	after, upTo uint64
}

func compareWithWhole(t *testing.T, store eventstore.Reader, resolver commands.Resolver[words, said], random *rand.Rand, name string) {
	t.Helper()
	full := store
	after, upTo := eventstore.Position{}, uint64(math.MaxUint64)
	if cut, ok := store.(tail); ok {
		full, after, upTo = cut.Reader, eventstore.Position{Incarnation: 1, LSN: cut.after}, cut.upTo
	}
	bus := commands.NewBus(full.(eventstore.Store), commands.Options{})
	if err := commands.Register(bus, commands.Aggregate[words, say, said]{
		Category: "talk",
		ID:       func(say) string { return "1" },
		Zero:     func() words { return words{map[string]int{}} },
		Decide:   func(_ words, c say) ([]said, error) { return []said{{c.Word}}, nil },
		Evolve:   func(s words, e said) words { s.Said[e.Word]++; return s },
		Codec:    commands.JSONCodec(map[string]said{"talk.said.v1": {}}),
		Resolver: resolver,
	}); err != nil {
		t.Fatal(err)
	}
	o := Options{Streams: full, Judge: bus.Judge, Judging: bus.Judging, Site: "here", Life: context.Background(), Timeout: time.Minute}
	f := o.finder()
	written := 0
	var shown []eventstore.Recorded
	for e, err := range full.ReadAll(t.Context(), after, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Position.LSN > upTo {
			break
		}
		shown = append(shown, e)
		var with, without []eventstore.Recorded
		for r, err := range full.Read(t.Context(), e.Stream, 1) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Position.LSN <= e.Position.LSN {
				with = append(with, r)
			}
			if r.Position.LSN < e.Position.LSN {
				without = append(without, r)
			}
		}
		want := whole(t, bus.Judge, with)
		for id, r := range whole(t, bus.Judge, without) {
			if after := want[id]; after != nil && cmp.Equal(r, after) {
				delete(want, id)
			}
		}
		for _, r := range want {
			r.Position, r.SeenBy = e.Position.String(), "here"
		}
		switch random.IntN(10) {
		case 0: // another reader of the same log, which is behind
			if _, err := f.of(&shown[random.IntN(len(shown))]); err != nil {
				t.Fatal(err)
			}
		case 1:
			f = o.finder()
		}
		records, err := f.of(&e)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]*Record{}
		for _, r := range records {
			got[r.ID] = r
		}
		if concurrent, err := f.known.Concurrent(t.Context(), &e); err != nil || !concurrent && e.Version != maxJudged+1 {
			want = map[string]*Record{} // it stands behind all others, and is looked at no further
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s: with the event at %s (-the whole stream +written):\n%s", name, e.Position, diff)
		}
		written += len(got)
	}
	if written == 0 {
		t.Errorf("%s: no record was written, the test shows nothing", name)
	}
}
