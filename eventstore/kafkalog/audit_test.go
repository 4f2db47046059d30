package kafkalog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func audit(t testing.TB, addr string, s eventstore.Reader, topic string) kafkalog.AuditReport {
	t.Helper()
	o := fast(addr)
	o.Topic = topic
	report, err := kafkalog.Audit(context.Background(), s, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestAuditOfACopy(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		for range 3 {
			fill(t, s, 500)
			m := runMirror(t, s, fast(addr))
			waitFor(t, m.Mirror, s)
			m.stop()
		}
		o := fast(addr)
		var done, total uint64
		report, err := kafkalog.Audit(context.Background(), s, o, func(d, n uint64) { done, total = d, n })
		if err != nil || !report.OK() || report.Records != 1500 || report.Fences != 3 || report.Heartbeats < 3 || report.Topic != topicOf(t, s) {
			t.Fatalf("report %+v, %v", report, err)
		}
		if done == 0 || done != total {
			t.Errorf("progress ended at %d of %d", done, total)
		}

		fill(t, s, 30)
		report = audit(t, addr, s, topicOf(t, s))
		if report.Records != 1500 || report.Missing != 30 || report.Lag != 30 || report.OK() || len(report.Faults) != 1 {
			t.Errorf("a topic that is 30 events behind gives %+v", report)
		}
	})
}

func TestAuditWhileTheMirrorWorks(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		stop := load(t, s)
		m := runMirror(t, s, fast(addr))
		for range 10 {
			progress(t, m.Mirror, 200)
			report := audit(t, addr, s, topicOf(t, s))
			if report.Missing != report.Lag || report.Duplicates+report.Changed+report.Foreign+report.OutOfOrder > 0 {
				t.Fatalf("report %+v", report)
			}
		}
		stop()
		waitFor(t, m.Mirror, s)
		if report := audit(t, addr, s, topicOf(t, s)); !report.OK() || report.Records != head(t, s).Seq {
			t.Fatalf("report %+v of %d events", report, head(t, s).Seq)
		}
	})
}

// plant is something wrong that is put into a topic of 120 events, at seq 60.
type plant struct {
	name   string
	change func(records []*kgo.Record, i int) []*kgo.Record // i is the place of seq 60
	want   kafkalog.AuditReport
	tells  string // what a fault says, beside the event
}

func changed(tells string, change func(r *kgo.Record)) plant {
	return plant{
		name: tells, tells: tells, want: kafkalog.AuditReport{Records: 120, Changed: 1},
		change: func(records []*kgo.Record, i int) []*kgo.Record {
			change(records[i])
			return records
		},
	}
}

func setHeader(r *kgo.Record, name, value string) {
	for i := range r.Headers {
		if r.Headers[i].Key == name {
			r.Headers[i].Value = []byte(value)
			return
		}
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
}

func plants() []plant {
	list := []plant{
		changed("value of", func(r *kgo.Record) { r.Value[5] ^= 1 }),
		changed("key is", func(r *kgo.Record) { r.Key = append(r.Key, '0') }),
		changed("time is", func(r *kgo.Record) { r.Timestamp = r.Timestamp.Add(time.Millisecond) }),
		changed("header extra should not be there", func(r *kgo.Record) { setHeader(r, "extra", "x") }),
		changed("header tributary-tag is missing", func(r *kgo.Record) {
			r.Headers = slices.DeleteFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == "tributary-tag" })
		}),
		changed("headers stand in another order", func(r *kgo.Record) { slices.Reverse(r.Headers) }),
	}
	for _, name := range []string{
		"tributary-position", "tributary-type", "tributary-version", "tributary-hlc", "tributary-event-id", "content-type",
		"tributary-command-id", "tributary-request-hash", "tributary-correlation", "tributary-actor", "tributary-tag", "tributary-crc",
	} {
		list = append(list, changed("header "+name+" is", func(r *kgo.Record) { setHeader(r, name, headerOf(r, name)+"1") }))
	}
	return append(list,
		plant{
			"missing", func(r []*kgo.Record, i int) []*kgo.Record { return slices.Delete(r, i, i+1) },
			kafkalog.AuditReport{Records: 119, Missing: 1},
			"is missing",
		},
		plant{
			"again", func(r []*kgo.Record, i int) []*kgo.Record { c := *r[i]; return append(r, &c) },
			kafkalog.AuditReport{Records: 120, Duplicates: 1},
			"is there again at offset",
		},
		plant{"again and changed", func(r []*kgo.Record, i int) []*kgo.Record {
			c := *r[i]
			c.Value = []byte("x")
			return append(r, &c)
		}, kafkalog.AuditReport{Records: 120, Duplicates: 1, Changed: 1}, "is changed: value"},
		plant{
			"late", func(r []*kgo.Record, i int) []*kgo.Record {
				late := r[i]
				return append(slices.Delete(r, i, i+1), late)
			},
			kafkalog.AuditReport{Records: 120, OutOfOrder: 1},
			"stands too late",
		},
		plant{"another identity", func(r []*kgo.Record, i int) []*kgo.Record {
			setHeader(r[i], "tributary-dot", headerOf(r[i], "tributary-dot")+"000")
			return r
		}, kafkalog.AuditReport{Records: 119, Missing: 1, Changed: 1}, "is missing"},
		plant{"another identity that the log has", func(r []*kgo.Record, i int) []*kgo.Record {
			setHeader(r[i], "tributary-dot", strings.TrimSuffix(headerOf(r[i], "tributary-dot"), "60")+"90")
			return r
		}, kafkalog.AuditReport{Records: 119, Missing: 1, Changed: 1}, "is missing"},
		plant{"an identity that has passed", func(r []*kgo.Record, i int) []*kgo.Record {
			setHeader(r[i], "tributary-dot", strings.TrimSuffix(headerOf(r[i], "tributary-dot"), "60")+"7")
			return r
		}, kafkalog.AuditReport{Records: 119, Missing: 1, Duplicates: 1, Changed: 1}, "is missing"},
	)
}

// INVARIANT: whatever is changed in a record, audit names the event, or the offset where there is none.
func TestAuditFindsWhatIsPlanted(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 120)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		m.stop()
		for i, p := range plants() {
			t.Run(p.name, func(t *testing.T) {
				records := rawRecords(t, addr, topicOf(t, s))
				topic := topicOf(t, s) + ".p" + string(rune('a'+i))
				makeTopic(t, addr, topic, nil)
				copyRecords(t, addr, topic, p.change(records, place(t, records, s, 60))...)
				r := audit(t, addr, s, topic)
				got := kafkalog.AuditReport{Records: r.Records, Missing: r.Missing, Duplicates: r.Duplicates, OutOfOrder: r.OutOfOrder, Changed: r.Changed, Foreign: r.Foreign}
				dot := eventstore.Dot{Log: head(t, s).ID, Seq: 60}.String()
				named := slices.ContainsFunc(r.Faults, func(f string) bool { return strings.Contains(f, "event "+dot+" ") && strings.Contains(f, p.tells) })
				if !named || r.OK() {
					t.Errorf("no fault tells of event %s that %q: %q", dot, p.tells, r.Faults)
				}
				if !equalCounts(got, p.want) {
					t.Errorf("counted %+v, should %+v", got, p.want)
				}
			})
		}
	})
}

// The first and the last event of the log are compared as those between them are.
func TestAuditFindsWhatIsPlantedAtTheEnds(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 120)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		m.stop()
		for name, seq := range map[string]uint64{"first": 1, "last": 120} {
			t.Run(name, func(t *testing.T) {
				records := rawRecords(t, addr, topicOf(t, s))
				topic := topicOf(t, s) + "." + name
				makeTopic(t, addr, topic, nil)
				records[place(t, records, s, seq)].Value[5] ^= 1
				copyRecords(t, addr, topic, records...)
				r := audit(t, addr, s, topic)
				if want := (kafkalog.AuditReport{Records: 120, Changed: 1}); r.OK() || !equalCounts(r, want) {
					t.Errorf("counted %+v, should %+v", r, want)
				}
				event := "event " + eventstore.Dot{Log: head(t, s).ID, Seq: seq}.String() + " "
				if len(r.Faults) != 1 || !strings.Contains(r.Faults[0], event) {
					t.Errorf("faults are %q, want one of %s", r.Faults, event)
				}
			})
		}
	})
}

func equalCounts(a, b kafkalog.AuditReport) bool {
	return a.Records == b.Records && a.Missing == b.Missing && a.Duplicates == b.Duplicates && a.OutOfOrder == b.OutOfOrder && a.Changed == b.Changed && a.Foreign == b.Foreign
}

func TestAuditFindsStrangers(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		fill(t, s, 100)
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		m.stop()
		copyRecords(t, addr, topicOf(t, s), &kgo.Record{Key: []byte("k"), Value: []byte("v")})
		r := audit(t, addr, s, topicOf(t, s))
		if r.Foreign != 1 || r.Records != 100 || r.OK() || !strings.Contains(strings.Join(r.Faults, "\n"), "was not written by a mirror") {
			t.Fatalf("report %+v", r)
		}
	})
}

func TestAuditWithoutATopic(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := newStore(t)
		if _, err := kafkalog.Audit(context.Background(), s, fast(addr), nil); !errors.Is(err, eventstore.ErrNotFound) {
			t.Errorf("topic that is not there: %v", err)
		}
	})
	if _, err := kafkalog.Audit(context.Background(), newStore(t), fast("127.0.0.1:1"), nil); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("broker that is not there: %v", err)
	}
	if _, err := kafkalog.Audit(context.Background(), newStore(t), kafkalog.Options{}, nil); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("no brokers: %v", err)
	}
}

// withoutRecords is an answer to a fetch that has none, though there are some.
func withoutRecords(request kmsg.Request) kmsg.Response {
	response := request.ResponseKind().(*kmsg.FetchResponse)
	for _, topic := range request.(*kmsg.FetchRequest).Topics {
		answer := kmsg.NewFetchResponseTopic()
		answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.HighWatermark, p.LastStableOffset, p.RecordBatches = partition.Partition, 100, 100, []byte{}
			answer.Partitions = append(answer.Partitions, p)
		}
		response.Topics = append(response.Topics, answer)
	}
	return response
}

// Brokers that answer without a record, for whatever reason, are said to.
func TestAuditOfATopicThatGivesNothing(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1))
	addr := c.ListenAddrs()[0]
	s := newStore(t)
	fill(t, s, 10)
	m := runMirror(t, s, fast(addr))
	waitFor(t, m.Mirror, s)
	m.stop()
	c.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return withoutRecords(request), nil, true
	})
	_, err := kafkalog.Audit(context.Background(), s, fast(addr), nil)
	if !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatalf("audit: %v, want %v", err, eventstore.ErrUnavailable)
	}
	if text := err.Error(); strings.Contains(text, "%!") || !strings.Contains(text, "answers without a record") {
		t.Errorf("audit: %s", text)
	}
}

// What a topic has is asked again of brokers that answer without a record for a moment, as one does that has just become leader.
func TestBehindInATopicThatGivesNothingYet(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(1))
	addr := c.ListenAddrs()[0]
	s := newStore(t)
	fill(t, s, 10)
	m := runMirror(t, s, fast(addr))
	waitFor(t, m.Mirror, s)
	m.stop()
	var asked atomic.Int64
	c.ControlKey(kmsg.Fetch.Int16(), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if asked.Add(1) > 3 {
			return nil, nil, false
		}
		return withoutRecords(request), nil, true
	})
	if got, _, err := m.Behind(t.Context(), head(t, s).ID, nil); err != nil || got == 0 {
		t.Errorf("the topic has the log up to seq %d, %v; want the first batch", got, err)
	}
	if asked.Load() < 4 {
		t.Errorf("it was asked %d times", asked.Load())
	}
}

// A byte of the broker's file is changed: the batch does not verify, whatever client reads it. Audit tells what is lost and
// goes on behind it; a reader stops there.
func TestDamagedBatch(t *testing.T) {
	dir := t.TempDir()
	broker, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	s := newStore(t)
	fill(t, s, 2000)
	m := runMirror(t, s, fast(broker.Addr()))
	waitFor(t, m.Mirror, s)
	m.stop()

	files, err := filepath.Glob(filepath.Join(dir, "partitions", topicOf(t, s)+"-0", "*.dat"))
	if err != nil || len(files) != 1 {
		t.Fatalf("broker's files: %q, %v", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	at := inMiddleBatch(t, content)
	if _, err := f.WriteAt([]byte{content[at] ^ 0x10}, int64(at)); err != nil {
		t.Fatal(err)
	}

	r := audit(t, broker.Addr(), s, topicOf(t, s))
	if r.OK() || r.Missing == 0 || r.Lag != 0 || r.Records+r.Missing != 2000 || r.Foreign != 1 || r.Missing > 200 {
		t.Fatalf("report %+v", r)
	}
	if !strings.Contains(strings.Join(r.Faults, "\n"), "cannot be read") {
		t.Errorf("faults %q", r.Faults)
	}

	sub := subscribe(t, newReader(t, broker.Addr(), topicOf(t, s)), eventstore.Position{}, eventstore.Filter{})
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		chunk, err := sub.Next(ctx)
		if err == nil && chunk.Seq < 1500 {
			continue
		}
		if !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("reader came to %s and ended with %v", chunk.Position, err)
		}
		return
	}
}

// inMiddleBatch returns a place among the records of the batch that is in the middle of a broker's file: the checksum is of those, and not
// of all that a batch begins with.
func inMiddleBatch(t *testing.T, content []byte) int {
	t.Helper()
	const header, lengthAt, head = 12, 8, 61 // before what the length counts; the length; what stands before the records
	for from := 0; from+head < len(content); {
		end := from + header + int(binary.BigEndian.Uint32(content[from+lengthAt:]))
		if end > len(content)/2 && end <= len(content) {
			return (from + head + end) / 2
		}
		from = end
	}
	t.Fatal("there is no batch in the middle of the file")
	return 0
}
