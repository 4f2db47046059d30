package kafkalog_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/durable"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "broker-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	broker, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		panic(err)
	}
	defer broker.Close()

	// A store, its mirror, and appends that wait for the mirror.
	log := memstore.New(memstore.Options{})
	options := kafkalog.Options{Brokers: []string{broker.Addr()}, Topic: kafkalog.TopicOf("local")}
	mirror := kafkalog.NewMirror(log, options)
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- mirror.Run(run) }()
	store := durable.New(log, map[eventstore.Durability]durable.Keeper{eventstore.Kafka: mirror})
	if err := mirror.Ready(ctx); err != nil {
		panic(err)
	}
	receipt, err := store.Append(ctx, eventstore.Request{
		Durability: eventstore.Kafka,
		Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("order", "536365"),
			Events: []eventstore.Event{{Type: "order.created.v1", Encoding: eventstore.JSON, Payload: []byte(`{"lines":7}`)}},
		}},
	})
	fmt.Println(receipt.Position, receipt.Reached, err)

	// The topic, read as the store is read.
	reader, err := kafkalog.NewReader(options)
	if err != nil {
		panic(err)
	}
	subscription, err := reader.Subscribe(ctx, eventstore.Position{}, eventstore.Filter{})
	if err != nil {
		panic(err)
	}
	defer subscription.Close()
	chunk, err := subscription.Next(ctx)
	fmt.Println(chunk.Events[0].Stream, chunk.Events[0].Type, string(chunk.Events[0].Payload), err)

	stop()
	fmt.Println(<-done)
	report, err := kafkalog.Audit(ctx, log, options, nil)
	fmt.Println(report.Records, report.OK(), err)
	// Output:
	// 1-1 kafka <nil>
	// default/order/536365 order.created.v1 {"lines":7} <nil>
	// <nil>
	// 1 true <nil>
}
