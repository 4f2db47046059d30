package kafkalog_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/twmb/franz-go/pkg/kgo"
)

// newStore returns a store of a site that has a name, and so a topic, of its own.
func newStore(t testing.TB) *memstore.Store {
	t.Helper()
	s := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: testenv.Unique(t), Incarnation: 1}})
	t.Cleanup(func() { s.Close() })
	return s
}

func topicOf(t testing.TB, s eventstore.Reader) string {
	t.Helper()
	return kafkalog.TopicOf(head(t, s).ID.Site)
}

func head(t testing.TB, s eventstore.Reader) eventstore.LogState {
	t.Helper()
	state, err := s.Log(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// fill appends n events in requests of 1 to 7, with everything that a record can carry.
func fill(t testing.TB, s eventstore.Appender, n int) {
	t.Helper()
	for n > 0 {
		size := min(n, 1+rand.IntN(7))
		n -= size
		append1(t, s, size)
	}
}

func append1(t testing.TB, s eventstore.Appender, size int) eventstore.Receipt {
	t.Helper()
	receipt, err := s.Append(context.Background(), request(size))
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

func request(size int) eventstore.Request {
	id := strconv.FormatUint(rand.Uint64(), 36)
	r := eventstore.Request{ID: "request-" + id, Metadata: eventstore.Metadata{Actor: "tester", Correlation: id}}
	for i := range size {
		payload := fmt.Sprintf(`{"n":%d,"text":%q}`, rand.Int(), strings.Repeat("x", rand.IntN(200)))
		r.Appends = append(r.Appends, eventstore.StreamAppend{
			Stream: eventstore.Stream("order", fmt.Sprintf("%d-%d", rand.IntN(50), i)),
			Events: []eventstore.Event{{
				Type: "order.line-added.v1", Encoding: eventstore.JSON, Payload: []byte(payload), Tags: []string{"customer:" + strconv.Itoa(rand.IntN(9))},
			}},
		})
	}
	return r
}

// mirrorRun is a mirror at work.
type mirrorRun struct {
	*kafkalog.Mirror
	end  func() error // ends Run and returns what it returned
	done <-chan struct{}
	t    testing.TB
}

// stop ends a mirror that must have been well to the end.
func (m mirrorRun) stop() {
	m.t.Helper()
	if err := m.end(); err != nil {
		m.t.Errorf("mirror ended with %v", err)
	}
}

func runMirror(t testing.TB, s eventstore.Reader, o kafkalog.Options) mirrorRun {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	m := kafkalog.NewMirror(s, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = m.Run(ctx)
	}()
	end := sync.OnceValue(func() error {
		cancel()
		<-done
		return err
	})
	t.Cleanup(func() { _ = end() })
	return mirrorRun{m, end, done, t}
}

// testWriter puts logs into the test's output.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// waitFor waits until the mirror has everything the store has now.
func waitFor(t testing.TB, m *kafkalog.Mirror, s eventstore.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := m.Wait(ctx, head(t, s).Durable); err != nil {
		t.Fatalf("%v; status %+v", err, m.Status())
	}
}

// foreignEvent is what a stranger makes of a record with docs/topic.md alone.
type foreignEvent struct {
	offset      int64
	key, value  string
	incarnation int
	seq         int
	headers     map[string][]string
}

// readForeign reads a topic to its present end with a client that is not ours, and returns the events; the other records
// are counted by kind, and by what they say is applied of other logs.
func readForeign(t testing.TB, addr, topic string) (events []foreignEvent, others map[string]int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	end := endOffset(t, client, topic)
	others = map[string]int{}
	for next := int64(0); next < end; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s with another client: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if r.Offset >= end {
				return
			}
			e := foreignEvent{offset: r.Offset, key: string(r.Key), value: string(r.Value), headers: map[string][]string{}}
			for _, h := range r.Headers {
				e.headers[h.Key] = append(e.headers[h.Key], string(h.Value))
			}
			if kind := e.headers["tributary-record"]; kind != nil {
				others[kind[0]]++
				for _, dep := range e.headers["tributary-dep"] {
					others[dep]++
				}
				return
			}
			// tributary-dot is shard-NN@site/incarnation/seq.
			parts := strings.Split(e.headers["tributary-dot"][0], "/")
			e.incarnation, _ = strconv.Atoi(parts[1])
			e.seq, _ = strconv.Atoi(parts[2])
			events = append(events, e)
		})
	}
	return events, others
}

func endOffset(t testing.TB, client *kgo.Client, topic string) int64 {
	t.Helper()
	offsets, err := listEnd(client, topic)
	if err != nil {
		t.Fatalf("ask for the end of %s: %v", topic, err)
	}
	return offsets
}

// sameAsStore checks, with a client that is not ours, that the topic holds the store's events: each once, in order, whole.
func sameAsStore(t testing.TB, addr string, s eventstore.Reader) {
	t.Helper()
	events, _ := readForeign(t, addr, topicOf(t, s))
	i := 0
	for own, err := range s.ReadAll(context.Background(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if i == len(events) {
			t.Fatalf("topic ends with seq %d, the log has more: missing from %s on", i, own.Dot)
		}
		e := events[i]
		i++
		if e.seq != int(own.Dot.Seq) {
			t.Fatalf("event %d of the topic, at offset %d, has seq %d, should have %d: missing, duplicated or out of order", i, e.offset, e.seq, own.Dot.Seq)
		}
		if e.key != own.Stream.String() || e.value != string(own.Payload) || e.headers["tributary-event-id"][0] != own.Event.ID.String() ||
			e.headers["tributary-version"][0] != strconv.FormatUint(own.Version, 10) {
			t.Fatalf("seq %d at offset %d is %+v, should be %+v", e.seq, e.offset, e, own)
		}
	}
	if i < len(events) {
		t.Fatalf("topic holds %d events, the log %d", len(events), i)
	}
}

// fast are options for tests: short pauses, so that much happens in little time.
func fast(addr string) kafkalog.Options {
	return kafkalog.Options{Brokers: []string{addr}, RequestTimeout: 4 * time.Second, MaxBackoff: 200 * time.Millisecond, BatchBytes: 16 << 10}
}
