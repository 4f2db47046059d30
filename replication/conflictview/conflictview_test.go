package conflictview_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/queries"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/conflictview"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// A page is written by several sites.
type (
	page  struct{ Notes []string }
	note  struct{ Text string }
	noted struct{ Text string }
)

func pages(resolver commands.Resolver[page, noted]) commands.Aggregate[page, note, noted] {
	return commands.Aggregate[page, note, noted]{
		Category: "page",
		ID:       func(note) string { return "1" },
		Decide:   func(_ page, c note) ([]noted, error) { return []noted{{c.Text}}, nil },
		Evolve:   func(s page, e noted) page { return page{append(slices.Clone(s.Notes), e.Text)} },
		Codec:    commands.JSONCodec(map[string]noted{"page.noted.v1": {}}),
		Resolver: resolver,
	}
}

// once is a rule of a domain: a note that stands there already does not hold.
var once = commands.Domain[page, noted]{Holds: func(s page, e noted) string {
	if slices.Contains(s.Notes, e.Text) {
		return e.Text + " stands there already"
	}
	return ""
}}

var resolvers = map[commands.ResolverKind]commands.Resolver[page, noted]{
	commands.ByHome:       commands.Home[page, noted]{},
	commands.ByCRDT:       commands.CRDT[page, noted]{},
	commands.ByLastWriter: commands.LastWriter[page, noted]{Fields: func(e noted) []string { return []string{e.Text} }},
	commands.ByDomain:     once,
	commands.ByEscrow:     commands.Escrow[page, noted]{At: func(s page, _ string) page { return s }},
	commands.ByManual:     commands.Manual[page, noted]{},
}

type site struct {
	name  string
	store *memstore.Store
	bus   *commands.Bus
	keys  *memview.Keys
	run   *projections.Runner
	skew  time.Duration
	pages commands.Aggregate[page, note, noted]
	// epoch is that of the next event that is born here.
	epoch atomic.Uint32
}

func newSite(t *testing.T, name string, skew time.Duration, resolver commands.Resolver[page, noted]) *site {
	t.Helper()
	s := &site{name: name, skew: skew, pages: pages(resolver)}
	s.store = memstore.New(memstore.Options{
		LogID: eventstore.LogID{Site: name, Incarnation: 1},
		Clock: hlc.New(func() time.Time { return time.Now().Add(s.skew) }),
		Fence: func(eventstore.StreamID, uint16) (uint32, error) { return s.epoch.Load(), nil },
	})
	s.bus = commands.NewBus(s.store, commands.Options{})
	if err := commands.Register(s.bus, s.pages); err != nil {
		t.Fatal(err)
	}
	s.keys = memview.NewKeys(conflictview.Keys(s.options()))
	s.run = projections.NewRunner(s.store, s.keys, projections.Options{Logger: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.run.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("projection at %s: %v", name, err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait(); _ = s.store.Close() })
	return s
}

func (s *site) options() conflictview.Options {
	return conflictview.Options{Streams: s.store, Judge: s.bus.Judge, Judging: s.bus.Judging, Site: s.name, Life: context.Background(), Timeout: time.Minute}
}

// write writes a note on a page, knowing what is there, or blindly.
func (s *site) write(t *testing.T, id, text string, command string, blind bool) {
	t.Helper()
	stream := eventstore.Stream("page", id)
	expect := eventstore.Any
	if !blind {
		version, err := s.store.Version(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		expect = eventstore.Exactly(version)
	}
	if _, err := s.store.Append(t.Context(), eventstore.Request{ID: command, Appends: []eventstore.StreamAppend{{
		Stream: stream, Expect: expect,
		Events: []eventstore.Event{{Type: "page.noted.v1", Encoding: eventstore.JSON, Payload: []byte(`{"Text":"` + text + `"}`)}},
	}}}); err != nil {
		t.Fatal(err)
	}
}

// learn receives what another site has and this one has not: of its own log, at most some batches of it.
func (s *site) learn(t *testing.T, from *site, most int) {
	t.Helper()
	log := eventstore.LogID{Site: from.name, Incarnation: 1}
	heads, err := s.store.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := uint64(0)
	for _, h := range heads {
		if h.Log == log {
			after = h.Seq
		}
	}
	var events []eventstore.Recorded
	for e, err := range from.store.ReadLog(t.Context(), log, after) {
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range e.Dep { // causes first
			if d.Log.Site != s.name && !slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log == d.Log && h.Seq >= d.Seq }) {
				most = 0
			}
		}
		if most--; most < 0 {
			break
		}
		events = append(events, e)
	}
	if len(events) == 0 {
		return
	}
	if _, err := s.store.Receive(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

func (s *site) service() *conflictview.Queries {
	return &conflictview.Queries{Model: s.keys, Progress: s.run}
}

// records returns all records of a site, when its projection has come to the end of its log.
func (s *site) records(t *testing.T, q *sitesv1.ListConflictsRequest) []*sitesv1.Conflict {
	t.Helper()
	log, err := s.store.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.run.Await(t.Context(), log.Durable); err != nil {
		t.Fatal(err)
	}
	var all []*sitesv1.Conflict
	for page := ""; ; {
		q.Page, q.Limit = page, 7
		answer, err := s.service().ListConflicts(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, answer.GetConflicts()...)
		if page = answer.GetNextPage(); page == "" {
			return all
		}
	}
}

// settle picks the last branch of a page, if somebody has to pick one.
func (s *site) settle(t *testing.T, id string) {
	t.Helper()
	j, err := s.bus.Judge("page", s.stream(t, id))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(j.Open); n > 0 {
		if _, err := s.bus.Dispatch(t.Context(), commands.Meta{}, commands.Settle{Category: "page", ID: id, Keep: j.Open[n-1]}); err != nil {
			t.Fatal(err)
		}
	}
}

// stream returns the events of a page.
func (s *site) stream(t *testing.T, id string) (events []eventstore.Recorded) {
	t.Helper()
	for e, err := range s.store.Read(t.Context(), eventstore.Stream("page", id), 1) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// Whatever the order in which sites learn of each other, every conflict is on record, no other is, and all sites have the same,
// whatever rule resolves them. R8.
func TestSitesHaveTheSameRecords(t *testing.T) {
	for kind, resolver := range resolvers {
		t.Run(string(kind), func(t *testing.T) {
			for seed := range uint64(4) {
				sitesHaveTheSameRecords(t, seed, resolver)
			}
		})
	}
}

func sitesHaveTheSameRecords(t *testing.T, seed uint64, resolver commands.Resolver[page, noted]) {
	random := rand.New(rand.NewPCG(seed, 1))
	sites := []*site{newSite(t, "bj", 0, resolver), newSite(t, "sh", 300*time.Millisecond, resolver), newSite(t, "sz", -time.Hour, resolver)}
	for n := range 150 {
		s := sites[random.IntN(3)]
		if random.IntN(3) > 0 {
			command := ""
			if random.IntN(8) == 0 {
				command = fmt.Sprintf("command-%d", random.IntN(10)) // the same one at several sites
			}
			text := string(rune('a' + random.IntN(8)))
			if command != "" {
				text = command[len(command)-1:]
			}
			s.epoch.Store(uint32(n/10 + random.IntN(20)))
			if _, _, err := s.store.Receipt(t.Context(), "", command); command == "" || errors.Is(err, eventstore.ErrNotFound) {
				s.write(t, fmt.Sprint(len(text)*n%4), text, command, random.IntN(3) == 0)
			}
			continue
		}
		s.settle(t, fmt.Sprint(random.IntN(4)))
		s.learn(t, sites[random.IntN(3)], 1+random.IntN(5))
	}
	everybodyLearns(t, sites)
	for id := range 4 { // a last word, after which there is no event more to write records anew
		sites[random.IntN(3)].settle(t, fmt.Sprint(id))
	}
	everybodyLearns(t, sites)
	want := sites[0].truth(t)
	for _, s := range sites {
		got := s.records(t, &sitesv1.ListConflictsRequest{})
		plain := map[string]*sitesv1.Conflict{}
		for _, c := range got {
			if c.GetSeenBy() != s.name || c.GetSeenAt() == "" {
				t.Errorf("seed %d: %s has a record seen by %q at %q", seed, s.name, c.GetSeenBy(), c.GetSeenAt())
			}
			c.SeenBy, c.SeenAt = "", ""
			plain[c.GetId()] = c
		}
		if diff := cmp.Diff(want, plain, protocmp.Transform()); diff != "" {
			t.Fatalf("seed %d: the records of %s (-want +got):\n%s", seed, s.name, diff)
		}
	}
	if len(want) == 0 {
		t.Errorf("seed %d: there was no conflict", seed)
	}
}

// everybodyLearns has the sites end with the same events.
func everybodyLearns(t *testing.T, sites []*site) {
	t.Helper()
	for range 6 {
		for _, s := range sites {
			for _, from := range sites {
				if from != s {
					s.learn(t, from, 1000)
				}
			}
		}
	}
}

// truth makes the records from the whole streams, and with them what every pair of events says.
func (s *site) truth(t *testing.T) map[string]*sitesv1.Conflict {
	t.Helper()
	want := map[string]*sitesv1.Conflict{}
	for id := range 4 {
		events := s.stream(t, fmt.Sprint(id))
		if len(events) == 0 {
			continue
		}
		_, judged, err := commands.Fold(s.pages, events)
		if err != nil {
			t.Fatal(err)
		}
		outcomes := map[eventstore.Dot]commands.Outcome{}
		for _, o := range judged.Outcomes {
			outcomes[o.Event] = o
		}
		for i := range events {
			f := &events[i]
			spans := map[eventstore.LogID]*sitesv1.ConflictSpan{}
			kind := replication.Concurrent
			for j := range events[:i] {
				e := &events[j]
				if !eventstore.Concurrent(e, f) {
					continue
				}
				if spans[e.Dot.Log] == nil {
					spans[e.Dot.Log] = &sitesv1.ConflictSpan{Log: e.Dot.Log.String(), From: e.Dot.Seq}
				}
				spans[e.Dot.Log].To = e.Dot.Seq
				if f.CommandID != "" && f.CommandID == e.CommandID {
					kind = replication.DuplicateCommand
				}
			}
			if len(spans) == 0 {
				continue
			}
			o := outcomes[f.Dot]
			c := &sitesv1.Conflict{
				Id: f.Dot.String(), Stream: f.Stream.String(), Category: "page", Type: f.Type, At: timestamppb.New(f.Time()), Hlc: uint64(f.HLC),
				Kind: string(kind), Resolver: string(o.Resolver), Verdict: string(o.Verdict), Reason: o.Reason, Base: o.Base.String(), Result: o.Result.String(),
			}
			for _, span := range spans {
				c.With = append(c.With, span)
			}
			slices.SortFunc(c.With, func(a, b *sitesv1.ConflictSpan) int { return strings.Compare(a.Log, b.Log) })
			for _, v := range o.Void {
				c.Void = append(c.Void, &sitesv1.ConflictVoid{Event: v.Event.String(), Reason: v.Reason})
			}
			for _, w := range o.Overwritten {
				c.Overwritten = append(c.Overwritten, &sitesv1.ConflictOverwritten{Event: w.Event.String(), Field: w.Field})
			}
			for _, b := range o.Branches {
				c.Branches = append(c.Branches, &sitesv1.ConflictBranch{Log: b.Log.String(), Digest: b.Digest.String()})
			}
			want[c.GetId()] = c
		}
	}
	return want
}

// stuck is a log whose streams come from an archive that does not answer.
type stuck struct{ eventstore.Reader }

func (stuck) Read(ctx context.Context, _ eventstore.StreamID, _ uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		<-ctx.Done()
		yield(eventstore.Recorded{}, ctx.Err())
	}
}

// An archive that does not answer holds up nobody for longer than the time that it is given, nor beyond the end of the node,
// and no event is parked for it.
func TestASlowArchiveIsNotWaitedFor(t *testing.T) {
	a, b := newSite(t, "bj", 0, once), newSite(t, "sh", time.Minute, once)
	a.write(t, "1", "x", "", false)
	b.write(t, "1", "x", "", false)
	a.learn(t, b, 10)
	events := a.stream(t, "1")
	to := projections.Cursor{Position: events[1].Position, Seq: 1}
	ended, end := context.WithCancel(t.Context())
	end()
	for want, change := range map[error]func(o *conflictview.Options){
		context.DeadlineExceeded: func(o *conflictview.Options) { o.Timeout = time.Millisecond },
		context.Canceled:         func(o *conflictview.Options) { o.Life = ended },
	} {
		o := a.options()
		change(&o)
		o.Streams = stuck{a.store}
		keys, rows := memview.NewKeys(conflictview.Keys(o)), memview.NewRows(conflictview.Rows(o))
		for _, sink := range []projections.Sink{keys, rows} {
			if parked, err := sink.Commit(t.Context(), projections.Cursor{}, to, events); !errors.Is(err, want) || len(parked) > 0 {
				t.Errorf("%T: error is %v and %d events are parked, want %v and none", sink, err, len(parked), want)
			}
		}
	}
}

// A row has why each event is void that it names, as the record in Redis has.
func TestRowsSayWhy(t *testing.T) {
	a, b := newSite(t, "bj", 0, once), newSite(t, "sh", time.Minute, once)
	a.write(t, "1", "x", "", false)
	b.write(t, "1", "x", "", false) // void
	a.learn(t, b, 10)
	records := a.records(t, &sitesv1.ListConflictsRequest{})
	if len(records) != 1 || len(records[0].GetVoid()) != 1 || records[0].GetVoid()[0].GetReason() == "" {
		t.Fatalf("the conflicts are %v, want one with an event that is void for a reason", records)
	}
	rows := memview.NewRows(conflictview.Rows(a.options()))
	if err := projections.Replay(t.Context(), a.store, rows, projections.Cursor{}); err != nil {
		t.Fatal(err)
	}
	table := rows.Table(conflictview.Table)
	if len(table) != 1 {
		t.Fatalf("there are %d rows, want 1", len(table))
	}
	const void, reasons = 9, 10 // columns
	v := records[0].GetVoid()[0]
	if diff := cmp.Diff([]any{[]string{v.GetEvent()}, []string{v.GetReason()}}, []any{table[0].Values[void], table[0].Values[reasons]}); diff != "" {
		t.Errorf("void events and reasons (-record +row):\n%s", diff)
	}
}

// Conflicts are found by stream, kind, verdict and time, and wrong requests are refused.
func TestQueries(t *testing.T) {
	a, b := newSite(t, "bj", 0, once), newSite(t, "sh", time.Minute, once)
	a.write(t, "1", "x", "", false)
	b.write(t, "1", "x", "", false) // void
	b.skew += time.Second
	b.write(t, "2", "y", "once", false)
	a.write(t, "2", "y", "once", false)
	a.learn(t, b, 10)
	all := a.records(t, &sitesv1.ListConflictsRequest{})
	if len(all) != 2 || !all[0].GetAt().AsTime().After(all[1].GetAt().AsTime()) {
		t.Fatalf("there are %d conflicts, want 2, the latest first: %v", len(all), all)
	}
	for _, test := range []struct {
		q    *sitesv1.ListConflictsRequest
		want int
	}{
		{&sitesv1.ListConflictsRequest{Stream: "default/page/1"}, 1},
		{&sitesv1.ListConflictsRequest{Stream: "default/page/9"}, 0},
		{&sitesv1.ListConflictsRequest{Stream: "page/1"}, 1},
		{&sitesv1.ListConflictsRequest{Category: "page", Verdict: "voided"}, 2},
		{&sitesv1.ListConflictsRequest{Category: "order"}, 0},
		{&sitesv1.ListConflictsRequest{Kind: "duplicate_command"}, 1},
		{&sitesv1.ListConflictsRequest{Verdict: "merged"}, 0},
		{&sitesv1.ListConflictsRequest{Since: all[0].GetAt().AsTime().Format(time.RFC3339Nano)}, 1},
	} {
		if got := a.records(t, test.q); len(got) != test.want {
			t.Errorf("%v gives %d conflicts, want %d", test.q, len(got), test.want)
		}
	}
	anHourLater := a.service()
	anHourLater.Now = func() time.Time { return all[0].GetAt().AsTime().Add(time.Hour) }
	for ago, want := range map[string]int{"59m": 0, "1h": 1, "2h": 2} {
		if got, err := anHourLater.ListConflicts(t.Context(), &sitesv1.ListConflictsRequest{Since: ago}); err != nil || len(got.GetConflicts()) != want {
			t.Errorf("of the last %s there are %d conflicts, %v; want %d", ago, len(got.GetConflicts()), err, want)
		}
	}
	one, err := a.service().GetConflict(t.Context(), &sitesv1.GetConflictRequest{Id: all[0].GetId()})
	if err != nil || !cmp.Equal(one, all[0], protocmp.Transform()) {
		t.Errorf("the conflict by its id: %v, %v", one, err)
	}
	if _, err := a.service().GetConflict(t.Context(), &sitesv1.GetConflictRequest{Id: "shard-00@bj/1/99"}); !errors.Is(err, queries.ErrNotFound) {
		t.Errorf("a conflict that is not there: %v", err)
	}
	for _, q := range []*sitesv1.ListConflictsRequest{
		{Limit: 5000}, {Category: "Page"}, {Page: "x"}, {Page: "-1"}, {Kind: "odd"}, {Verdict: "odd"}, {Stream: "odd"}, {Stream: "Odd/1"}, {Since: "yesterday"}, {Since: "-1h"},
	} {
		if _, err := a.service().ListConflicts(t.Context(), q); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%v: %v", q, err)
		}
	}
}
