package kafkalog_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newReader(t testing.TB, addr, topic string) *kafkalog.Reader {
	t.Helper()
	o := fast(addr)
	o.Topic = topic
	o.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	r, err := kafkalog.NewReader(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func subscribe(t testing.TB, r *kafkalog.Reader, after eventstore.Position, f eventstore.Filter) eventstore.Subscription {
	t.Helper()
	s, err := r.Subscribe(context.Background(), after, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// readTo reads chunks until one reaches a position, and checks what every chunk promises.
func readTo(t testing.TB, s eventstore.Subscription, from, to eventstore.Position) []eventstore.Recorded {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var events []eventstore.Recorded
	for at := from; at != to; {
		chunk, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("at %s of %s: %v", at, to, err)
		}
		switch {
		case chunk.Position.Compare(at) <= 0 || chunk.Position.Compare(to) > 0:
			t.Fatalf("chunk goes from %s to %s, the end is %s", at, chunk.Position, to)
		case chunk.Seq != chunk.Position.LSN || chunk.Durable.Compare(chunk.Position) < 0:
			t.Fatalf("chunk at %s has seq %d and durable %s", chunk.Position, chunk.Seq, chunk.Durable)
		}
		if n := len(chunk.Events); n > 0 && chunk.Events[n-1].Position == chunk.Position && !chunk.Events[n-1].EndsBatch() {
			t.Fatalf("chunk ends inside a batch, at %s", chunk.Position)
		}
		events = append(events, chunk.Events...)
		at = chunk.Position
	}
	return events
}

func stored(t testing.TB, s eventstore.Reader, after eventstore.Position, f eventstore.Filter) []eventstore.Recorded {
	t.Helper()
	var events []eventstore.Recorded
	for e, err := range s.ReadAll(context.Background(), after, f) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// batchEnds returns the positions at which a batch ends.
func batchEnds(events []eventstore.Recorded) (ends []eventstore.Position) {
	for i := range events {
		if events[i].EndsBatch() {
			ends = append(ends, events[i].Position)
		}
	}
	return ends
}

// sameEvents compares events by their canonical frames and positions.
func sameEvents(t testing.TB, want, got []eventstore.Recorded) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		a := eventstore.AppendFrame(nil, &want[i], eventstore.AppendContent(nil, &want[i]))
		b := eventstore.AppendFrame(nil, &got[i], eventstore.AppendContent(nil, &got[i]))
		if !bytes.Equal(a, b) || want[i].Position != got[i].Position {
			t.Fatalf("event %d (-store +topic):\n%s", i, cmp.Diff(want[i], got[i]))
		}
	}
	if len(want) != len(got) {
		t.Fatalf("got %d events, the store has %d", len(got), len(want))
	}
}

func TestReaderGivesWhatTheStoreGives(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		// Several mirrors, so that fences and heartbeats stand between the events.
		for range 5 {
			fill(t, s, 400)
			m := runMirror(t, s, fast(addr))
			waitFor(t, m.Mirror, s)
			m.stop()
		}
		r := newReader(t, addr, topicOf(t, s))
		end := head(t, s).Durable
		all := stored(t, s, eventstore.Position{}, eventstore.Filter{})
		ends := batchEnds(all)
		places := []eventstore.Position{{}, ends[0], ends[len(ends)-2]}
		for range 25 {
			places = append(places, ends[rand.IntN(len(ends))])
		}
		for _, after := range places {
			f := eventstore.Filter{MaxChunk: 1 + rand.IntN(300)}
			if rand.IntN(2) == 0 {
				f.Categories = []string{"order"}
			}
			got := readTo(t, subscribe(t, r, after, f), after, end)
			sameEvents(t, stored(t, s, after, f), got)
		}
		nothing := readTo(t, subscribe(t, r, eventstore.Position{}, eventstore.Filter{Types: []string{"no.such.v1"}}), eventstore.Position{}, end)
		if len(nothing) > 0 {
			t.Fatalf("filter lets %d events through", len(nothing))
		}
		state, err := r.Log(context.Background())
		if err != nil || state.ID != head(t, s).ID || state.Seq != 2000 || state.Durable != end {
			t.Fatalf("topic says %+v, %v; the log is %+v", state, err, head(t, s))
		}
	})
}

// An append that is larger than a batch of the topic may be there in part; the topic has then come to the end of the one
// before it, and no subscriber is given a part either.
func TestReaderOfAPartOfAnAppend(t *testing.T) {
	const size = 20
	onBrokers(t, func(t *testing.T, addr string) {
		for _, before := range []int{0, 30} {
			s := newStore(t)
			fill(t, s, before)
			end := head(t, s)
			large := request(size)
			for i := range large.Appends {
				large.Appends[i].Events[0].Payload = bytes.Repeat([]byte("x"), fast(addr).BatchBytes/4)
			}
			if _, err := s.Append(context.Background(), large); err != nil {
				t.Fatal(err)
			}
			m := runMirror(t, s, fast(addr))
			waitFor(t, m.Mirror, s)
			m.stop()
			records := rawRecords(t, addr, topicOf(t, s))
			first := place(t, records, s, end.Seq+1)
			topic := topicOf(t, s) + ".partly"
			makeTopic(t, addr, topic, map[string]string{"retention.ms": "-1"})
			copyRecords(t, addr, topic, records[:first]...)
			r := newReader(t, addr, topic)
			there := 0
			for _, record := range records[first:] {
				if headerOf(record, "tributary-dot") == "" {
					continue // a heartbeat tells of more
				}
				copyRecords(t, addr, topic, record)
				if there++; there == size {
					end = head(t, s)
				}
				state, err := r.Log(context.Background())
				if err != nil || state.ID != end.ID || state.Durable != end.Durable || state.Seq != end.Seq {
					t.Fatalf("with %d of %d events behind %d the topic says %+v, %v; want %s, seq %d", there, size, before, state, err, end.Durable, end.Seq)
				}
			}
			got := readTo(t, subscribe(t, r, eventstore.Position{}, eventstore.Filter{}), eventstore.Position{}, end.Durable)
			sameEvents(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
		}
	})
}

func TestReaderOutlivesBrokers(t *testing.T) {
	onServers(t, func(t *testing.T, broker server) {
		s := newStore(t)
		stop := load(t, s)
		m := runMirror(t, s, fast(broker.Addr()))
		progress(t, m.Mirror, 1)
		sub := subscribe(t, newReader(t, broker.Addr(), topicOf(t, s)), eventstore.Position{}, eventstore.Filter{})
		for range 3 {
			progress(t, m.Mirror, 200)
			broker.Kill()
			if err := broker.Restart(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		progress(t, m.Mirror, 200)
		stop()
		waitFor(t, m.Mirror, s)
		got := readTo(t, sub, eventstore.Position{}, head(t, s).Durable)
		sameEvents(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
	})
}

func TestReaderWhenTheTopicIsMadeAnew(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 1000)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		sub := subscribe(t, newReader(t, addr, topicOf(t, s)), eventstore.Position{}, eventstore.Filter{})
		middle := head(t, s).Durable
		got := readTo(t, sub, eventstore.Position{}, middle)
		for range 3 {
			written := m.Status().Events
			deleteTopic(t, addr, topicOf(t, s))
			fill(t, s, 50)
			eventually(t, "the mirror fills a new topic", func() bool { return m.Status().Events > written+1000 })
		}
		waitFor(t, m.Mirror, s)
		got = append(got, readTo(t, sub, middle, head(t, s).Durable)...)
		sameEvents(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
	})
}

// A topic may be behind a reader whose cursor came from elsewhere.
func TestReaderWaitsForItsPosition(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 300)
		ends := batchEnds(stored(t, s, eventstore.Position{}, eventstore.Filter{}))
		after := ends[len(ends)/2]
		sub := subscribe(t, newReader(t, addr, topicOf(t, s)), after, eventstore.Filter{})
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		got := readTo(t, sub, after, head(t, s).Durable)
		sameEvents(t, stored(t, s, after, eventstore.Filter{}), got)
	})
}

// rewritten makes a topic of a store's records as another hand leaves them.
func rewritten(t testing.TB, addr string, s eventstore.Reader, change func(records []*kgo.Record) []*kgo.Record) (topic string) {
	t.Helper()
	m := runMirror(t, s, fast(addr))
	waitFor(t, m.Mirror, s)
	m.stop()
	topic = topicOf(t, s) + ".rewritten"
	makeTopic(t, addr, topic, map[string]string{"retention.ms": "-1"})
	copyRecords(t, addr, topic, change(rawRecords(t, addr, topicOf(t, s)))...)
	return topic
}

func headerOf(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// place returns the index of the record of an event.
func place(t testing.TB, records []*kgo.Record, s eventstore.Reader, seq uint64) int {
	t.Helper()
	want := eventstore.Dot{Log: head(t, s).ID, Seq: seq}.String()
	for i, r := range records {
		if headerOf(r, "tributary-dot") == want {
			return i
		}
	}
	t.Fatalf("topic has no record of %s", want)
	return 0
}

func TestReaderStopsAtWhatIsWrong(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		for _, c := range []struct {
			name   string
			change func(s eventstore.Reader, records []*kgo.Record) []*kgo.Record
			want   error
		}{
			{"missing", func(s eventstore.Reader, r []*kgo.Record) []*kgo.Record {
				i := place(t, r, s, 60)
				return append(r[:i:i], r[i+1:]...)
			}, kafkalog.ErrGap},
			{"missing at the end, told by a heartbeat", func(s eventstore.Reader, r []*kgo.Record) []*kgo.Record {
				i := place(t, r, s, 60)
				last := len(r) - 1
				for headerOf(r[last], "tributary-record") != "heartbeat" {
					last--
				}
				return append(r[:i:i], r[last])
			}, kafkalog.ErrGap},
			{"changed", func(s eventstore.Reader, r []*kgo.Record) []*kgo.Record {
				r[place(t, r, s, 60)].Value[3] ^= 1
				return r
			}, eventstore.ErrCorrupt},
		} {
			t.Run(c.name, func(t *testing.T) {
				s := newStore(t)
				fill(t, s, 120)
				m := runMirror(t, s, fast(addr))
				waitFor(t, m.Mirror, s)
				n := m.Status().Heartbeats
				eventually(t, "a heartbeat at the end", func() bool { return m.Status().Heartbeats > n })
				m.stop()
				topic := rewritten(t, addr, s, func(r []*kgo.Record) []*kgo.Record { return c.change(s, r) })
				ctx, cancel := context.WithTimeout(context.Background(), within)
				defer cancel()
				sub := subscribe(t, newReader(t, addr, topic), eventstore.Position{}, eventstore.Filter{MaxChunk: 1})
				seen := uint64(0)
				for {
					chunk, err := sub.Next(ctx)
					if err != nil {
						if !errors.Is(err, c.want) {
							t.Fatalf("reader ended with %v, should with %v", err, c.want)
						}
						break
					}
					seen = chunk.Seq
				}
				if seen > 59 || seen < 50 {
					t.Errorf("reader came to seq %d, should to the batch before 60", seen)
				}
			})
		}
	})
}

// INVARIANT: what a topic repeats is read once.
func TestReaderDropsRepetitions(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 200)
		topic := rewritten(t, addr, s, func(r []*kgo.Record) []*kgo.Record {
			i := place(t, r, s, 100)
			again := append([]*kgo.Record{}, r[:i+1]...)
			for _, x := range r[i-20:] {
				c := *x
				again = append(again, &c)
			}
			return append(again, &kgo.Record{Value: []byte("a stranger's")})
		})
		end := head(t, s).Durable
		got := readTo(t, subscribe(t, newReader(t, addr, topic), eventstore.Position{}, eventstore.Filter{}), eventstore.Position{}, end)
		sameEvents(t, stored(t, s, eventstore.Position{}, eventstore.Filter{}), got)
	})
}

func TestReaderOfAnotherLife(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		id := head(t, newStore(t)).ID
		id.Incarnation = 2
		s := memstore.New(memstore.Options{LogID: id})
		defer s.Close()
		fill(t, s, 20)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		sub := subscribe(t, newReader(t, addr, topicOf(t, s)), eventstore.Position{Incarnation: 1, LSN: 5}, eventstore.Filter{})
		if chunk, err := sub.Next(ctx); !errors.Is(err, eventstore.ErrWrongIncarnation) {
			t.Fatalf("reader of another life got %+v, %v", chunk, err)
		}
	})
}

func TestReaderRefuses(t *testing.T) {
	if _, err := kafkalog.NewReader(kafkalog.Options{}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("no brokers, no topic: %v", err)
	}
	r, err := kafkalog.NewReader(kafkalog.Options{Brokers: []string{"127.0.0.1:1"}, Topic: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Subscribe(context.Background(), eventstore.Position{}, eventstore.Filter{Chain: true}); !errors.Is(err, eventstore.ErrUnsupported) {
		t.Errorf("chain: %v", err)
	}
	if _, err := r.Log(context.Background()); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("no broker there: %v", err)
	}
	s := subscribe(t, r, eventstore.Position{}, eventstore.Filter{})
	s.Close()
	if _, err := s.Next(context.Background()); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
