package commands_test

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/hlc"
)

var resolvers = map[commands.ResolverKind]commands.Resolver[page, noted]{
	commands.ByHome:       commands.Home[page, noted]{},
	commands.ByCRDT:       commands.CRDT[page, noted]{},
	commands.ByLastWriter: commands.LastWriter[page, noted]{Fields: func(e noted) []string { return []string{e.Text} }},
	commands.ByDomain:     commands.Domain[page, noted]{Holds: once},
	commands.ByEscrow:     commands.Escrow[page, noted]{At: at},
	commands.ByManual:     commands.Manual[page, noted]{},
}

// TestAnEventThatStandsBefore: a state that is kept between commands is dropped when an event comes that stands before what
// it has folded, and not when one comes that stands behind.
func TestAnEventThatStandsBefore(t *testing.T) {
	bj, sh := newSite(t, "bj", pages(resolvers[commands.ByCRDT]), commands.Options{}), newSite(t, "sh", pages(resolvers[commands.ByCRDT]), commands.Options{})
	sh.clock = sh.clock.Add(time.Second)
	bj.note(t, "a")
	bj.note(t, "b")
	sh.note(t, "x") // stands behind b
	bj.from(t, sh, sh.own, 1)
	if got := bj.note(t, "c").Streams[0]; got.Last != 4 {
		t.Errorf("c is version %d, want 4", got.Last)
	}
	if got := bj.seen(t).Notes; got != "abxc" || bj.Stats().Rewinds != 0 {
		t.Errorf("bj sees %q after %d rewinds, want abxc after none", got, bj.Stats().Rewinds)
	}
	sh.note(t, "y") // of version 2, stands behind c
	sh.from(t, bj, bj.own, 3)
	if got := sh.seen(t).Notes; got != "abxyc" && got != "abxcy" || sh.Stats().Rewinds != 1 {
		t.Errorf("sh sees %q after %d rewinds, want all five after one", got, sh.Stats().Rewinds)
	}
	exchange(t, bj, sh)
	if a, b := bj.seen(t).Notes, sh.seen(t).Notes; a != b {
		t.Errorf("bj sees %q, sh %q", a, b)
	}
}

// TestContextOfMixedStreams: what was decided on a stream of several sites says so.
func TestContextOfMixedStreams(t *testing.T) {
	bj, sh := newSite(t, "bj", pages(resolvers[commands.ByCRDT]), commands.Options{}), newSite(t, "sh", pages(resolvers[commands.ByCRDT]), commands.Options{})
	bj.note(t, "a")
	sh.note(t, "x")
	sh.note(t, "y")
	bj.from(t, sh, sh.own, 1)
	bj.note(t, "b")
	last := bj.events(t)[2]
	if last.Context.At(sh.own) != 1 || last.Context.At(bj.own) != 1 || last.Version != 3 {
		t.Errorf("b has context %v and version %d, want what was folded of both and 3", last.Context, last.Version)
	}
	_, err := bj.Dispatch(context.Background(), commands.Meta{Expect: eventstore.Exactly(2)}, note{"c"})
	if !errors.Is(err, eventstore.ErrConflict) {
		t.Errorf("error is %v, want a conflict: there are three events", err)
	}
}

// TestHomeKeepsOneBranch: of two branches the first counts, and the other's events are void.
func TestHomeKeepsOneBranch(t *testing.T) {
	bj, sh := newSite(t, "bj", pages(nil), commands.Options{}), newSite(t, "sh", pages(nil), commands.Options{})
	bj.note(t, "a")
	exchange(t, bj, sh)
	bj.clock = bj.clock.Add(time.Second)
	sh.clock = sh.clock.Add(2 * time.Second)
	bj.note(t, "b")
	sh.note(t, "x")
	sh.note(t, "y")
	exchange(t, bj, sh)
	for _, s := range []*site{bj, sh} {
		if got := s.seen(t).Notes; got != "ab" {
			t.Errorf("%s sees %q, want ab", s.own.Site, got)
		}
		j := s.judge(t)
		if len(j.Void) != 2 || len(j.Outcomes) != 2 || j.Outcomes[0].Verdict != commands.Voided || !strings.Contains(j.Void[0].Reason, "bj wrote the stream") {
			t.Errorf("%s judges %+v, want x and y void", s.own.Site, j)
		}
	}
	sh.note(t, "c")
	exchange(t, bj, sh)
	if got := bj.seen(t).Notes; got != "abc" {
		t.Errorf("bj sees %q, want abc", got)
	}
}

// TestHigherEpochWins: the branch of the higher epoch counts, wherever it stands.
func TestHigherEpochWins(t *testing.T) {
	bj, sh := newSite(t, "bj", pages(nil), commands.Options{}), newSite(t, "sh", pages(nil), commands.Options{})
	bj.note(t, "a")
	sh.clock = sh.clock.Add(time.Second)
	sh.note(t, "x")
	exchange(t, bj, sh)
	events := bj.events(t)
	events[1].Epoch = 2
	j, err := bj.Judge("page", events)
	must(t, err)
	if len(j.Void) != 1 || j.Void[0].Event != events[0].Dot || !strings.Contains(j.Void[0].Reason, "epoch 2, above 0") {
		t.Errorf("void are %+v, want a", j.Void)
	}
	if len(j.Outcomes) != 1 || j.Outcomes[0].Verdict != commands.Winner || !cmp.Equal(j.Outcomes[0].Void, j.Void) {
		t.Errorf("outcomes are %+v, want x the winner over a", j.Outcomes)
	}
}

// TestDomainVoidsWhatDoesNotHold: an event that does not hold behind others is void, with the reason; one that was decided
// with their knowledge is not asked about.
func TestDomainVoidsWhatDoesNotHold(t *testing.T) {
	bj, sh := newSite(t, "bj", pages(resolvers[commands.ByDomain]), commands.Options{}), newSite(t, "sh", pages(resolvers[commands.ByDomain]), commands.Options{})
	sh.clock = sh.clock.Add(time.Second)
	bj.note(t, "a")
	bj.note(t, "a") // the rule is for what others decided meanwhile
	sh.note(t, "a")
	sh.note(t, "b")
	exchange(t, bj, sh)
	if a, b := bj.seen(t).Notes, sh.seen(t).Notes; a != "aab" || b != "aab" {
		t.Errorf("bj sees %q, sh %q, want aab", a, b)
	}
	j := bj.judge(t)
	x := eventstore.Dot{Log: sh.own, Seq: 1}
	want := []commands.Void{{Event: x, Reason: "a stands there already"}}
	if diff := cmp.Diff(want, j.Void); diff != "" {
		t.Errorf("void (-want +got):\n%s", diff)
	}
	if len(j.Outcomes) != 2 || j.Outcomes[0].Verdict != commands.Voided || j.Outcomes[1].Verdict != commands.Merged {
		t.Errorf("outcomes are %+v, want one voided and one merged", j.Outcomes)
	}
	first := j.Outcomes[0]
	if first.Base != (commands.Digest{}) || len(first.Branches) != 2 || first.Branches[0].Log != sh.own || first.Branches[1].Log != bj.own {
		t.Errorf("sides are %+v, want those of sh and bj, from nothing", first)
	}
	if first.Result != first.Branches[1].Digest {
		t.Error("what counts after a void event is not what the other side had")
	}
}

// begun is a domain in which a capital begins the page, and another one does not hold.
var begun = commands.Domain[page, noted]{
	Holds: func(s page, e noted) string {
		if s.Notes != "" && strings.ToUpper(e.Text) == e.Text {
			return "the page was begun"
		}
		return ""
	},
	Begins: func(e noted) bool { return strings.ToUpper(e.Text) == e.Text },
}

// TestWhatGoesOnWithAVoidBeginning is void with it, at both sites, folded from memory and from the log; what was decided with
// the knowledge of the beginning that counts is not.
func TestWhatGoesOnWithAVoidBeginning(t *testing.T) {
	bj, sh := newSite(t, "bj", pages(begun), commands.Options{}), newSite(t, "sh", pages(begun), commands.Options{})
	bj.note(t, "A")
	sh.clock = sh.clock.Add(time.Second)
	sh.note(t, "X")
	sh.note(t, "y")
	bj.clock = bj.clock.Add(2 * time.Second)
	bj.note(t, "b")
	sh.from(t, bj, bj.own, 1)
	sh.clock = sh.clock.Add(2 * time.Second)
	sh.note(t, "z") // knows A, and not b
	exchange(t, bj, sh)
	for _, s := range []*site{bj, sh} {
		if got := s.seen(t).Notes; got != "Abz" {
			t.Errorf("%s sees %q, want Abz", s.own.Site, got)
		}
		j := s.judge(t)
		if len(j.Void) != 2 || j.Void[0].Event.Seq != 1 || j.Void[1].Event.Seq != 2 || !strings.Contains(j.Void[1].Reason, "shard-00@sh/1/1 began, which is void") {
			t.Errorf("void at %s are %+v, want X and y", s.own.Site, j.Void)
		}
	}
	a := pages(begun)
	a.Snapshots = keptPages(begun, 1).Snapshots
	if err := commands.Register(commands.NewBus(bj.replica, commands.Options{}), a, any(note{})); err == nil || !strings.Contains(err.Error(), "Begins") {
		t.Errorf("an aggregate with Begins and Snapshots is registered: %v", err)
	}
}

// TestMessagesThatRestOnWhatIsVoid are refused and leave nothing, also when the event that voids it comes after they were
// decided.
func TestMessagesThatRestOnWhatIsVoid(t *testing.T) {
	for kind, resolver := range map[string]commands.Resolver[page, noted]{"domain": begun, "home": commands.Home[page, noted]{}} {
		t.Run(kind, func(t *testing.T) {
			bj, sh := newSite(t, "bj", pages(resolver), commands.Options{}), newSite(t, "sh", pages(resolver), commands.Options{})
			first := bj.note(t, "A")
			sh.clock = sh.clock.Add(time.Second)
			sh.note(t, "X")
			x := sh.events(t)[0].Dot
			// It is heard of while the message is appended.
			late := &lateStore{replica: sh.replica, before: func() { sh.from(t, bj, bj.own, 1) }}
			bus := commands.NewBus(late, commands.Options{})
			must(t, commands.Register(bus, pages(resolver), any(note{})))
			_, err := bus.Dispatch(context.Background(), commands.Meta{ID: "m", RestsOn: []eventstore.Dot{x}}, note{"y"})
			var r *commands.Rejection
			if !errors.As(err, &r) || r.Code != commands.CodeVoid {
				t.Errorf("a message that rests on a void event: %v, want it refused", err)
			}
			if n := len(sh.events(t)); n != 2 {
				t.Errorf("the page has %d events, want the two beginnings", n)
			}
			// What rests on an event that counts is done.
			exchange(t, bj, sh)
			a := eventstore.Dot{Log: bj.own, Seq: 1}
			dispatch(t, bj.Bus, commands.Meta{RestsOn: []eventstore.Dot{a}}, note{"b"})
			if first.Duplicate || bj.seen(t).Notes != "Ab" {
				t.Errorf("bj sees %q, want Ab", bj.seen(t).Notes)
			}
		})
	}
}

// lateStore does something before its first append.
type lateStore struct {
	replica
	before func()
}

func (l *lateStore) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if before := l.before; before != nil {
		l.before = nil
		before()
	}
	return l.replica.Append(ctx, r)
}

// TestLastWriterSaysWhatWasOverwritten: what was set at both sites unseen is on record, field by field.
func TestLastWriterSaysWhatWasOverwritten(t *testing.T) {
	bj, sh := newSite(t, "bj", pages(resolvers[commands.ByLastWriter]), commands.Options{}), newSite(t, "sh", pages(resolvers[commands.ByLastWriter]), commands.Options{})
	sh.clock = sh.clock.Add(time.Second)
	bj.note(t, "a")
	sh.note(t, "b")
	sh.note(t, "a")
	exchange(t, bj, sh)
	bj.note(t, "a")
	j := bj.judge(t)
	want := []commands.Overwritten{{Event: eventstore.Dot{Log: bj.own, Seq: 1}, Field: "a"}}
	if len(j.Outcomes) != 2 || j.Outcomes[0].Verdict != commands.Merged || j.Outcomes[1].Verdict != commands.Winner || len(j.Void) != 0 {
		t.Fatalf("judged %+v, want b merged and a the winner", j)
	}
	if diff := cmp.Diff(want, j.Outcomes[1].Overwritten); diff != "" {
		t.Errorf("overwritten (-want +got):\n%s", diff)
	}
}

// TestEscrowKnowsItsSite: events are folded as of the site where they were born, and commands decided where they are.
func TestEscrowKnowsItsSite(t *testing.T) {
	a := pages(resolvers[commands.ByEscrow])
	a.Evolve = func(s page, e noted) page { s.Notes += e.Text + "@" + s.Here + " "; return s }
	bj, sh := newSite(t, "bj", a, commands.Options{}), newSite(t, "sh", a, commands.Options{})
	sh.clock = sh.clock.Add(time.Second)
	bj.note(t, "a")
	bj.note(t, "b")
	sh.note(t, "x")
	exchange(t, bj, sh)
	for _, s := range []*site{bj, sh} {
		if got := s.seen(t); got != (page{"a@bj b@bj x@sh ", s.own.Site}) {
			t.Errorf("at %s the state is %+v", s.own.Site, got)
		}
	}
}

// TestManualWaitsForAPerson shows C16: a stream in conflict takes no commands until a branch is picked, and then that one
// counts at every site.
func TestManualWaitsForAPerson(t *testing.T) {
	ctx := context.Background()
	a := pages(resolvers[commands.ByManual])
	bj, sh, sz := newSite(t, "bj", a, commands.Options{}), newSite(t, "sh", a, commands.Options{}), newSite(t, "sz", a, commands.Options{})
	bj.note(t, "a")
	exchange(t, bj, sh, sz)
	sh.clock = sh.clock.Add(time.Second)
	bj.note(t, "b")
	sh.note(t, "x")
	sh.note(t, "y")
	exchange(t, bj, sh, sz)
	_, err := bj.Dispatch(ctx, commands.Meta{}, note{"c"})
	var conflicted *commands.ConflictedError
	ends := []eventstore.Dot{{Log: bj.own, Seq: 2}, {Log: sh.own, Seq: 2}}
	if !errors.As(err, &conflicted) || !cmp.Equal(conflicted.Branches, ends) || eventstore.ClassOf(err) != eventstore.Rejected {
		t.Fatalf("error is %v, want the branches %v", err, ends)
	}
	if j := bj.judge(t); len(j.Outcomes) != 2 || j.Outcomes[0].Verdict != commands.NeedsReview || !cmp.Equal(j.Open, ends) {
		t.Errorf("judged %+v, want a review", j)
	}
	pick := commands.Settle{Category: "page", ID: "1", Keep: ends[1], Note: "sh was asked"}
	for code, s := range map[string]commands.Settle{
		commands.CodeUnknownBranch: {Category: "page", ID: "1", Keep: eventstore.Dot{Log: sh.own, Seq: 1}},
		commands.CodeNoConflict:    {Category: "page", ID: "2"},
	} {
		var r *commands.Rejection
		if _, err := bj.Dispatch(ctx, commands.Meta{}, s); !errors.As(err, &r) || r.Code != code {
			t.Errorf("error is %v, want %s", err, code)
		}
	}
	if _, err := bj.Dispatch(ctx, commands.Meta{}, pick, note{"c"}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("error is %v, want it alone in its message", err)
	}
	// Two people pick at once: that is a conflict of its own.
	dispatch(t, bj.Bus, commands.Meta{}, pick)
	dispatch(t, sz.Bus, commands.Meta{}, commands.Settle{Category: "page", ID: "1", Keep: ends[0]})
	if got := bj.note(t, "c").Streams[0].Last; got != 6 {
		t.Errorf("c is version %d, want 6", got)
	}
	exchange(t, bj, sh, sz)
	if _, err := sh.Dispatch(ctx, commands.Meta{}, note{"d"}); !errors.As(err, &conflicted) || len(conflicted.Branches) != 2 {
		t.Fatalf("error is %v, want two branches", err)
	}
	if _, err := sz.Dispatch(ctx, commands.Meta{}, note{"d"}); !errors.As(err, &conflicted) { // so that it has the branches in memory
		t.Fatalf("error is %v, want a conflict", err)
	}
	i := 0
	if conflicted.Branches[1].Log == bj.own {
		i = 1
	}
	dispatch(t, sh.Bus, commands.Meta{}, commands.Settle{Category: "page", ID: "1", Keep: conflicted.Branches[i]})
	exchange(t, bj, sh, sz)
	for _, s := range []*site{bj, sh, sz} {
		if got := s.seen(t).Notes; got != "axyc" {
			t.Errorf("%s sees %q, want axyc", s.own.Site, got)
		}
	}
	sz.note(t, "e")
}

// TestAConflictOutlivesARestart shows C16: a stream in conflict refuses commands, and can be settled, also by a bus that has
// folded nothing and finds snapshots of everything that may have one.
func TestAConflictOutlivesARestart(t *testing.T) {
	a := keptPages(resolvers[commands.ByManual], 1)
	o := commands.Options{Snapshots: &commands.MemorySnapshots{}, Log: quiet}
	bj, sh := newSite(t, "bj", a, o), newSite(t, "sh", a, commands.Options{Log: quiet})
	bj.note(t, "a")
	exchange(t, bj, sh)
	sh.clock = sh.clock.Add(time.Second)
	bj.note(t, "b")
	sh.note(t, "x")
	exchange(t, bj, sh)
	for _, when := range []string{"before", "after"} {
		if _, err := bj.Dispatch(context.Background(), commands.Meta{}, note{"c"}); !errors.Is(err, commands.ErrConflicted) {
			t.Errorf("%s the restart: error is %v, want a conflict", when, err)
		}
		bj.start(t, a, o)
	}
	dispatch(t, bj.Bus, commands.Meta{}, commands.Settle{Category: "page", ID: "1", Keep: eventstore.Dot{Log: sh.own, Seq: 1}})
	bj.start(t, a, o)
	if got := bj.seen(t).Notes; got != "ax" {
		t.Errorf("settled, bj sees %q, want ax", got)
	}
}

// meanwhile is a replica that something happens to just before a stream is read from a version on, once.
type meanwhile struct {
	replica
	version uint64
	happens func()
}

func (b *meanwhile) Read(ctx context.Context, s eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	if happens := b.happens; happens != nil && from == b.version {
		b.happens = nil
		happens()
	}
	return b.replica.Read(ctx, s, from)
}

// TestASnapshotBesideReceive shows C6: where an event is received that stands before what was folded, while a snapshot is taken
// of that, a bus that starts with the snapshot decides on what the log gives.
func TestASnapshotBesideReceive(t *testing.T) {
	for _, logs := range []int{1, 2} {
		a := keptPages(resolvers[commands.ByCRDT], 1)
		o := commands.Options{Snapshots: &commands.MemorySnapshots{}, Log: quiet}
		bj := newSite(t, "bj", a, commands.Options{Log: quiet})
		early, late := newSite(t, "aa", a, commands.Options{Log: quiet}), newSite(t, "ab", a, commands.Options{Log: quiet})
		early.note(t, "k")
		late.note(t, "l")
		bj.clock = bj.clock.Add(time.Minute)
		want := "labc"
		if logs == 2 {
			exchange(t, bj, early)
			want = "klabc"
		}
		for _, text := range []string{"a", "b", "c"} {
			bj.note(t, text)
		}
		b := &meanwhile{replica: bj.replica, version: uint64(len(want)) - 1, happens: func() { bj.from(t, late, late.own, 1) }}
		bj.replica = b
		bj.start(t, a, o)
		bj.seen(t)
		if b.happens != nil {
			t.Fatal("no snapshot was taken")
		}
		bj.start(t, a, o)
		if got := bj.seen(t).Notes; got != want {
			t.Errorf("with events of %d logs before, bj decides on %q, want %q", logs, got, want)
		}
	}
}

// TestSitesAgree shows C11, C12 and C13: over random histories of three sites, with snapshots and restarts, every state that a
// bus decides on is the one that the log gives, sites that hold the same events agree on state and judgement, nothing is
// void that was decided with the knowledge of all before it unless a person has said so, and each conflict has one outcome.
func TestSitesAgree(t *testing.T) {
	for kind, resolver := range resolvers {
		t.Run(string(kind), func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) { sitesAgree(r, kind, resolver) })
		})
	}
}

func sitesAgree(t *rapid.T, kind commands.ResolverKind, resolver commands.Resolver[page, noted]) {
	a := keptPages(resolver, 3)
	var sites []*site
	var options []commands.Options
	for _, name := range []string{"bj", "sh", "sz"} {
		o := commands.Options{Snapshots: &commands.MemorySnapshots{}, Log: quiet}
		sites, options = append(sites, newSite(t, name, a, o)), append(options, o)
	}
	for range rapid.IntRange(1, 20).Draw(t, "steps") {
		i := rapid.IntRange(0, 2).Draw(t, "site")
		s := sites[i]
		switch rapid.IntRange(0, 6).Draw(t, "step") {
		case 0, 1, 2:
			waits := len(s.judge(t).Open) > 0
			_, err := s.Dispatch(context.Background(), commands.Meta{}, note{rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "note")})
			if conflicted := errors.Is(err, commands.ErrConflicted); conflicted != waits || err != nil && !conflicted {
				t.Fatalf("error is %v, and the stream waits for a person: %v", err, waits)
			}
		case 3, 4:
			// Causally, as a link does it.
			for _, other := range sites {
				s.fromCausally(t, other, rapid.IntRange(0, 3).Draw(t, "events"))
			}
		case 5:
			s.clock = s.clock.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "ms")) * time.Millisecond)
		case 6:
			s.start(t, a, options[i])
		}
		s.checkState(t, a)
	}
	exchange(t, sites...)
	for _, s := range sites {
		s.checkState(t, a)
		if diff := cmp.Diff(sites[0].judge(t), s.judge(t)); diff != "" {
			t.Fatalf("sites judge differently (-bj +%s):\n%s", s.own.Site, diff)
		}
	}
	checkOutcomes(t, sites[0].events(t), sites[0].judge(t))
}

// TestSitesAgreeOnDisk is the same, shorter, over stores on disk.
func TestSitesAgreeOnDisk(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	a := pages(resolvers[commands.ByDomain])
	var sites []*site
	for _, name := range []string{"bj", "sh", "sz"} {
		s := &site{clock: time.UnixMilli(1000), own: eventstore.LogID{Site: name, Incarnation: 1}}
		store, err := pebblestore.Open(t.TempDir(), &pebblestore.Options{
			Site: name, Clock: hlc.New(func() time.Time { return s.clock }), Logger: quiet, MinFreeBytes: 1,
		})
		must(t, err)
		t.Cleanup(func() { must(t, store.Close()) })
		s.replica = store
		s.start(t, a, commands.Options{Log: quiet})
		sites = append(sites, s)
	}
	for range 100 {
		s := sites[random.IntN(3)]
		if random.IntN(2) == 0 {
			s.note(t, string('a'+rune(random.IntN(20))))
		} else {
			s.fromCausally(t, sites[random.IntN(3)], 1+random.IntN(3))
		}
		s.checkState(t, a)
	}
	exchange(t, sites...)
	for _, s := range sites {
		s.checkState(t, a)
		if diff := cmp.Diff(sites[0].judge(t), s.judge(t)); diff != "" {
			t.Fatalf("sites judge differently (-bj +%s):\n%s", s.own.Site, diff)
		}
	}
	checkOutcomes(t, sites[0].events(t), sites[0].judge(t))
}

// fromCausally takes in events of another site's own log, as far as it has what they were decided with.
func (s *site) fromCausally(t failer, other *site, count int) {
	ctx := context.Background()
	for range count {
		if s == other {
			return
		}
		heads, err := s.Heads(ctx)
		must(t, err)
		var held eventstore.Vector
		for _, h := range heads {
			held = held.With(eventstore.Dot{Log: h.Log, Seq: h.Seq})
		}
		for r, err := range other.ReadLog(ctx, other.own, held.At(other.own)) {
			must(t, err)
			for _, d := range r.Dep {
				if held.At(d.Log) < d.Seq {
					return
				}
			}
			s.from(t, other, other.own, 1)
			break
		}
	}
}

// checkState compares what the bus decides on with what the log gives.
func (s *site) checkState(t failer, a commands.Aggregate[page, any, noted]) {
	want, version, err := commands.Load(context.Background(), s.replica, a, "", "1")
	must(t, err)
	var got page
	_, err = s.Dispatch(context.Background(), commands.Meta{Expect: expectation(version)}, look{func(p page) { got = p }})
	if errors.As(err, new(*commands.ConflictedError)) {
		return
	}
	must(t, err)
	if got.Notes != want.Notes {
		t.Fatalf("%s decides on %q, the log gives %q", s.own.Site, got.Notes, want.Notes)
	}
}

func expectation(version uint64) eventstore.Expect {
	if version == 0 {
		return eventstore.NoStream
	}
	return eventstore.Exactly(version)
}

// checkOutcomes holds a judgement against the definition: an outcome for each event that is concurrent with one before it.
func checkOutcomes(t failer, events []eventstore.Recorded, j commands.Judgement) {
	want, got := map[eventstore.Dot]bool{}, map[eventstore.Dot]bool{}
	for n := range events {
		for m := range n {
			if eventstore.Concurrent(&events[m], &events[n]) {
				want[events[n].Dot] = true
			}
		}
	}
	for _, o := range j.Outcomes {
		got[o.Event] = true
		if o.Verdict == commands.Voided && (len(o.Void) != 1 || o.Void[0].Event != o.Event) {
			t.Fatalf("outcome %+v does not say what is void", o)
		}
		if len(o.Branches) < 2 {
			t.Fatalf("outcome %+v has one side", o)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("conflicts (-by definition +judged):\n%s", diff)
	}
	for _, v := range j.Void {
		if !want[v.Event] {
			t.Fatalf("%s is void (%s), though it was decided with the knowledge of all before it", v.Event, v.Reason)
		}
	}
}
