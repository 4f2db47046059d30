package kafkasync_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/replication"
	"github.com/tributary-es/tributary/replication/kafkasync"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testenv.Main(m, func() error {
		return goleak.Find(
			// kafka-go's idle connections end after their transport's close, each in its own time.
			goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*conn).run"),
			goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"),
		)
	})
}

// brokers runs a test against the embedded Kafka and a real one.
func brokers(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("embedded", func(t *testing.T) {
		b, err := embedded.Open(t.TempDir(), embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		test(t, b.Addr())
	})
	t.Run("kafka", func(t *testing.T) { test(t, testenv.SharedKafka(t).Addr()) })
}

// source is a topic, and a program that writes into it.
type source struct {
	addr, topic string
	client      *kgo.Client
}

func newSource(t *testing.T, addr string, partitions int32, more ...kgo.Opt) *source {
	t.Helper()
	s := &source{addr: addr, topic: "orders-" + strings.ToLower(testenv.Unique(t))}
	var err error
	if s.client, err = kgo.NewClient(append(more, kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(s.topic))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	if partitions > 0 {
		s.make(t, partitions)
	}
	return s
}

// make makes the topic, with settings: names and values.
func (s *source) make(t *testing.T, partitions int32, setting ...string) {
	t.Helper()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = s.topic, partitions, 1
	for i := 0; i < len(setting); i += 2 {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = setting[i], &setting[i+1]
		topic.Configs = append(topic.Configs, config)
	}
	request := kmsg.NewCreateTopicsRequest()
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(t.Context(), s.client)
	done(t, err, func() int16 { return answer.Topics[0].ErrorCode })
}

// done fails the test unless brokers have done what they were asked for.
func done(t *testing.T, err error, code func() int16) {
	t.Helper()
	if err == nil {
		err = kerr.ErrorForCode(code())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// grow gives the topic more partitions.
func (s *source) grow(t *testing.T, partitions int32) {
	t.Helper()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = s.topic, partitions
	request := kmsg.NewCreatePartitionsRequest()
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(t.Context(), s.client)
	done(t, err, func() int16 { return answer.Topics[0].ErrorCode })
}

// drop has partition 0 forget what stands before an offset.
func (s *source) drop(t *testing.T, before int64) {
	t.Helper()
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Offset = before
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = s.topic, append(topic.Partitions, partition)
	request := kmsg.NewDeleteRecordsRequest()
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(t.Context(), s.client)
	done(t, err, func() int16 { return answer.Topics[0].Partitions[0].ErrorCode })
}

// write writes values under some keys, and returns them.
func (s *source) write(t *testing.T, what string, n int) (written []string) {
	t.Helper()
	var records []*kgo.Record
	for i := range n {
		value := what + "-" + strconv.Itoa(i)
		written = append(written, value)
		records = append(records, &kgo.Record{Key: []byte("k" + strconv.Itoa(i%20)), Value: []byte(value)})
	}
	if err := s.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return written
}

// taker is who applies: what was applied under an ID before is not applied again.
type taker struct {
	mu     sync.Mutex // guards what follows
	values []string
	ids    map[string]bool
	last   map[int]int64 // offset by partition, of this call
	fail   error
	t      *testing.T
}

func newTaker(t *testing.T) *taker {
	return &taker{t: t, ids: map[string]bool{}, last: map[int]int64{}}
}

func (k *taker) apply(_ context.Context, records []kafkasync.Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	for _, r := range records {
		if len(r.ID) > eventstore.MaxRequestIDBytes {
			k.t.Errorf("an ID has %d bytes", len(r.ID))
		}
		if at, ok := k.last[r.Partition]; ok && r.Offset <= at {
			k.t.Errorf("partition %d gives offset %d after %d", r.Partition, r.Offset, at)
		}
		k.last[r.Partition] = r.Offset
		if !k.ids[r.ID] {
			k.ids[r.ID] = true
			k.values = append(k.values, string(r.Value))
		}
	}
	return nil
}

// has reports whether all that is wanted has been applied, each once.
func (k *taker) has(want []string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	got := slices.Clone(k.values)
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	return slices.Equal(got, want)
}

func (k *taker) count() int { k.mu.Lock(); defer k.mu.Unlock(); return len(k.values) }

func (k *taker) anew() { k.mu.Lock(); defer k.mu.Unlock(); clear(k.last) }

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// syncing calls Sync until it is stopped, again when it fails, as it may when partitions are added, once the taker knows; stop returns what
// the last call has.
func syncing(t *testing.T, s *kafkasync.Syncer, k *taker, fromTS int64) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		err := s.Sync(ctx, fromTS)
		for ctx.Err() == nil {
			t.Logf("Sync is called again: %v", err)
			time.Sleep(50 * time.Millisecond)
			k.anew()
			err = s.Sync(ctx, fromTS)
		}
		ended <- err
	}()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func newSyncer(t *testing.T, o kafkasync.Options) *kafkasync.Syncer {
	t.Helper()
	s, err := kafkasync.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// All that stands in a topic comes, then what is added, in partitions that are added, too; and from a later time on only what is as late.
func TestFollowsATopic(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		src := newSource(t, addr, 3)
		all := src.write(t, "before", 500)
		k := newTaker(t)
		o := kafkasync.Options{Brokers: []string{addr}, Topic: src.topic, Apply: k.apply, Late: time.Millisecond, Refresh: 100 * time.Millisecond, MaxBytes: 2000}
		s := newSyncer(t, o)
		if healthy, _ := s.HealthCheck(); healthy {
			t.Error("it is healthy before it does anything")
		}
		stop := syncing(t, s, k, 0)
		until(t, "what was there is applied", func() bool { return k.has(all) })
		all = append(all, src.write(t, "while", 300)...)
		until(t, "what was added is applied", func() bool { return k.has(all) })
		until(t, "it is healthy, and follows", func() bool { healthy, lag := s.HealthCheck(); return healthy && lag < 2*time.Second })
		src.grow(t, 5)
		for i := range 5 {
			value := fmt.Sprintf("added-%d", i)
			all = append(all, value)
			until(t, "a partition that was added can be written", func() bool {
				manual, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
				if err != nil {
					t.Fatal(err)
				}
				defer manual.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				return manual.ProduceSync(ctx, &kgo.Record{Topic: src.topic, Partition: int32(i), Value: []byte(value)}).FirstErr() == nil
			})
		}
		until(t, "what stands in partitions that were added is applied", func() bool { return k.has(all) })
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Sync has ended with %v", err)
		}
		if healthy, _ := s.HealthCheck(); healthy {
			t.Error("it is healthy when it does nothing any more")
		}

		k.anew()
		time.Sleep(2*o.Refresh + 20*time.Millisecond)
		since := time.Now()
		time.Sleep(20 * time.Millisecond)
		later := src.write(t, "after", 200)
		again := newTaker(t)
		o.Apply = again.apply
		stop = syncing(t, newSyncer(t, o), again, since.UnixNano())
		until(t, "what was written since a time is applied, and nothing else", func() bool { return again.has(later) })
		_ = stop()

		k.anew()
		stop = syncing(t, s, k, since.UnixNano())
		until(t, "it goes on with what came meanwhile", func() bool { return k.has(append(all, later...)) })
		_ = stop()

		none := newTaker(t)
		o.Apply = none.apply
		last := newSyncer(t, o)
		stop = syncing(t, last, none, time.Now().Add(time.Hour).UnixNano())
		until(t, "it is healthy with nothing to do", func() bool { healthy, _ := last.HealthCheck(); return healthy })
		_ = stop()
		if n := none.count(); n > 0 {
			t.Errorf("%d records were applied that were written before the time to begin with", n)
		}
	})
}

// Records of a transaction come when it has been committed, and never when it was aborted; those of others that stand between come too.
func TestTransactions(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		plain := newSource(t, addr, 1)
		k := newTaker(t)
		syncing(t, newSyncer(t, kafkasync.Options{Brokers: []string{addr}, Topic: plain.topic, Apply: k.apply}), k, 0)
		var want []string
		for round := range 4 {
			client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(plain.topic), kgo.TransactionalID(plain.topic+strconv.Itoa(round)))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := client.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			values := (&source{client: client}).write(t, "transaction-"+strconv.Itoa(round), 50)
			want = append(want, plain.write(t, "between-"+strconv.Itoa(round), 30)...)
			before := k.count()
			end := kgo.TryAbort
			if round%2 == 0 {
				end = kgo.TryCommit
				want = append(want, values...)
			}
			time.Sleep(50 * time.Millisecond)
			if n := k.count(); n != before {
				t.Errorf("%d records were applied while a transaction was open that stands before them", n-before)
			}
			if err := client.EndTransaction(t.Context(), end); err != nil {
				t.Fatal(err)
			}
			until(t, "the transaction has come to its end", func() bool { return k.has(want) })
		}
	})
}

// What stands behind a transaction that is open counts as not brought over: whoever begins again from what the lag says has it.
func TestOpenTransactionsAreNotPassedOver(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		src := newSource(t, addr, 1)
		want := src.write(t, "before", 3)
		k := newTaker(t)
		o := kafkasync.Options{Brokers: []string{addr}, Topic: src.topic, Apply: k.apply, Late: 100 * time.Millisecond, Refresh: 100 * time.Millisecond}
		s := newSyncer(t, o)
		stop := syncing(t, s, k, 0)
		until(t, "what was there is applied", func() bool { healthy, lag := s.HealthCheck(); return healthy && lag < time.Second && k.has(want) })
		client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(src.topic), kgo.TransactionalID(src.topic))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		want = append(want, (&source{client: client}).write(t, "transaction", 3)...)
		want = append(want, src.write(t, "behind", 3)...)
		written := time.Now()
		until(t, "the lag is that of what waits", func() bool { healthy, lag := s.HealthCheck(); return healthy && lag > 2*time.Second })
		_, lag := s.HealthCheck()
		from := time.Now().Add(-lag)
		if from.After(written) {
			t.Errorf("it says that all is applied up to %s after what is not was written", from.Sub(written))
		}
		_ = stop()
		k.anew()
		if err := client.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		syncing(t, newSyncer(t, o), k, from.UnixNano())
		until(t, "all is applied when it is committed", func() bool { return k.has(want) })
	})
}

// Where the brokers give records a time of their own, that of the producers, which they do not search by, tells nothing.
func TestTimeOfTheBrokers(t *testing.T) {
	src := newSource(t, testenv.SharedKafka(t).Addr(), 0)
	src.make(t, 1, "message.timestamp.type", "LogAppendTime")
	ahead := &kgo.Record{Value: []byte("ahead"), Timestamp: time.Now().Add(10 * time.Minute)}
	if err := src.client.ProduceSync(t.Context(), ahead).FirstErr(); err != nil {
		t.Fatal(err)
	}
	want := append(src.write(t, "later", 20), "ahead")
	k := newTaker(t)
	o := kafkasync.Options{Brokers: []string{src.addr}, Topic: src.topic, Late: time.Millisecond, Refresh: 100 * time.Millisecond}
	first := make(chan struct{})
	reached := sync.OnceFunc(func() { close(first) })
	o.MaxBytes, o.Apply = 100, func(ctx context.Context, records []kafkasync.Record) error {
		if k.count() > 0 {
			reached()
			<-ctx.Done()
			return ctx.Err()
		}
		return k.apply(ctx, records[:1])
	}
	s := newSyncer(t, o)
	stop := syncing(t, s, k, 0)
	<-first
	healthy, lag := s.HealthCheck()
	from := time.Now().Add(-lag)
	_ = stop()
	if !healthy {
		from = time.Time{}
	}
	k.anew()
	o.Apply, o.MaxBytes = k.apply, 0
	syncing(t, newSyncer(t, o), k, max(0, from.UnixNano()))
	until(t, "all is applied, from what the lag said on", func() bool { return k.has(want) })
}

// What goes wrong ends Sync with an error that says what; called again it goes on.
func TestWhatGoesWrong(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		src := newSource(t, addr, 0)
		k := newTaker(t)
		s := newSyncer(t, kafkasync.Options{Brokers: []string{addr}, Topic: src.topic, Apply: k.apply})
		if err := s.Sync(t.Context(), 0); !errors.Is(err, eventstore.ErrNotFound) || !strings.Contains(err.Error(), src.topic) {
			t.Errorf("without a topic: %v", err)
		}
		src.make(t, 1)
		all := src.write(t, "first", 100)
		k.fail = errors.New("no room")
		if err := s.Sync(t.Context(), 0); !errors.Is(err, k.fail) {
			t.Errorf("what cannot be applied: %v", err)
		}
		k.fail = nil
		stop := syncing(t, s, k, 0)
		until(t, "the records are applied when they can be", func() bool { return k.has(all) })
		_ = stop()

		src.drop(t, 60)
		left := newTaker(t)
		s = newSyncer(t, kafkasync.Options{Brokers: []string{addr}, Topic: src.topic, Apply: left.apply})
		stop = syncing(t, s, left, 0)
		until(t, "those that are left are applied", func() bool { return left.has(all[60:]) })
		_ = stop()

		// Records are dropped that were about to be read.
		for i := range 10 {
			src.write(t, "slow-"+strconv.Itoa(i), 10)
		}
		slow, once := make(chan struct{}), sync.Once{}
		s = newSyncer(t, kafkasync.Options{Brokers: []string{addr}, Topic: src.topic, MaxBytes: 100, Apply: func(context.Context, []kafkasync.Record) error {
			once.Do(func() {
				src.drop(t, 190)
				close(slow)
			})
			return nil
		}})
		err := s.Sync(t.Context(), 0)
		<-slow
		if err == nil || !strings.Contains(err.Error(), "dropped the records up to offset 189") {
			t.Errorf("when records are dropped before they are read: %v", err)
		}
	})
	if err := newSyncer(t, kafkasync.Options{Brokers: []string{"127.0.0.1:1"}, Topic: "t", Apply: newTaker(t).apply, Timeout: time.Second}).Sync(t.Context(), 0); err == nil ||
		!strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("without brokers: %v", err)
	}
	for _, o := range []kafkasync.Options{{}, {Brokers: []string{"a:1"}}, {Brokers: []string{"a:1"}, Topic: "t"}} {
		if _, err := kafkasync.New(o); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("options that lack something: %v", err)
		}
	}
}

// What could not be applied comes when Sync is called again, however old it says that it is, and however Apply failed; what the topic has dropped
// meanwhile is said to be missed.
func TestWhatWasNotAppliedComes(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		src := newSource(t, addr, 1)
		want := src.write(t, "before", 3)
		k := newTaker(t)
		fails := false // at the next call
		s := newSyncer(t, kafkasync.Options{
			Brokers: []string{addr}, Topic: src.topic, Late: time.Millisecond, Refresh: 100 * time.Millisecond, MaxBytes: 100,
			Apply: func(ctx context.Context, records []kafkasync.Record) error {
				k.anew() // some are read again
				if fails {
					fails = false
					panic("no room")
				}
				return k.apply(ctx, records)
			},
		})
		stop := syncing(t, s, k, 0)
		until(t, "what was there is applied", func() bool { healthy, lag := s.HealthCheck(); return healthy && lag < time.Second && k.has(want) })
		_ = stop()
		write := func(value string) {
			t.Helper()
			old := &kgo.Record{Value: []byte(value), Timestamp: time.Now().Add(-10 * time.Minute)}
			if err := src.client.ProduceSync(t.Context(), old).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		write("old")
		want = append(want, "old")
		fails = true
		if err := s.Sync(t.Context(), time.Now().UnixNano()); err == nil || !strings.Contains(err.Error(), "panic: no room") {
			t.Errorf("an Apply that panics: %v", err)
		}
		stop = syncing(t, s, k, time.Now().UnixNano())
		until(t, "the old record is applied", func() bool { return k.has(want) })
		_ = stop()

		for i := range 5 {
			write("dropped-" + strconv.Itoa(i))
		}
		src.drop(t, 7)
		want = append(want, "dropped-3", "dropped-4")
		if err := s.Sync(t.Context(), time.Now().UnixNano()); err == nil || !strings.Contains(err.Error(), "dropped the records up to offset 6") {
			t.Errorf("when records were dropped that had not been applied: %v", err)
		}
		stop = syncing(t, s, k, 0)
		until(t, "those that are left are applied", func() bool { return k.has(want) })
		_ = stop()
	})
}

// A topic that is made anew while its records are applied is read from its beginning.
func TestTopicIsMadeAnew(t *testing.T) {
	brokers(t, func(t *testing.T, addr string) {
		src := newSource(t, addr, 1)
		want := src.write(t, "first", 50)
		k := newTaker(t)
		again := sync.OnceFunc(func() {
			request := kmsg.NewDeleteTopicsRequest()
			topic := kmsg.NewDeleteTopicsRequestTopic()
			topic.Topic = &src.topic
			request.Topics, request.TopicNames = append(request.Topics, topic), []string{src.topic}
			if _, err := request.RequestWith(t.Context(), src.client); err != nil {
				t.Error(err)
			}
			until(t, "the topic is made anew", func() bool {
				topic := kmsg.NewCreateTopicsRequestTopic()
				topic.Topic, topic.NumPartitions, topic.ReplicationFactor = src.topic, 1, 1
				request := kmsg.NewCreateTopicsRequest()
				request.Topics = append(request.Topics, topic)
				answer, err := request.RequestWith(t.Context(), src.client)
				return err == nil && answer.Topics[0].ErrorCode == 0
			})
			other, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(src.topic))
			if err != nil {
				t.Error(err)
				return
			}
			defer other.Close()
			want = append(want, (&source{client: other}).write(t, "second", 80)...)
			time.Sleep(300 * time.Millisecond) // it takes longer on machines that have more to do
		})
		s := newSyncer(t, kafkasync.Options{Brokers: []string{addr}, Topic: src.topic, Apply: func(ctx context.Context, records []kafkasync.Record) error {
			again()
			k.anew()
			return k.apply(ctx, records)
		}})
		begun := time.Now()
		for !k.has(want) {
			if time.Since(begun) > time.Minute {
				t.Fatalf("%d records were applied, of %d", k.count(), len(want))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			_ = s.Sync(ctx, begun.UnixNano()) // it ends with the time, or when it has noticed
			cancel()
		}
	})
}

// Of a compacted topic batches lose their records but for the first: what is behind them comes soon all the same.
func TestCompactedTopic(t *testing.T) {
	broker := testenv.KafkaWith(t, engine.KafkaOptions{Properties: map[string]string{"log.cleaner.backoff.ms": "100"}})
	src := newSource(t, broker.Addr(), 0, kgo.ProducerBatchMaxBytes(3<<20), kgo.ProducerLinger(200*time.Millisecond), kgo.MaxBufferedRecords(100_000))
	src.make(t, 1, "cleanup.policy", "compact", "segment.ms", "500", "min.cleanable.dirty.ratio", "0.01", "max.message.bytes", "5000000")
	const overwritten = 20_000
	for round := range 2 {
		records := []*kgo.Record{{Key: []byte("kept-" + strconv.Itoa(round)), Value: []byte("kept")}}
		for i := range overwritten {
			records = append(records, &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte("round " + strconv.Itoa(round))})
		}
		if err := src.client.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(600 * time.Millisecond) // so that the next record begins another segment
	}
	k := newTaker(t)
	cleaned := func() bool {
		n := 0
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := newSyncer(t, kafkasync.Options{Brokers: []string{broker.Addr()}, Topic: src.topic, MaxBytes: 1 << 16, Apply: func(_ context.Context, records []kafkasync.Record) error {
			n += len(records)
			return nil
		}})
		ended := make(chan error, 1)
		go func() { ended <- s.Sync(ctx, 0) }()
		for ctx.Err() == nil {
			if healthy, lag := s.HealthCheck(); healthy && lag < time.Second {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		return n < 2*overwritten
	}
	until(t, "the first round is compacted", func() bool {
		src.write(t, "more", 1) // begins a segment when the last one is old
		return cleaned()
	})
	syncing(t, newSyncer(t, kafkasync.Options{Brokers: []string{broker.Addr()}, Topic: src.topic, Apply: k.apply}), k, 0)
	until(t, "all that is left is applied", func() bool { return k.count() > overwritten+2 })
	if got := k.count(); got > 2*overwritten {
		t.Errorf("%d records were applied, and most of the first round is gone", got)
	}
}

// An orchestrator keeps it going through the death of the broker and its own, and another one is tried on a share of the keys, and
// promoted: each record counts once.
func TestOrchestrated(t *testing.T) {
	broker := testenv.Kafka(t)
	src := newSource(t, broker.Addr(), 2)
	all := src.write(t, "first", 200)
	k := newTaker(t)
	progress := replication.NewProgressFile(t.TempDir() + "/progress.json")
	run := func(prepare func(o *replication.SyncOrchestrator)) (stop func()) {
		o := replication.NewSyncOrchestrator(replication.OrchestratorOptions{
			Progress: progress, Interval: 50 * time.Millisecond, Backoff: 50 * time.Millisecond, MaxBackoff: time.Second, Overlap: time.Second, Log: slog.New(slog.DiscardHandler),
		})
		s := newSyncer(t, kafkasync.Options{Brokers: []string{broker.Addr()}, Topic: src.topic, Apply: func(ctx context.Context, records []kafkasync.Record) error {
			k.anew() // calls of two syncers, and of one after a failure, may overlap
			return k.apply(ctx, records)
		}})
		if err := o.Add("user-sync", s); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- o.Run(ctx) }()
		prepare(o)
		return func() {
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the orchestrator ends with %v", err)
			}
		}
	}
	healthy := func(o *replication.SyncOrchestrator) func() bool {
		return func() bool {
			return !slices.ContainsFunc(o.Status(), func(s replication.SyncerStatus) bool { return !s.Healthy })
		}
	}
	stop := run(func(o *replication.SyncOrchestrator) {
		until(t, "what was there is applied", func() bool { return k.has(all) })
		broker.Kill()
		until(t, "it is not healthy without the broker", func() bool { return !healthy(o)() })
		if err := broker.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		all = append(all, src.write(t, "after the broker's death", 200)...)
		until(t, "the broker is back, and what came is applied", func() bool { return k.has(all) })
		until(t, "it is healthy again", healthy(o))
	})
	stop()
	all = append(all, src.write(t, "while nobody was there", 200)...)
	stop = run(func(o *replication.SyncOrchestrator) {
		until(t, "it goes on from where it was", func() bool { return k.has(all) })
		tried := newSyncer(t, kafkasync.Options{Brokers: []string{broker.Addr()}, Topic: src.topic, Apply: func(ctx context.Context, records []kafkasync.Record) error {
			k.anew()
			return k.apply(ctx, records)
		}})
		if err := o.Try("user-sync", tried, 0.3); err != nil {
			t.Fatal(err)
		}
		all = append(all, src.write(t, "on trial", 200)...)
		until(t, "the two have applied all", func() bool { return k.has(all) })
		if err := o.Promote(t.Context(), "user-sync"); err != nil {
			t.Fatal(err)
		}
		all = append(all, src.write(t, "promoted", 200)...)
		until(t, "the other one has applied all", func() bool { return k.has(all) })
	})
	stop()
}
