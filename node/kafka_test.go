package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Damaged data of the embedded Kafka keep nothing from starting: they are set aside as they were, and the topic is published
// again from the log.
func TestDamagedEmbeddedKafkaIsSetAside(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	meta := filepath.Join(data, "kafka", "meta.json")
	for i, damage := range []func() error{
		func() error { return nil },
		func() error { return os.WriteFile(filepath.Join(data, "kafka", "quotas.json"), []byte("x"), 0o600) },
		func() error { return os.WriteFile(filepath.Join(data, "kafka", "topics.json"), []byte("{"), 0o600) },
		func() error { return errors.Join(os.RemoveAll(meta), os.Mkdir(meta, 0o700)) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		n, err := Open(t.Context(), Config{
			Data: data, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
			Domains: []Domain{{Name: "none"}},
		})
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		for { // until the mirror has begun
			_, err := n.store.Append(ctx, eventstore.Request{ID: fmt.Sprint(i), Durability: eventstore.Kafka, Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("note", "1"), Events: []eventstore.Event{{Type: "note.taken.v1", Payload: []byte("x")}},
			}}})
			if err == nil {
				break
			}
			if !errors.Is(err, eventstore.ErrUnavailable) || ctx.Err() != nil {
				t.Fatalf("damage %d: append with durability kafka: %v", i, err)
			}
			runtime.Gosched()
		}
		report, err := n.Verify(ctx, []string{"kafka"}, func(string, uint64, uint64) {})
		if err != nil || len(report.Faults) > 0 {
			t.Errorf("damage %d: verify: %v, %v", i, report.Faults, err)
		}
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
		aside, err := filepath.Glob(filepath.Join(data, "kafka-damaged-*", "lock"))
		if err != nil || len(aside) != i {
			t.Errorf("after damage %d the folders that are set aside are %v (%v)", i, aside, err)
		}
	}
}

// The feed is made where it is read, or asked for, and nowhere else; what reads from Kafka reads it then. What cannot be had is refused.
func TestFeedIsMadeWhereItIsRead(t *testing.T) {
	peers := []Peer{{"sh", "127.0.0.1:1", "127.0.0.1:1"}}
	for name, c := range map[string]struct {
		Config
		feed, fromFeed bool
	}{
		"alone":                            {Config{}, false, false},
		"alone, from Kafka":                {Config{Source: SourceKafka}, false, false},
		"alone, asked for":                 {Config{Feed: FeedOn}, true, false},
		"alone, from Kafka, and asked for": {Config{Source: SourceKafka, Feed: FeedOn}, true, true},
		"with others":                      {Config{Peers: peers}, false, false},
		"with others, from Kafka":          {Config{Peers: peers, Source: SourceKafka}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			c.Data, c.Site, c.ClickHouse, c.HTTP, c.GRPC = filepath.Join(t.TempDir(), "data"), "bj", Off, "127.0.0.1:0", "127.0.0.1:0"
			c.Logger, c.Domains = slog.New(slog.DiscardHandler), []Domain{{Name: "none"}}
			n, err := Open(t.Context(), c.Config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := n.Close(); err != nil {
					t.Error(err)
				}
			}()
			status, err := n.status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if topic := status.GetFeed().GetTopic(); c.feed != (topic == "tributary.bj.feed") || c.feed != (n.kafka.feed != nil) {
				t.Errorf("feed %q, want one: %v", topic, c.feed)
			}
			if corrected := n.history(n.local, []string{"order"}) != nil; c.Source == SourceKafka && corrected != c.fromFeed {
				t.Errorf("read models are corrected after conflicts: %v, want %v", corrected, c.fromFeed)
			}
		})
	}
	for says, c := range map[string]Config{"use auto or on": {Feed: "off"}, "--feed on needs Kafka": {Feed: FeedOn, Kafka: Off}} {
		c.Data = t.TempDir()
		if err := c.complete(); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v; want it refused, with %q", c, err, says)
		}
	}
}
