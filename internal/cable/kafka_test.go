package cable_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/internal/cable"
)

// leader asks the broker that leads the topic for its end, within a time.
func leader(t *testing.T, client *kgo.Client, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	partition, topic, request := kmsg.NewListOffsetsRequestTopicPartition(), kmsg.NewListOffsetsRequestTopic(), kmsg.NewPtrListOffsetsRequest()
	partition.Timestamp = -1
	topic.Topic, topic.Partitions = "things", append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	_, err := request.RequestWith(ctx, client)
	return err
}

// A client that came by cable stays on it, although the broker names another address: cut, it reaches nobody.
func TestKafkaClientsStayOnTheCable(t *testing.T) {
	broker, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	c, err := cable.NewKafka(broker.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	create, topic := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "things", 1, 1
	create.Topics = append(create.Topics, topic)
	if _, err := create.RequestWith(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if err := leader(t, client, 20*time.Second); err != nil {
		t.Fatalf("by cable: %v", err)
	}
	c.Cut()
	if err := leader(t, client, 300*time.Millisecond); err == nil {
		t.Error("the broker was reached past a cable that is cut")
	}
	c.Restore()
	if err := leader(t, client, 20*time.Second); err != nil {
		t.Errorf("by cable, after Restore: %v", err)
	}
}
