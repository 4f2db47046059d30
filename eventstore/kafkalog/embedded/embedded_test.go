package embedded_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func open(t *testing.T, dir string, o embedded.Options) *embedded.Broker {
	t.Helper()
	b, err := embedded.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func client(t *testing.T, b *embedded.Broker, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.Addr()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func makeTopic(t *testing.T, c *kgo.Client, name string) {
	t.Helper()
	request := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 1, 1
	forever := "-1"
	setting := kmsg.NewCreateTopicsRequestTopicConfig()
	setting.Name, setting.Value = "retention.ms", &forever
	topic.Configs = append(topic.Configs, setting)
	request.Topics = append(request.Topics, topic)
	response, err := request.RequestWith(context.Background(), c)
	if err != nil || response.Topics[0].ErrorCode != 0 {
		t.Fatalf("make topic: %+v, %v", response, err)
	}
}

func write(t *testing.T, c *kgo.Client, topic string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		// A day a record, in the distant past: retention must not take any.
		r := &kgo.Record{Topic: topic, Value: []byte(strconv.Itoa(i)), Timestamp: time.Unix(int64(i)*86400, 0)}
		if err := c.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, b *embedded.Broker, topic string, n int) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := client(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	for len(values) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", len(values), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func TestDataOutlivesClose(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	for round := range 4 {
		// Small segments: the data is in several files.
		b := open(t, dir, embedded.Options{SegmentBytes: 1 << 10})
		c := client(t, b)
		if round == 0 {
			makeTopic(t, c, "events")
		}
		write(t, c, "events", round*100, round*100+100)
		c.Close()
		values := read(t, b, "events", round*100+100)
		for i, v := range values {
			if v != strconv.Itoa(i) {
				t.Fatalf("record %d is %q", i, v)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatalf("second Close: %v", err)
		}
	}
}

func TestAddress(t *testing.T) {
	free := open(t, t.TempDir(), embedded.Options{})
	host, port, err := net.SplitHostPort(free.Addr())
	if err != nil || host != "127.0.0.1" {
		t.Fatalf("address %q, %v", free.Addr(), err)
	}
	taken, _ := strconv.Atoi(port)
	if _, err := embedded.Open(t.TempDir(), embedded.Options{Port: taken}); err == nil || !strings.Contains(err.Error(), port) {
		t.Fatalf("a taken port gives %v", err)
	}
	free.Close()
	again := open(t, t.TempDir(), embedded.Options{Port: taken})
	if again.Addr() != fmt.Sprintf("127.0.0.1:%d", taken) {
		t.Fatalf("address %q, asked for port %d", again.Addr(), taken)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, embedded.Options{})
	if _, err := embedded.Open(dir, embedded.Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second broker over the same folder: %v", err)
	}
	b.Close()
	open(t, dir, embedded.Options{})
}

// The mirror rests on producer ids that outlive the broker.
func TestProducerIDOutlivesClose(t *testing.T) {
	dir := t.TempDir()
	var id int64
	for round := range 3 {
		b := open(t, dir, embedded.Options{})
		request := kmsg.NewPtrInitProducerIDRequest()
		name := "mirror"
		request.TransactionalID, request.TransactionTimeoutMillis = &name, 60_000
		request.ProducerID, request.ProducerEpoch = -1, -1
		response, err := request.RequestWith(context.Background(), client(t, b))
		if err != nil || response.ErrorCode != 0 {
			t.Fatalf("%+v, %v", response, err)
		}
		if round == 0 {
			id = response.ProducerID
		}
		if response.ProducerID != id || response.ProducerEpoch != int16(round) {
			t.Fatalf("round %d: producer %d/%d, should be %d/%d", round, response.ProducerID, response.ProducerEpoch, id, round)
		}
		b.Close()
	}
}

// What is no fault of the data leaves them where they are: a folder in use, a port that is taken.
func TestOnlyDamagedDataAreSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kafka")
	b := open(t, dir, embedded.Options{})
	if _, aside, err := embedded.OpenAnew(dir, embedded.Options{}); err == nil || aside != "" {
		t.Errorf("a folder in use: set aside as %q, %v", aside, err)
	}
	b.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, aside, err := embedded.OpenAnew(dir, embedded.Options{Port: taken.Addr().(*net.TCPAddr).Port}); err == nil || aside != "" {
		t.Errorf("a port that is taken: set aside as %q, %v", aside, err)
	}
	if left, err := filepath.Glob(dir + "*"); err != nil || len(left) != 1 {
		t.Errorf("beside the folder there are %v (%v)", left, err)
	}
	b, aside, err := embedded.OpenAnew(dir, embedded.Options{})
	if err != nil || aside != "" {
		t.Fatalf("the folder as it was: set aside as %q, %v", aside, err)
	}
	b.Close()
}
