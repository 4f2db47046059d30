package kafkalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/internal/testenv"
)

// shopStore returns a store of n events as a shop's import makes them: small payloads, a command with its hash, causation.
func shopStore(b testing.TB, n int) *memstore.Store {
	b.Helper()
	s := newStore(b)
	for i := 0; i < n; i += 4 {
		r := eventstore.Request{
			ID:       "checkout-" + strconv.Itoa(536365+i/20) + "-reserve-" + strconv.Itoa(i),
			Metadata: eventstore.Metadata{Causation: uuid.NewString(), Correlation: "order-" + strconv.Itoa(536365+i/20), Actor: "import"},
		}
		for j := range min(4, n-i) {
			payload := fmt.Appendf(make([]byte, 0, 100), "%06d qty %d price %d.%02d UNITED KINGDOM %d %s", i*7919%40000, i%100, i%20, j, 17000+i%1000, uuid.NewString())
			r.Appends = append(r.Appends, eventstore.StreamAppend{
				Stream: eventstore.Stream("inventory", fmt.Sprintf("%05dA%d", i*31%4000, j)),
				Events: []eventstore.Event{{Type: "inventory.stock-reserved.v1", Payload: payload}},
			})
		}
		if _, err := s.Append(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func benchBrokers(b *testing.B, bench func(b *testing.B, addr string)) {
	b.Run("embedded", func(b *testing.B) { bench(b, openEmbedded(b)) })
	b.Run("kafka", func(b *testing.B) { bench(b, testenv.SharedKafka(b).Addr()) })
}

// BenchmarkMirror copies 100,000 events to an empty topic.
func BenchmarkMirror(b *testing.B) {
	const n = 100_000
	benchBrokers(b, func(b *testing.B, addr string) {
		for _, compression := range []string{"none", "snappy", "zstd"} {
			b.Run(compression, func(b *testing.B) {
				var took time.Duration
				for b.Loop() {
					b.StopTimer()
					s := shopStore(b, n)
					o := kafkalog.Options{Brokers: []string{addr}, Compression: compression}
					b.StartTimer()
					begun := time.Now()
					m := runMirror(b, s, o)
					waitFor(b, m.Mirror, s)
					took += time.Since(begun)
					b.StopTimer()
					m.stop()
					b.StartTimer()
				}
				b.ReportMetric(float64(n*b.N)/took.Seconds(), "events/s")
			})
		}
	})
}

// BenchmarkReader reads a topic of 100,000 events.
func BenchmarkReader(b *testing.B) {
	const n = 100_000
	benchBrokers(b, func(b *testing.B, addr string) {
		s := shopStore(b, n)
		m := runMirror(b, s, kafkalog.Options{Brokers: []string{addr}})
		waitFor(b, m.Mirror, s)
		m.stop()
		r, end := newReader(b, addr, topicOf(b, s)), head(b, s).Durable
		b.ReportAllocs()
		for b.Loop() {
			sub := subscribe(b, r, eventstore.Position{}, eventstore.Filter{})
			readTo(b, sub, eventstore.Position{}, end)
			sub.Close()
		}
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
	})
}

// BenchmarkLatency is the time from an append to its record being read from the topic.
func BenchmarkLatency(b *testing.B) {
	benchBrokers(b, func(b *testing.B, addr string) {
		s := newStore(b)
		m := runMirror(b, s, kafkalog.Options{Brokers: []string{addr}})
		fill(b, s, 1)
		waitFor(b, m.Mirror, s)
		sub := subscribe(b, newReader(b, addr, topicOf(b, s)), eventstore.Position{}, eventstore.Filter{})
		at := eventstore.Position{}
		for b.Loop() {
			fill(b, s, 1)
			end := head(b, s).Durable
			readTo(b, sub, at, end)
			at = end
		}
	})
}

// residentKB returns what /proc says of a process's memory: now, and at most.
func residentKB(t testing.TB, pid int) (now, peak int) {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal("memory is measured where /proc is: ", err)
	}
	for line := range bytes.Lines(b) {
		fields := strings.Fields(string(line))
		switch {
		case len(fields) > 1 && fields[0] == "VmRSS:":
			now, _ = strconv.Atoi(fields[1])
		case len(fields) > 1 && fields[0] == "VmHWM:":
			peak, _ = strconv.Atoi(fields[1])
		}
	}
	return now, peak
}

// BenchmarkEmbeddedMemory fills an embedded broker, in a process of its own, with 700,000 events, and reports what that
// process holds in memory: after filling, and after a start over the data.
func BenchmarkEmbeddedMemory(b *testing.B) {
	const n = 700_000
	s := shopStore(b, n)
	for _, compression := range []string{"none", "snappy", "zstd"} {
		b.Run(compression, func(b *testing.B) {
			for b.Loop() {
				broker := startBroker(b)
				m := runMirror(b, s, kafkalog.Options{Brokers: []string{broker.Addr()}, Compression: compression})
				waitFor(b, m.Mirror, s)
				m.stop()
				now, peak := residentKB(b, broker.cmd.Process.Pid)
				b.ReportMetric(float64(now)/1024, "MB-filled")
				b.ReportMetric(float64(peak)/1024, "MB-peak")
				begun := time.Now()
				if err := broker.Restart(context.Background()); err != nil { // kill -9 first
					b.Fatal(err)
				}
				b.ReportMetric(time.Since(begun).Seconds(), "s-start")
				now, peak = residentKB(b, broker.cmd.Process.Pid)
				b.ReportMetric(float64(now)/1024, "MB-started")
				b.ReportMetric(float64(peak)/1024, "MB-start-peak")
				b.ReportMetric(float64(folderSize(b, broker.dir))/(1<<20), "MB-disk")
				broker.Kill()
			}
		})
	}
}

func folderSize(t testing.TB, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// BenchmarkLink follows a topic of 200,000 events of 512 bytes, decoded and checked.
func BenchmarkLink(b *testing.B) {
	const n = 200_000
	benchBrokers(b, func(b *testing.B, addr string) {
		s := newStore(b)
		payload := make([]byte, 512)
		for i := 0; i < n; i += 100 {
			events := make([]eventstore.Event, 100)
			for j := range events {
				events[j] = eventstore.Event{Type: "order.line-added.v1", Payload: payload}
			}
			if _, err := s.Append(b.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("order", strconv.Itoa(i)), Events: events,
			}}}); err != nil {
				b.Fatal(err)
			}
		}
		m := runMirror(b, s, kafkalog.Options{Brokers: []string{addr}})
		waitFor(b, m.Mirror, s)
		m.stop()
		log := head(b, s).ID
		l, err := kafkalog.NewLink(kafkalog.Options{Brokers: []string{addr}, Topic: kafkalog.TopicOf(log.Site)})
		if err != nil {
			b.Fatal(err)
		}
		done := errors.New("done")
		for b.Loop() {
			seen := 0
			err := l.Follow(b.Context(), func(context.Context) ([]eventstore.LogHead, error) { return nil, nil },
				func(_ context.Context, events []eventstore.Recorded) error {
					if seen += len(events); seen == n {
						return done
					}
					return nil
				}, func(context.Context, eventstore.LogHead) error { return nil })
			if !errors.Is(err, done) {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
	})
}
