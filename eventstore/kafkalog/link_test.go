package kafkalog_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/twmb/franz-go/pkg/kgo"
)

// follower takes what a link gives, as a site does: it holds a dense prefix, and what comes beyond a hole is left.
type follower struct {
	mu    sync.Mutex // guards all below
	held  []eventstore.Recorded
	given []eventstore.Dot // everything, in order
	said  []eventstore.LogHead
}

func (f *follower) heads(log eventstore.LogID) func(context.Context) ([]eventstore.LogHead, error) {
	return func(context.Context) ([]eventstore.LogHead, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return []eventstore.LogHead{{Log: log, Seq: uint64(len(f.held))}}, nil
	}
}

func (f *follower) events(_ context.Context, events []eventstore.Recorded) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range events {
		f.given = append(f.given, events[i].Dot)
		if events[i].Dot.Seq == uint64(len(f.held))+1 {
			f.held = append(f.held, events[i])
		}
	}
	return nil
}

func (f *follower) head(_ context.Context, h eventstore.LogHead) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, h)
	return nil
}

// has returns how many events are held, and how far the topic says that it is.
func (f *follower) has() (held int, said eventstore.LogHead) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.said); n > 0 {
		said = f.said[n-1]
	}
	return len(f.held), said
}

// follow follows a topic from what the follower holds until the test ends, or stop.
func (f *follower) follow(t *testing.T, addr string, log eventstore.LogID) (stop func()) {
	t.Helper()
	o := fast(addr)
	o.Topic = kafkalog.TopicOf(log.Site)
	o.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	l, err := kafkalog.NewLink(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := l.Follow(ctx, f.heads(log), f.events, f.head); ctx.Err() == nil {
			t.Errorf("the link ends with %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// A link gives what is behind the events that are held, wherever that is, each once and in order, and what the heartbeats
// say. Shows R5.
func TestLinkBeginsBehindWhatIsHeld(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		for range 4 { // several mirrors, so that fences and heartbeats stand between the events
			fill(t, s, 300)
			m := runMirror(t, s, fast(addr))
			waitFor(t, m.Mirror, s)
			m.stop()
		}
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		all := stored(t, s, eventstore.Position{}, eventstore.Filter{})
		state := head(t, s)
		for _, n := range []int{0, 1, 300, 301, 1199, 1200, rand.IntN(1200), rand.IntN(1200)} {
			f := &follower{held: slices.Clone(all[:n])}
			stop := f.follow(t, addr, state.ID)
			eventually(t, "the link gives the rest", func() bool {
				held, said := f.has()
				return held == len(all) && said.Log == state.ID && said.Seq == state.Seq && said.Chain == state.Chain
			})
			stop()
			sameEvents(t, all, f.held)
			if len(f.given) != len(all)-n {
				t.Errorf("behind seq %d the link gave %d events, want %d", n, len(f.given), len(all)-n)
			}
		}
		// What comes later comes by itself.
		f := &follower{held: slices.Clone(all)}
		f.follow(t, addr, state.ID)
		fill(t, s, 100)
		eventually(t, "the link gives what is new", func() bool { held, _ := f.has(); return held == len(all)+100 })
	})
}

// Brokers that die and come back, a topic that is made anew, one that has lost its beginning, and a record that was changed: the
// link gives what is there. Shows R5.
func TestLinkThroughTrouble(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		kill := func(t *testing.T, broker server) {
			s := newStore(t)
			stop := load(t, s)
			m := runMirror(t, s, fast(broker.Addr()))
			f := &follower{}
			f.follow(t, broker.Addr(), head(t, s).ID)
			for range 2 {
				progress(t, m.Mirror, 100)
				broker.Kill()
				if err := broker.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			progress(t, m.Mirror, 100)
			stop()
			waitFor(t, m.Mirror, s)
			all := stored(t, s, eventstore.Position{}, eventstore.Filter{})
			eventually(t, "the link gives everything", func() bool { held, _ := f.has(); return held == len(all) })
			sameEvents(t, all, f.held)
		}
		if *reliability.Long {
			onServers(t, kill)
		} else {
			kill(t, startBroker(t))
		}
	})
	t.Run("made anew", func(t *testing.T) {
		addr := openEmbedded(t)
		s := newStore(t)
		fill(t, s, 500)
		m := runMirror(t, s, fast(addr))
		f := &follower{}
		f.follow(t, addr, head(t, s).ID)
		eventually(t, "the link gives everything", func() bool { held, _ := f.has(); return held == 500 })
		deleteTopic(t, addr, topicOf(t, s))
		fill(t, s, 100)
		waitFor(t, m.Mirror, s)
		eventually(t, "the link gives what is new", func() bool { held, _ := f.has(); return held == 600 })
	})
	t.Run("cut", func(t *testing.T) {
		addr := openEmbedded(t)
		s := newStore(t)
		fill(t, s, 500)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		m.stop()
		cutTopic(t, addr, topicOf(t, s), 200)
		f := &follower{}
		f.follow(t, addr, head(t, s).ID)
		eventually(t, "the link gives what is left", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.given) > 0 && f.given[len(f.given)-1].Seq == 500
		})
		if len(f.held) != 0 || f.given[0].Seq < 100 {
			t.Errorf("of a topic without its beginning the link gave seq %d first", f.given[0].Seq)
		}
	})
	t.Run("changed", func(t *testing.T) {
		addr := openEmbedded(t)
		s := newStore(t)
		fill(t, s, 100)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		m.stop()
		topic := topicOf(t, s)
		records := rawRecords(t, addr, topic)
		at := slices.IndexFunc(records, func(r *kgo.Record) bool { return len(r.Value) > 0 && r.Offset > 40 })
		records[at].Value[0]++
		deleteTopic(t, addr, topic)
		eventually(t, "the topic is made again", func() bool { return tryMakeTopic(admin(t, addr), topic, nil) == nil })
		copyRecords(t, addr, topic, records...)
		f := &follower{}
		f.follow(t, addr, head(t, s).ID)
		eventually(t, "the link gives the last event", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.given) > 0 && f.given[len(f.given)-1].Seq == 100
		})
		if len(f.given) != 99 {
			t.Errorf("the link gave %d events, want all but the one that was changed", len(f.given))
		}
	})
}

// Of a life that is over a site may have lost the end, while it has the next one whole: the link gives that end, as far as it can be read.
// Shows R5.
func TestLinkGivesTheEndOfAnEarlierLife(t *testing.T) {
	addr := openEmbedded(t)
	first := newStore(t)
	fill(t, first, 300)
	m := runMirror(t, first, fast(addr))
	waitFor(t, m.Mirror, first)
	m.stop()
	log, topic := head(t, first).ID, topicOf(t, first)
	second, _ := recovered(t, addr, log, topic)
	fill(t, second, 600)
	m = runMirror(t, second, fast(addr))
	waitFor(t, m.Mirror, second)
	later := log
	later.Incarnation = 2
	given := func() (got []eventstore.Dot) {
		t.Helper()
		o := fast(addr)
		o.Topic = topic
		l, err := kafkalog.NewLink(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		err = l.Follow(ctx, func(context.Context) ([]eventstore.LogHead, error) {
			return []eventstore.LogHead{{Log: log, Seq: 250}, {Log: later, Seq: 600}}, nil
		}, func(_ context.Context, events []eventstore.Recorded) error {
			for i := range events {
				got = append(got, events[i].Dot)
			}
			return nil
		}, func(_ context.Context, h eventstore.LogHead) error {
			if h.Log == later && h.Seq == 600 {
				cancel()
			}
			return nil
		})
		if ctx.Err() != context.Canceled {
			t.Fatalf("the link does not come to the end: %v, %v", ctx.Err(), err)
		}
		return got
	}
	if got := given(); len(got) != 50 || got[0] != (eventstore.Dot{Log: log, Seq: 251}) {
		t.Errorf("the link gives %d events, the first %v; want the 50 that are missing", len(got), got[:min(1, len(got))])
	}

	m.stop()
	records := rawRecords(t, addr, topic)
	last := slices.IndexFunc(records, func(r *kgo.Record) bool {
		return slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return string(h.Value) == eventstore.Dot{Log: log, Seq: 300}.String() })
	})
	records[last].Value[0]++
	deleteTopic(t, addr, topic)
	eventually(t, "the topic is made again", func() bool { return tryMakeTopic(admin(t, addr), topic, nil) == nil })
	copyRecords(t, addr, topic, records...)
	if got := given(); len(got) != 49 || got[0] != (eventstore.Dot{Log: log, Seq: 251}) {
		t.Errorf("the link gives %d events, the first %v; want the 50 that are missing, but for the one that was changed", len(got), got[:min(1, len(got))])
	}
}

// A topic says how each life of its log ended, with the chain, wherever its last heartbeat stands, and leaves out what a
// life did not finish.
func TestEndsOfATopic(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		site := head(t, s).ID.Site
		ends := func(s eventstore.Reader) []eventstore.LogHead {
			t.Helper()
			answers := 0
			got, err := kafkalog.NewMirror(s, fast(addr)).Ends(t.Context(), func() { answers++ })
			if err != nil {
				t.Fatal(err)
			}
			if answers == 0 || len(got) > 0 && answers < 3 {
				t.Errorf("the topic is read to its end, and the brokers are said to have answered %d times", answers)
			}
			for i := range got {
				got[i].HLC = 0
			}
			return got
		}
		if got := ends(s); got != nil {
			t.Errorf("a topic that is not there ends with %v", got)
		}
		fill(t, s, 400)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		first := head(t, s)
		want := []eventstore.LogHead{{Log: first.ID, Seq: first.Seq, Chain: first.Chain}}
		eventually(t, "a heartbeat says so", func() bool { return slices.Equal(ends(s), want) })
		m.stop()

		// Without the last heartbeats the chain is found from an earlier one, or from the beginning.
		topic := topicOf(t, s)
		records := rawRecords(t, addr, topic)
		isEvent := func(r *kgo.Record) bool { return r.Key != nil }
		for _, drop := range []func(*kgo.Record) bool{
			func(r *kgo.Record) bool { return !isEvent(r) && r.Offset > records[350].Offset },
			func(r *kgo.Record) bool { return !isEvent(r) },
		} {
			deleteTopic(t, addr, topic)
			eventually(t, "the topic is made again", func() bool { return tryMakeTopic(admin(t, addr), topic, nil) == nil })
			copyRecords(t, addr, topic, slices.DeleteFunc(slices.Clone(records), drop)...)
			if got := ends(s); !slices.Equal(got, want) {
				t.Errorf("the topic ends with %v, want %v", got, want)
			}
		}
		deleteTopic(t, addr, topic)
		eventually(t, "the topic is made again", func() bool { return tryMakeTopic(admin(t, addr), topic, nil) == nil })
		copyRecords(t, addr, topic, records...)

		// Another life, of which the topic has the beginning of a batch, and one after that which has no event yet.
		second := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: site, Incarnation: 2}})
		append1(t, second, 2)
		whole := head(t, second)
		append1(t, second, 3)
		events := stored(t, second, eventstore.Position{}, eventstore.Filter{})
		for i := range events[:4] {
			frame := eventstore.AppendFrame(nil, &events[i], eventstore.AppendContent(nil, &events[i]))
			r := kafkalog.EncodeEvent(&events[i], frame)
			raw := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Timestamp: r.Time}
			for _, h := range r.Headers {
				raw.Headers = append(raw.Headers, kgo.RecordHeader{Key: h.Key, Value: slices.Clone(h.Value)})
			}
			copyRecords(t, addr, topic, raw)
		}
		torn := eventstore.LogHead{Log: whole.ID, Seq: 4, Chain: stored(t, second, eventstore.Position{}, eventstore.Filter{Chain: true})[3].Chain}
		if got := ends(second); !slices.Equal(got, []eventstore.LogHead{torn, want[0]}) {
			t.Errorf("in the middle of a batch the topic ends with %v", got)
		}
	})
}
