package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// archivedStore is a store whose first events cannot be read; an archive that they are in is nothing to wait for.
type archivedStore struct {
	*memstore.Store
	archived uint64 // seq
	why      error
	asked    atomic.Int64
	waited   atomic.Int64 // for the archive
}

func (s *archivedStore) ChainAt(ctx context.Context, log eventstore.LogID, seq uint64) (eventstore.Hash, bool, error) {
	if seq > 0 && seq <= s.archived {
		s.waited.Add(1)
		return eventstore.Hash{}, false, cmp.Or(s.why, eventstore.ErrArchiveUnavailable)
	}
	return s.Store.ChainAt(ctx, log, seq)
}

func (s *archivedStore) ChainHere(ctx context.Context, log eventstore.LogID, seq uint64) (eventstore.Hash, bool, error) {
	if seq > 0 && seq <= s.archived {
		s.asked.Add(1)
		return eventstore.Hash{}, false, s.why
	}
	return s.Store.ChainHere(ctx, log, seq)
}

// sayer is a site that says a head again and again, and answers no pull.
type sayer struct{ head eventstore.LogHead }

func (s sayer) Pull(context.Context, Pull) (eventstore.Hash, []eventstore.Recorded, error) {
	return eventstore.Hash{}, nil, errAway
}

func (s sayer) Meet(ctx context.Context, beats <-chan Heartbeat, heard func(context.Context, Heartbeat) error) error {
	for {
		if err := heard(ctx, Heartbeat{Site: "b", Log: eventstore.LogID{Site: "b", Incarnation: 1}, Heads: []eventstore.LogHead{s.head}, Wall: time.Now(), Direct: true}); err != nil {
			return err
		}
		select {
		case <-beats:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runSite runs a site until the test ends.
func runSite(t *testing.T, o Options) *Site {
	t.Helper()
	o.Heartbeat, o.GapTimer, o.MaxBackoff = 10*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond
	s, err := NewSite(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("the site ends with %v", err)
		}
	})
	return s
}

// waitFor waits for something that must come.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// fill writes events one by one, and returns all that its log has.
func fill(t *testing.T, s *memstore.Store, n int) (all []eventstore.Recorded) {
	t.Helper()
	for range n {
		if _, err := s.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("cart", "1"), Events: []eventstore.Event{{Type: "cart.changed.v1"}},
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	state, err := s.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range s.ReadLog(t.Context(), state.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func storeOf(site string, incarnation uint32) *memstore.Store {
	return memstore.New(memstore.Options{LogID: eventstore.LogID{Site: site, Incarnation: incarnation}})
}

// awaitHeld returns when a store holds a log up to a seq, or with an error when it does not come to that.
func awaitHeld(ctx context.Context, s *memstore.Store, log eventstore.LogID, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		heads, err := s.Heads(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log == log && h.Seq >= seq }) {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s is never held up to %d, but %v: %w", log, seq, heads, ctx.Err())
		}
	}
}

// scriptLink is a link that brings what a test says.
type scriptLink func(ctx context.Context, events func(context.Context, []eventstore.Recorded) error, said func(context.Context, eventstore.LogHead) error) error

func (l scriptLink) Follow(ctx context.Context, _ func(context.Context) ([]eventstore.LogHead, error),
	events func(context.Context, []eventstore.Recorded) error, said func(context.Context, eventstore.LogHead) error,
) error {
	if err := l(ctx, events, said); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// inPieces brings events five at a time.
func inPieces(ctx context.Context, all []eventstore.Recorded, events func(context.Context, []eventstore.Recorded) error) error {
	for piece := range slices.Chunk(all, 5) {
		if err := events(ctx, piece); err != nil {
			return err
		}
	}
	return nil
}

// A site that lags says what cannot be read here: it is in an archive, for which no heartbeat waits, or damaged, which is found out once
// and not with each of them. The two cannot be compared there, and that is all: the site goes on, and has lost nothing.
func TestUnreadableWhilePeerLags(t *testing.T) {
	own, foreign := storeOf("a", 1), storeOf("c", 1)
	all, others := fill(t, own, 30), fill(t, foreign, 30)
	if _, err := own.Receive(t.Context(), others); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		e     eventstore.Recorded
		why   error
		asked int64
	}{
		{"own log, archived", all[9], nil, 2},
		{"another's, archived", others[9], nil, 2},
		{"own log, damaged", all[9], eventstore.ErrDamaged, 1},
		{"another's, damaged", others[9], eventstore.ErrCorrupt, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := c.e
			store := &archivedStore{Store: own, archived: 20, why: c.why}
			peer := sayer{eventstore.LogHead{Log: e.Dot.Log, Seq: 10, HLC: e.HLC, Chain: e.Chain}}
			topic := newMemTopic(own)
			topic.ends = []eventstore.LogHead{{Log: all[29].Dot.Log, Seq: 30, Chain: all[29].Chain}}
			s := runSite(t, Options{Config: Config{Site: "a"}, Store: store, Topic: topic, Peers: map[string]Peer{"b": peer}})
			waitFor(t, "the two were to be compared", func() bool { return store.asked.Load() >= c.asked })
			waitFor(t, "the site takes writes", func() bool { return s.Writable() == nil })
			if o, err := s.Overview(t.Context()); err != nil || len(o.Alarms) > 0 {
				t.Errorf("the site says %+v (%v)", o, err)
			}
			if n := store.waited.Load(); n > 0 {
				t.Errorf("the archive was waited for %d times", n)
			}
			if asked := store.asked.Load(); errors.Is(c.why, eventstore.ErrCorrupt) && asked != 1 {
				t.Errorf("what is damaged was read %d times", asked)
			}
		})
	}
}

// Two sites that cannot be compared because of what is archived or was dropped here do not differ for that; what is damaged is said.
func TestUnreadableIsNoDifference(t *testing.T) {
	own := storeOf("a", 1)
	all := fill(t, own, 30)
	for _, c := range []struct {
		why           error
		away, dropped bool
	}{
		{eventstore.ErrArchiveUnavailable, true, false},
		{&eventstore.TruncatedError{}, false, true},
		{eventstore.ErrArchiveDamaged, false, false},
	} {
		peer := sayer{eventstore.LogHead{Log: all[9].Dot.Log, Seq: 10, HLC: all[9].HLC, Chain: all[9].Chain}}
		store := &archivedStore{Store: own, archived: 20, why: c.why}
		s := runSite(t, Options{Config: Config{Site: "a", Begun: true}, Store: store, Topic: newMemTopic(own), Peers: map[string]Peer{"b": peer}})
		var rows []Comparison
		waitFor(t, "the other site is heard", func() bool {
			var err error
			rows, err = s.Compare(t.Context())
			return err == nil && len(rows) == 1 && rows[0].There == 10
		})
		if r := &rows[0]; (r.Away != "") != c.away || r.Dropped != c.dropped || (r.Err == nil) != (c.away || c.dropped) || r.Equal() != c.dropped {
			t.Errorf("%v: the two compare as %+v", c.why, *r)
		}
	}
}

// repeater is a site that answers each pull with the same event.
type repeater struct {
	sayer
	e     eventstore.Recorded
	asked int
}

func (r *repeater) Pull(context.Context, Pull) (eventstore.Hash, []eventstore.Recorded, error) {
	if r.asked++; r.asked > 100 {
		return eventstore.Hash{}, nil, errors.New("asked for ever")
	}
	return eventstore.Hash{}, []eventstore.Recorded{r.e}, nil
}

// A site whose answers lead nowhere is not asked for ever.
func TestHolderThatRepeatsItself(t *testing.T) {
	all := fill(t, storeOf("b", 1), 5)
	peer := &repeater{e: all[1]}
	var last error
	for _, err := range (Holder{"b", peer}).Events(t.Context(), all[0].Dot.Log, 2, 5) {
		last = err
	}
	if !errors.Is(last, eventstore.ErrCorrupt) || peer.asked != 1 {
		t.Errorf("after %d questions it is said %v", peer.asked, last)
	}
}

// An answer to a pull is bounded, also where the events have no payload to speak of.
func TestPullIsBounded(t *testing.T) {
	own := storeOf("a", 1)
	all := fill(t, own, 2*maxPullEvents)
	s := runSite(t, Options{Config: Config{Site: "a"}, Store: own, Topic: newMemTopic(own)})
	<-s.begun
	waitFor(t, "the topic has all", func() bool { return s.mayLeave(all[0].Dot.Log) == uint64(len(all)) })
	_, events, err := s.Pull(t.Context(), Pull{Log: all[0].Dot.Log, After: 0, Through: uint64(len(all))})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(events); n < maxPullEvents/2 || n > maxPullEvents+1000 {
		t.Errorf("a pull of %d events has %d", len(all), n)
	}
}

// A link that brings again what the store has is not held back by that, although nothing is received meanwhile.
func TestLinkBringsWhatIsHeld(t *testing.T) {
	from, to := storeOf("b", 1), storeOf("a", 1)
	all := fill(t, from, 35)
	log := all[0].Dot.Log
	link := scriptLink(func(ctx context.Context, events func(context.Context, []eventstore.Recorded) error, _ func(context.Context, eventstore.LogHead) error) error {
		if err := inPieces(ctx, all[:30], events); err != nil {
			return err
		}
		if err := awaitHeld(ctx, to, log, 30); err != nil {
			return err
		}
		return inPieces(ctx, all, events)
	})
	runSite(t, Options{
		Config: Config{Site: "a"}, Store: to, Topic: newMemTopic(to), Links: map[string]Link{"b": link},
		Peers: map[string]Peer{"b": sayer{eventstore.LogHead{Log: log}}}, MaxAhead: 10,
	})
	if err := awaitHeld(t.Context(), to, log, 35); err != nil {
		t.Error(err)
	}
}

// A log that is broken off does not keep the link from what comes behind it, in the next life.
func TestBrokenLogLetsNextLifeThrough(t *testing.T) {
	first, second, to := storeOf("b", 1), storeOf("b", 2), storeOf("a", 1)
	one, two := fill(t, first, 40), fill(t, second, 5)
	link := scriptLink(func(ctx context.Context, events func(context.Context, []eventstore.Recorded) error, said func(context.Context, eventstore.LogHead) error) error {
		if err := inPieces(ctx, one[:5], events); err != nil {
			return err
		}
		if err := awaitHeld(ctx, to, one[0].Dot.Log, 5); err != nil {
			return err
		}
		if err := inPieces(ctx, one[10:20], events); err != nil { // they wait for those before
			return err
		}
		if err := said(ctx, eventstore.LogHead{Log: one[0].Dot.Log, Seq: 3, Chain: eventstore.Hash{1}}); err != nil {
			return err
		}
		if err := inPieces(ctx, one[20:], events); err != nil {
			return err
		}
		return inPieces(ctx, two, events)
	})
	runSite(t, Options{
		Config: Config{Site: "a"}, Store: to, Topic: newMemTopic(to), Links: map[string]Link{"b": link},
		Peers: map[string]Peer{"b": sayer{eventstore.LogHead{Log: one[0].Dot.Log}}}, MaxAhead: 10,
	})
	if err := awaitHeld(t.Context(), to, two[0].Dot.Log, 5); err != nil {
		t.Error(err)
	}
}

// A site gives of an earlier life what its topic has, and the rest when it cannot go on in that life any more.
func TestPullOfAnEarlierLife(t *testing.T) {
	first, store := storeOf("a", 1), storeOf("a", 2)
	lost := fill(t, first, 3)
	if _, err := store.Receive(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	topic := newMemTopic(store)
	topic.ends = []eventstore.LogHead{{Log: lost[1].Dot.Log, Seq: 2, HLC: lost[1].HLC, Chain: lost[1].Chain}}
	s := runSite(t, Options{
		Config: Config{Site: "a", Begun: true}, Store: store, Topic: topic, Peers: map[string]Peer{"b": sayer{}},
	})
	gives := func() int {
		_, events, err := s.Pull(t.Context(), Pull{Log: lost[0].Dot.Log, Through: 3})
		if err != nil && !errors.Is(err, ErrStopped) { // it has yet to begin
			t.Fatal(err)
		}
		return len(events)
	}
	waitFor(t, "the topic is read", func() bool { return s.Whole() == nil })
	if got := gives(); got != 2 {
		t.Errorf("the site gives %d events of life 1, and its topic has 2", got)
	}
	fill(t, store, 1)
	waitFor(t, "the site gives all of life 1", func() bool { return gives() == 3 })
}
