package kafkalog_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/replication"
)

// stillTopic is the topic of a site that records nothing.
type stillTopic struct{}

func (stillTopic) Ends(context.Context, func()) ([]eventstore.LogHead, error) { return nil, nil }

func (stillTopic) Behind(context.Context, eventstore.LogID, []eventstore.LogHead) (through uint64, anything bool, err error) {
	return 0, false, nil
}

func (stillTopic) Mirrored(ctx context.Context, _ func(context.Context, eventstore.Dot) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// awayPeer is a site that never answers.
type awayPeer struct{}

func (awayPeer) Pull(context.Context, replication.Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error) {
	return chain, nil, errors.New("away")
}

func (awayPeer) Meet(ctx context.Context, _ <-chan replication.Heartbeat, _ func(context.Context, replication.Heartbeat) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// BenchmarkReplicate has a site take in a topic of 200,000 events of 512 bytes: link, core, and a store on the disk.
func BenchmarkReplicate(b *testing.B) {
	const n = 200_000
	benchBrokers(b, func(b *testing.B, addr string) {
		s := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "far" + strconv.FormatInt(time.Now().UnixNano(), 36), Incarnation: 1}})
		for i := 0; i < n; i += 10 {
			events := make([]eventstore.Event, 10)
			for j := range events {
				events[j] = eventstore.Event{Type: "order.line-added.v1", Payload: make([]byte, 512)}
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
		var took, cpu time.Duration
		for b.Loop() {
			store, err := pebblestore.Open(b.TempDir(), &pebblestore.Options{Site: "near", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			link, err := kafkalog.NewLink(kafkalog.Options{Brokers: []string{addr}, Topic: kafkalog.TopicOf(log.Site)})
			if err != nil {
				b.Fatal(err)
			}
			site, err := replication.NewSite(replication.Options{
				Config: replication.Config{Site: "near"}, Store: store, Topic: stillTopic{},
				Links: map[string]replication.Link{log.Site: link}, Peers: map[string]replication.Peer{log.Site: awayPeer{}},
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error, 1)
			begun, used := time.Now(), processTime(b)
			go func() { ended <- site.Run(ctx) }()
			for held := uint64(0); held < n; {
				time.Sleep(2 * time.Millisecond) // a look at it is not what is measured
				_, has, err := store.ChainAt(ctx, log, n)
				if err != nil {
					b.Fatal(err)
				}
				if has {
					held = n
				}
			}
			took += time.Since(begun)
			cpu += processTime(b) - used
			cancel()
			if err := errors.Join(<-ended, store.Close()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n*b.N)/took.Seconds(), "events/s")
		b.ReportMetric(float64(cpu.Microseconds())/float64(n*b.N), "cpu-µs/event")
	})
}

// processTime is the processor time that this process has used.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
