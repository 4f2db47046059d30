package projections_test

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

// TestTheSourceMayBeKafka runs one projection from the store and another from its mirror in Kafka, which is stopped for a
// while, and wants the same of both.
func TestTheSourceMayBeKafka(t *testing.T) {
	dir := t.TempDir()
	broker, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeBroker := func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	}
	log := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Shard: 0}})
	count(t, log, 500)
	o := kafkalog.Options{Brokers: []string{broker.Addr()}, Topic: kafkalog.TopicOf("bj"), Heartbeat: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond}
	topic, err := kafkalog.NewReader(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var owned sync.WaitGroup
	defer func() {
		cancel()
		owned.Wait()
		closeBroker()
	}()
	mirror := kafkalog.NewMirror(log, o)
	owned.Go(func() { _ = mirror.Run(ctx) }) // how it ends is for its own tests

	fromStore, fromKafka := memview.NewKeys(counters(1)), memview.NewKeys(counters(1))
	options := quiet
	options.RetryMax = 100 * time.Millisecond
	options.CheckEvery = 50 * time.Millisecond
	a, b := projections.NewRunner(log, fromStore, options), projections.NewRunner(topic, fromKafka, options)
	for _, r := range []*projections.Runner{a, b} {
		owned.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	both := func(at eventstore.Position) {
		t.Helper()
		await(t, a, at)
		await(t, b, at)
		if digest(t, fromStore) != digest(t, fromKafka) {
			t.Errorf("at %s the models differ", at)
		}
	}
	both(eventstore.Position{Incarnation: 1, LSN: 500})
	both(count(t, log, 500))

	_, text, err := net.SplitHostPort(broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	closeBroker()
	at := count(t, log, 500)
	await(t, a, at)
	if broker, err = embedded.Open(dir, embedded.Options{Port: port}); err != nil {
		t.Fatal(err)
	}
	both(at)
	if before, after, err := b.Rebuild(ctx, nil); err != nil || before != after {
		t.Errorf("Rebuild from Kafka: %s, %s, %v", before, after, err)
	}
	both(count(t, log, 100))
	if n := b.Status().Rebuilds; n != 2 {
		t.Errorf("the model from Kafka was filled %d times, want at first and by Rebuild", n)
	}
}
