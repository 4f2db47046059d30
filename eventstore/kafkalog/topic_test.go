package kafkalog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestTopicDeletedUnderTheMirror(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 2000)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		deleteTopic(t, addr, topicOf(t, s))
		eventually(t, "the mirror fills a new topic", func() bool { return m.Status().Events >= 4000 })
		fill(t, s, 100)
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}

func TestTopicDeletedWhileNoMirrorRuns(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 500)
		o := fast(addr)
		o.Checkpoint = kafkalog.FileCheckpoint(filepath.Join(t.TempDir(), "mirror.json"))
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		m.stop()
		deleteTopic(t, addr, topicOf(t, s))
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}

// The topic comes back with only the first part of its records, as after a disaster of the brokers (M3).
func TestTopicLostItsEnd(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		for _, keep := range []int{1, 2, 57, 400} {
			s := newStore(t)
			topic := topicOf(t, s)
			fill(t, s, 900)
			m := runMirror(t, s, fast(addr))
			waitFor(t, m.Mirror, s)
			m.stop()
			records := rawRecords(t, addr, topic)
			deleteTopic(t, addr, topic)
			eventually(t, "the topic is made again", func() bool { return tryMakeTopic(admin(t, addr), topic, nil) == nil })
			copyRecords(t, addr, topic, records[:keep]...)
			m = runMirror(t, s, fast(addr))
			waitFor(t, m.Mirror, s)
			sameAsStore(t, addr, s)
			m.stop()
		}
	})
}

// Retention, or somebody's hand, has removed all records; the offsets tell that they had been there.
func TestTopicEmptiedByRetention(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		topic := topicOf(t, s)
		fill(t, s, 300)
		o := fast(addr)
		path := filepath.Join(t.TempDir(), "mirror.json")
		o.Checkpoint = kafkalog.FileCheckpoint(path)
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		m.stop()
		cutTopic(t, addr, topic, -1)

		fill(t, s, 10)
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		if events, _ := readForeign(t, addr, topic); len(events) != 10 || events[0].seq != 301 {
			t.Errorf("with its checkpoint the mirror wrote %d events, should write the 10 new ones", len(events))
		}
		m.stop()

		// Without a checkpoint that makes sense, everything is published again.
		cutTopic(t, addr, topic, -1)
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}

// An idle topic ends with thousands of heartbeats; they tell how far it has come.
func TestResumeBehindHeartbeats(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		o := fast(addr)
		o.Heartbeat = time.Millisecond
		m := runMirror(t, s, o)
		eventually(t, "heartbeats before the first event", func() bool { return m.Status().Heartbeats > 50 })
		m.stop()
		m = runMirror(t, s, o)
		fill(t, s, 100)
		waitFor(t, m.Mirror, s)
		before := m.Status().Heartbeats
		eventually(t, "heartbeats", func() bool { return m.Status().Heartbeats > before+50 })
		m.stop()
		fill(t, s, 100)
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		if n := m.Status().Events; n != 100 {
			t.Errorf("mirror wrote %d events, should write the 100 new ones", n)
		}
		sameAsStore(t, addr, s)
		if _, others := readForeign(t, addr, topicOf(t, s)); others["fence"] != 3 || others["heartbeat"] < 100 {
			t.Errorf("topic has %v", others)
		}
	})
}

// INVARIANT: a topic that is not a copy of this log is never continued (M3).
func TestTopicOfAnotherHistory(t *testing.T) {
	site := func(s eventstore.Reader) eventstore.LogID { return head(t, s).ID }
	onBrokers(t, func(t *testing.T, addr string) {
		for _, c := range []struct {
			name  string
			there int // events of the first log, which the topic has
			here  int // events of the second log, of the same name
			idle  bool
			want  error
		}{
			{"fork seen by the last event", 100, 200, false, kafkalog.ErrForked},
			{"fork seen by a heartbeat", 100, 200, true, kafkalog.ErrForked},
			{"log lost its tail, seen by the last event", 100, 60, false, kafkalog.ErrBehind},
			{"log lost its tail, seen by a heartbeat", 100, 60, true, kafkalog.ErrBehind},
			{"log lost everything", 100, 0, false, kafkalog.ErrBehind},
		} {
			t.Run(c.name, func(t *testing.T) {
				there := newStore(t)
				o := fast(addr)
				o.Heartbeat = time.Hour
				if c.idle {
					o.Heartbeat = time.Millisecond
				}
				fill(t, there, c.there)
				m := runMirror(t, there, o)
				waitFor(t, m.Mirror, there)
				if n := m.Status().Heartbeats; c.idle {
					eventually(t, "a heartbeat after the events", func() bool { return m.Status().Heartbeats > n+1 })
				}
				m.stop()
				before := countEvents(t, addr, topicOf(t, there))

				here := memstore.New(memstore.Options{LogID: site(there)})
				defer here.Close()
				fill(t, here, c.here)
				m = runMirror(t, here, o)
				<-m.done
				err := m.end()
				if !errors.Is(err, c.want) {
					t.Fatalf("mirror ended with %v, should with %v", err, c.want)
				}
				if !strings.Contains(err.Error(), "offset") {
					t.Errorf("error does not say where: %v", err)
				}
				if m.Status().State != kafkalog.StateForked {
					t.Errorf("state is %s", m.Status().State)
				}
				if err := m.Wait(context.Background(), eventstore.Position{Incarnation: 1, LSN: 1}); !errors.Is(err, eventstore.ErrUnavailable) {
					t.Errorf("wait for a stopped mirror gives %v", err)
				}
				if after := countEvents(t, addr, topicOf(t, there)); after != before {
					t.Errorf("topic had %d events and has %d", before, after)
				}
			})
		}
	})
}

func countEvents(t testing.TB, addr, topic string) int {
	events, _ := readForeign(t, addr, topic)
	return len(events)
}

// Records of strangers, and a record of ours that was changed, at the end of the topic.
func TestTopicEndsWithOtherRecords(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		o := fast(addr)
		o.Heartbeat = time.Hour
		fill(t, s, 50)
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		m.stop()
		topic := topicOf(t, s)
		copyRecords(t, addr, topic, &kgo.Record{Value: []byte("hello")}, &kgo.Record{Key: []byte("k")})
		fill(t, s, 50)
		m = runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		m.stop()
		if n := m.Status().Events; n != 50 {
			t.Errorf("behind a stranger's records the mirror wrote %d events, should write the 50 new ones", n)
		}

		records := rawRecords(t, addr, topic)
		last := records[len(records)-1]
		last.Value = append([]byte(nil), last.Value...)
		last.Value[0] ^= 1
		copyRecords(t, addr, topic, last)
		m = runMirror(t, s, o)
		<-m.done
		if err := m.end(); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("behind a changed record the mirror ended with %v", err)
		}
	})
}

func TestWeakTopicIsReportedAndLeftAlone(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		topic := topicOf(t, s)
		weak := map[string]string{"retention.ms": "86400000", "max.message.bytes": "1000000"}
		makeTopic(t, addr, topic, weak)
		fill(t, s, 10)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		faults := strings.Join(m.Status().TopicFaults, "\n")
		for name := range weak {
			if !strings.Contains(faults, name+" is "+weak[name]) {
				t.Errorf("%s is not reported: %s", name, faults)
			}
		}
		for name, want := range weak {
			if got := topicSettings(t, addr, topic)[name]; got != want {
				t.Errorf("topic's %s was %s and is %s", name, want, got)
			}
		}
	})
}

func TestLargeEvents(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		for _, size := range []int{eventstore.MaxPayloadBytes, 1, 3 << 20, 0, 2 << 20} {
			r := request(1)
			r.Appends[0].Events[0].Payload = make([]byte, size)
			if _, err := s.Append(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
		o := fast(addr)
		o.Compression = "none"
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}

// A batch that the topic does not take is sent in smaller ones.
func TestBatchLargerThanTheTopicTakes(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		makeTopic(t, addr, topicOf(t, s), map[string]string{"retention.ms": "-1", "max.message.bytes": "20000"})
		fill(t, s, 2000)
		o := fast(addr)
		o.Compression, o.BatchBytes = "none", 1<<20
		m := runMirror(t, s, o)
		waitFor(t, m.Mirror, s)
		sameAsStore(t, addr, s)
	})
}
