package kafkalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// mixed is the store of a site that receives what another site writes to the same streams.
type mixed struct {
	*memstore.Store
	other    *memstore.Store
	received uint64 // seq of the other log
}

func newMixed(t testing.TB) *mixed { return &mixed{Store: newStore(t), other: newStore(t)} }

// step writes here or there, or receives what was written there.
func (m *mixed) step(ctx context.Context) error {
	switch rand.IntN(4) {
	case 0, 1:
		_, err := m.Append(ctx, request(1+rand.IntN(5)))
		return err
	case 2:
		_, err := m.other.Append(ctx, request(1+rand.IntN(5)))
		return err
	}
	return m.receive(ctx)
}

func (m *mixed) receive(ctx context.Context) error {
	state, err := m.other.Log(ctx)
	if err != nil {
		return err
	}
	var events []eventstore.Recorded
	for e, err := range m.other.ReadLog(ctx, state.ID, m.received) {
		if err != nil {
			return err
		}
		e.Chain, e.Position, e.Revises = eventstore.Hash{}, eventstore.Position{}, false
		events = append(events, e)
	}
	if len(events) == 0 {
		return nil
	}
	m.received = events[len(events)-1].Dot.Seq
	_, err = m.Receive(ctx, events)
	return err
}

// mix has a store come to hold at least n events more, the last of which are the other site's.
func (m *mixed) mix(t testing.TB, n uint64) {
	t.Helper()
	err := error(nil)
	for end := head(t, m).Durable.LSN + n; err == nil && head(t, m).Durable.LSN < end; {
		err = m.step(t.Context())
	}
	if err == nil {
		_, err = m.other.Append(t.Context(), request(2))
	}
	if err == nil {
		err = m.receive(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// load mixes until it is stopped, at some thousands of events a second.
func (m *mixed) load(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
			if err := m.step(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("write under load: %v", err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func fastFeed(addr string) kafkalog.Options {
	o := fast(addr)
	o.Feed = true
	return o
}

func feedOf(t testing.TB, s eventstore.Reader) string {
	t.Helper()
	return kafkalog.FeedOf(head(t, s).ID.Site)
}

func newFeedReader(t testing.TB, addr, topic string) *kafkalog.Reader {
	t.Helper()
	o := fastFeed(addr)
	o.Topic, o.Logger = topic, slog.New(slog.NewTextHandler(testWriter{t}, nil))
	r, err := kafkalog.NewReader(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func auditFeed(t testing.TB, addr string, s eventstore.Reader, topic string) kafkalog.AuditReport {
	t.Helper()
	o := fastFeed(addr)
	o.Topic = topic
	report, err := kafkalog.Audit(context.Background(), s, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// sameFeed checks, with a client that is not ours, that the last life in the feed is the store's local order: each event once, in
// its place, whole, with what revises marked, and the last own event up to it.
func sameFeed(t testing.TB, addr string, s eventstore.Reader) {
	t.Helper()
	events, _ := readForeign(t, addr, feedOf(t, s))
	life := head(t, s).ID
	var own eventstore.Dot
	own.Log = life
	i, revise := 0, 0
	for i < len(events) && events[i].life(t) < int(life.Incarnation) {
		i++
	}
	events = events[i:]
	i = 0
	for e, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if i == len(events) {
			t.Fatalf("feed ends with %d events, the log has more: missing from %s on", i, e.Position)
		}
		got := events[i]
		i++
		if e.Dot.Log == life {
			own = e.Dot
		}
		want := map[string][]string{
			"tributary-position": {e.Position.String()}, "tributary-dot": {e.Dot.String()}, "tributary-own": {own.String()}, "tributary-revises": nil,
			"tributary-version": {strconv.FormatUint(e.Version, 10)}, "tributary-event-id": {e.Event.ID.String()},
		}
		if e.Revises {
			want["tributary-revises"] = []string{"true"}
			revise++
		}
		for name := range want {
			if diff := cmp.Diff(want[name], got.headers[name]); diff != "" {
				t.Fatalf("event %d of the feed, at offset %d, has %s (-want +got)\n%s", i, got.offset, name, diff)
			}
		}
		if got.key != e.Stream.String() || got.value != string(e.Payload) {
			t.Fatalf("event at %s, offset %d, is %+v, should be %+v", e.Position, got.offset, got, e)
		}
	}
	if i < len(events) {
		t.Fatalf("feed holds %d events, the log %d", len(events), i)
	}
	if revise == 0 {
		t.Fatalf("none of %d events revises", i)
	}
}

// life is the incarnation of the position that a stranger reads.
func (e *foreignEvent) life(t testing.TB) int {
	t.Helper()
	var life, lsn int
	if _, err := fmt.Sscanf(e.headers["tributary-position"][0], "%d-%d", &life, &lsn); err != nil {
		t.Fatal(err)
	}
	return life
}

// readFeedTo reads chunks until one reaches a position, and checks what every chunk promises.
func readFeedTo(t testing.TB, sub eventstore.Subscription, s eventstore.Reader, from, to eventstore.Position) []eventstore.Recorded {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	seqs := []uint64{0} // of the own log, by lsn
	for _, e := range stored(t, s, eventstore.Position{}, eventstore.Filter{}) {
		seq := seqs[len(seqs)-1]
		if e.Dot.Log == head(t, s).ID {
			seq = e.Dot.Seq
		}
		seqs = append(seqs, seq)
	}
	var events []eventstore.Recorded
	for at := from; at != to; {
		chunk, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("at %s of %s: %v", at, to, err)
		}
		switch {
		case chunk.Position.Compare(at) <= 0 || chunk.Position.Compare(to) > 0:
			t.Fatalf("chunk goes from %s to %s, the end is %s", at, chunk.Position, to)
		case chunk.Seq != seqs[chunk.Position.LSN] || chunk.Durable.Compare(chunk.Position) < 0:
			t.Fatalf("chunk at %s has seq %d and durable %s, want seq %d", chunk.Position, chunk.Seq, chunk.Durable, seqs[chunk.Position.LSN])
		}
		if n := len(chunk.Events); n > 0 && chunk.Events[n-1].Position == chunk.Position && !chunk.Events[n-1].EndsBatch() {
			t.Fatalf("chunk ends inside a batch, at %s", chunk.Position)
		}
		events = append(events, chunk.Events...)
		at = chunk.Position
	}
	return events
}

// sameInFeed compares events as a projector takes them.
func sameInFeed(t testing.TB, want, got []eventstore.Recorded) {
	t.Helper()
	sameEvents(t, want, got)
	for i := range want {
		if want[i].Revises != got[i].Revises {
			t.Fatalf("event at %s revises: %v, want %v", want[i].Position, got[i].Revises, want[i].Revises)
		}
	}
}

// TestFeedHasTheLocalOrder shows M6.
func TestFeedHasTheLocalOrder(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newMixed(t)
		var written uint64
		for range 4 {
			s.mix(t, 300)
			m := runMirror(t, s, fastFeed(addr))
			waitFor(t, m.Mirror, s)
			m.stop()
			written += m.Status().Events
		}
		end := head(t, s)
		if written != end.Durable.LSN {
			t.Errorf("mirrors wrote %d events of %d", written, end.Durable.LSN)
		}
		sameFeed(t, addr, s)
		if r := auditFeed(t, addr, s, ""); !r.OK() || r.Records != end.Durable.LSN || r.Fences != 4 {
			t.Errorf("report %+v of %d events", r, end.Durable.LSN)
		}

		r := newFeedReader(t, addr, feedOf(t, s))
		if state, err := r.Log(context.Background()); err != nil || state.ID != end.ID || state.Seq != end.Seq || state.Durable != end.Durable {
			t.Fatalf("feed says %+v, %v; the log is %+v", state, err, end)
		}
		ends := batchEnds(stored(t, s, eventstore.Position{}, eventstore.Filter{}))
		places := []eventstore.Position{{}, ends[0], ends[len(ends)-2]}
		for range 20 {
			places = append(places, ends[rand.IntN(len(ends))])
		}
		for _, after := range places {
			f := eventstore.Filter{MaxChunk: 1 + rand.IntN(300)}
			sameInFeed(t, stored(t, s, after, f), readFeedTo(t, subscribe(t, r, after, f), s, after, end.Durable))
		}
	})
}

// TestFeedRestartedInFullFlight shows M6: a mirror is ended anywhere, in the middle of taking over too, and another one goes on, while
// what it copies is written and received.
func TestFeedRestartedInFullFlight(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newMixed(t)
		stop := s.load(t)
		for range 30 {
			m := runMirror(t, s, fastFeed(addr))
			if rand.IntN(3) > 0 {
				progress(t, m.Mirror, 1+rand.Uint64N(200))
			} else {
				time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond) // killed at any moment of its work
			}
			if err := m.end(); err != nil {
				t.Fatal(err)
			}
		}
		// And one takes over from another that works.
		m := runMirror(t, s, fastFeed(addr))
		for range 5 {
			progress(t, m.Mirror, 1+rand.Uint64N(100))
			next := runMirror(t, s, fastFeed(addr))
			select {
			case <-m.done:
			case <-time.After(within):
				t.Fatalf("older mirror goes on: %+v", m.Status())
			}
			if err := m.end(); !errors.Is(err, kafkalog.ErrFenced) {
				t.Fatalf("older mirror ended with %v", err)
			}
			m = next
		}
		stop()
		waitFor(t, m.Mirror, s)
		sameFeed(t, addr, s)
	})
}

// TestFeedThroughBrokerKills shows M6: the broker is killed and stopped under a mirror and a reader.
func TestFeedThroughBrokerKills(t *testing.T) {
	through := func(t *testing.T, broker server) {
		s := newMixed(t)
		stop := s.load(t)
		o := fastFeed(broker.Addr())
		o.RequestTimeout = 2 * time.Second
		m := runMirror(t, s, o)
		progress(t, m.Mirror, 1)
		sub := subscribe(t, newFeedReader(t, broker.Addr(), feedOf(t, s)), eventstore.Position{}, eventstore.Filter{})
		progress(t, m.Mirror, 200)
		broker.Kill()
		if err := broker.Restart(context.Background()); err != nil {
			t.Fatal(err)
		}
		progress(t, m.Mirror, 200)
		if err := broker.Pause(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the mirror notices", func() bool { return m.Status().State == kafkalog.StateConnecting })
		if err := broker.Resume(); err != nil {
			t.Fatal(err)
		}
		progress(t, m.Mirror, 200)
		stop()
		waitFor(t, m.Mirror, s)
		sameFeed(t, broker.Addr(), s)
		got := readFeedTo(t, sub, s, eventstore.Position{}, head(t, s).Durable)
		sameInFeed(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
	}
	if *reliability.Long {
		onServers(t, through)
		return
	}
	through(t, startBroker(t))
}

// TestFeedIsToldFromTheOtherTopic: what reads or writes a topic of one kind does not take it for the other.
func TestFeedIsToldFromTheOtherTopic(t *testing.T) {
	addr := openEmbedded(t)
	s := newMixed(t)
	s.mix(t, 30)
	own, feed := runMirror(t, s, fast(addr)), runMirror(t, s, fastFeed(addr))
	waitFor(t, own.Mirror, s)
	waitFor(t, feed.Mirror, s)
	own.stop()
	feed.stop()
	for name, o := range map[string]kafkalog.Options{feedOf(t, s): fast(addr), topicOf(t, s): fastFeed(addr)} {
		o.Topic = name
		m := runMirror(t, s, o)
		<-m.done
		if err := m.end(); !errors.Is(err, kafkalog.ErrForked) {
			t.Errorf("a mirror to %s, feed %v, ended with %v", name, o.Feed, err)
		}
		r, err := kafkalog.NewReader(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Log(t.Context()); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("the end of %s, feed %v, gives %v", name, o.Feed, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		if _, err := subscribe(t, r, eventstore.Position{}, eventstore.Filter{}).Next(ctx); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("reading %s, feed %v, ended with %v", name, o.Feed, err)
		}
		if report := auditOf(t, s, o); report.OK() {
			t.Errorf("the audit of %s, feed %v, finds nothing: %+v", name, o.Feed, report)
		}
	}
	o := fastFeed(addr)
	o.Topic = feedOf(t, s)
	if _, err := kafkalog.NewLink(o); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a link over a feed: %v", err)
	}
	if _, err := kafkalog.Recover(t.Context(), head(t, s).ID, o); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a recovery from a feed: %v", err)
	}
}

func auditOf(t testing.TB, s eventstore.Reader, o kafkalog.Options) kafkalog.AuditReport {
	t.Helper()
	report, err := kafkalog.Audit(context.Background(), s, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// An append of either site may be in the feed in part; the feed has then come to the end of the one before it.
func TestFeedReaderOfAPartOfAnAppend(t *testing.T) {
	addr := openEmbedded(t)
	s := newMixed(t)
	s.mix(t, 40)
	for _, of := range []*memstore.Store{s.Store, s.other} {
		end := head(t, s)
		if _, err := of.Append(t.Context(), request(9)); err != nil {
			t.Fatal(err)
		}
		if err := s.receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		m := runMirror(t, s, fastFeed(addr))
		waitFor(t, m.Mirror, s)
		m.stop()
		records := rawRecords(t, addr, feedOf(t, s))
		topic := feedOf(t, s) + ".of." + head(t, of).ID.Site
		makeTopic(t, addr, topic, map[string]string{"retention.ms": "-1"})
		r := newFeedReader(t, addr, topic)
		there := 0
		for _, record := range records {
			if headerOf(record, "tributary-dot") == "" {
				continue // a heartbeat tells of more
			}
			copyRecords(t, addr, topic, record)
			there++
			if there < int(end.Durable.LSN) {
				continue
			}
			if there == int(end.Durable.LSN)+9 {
				end = head(t, s)
			}
			state, err := r.Log(t.Context())
			if err != nil || state.ID != end.ID || state.Durable != end.Durable || state.Seq != end.Seq {
				t.Fatalf("with %d events the feed says %+v, %v; want %s, seq %d", there, state, err, end.Durable, end.Seq)
			}
		}
		if end != head(t, s) {
			t.Fatalf("the append of %s is not whole in the feed", head(t, of).ID)
		}
	}
}
