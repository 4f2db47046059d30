package conflictview_test

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/replication/conflictview"
)

// world is two sites that write, and a third that has what they wrote.
type world struct {
	b      *testing.B
	sites  [2]*memstore.Store
	held   [2]uint64 // of each site's log, at the other
	passed [2]uint64 // and at the third
	store  *pebblestore.Store
	now    time.Time
}

func newWorld(b *testing.B) *world {
	b.Helper()
	w := &world{b: b, now: time.UnixMilli(1_000_000)}
	for i, name := range []string{"bj", "sh"} {
		w.sites[i] = memstore.New(memstore.Options{
			LogID: eventstore.LogID{Site: name, Incarnation: 1}, Clock: hlc.New(func() time.Time { return w.now }),
		})
	}
	var err error
	if w.store, err = pebblestore.Open(b.TempDir(), &pebblestore.Options{Site: "sz", Logger: slog.New(slog.DiscardHandler)}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.store.Close() })
	return w
}

// write has a site add an event to each of some streams.
func (w *world) write(site, first, streams int) {
	w.now = w.now.Add(time.Millisecond)
	r := eventstore.Request{}
	for i := range streams {
		r.Appends = append(r.Appends, eventstore.StreamAppend{
			Stream: eventstore.Stream("page", fmt.Sprint(first+i)),
			Events: []eventstore.Event{{Type: "page.noted.v1", Encoding: eventstore.JSON, Payload: []byte(`{"Text":"note"}`)}},
		})
	}
	if _, err := w.sites[site].Append(w.b.Context(), r); err != nil {
		w.b.Fatal(err)
	}
}

// unheard returns the events of a site's log behind a seq, and goes on with it.
func (w *world) unheard(site int, after *uint64) (events []eventstore.Recorded) {
	log := eventstore.LogID{Site: []string{"bj", "sh"}[site], Incarnation: 1}
	for e, err := range w.sites[site].ReadLog(w.b.Context(), log, *after) {
		if err != nil {
			w.b.Fatal(err)
		}
		events = append(events, e)
	}
	*after += uint64(len(events))
	return events
}

// meet has the sites hear of all that the others have written.
func (w *world) meet() {
	for site := range w.sites {
		if events := w.unheard(site, &w.held[site]); len(events) > 0 {
			if _, err := w.sites[1-site].Receive(w.b.Context(), events); err != nil {
				w.b.Fatal(err)
			}
		}
	}
	w.pass()
}

// pass has the third site hear of all that the others have written.
func (w *world) pass() {
	for site := range w.sites {
		for events := w.unheard(site, &w.passed[site]); len(events) > 0; {
			n := min(len(events), 1000)
			if _, err := w.store.Receive(w.b.Context(), events[:n]); err != nil {
				w.b.Fatal(err)
			}
			events = events[n:]
		}
	}
}

// shapes are logs: of streams, so many at once, which get so many events.
var shapes = []struct {
	name            string
	streams, events int
	write           func(w *world, streams, events int)
}{
	{"alone", 1, 20_000, alone}, {"alone", 200, 100, alone},
	{"in-turn", 1, 20_000, inTurn}, {"in-turn", 200, 100, inTurn},
	{"at-once", 1, 20_000, atOnce}, {"at-once", 1, 1_000, atOnce}, {"at-once", 200, 100, atOnce},
	{"apart", 1, 20_000, apart}, {"apart", 1, 1_000, apart}, {"apart", 200, 100, apart},
}

// alone: one site writes, the other somewhere else.
func alone(w *world, streams, events int) {
	for range events {
		w.write(0, 0, streams)
		w.write(1, streams, 1)
	}
	w.meet()
}

// inTurn: each site knows what the other has written.
func inTurn(w *world, streams, events int) {
	for i := range events {
		w.write(i%2, 0, streams)
		w.meet()
	}
}

// atOnce: the sites hear of each other every ten events.
func atOnce(w *world, streams, events int) {
	for i := range events {
		w.write(i%2, 0, streams)
		if i%10 == 9 {
			w.meet()
		}
	}
	w.meet()
}

// apart: they hear of each other in the end.
func apart(w *world, streams, events int) {
	for i := range events {
		w.write(i%2, 0, streams)
	}
	w.meet()
}

// mixed: many streams, most of which one site writes at a time, and one in twenty both at once.
func mixed(w *world, events int) {
	for i := 0; i < events; {
		first := i % 19_000
		for n := range 100 {
			w.write(i/100%2, first+n*10, 10)
			i += 10
		}
		w.meet()
		w.write(0, 0, 50)
		w.write(1, 0, 50)
		i += 100
	}
	w.meet()
}

type count int

var rules = map[commands.ResolverKind]commands.Resolver[count, noted]{
	commands.ByHome:   commands.Home[count, noted]{},
	commands.ByCRDT:   commands.CRDT[count, noted]{},
	commands.ByDomain: commands.Domain[count, noted]{Holds: func(c count, _ noted) string { return map[bool]string{true: "it is odd"}[c%3 == 2] }},
}

// BenchmarkFill fills the model of the conflicts, and others beside it: one that takes each event as it comes, and one that is corrected.
func BenchmarkFill(b *testing.B) {
	for _, shape := range shapes {
		b.Run(fmt.Sprintf("%s-%dx%d", shape.name, shape.streams, shape.events), func(b *testing.B) {
			w := newWorld(b)
			shape.write(w, shape.streams, shape.events)
			for _, kind := range []commands.ResolverKind{commands.ByCRDT, commands.ByDomain, commands.ByHome} {
				b.Run(string(kind), func(b *testing.B) { w.fill(b, kind) })
			}
		})
	}
	b.Run("mixed-200000", func(b *testing.B) {
		w := newWorld(b)
		mixed(w, 200_000)
		w.fill(b, commands.ByDomain)
	})
}

func (w *world) fill(b *testing.B, kind commands.ResolverKind) {
	b.Helper()
	bus := commands.NewBus(w.store, commands.Options{})
	if err := commands.Register(bus, commands.Aggregate[count, note, noted]{
		Category: "page",
		ID:       func(note) string { return "1" },
		Decide:   func(_ count, c note) ([]noted, error) { return []noted{{c.Text}}, nil },
		Evolve:   func(c count, _ noted) count { return c + 1 },
		Codec:    commands.JSONCodec(map[string]noted{"page.noted.v1": {}}),
		Resolver: rules[kind],
	}); err != nil {
		b.Fatal(err)
	}
	o := conflictview.Options{Streams: w.store, Judge: bus.Judge, Judging: bus.Judging, Site: "sz", Life: context.Background(), Timeout: time.Minute}
	plain := projections.Projection[projections.Keys]{
		Name: "last", Version: 1, Apply: func(k projections.Keys, e *eventstore.Recorded) error {
			k.HashSet("page:"+e.Stream.ID, "last", e.Dot.String())
			k.SortedAdd("pages", e.Stream.ID, float64(e.HLC.Time().UnixMilli()))
			return nil
		},
	}
	corrected := plain
	corrected.Categories = []string{"page"}
	corrected.History = counting.New(w.store, counting.Rules{
		AllCount: func(string) bool { return bus.Resolvers()["page"] == commands.ByCRDT },
		Void: func(category string, events []eventstore.Recorded) (map[eventstore.Dot]bool, error) {
			j, err := bus.Judge(category, events)
			void := map[eventstore.Dot]bool{}
			for _, v := range j.Void {
				void[v.Event] = true
			}
			return void, err
		},
	})
	for _, model := range []struct {
		name string
		sink func() projections.Sink
	}{
		{"conflicts", func() projections.Sink { return memview.NewKeys(conflictview.Keys(o)) }},
		{"rows", func() projections.Sink { return memview.NewRows(conflictview.Rows(o)) }},
		{"plain", func() projections.Sink { return memview.NewKeys(plain) }},
		{"corrected", func() projections.Sink { return memview.NewKeys(corrected) }},
	} {
		b.Run(model.name, func(b *testing.B) {
			log, err := w.store.Log(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			before := cpu(b)
			for b.Loop() {
				if err := projections.Replay(b.Context(), w.store, model.sink(), projections.Cursor{}); err != nil {
					b.Fatal(err)
				}
			}
			events := float64(log.Durable.LSN) * float64(b.N)
			b.ReportMetric(events/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(cpu(b)-before)/events, "cpu-ns/event")
		})
	}
}

// cpu returns the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
