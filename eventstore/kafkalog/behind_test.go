package kafkalog_test

import (
	"slices"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A topic tells whether it has the next batch of a life of its log, as a link would give it: not one that was cut, torn or changed.
func TestWhatATopicHasBehind(t *testing.T) {
	addr := openEmbedded(t)
	first := newStore(t)
	log, topic := head(t, first).ID, topicOf(t, first)
	behind := func(s eventstore.Reader, log eventstore.LogID, want uint64, anything bool, held ...eventstore.LogHead) {
		t.Helper()
		got, found, err := kafkalog.NewMirror(s, fast(addr)).Behind(t.Context(), log, held)
		if err != nil || got != want || found != anything {
			t.Errorf("behind %v the topic has %s up to seq %d, anything: %t, %v; want %d, %t", held, log, got, found, err, want, anything)
		}
	}
	behind(first, log, 0, false)
	for range 20 {
		append1(t, first, 5)
	}
	m := runMirror(t, first, fast(addr))
	waitFor(t, m.Mirror, first)
	m.stop()
	behind(first, log, 5, true)
	behind(first, log, 55, true, eventstore.LogHead{Log: log, Seq: 50})
	behind(first, log, 100, true, eventstore.LogHead{Log: log, Seq: 100})

	// The next life is held whole, that before it in part.
	later := log
	later.Incarnation++
	second := memstore.New(memstore.Options{LogID: later})
	defer second.Close()
	append1(t, second, 2)
	append1(t, second, 3)
	records := rawRecords(t, addr, topic)
	events := stored(t, second, eventstore.Position{}, eventstore.Filter{})
	for i := range events {
		frame := eventstore.AppendFrame(nil, &events[i], eventstore.AppendContent(nil, &events[i]))
		r := kafkalog.EncodeEvent(&events[i], frame)
		raw := &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Timestamp: r.Time}
		for _, h := range r.Headers {
			raw.Headers = append(raw.Headers, kgo.RecordHeader{Key: h.Key, Value: slices.Clone(h.Value)})
		}
		records = append(records, raw)
	}
	fillAgain := func(with ...*kgo.Record) {
		t.Helper()
		deleteTopic(t, addr, topic)
		eventually(t, "the topic is made again", func() bool { return tryMakeTopic(admin(t, addr), topic, nil) == nil })
		copyRecords(t, addr, topic, with...)
	}
	fillAgain(records...)
	behind(second, log, 55, true, eventstore.LogHead{Log: log, Seq: 50}, eventstore.LogHead{Log: later, Seq: 5})
	behind(second, log, 100, true, eventstore.LogHead{Log: log, Seq: 100}, eventstore.LogHead{Log: later, Seq: 2})
	behind(second, later, 5, true, eventstore.LogHead{Log: log, Seq: 100}, eventstore.LogHead{Log: later, Seq: 2})
	behind(second, later, 2, true, eventstore.LogHead{Log: log, Seq: 40})

	fillAgain(records[:len(records)-1]...) // a batch without its end
	behind(second, later, 2, true, eventstore.LogHead{Log: log, Seq: 100}, eventstore.LogHead{Log: later, Seq: 2})

	event := func(n int) int { // where the nth event stands
		return slices.IndexFunc(records, func(r *kgo.Record) bool {
			if r.Key != nil {
				n--
			}
			return n == 0
		})
	}
	fillAgain(records[event(53):]...) // its beginning is gone
	behind(second, log, 50, true, eventstore.LogHead{Log: log, Seq: 50}, eventstore.LogHead{Log: later, Seq: 5})
	behind(second, log, 60, true, eventstore.LogHead{Log: log, Seq: 55}, eventstore.LogHead{Log: later, Seq: 5})

	records[event(53)].Value[0]++
	fillAgain(records...)
	behind(second, log, 50, true, eventstore.LogHead{Log: log, Seq: 50}, eventstore.LogHead{Log: later, Seq: 5})
	behind(second, log, 60, true, eventstore.LogHead{Log: log, Seq: 55}, eventstore.LogHead{Log: later, Seq: 5})

	fillAgain(slices.DeleteFunc(slices.Clone(records), func(r *kgo.Record) bool { return r.Key != nil })...) // heartbeats are left
	behind(second, log, 50, true, eventstore.LogHead{Log: log, Seq: 50}, eventstore.LogHead{Log: later, Seq: 5})
}
