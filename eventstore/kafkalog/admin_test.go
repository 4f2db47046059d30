package kafkalog_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What tests ask of a broker goes through a client that is not ours.

func admin(t testing.TB, addr string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func listEnd(client *kgo.Client, topic string) (int64, error) {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp = -1
	rt.Partitions = append(rt.Partitions, rp)
	request.Topics = append(request.Topics, rt)
	shards := client.RequestSharded(context.Background(), request)
	if len(shards) != 1 || shards[0].Err != nil {
		return 0, fmt.Errorf("ask for the end of %s: %+v", topic, shards)
	}
	p := shards[0].Resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
	return p.Offset, kerr.ErrorForCode(p.ErrorCode)
}

func deleteTopic(t testing.TB, addr, topic string) {
	t.Helper()
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.TopicNames = []string{topic}
	rt := kmsg.NewDeleteTopicsRequestTopic()
	rt.Topic = &topic
	request.Topics = append(request.Topics, rt)
	response, err := request.RequestWith(context.Background(), admin(t, addr))
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("delete topic %s: %v", topic, err)
	}
}

// cutTopic removes all records before an offset, as retention does; -1 removes all there are.
func cutTopic(t testing.TB, addr, topic string, before int64) {
	t.Helper()
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.TimeoutMillis = 5000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Offset = before
	rt.Partitions = append(rt.Partitions, rp)
	request.Topics = append(request.Topics, rt)
	for _, shard := range admin(t, addr).RequestSharded(context.Background(), request) {
		err := shard.Err
		if err == nil {
			err = kerr.ErrorForCode(shard.Resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0].ErrorCode)
		}
		if err != nil {
			t.Fatalf("cut topic %s: %v", topic, err)
		}
	}
}

// makeTopic makes a topic of one partition with settings of the test's own.
func makeTopic(t testing.TB, addr, topic string, settings map[string]string) {
	t.Helper()
	if err := tryMakeTopic(admin(t, addr), topic, settings); err != nil {
		t.Fatalf("make topic %s: %v", topic, err)
	}
}

func tryMakeTopic(client *kgo.Client, topic string, settings map[string]string) error {
	request := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 1, 1
	for name, value := range settings {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, &value
		rt.Configs = append(rt.Configs, c)
	}
	request.Topics = append(request.Topics, rt)
	response, err := request.RequestWith(context.Background(), client)
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	return err
}

func topicSettings(t testing.TB, addr, topic string) map[string]string {
	t.Helper()
	request := kmsg.NewPtrDescribeConfigsRequest()
	rr := kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	request.Resources = append(request.Resources, rr)
	response, err := request.RequestWith(context.Background(), admin(t, addr))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, c := range response.Resources[0].Configs {
		if c.Value != nil {
			settings[c.Name] = *c.Value
		}
	}
	return settings
}

// copyRecords writes records to a topic by another client, which knows nothing of mirrors.
func copyRecords(t testing.TB, addr, topic string, records ...*kgo.Record) {
	t.Helper()
	client := admin(t, addr)
	for _, r := range records {
		r.Topic, r.Partition = topic, 0
	}
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(fmt.Errorf("write to %s: %w", topic, err))
	}
}

// rawRecords reads a topic whole with another client.
func rawRecords(t testing.TB, addr, topic string) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	end := endOffset(t, client, topic)
	var records []*kgo.Record
	for len(records) == 0 || records[len(records)-1].Offset+1 < end {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}
