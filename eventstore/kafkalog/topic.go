package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go"
	"github.com/tributary-es/tributary/eventstore"
)

// maxRecordBytes is the room that the topic must give one record: the largest payload with all its headers.
const maxRecordBytes = 2 * eventstore.MaxPayloadBytes

// errTopicMade: the topic was not there and is now; its leader shows only to a new connection.
var errTopicMade = errors.New("topic was made")

// ensureTopic makes the topic with the settings it should have, or reports what a topic that is there has less. It never
// changes one that is there: that is its owner's to decide.
func (c *connection) ensureTopic(ctx context.Context) (faults []string, err error) {
	meta, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{c.topic}})
	if err != nil {
		return nil, fmt.Errorf("ask for topic %s: %w", c.topic, err)
	}
	if len(meta.Topics) != 1 {
		return nil, fmt.Errorf("ask for topic %s: got %d topics", c.topic, len(meta.Topics))
	}
	topic := &meta.Topics[0]
	switch {
	case errors.Is(topic.Error, kafka.UnknownTopicOrPartition):
		return nil, c.makeTopic(ctx, len(meta.Brokers))
	case topic.Error != nil:
		return nil, fmt.Errorf("ask for topic %s: %w", c.topic, topic.Error)
	}
	i := slices.IndexFunc(topic.Partitions, func(p kafka.Partition) bool { return p.ID == c.partition })
	if i < 0 {
		return nil, fmt.Errorf("topic %s has %d partitions and none for shard %d: add partitions to it", c.topic, len(topic.Partitions), c.partition)
	}
	if replicas, want := len(topic.Partitions[i].Replicas), min(3, len(meta.Brokers)); replicas < want {
		faults = append(faults, fmt.Sprintf("replication factor is %d, should be %d", replicas, want))
	}
	return c.checkSettings(ctx, faults, len(topic.Partitions[i].Replicas)), nil
}

// topicExists asks the brokers for the topic.
func (c *connection) topicExists(ctx context.Context) (bool, error) {
	meta, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{c.topic}})
	if err != nil {
		return false, fmt.Errorf("ask for topic %s: %w", c.topic, err)
	}
	c.hears()
	return len(meta.Topics) == 1 && !errors.Is(meta.Topics[0].Error, kafka.UnknownTopicOrPartition), nil
}

func (c *connection) makeTopic(ctx context.Context, brokers int) error {
	replicas := min(3, max(1, brokers))
	response, err := c.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: c.topic, NumPartitions: c.partition + 1, ReplicationFactor: replicas,
		ConfigEntries: []kafka.ConfigEntry{
			{ConfigName: "cleanup.policy", ConfigValue: "delete"},
			{ConfigName: "retention.ms", ConfigValue: "-1"},
			{ConfigName: "retention.bytes", ConfigValue: "-1"},
			{ConfigName: "max.message.bytes", ConfigValue: strconv.Itoa(maxRecordBytes)},
			{ConfigName: "min.insync.replicas", ConfigValue: strconv.Itoa(max(1, replicas-1))},
		},
	}}})
	if err == nil {
		err = response.Errors[c.topic]
	}
	if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
		return fmt.Errorf("make topic %s: %w", c.topic, err)
	}
	return errTopicMade
}

// checkSettings adds to faults what the topic's settings lack. A cluster that does not tell them does not
// stop the mirror. That nobody waits for the answer any more is no fault of the topic's.
func (c *connection) checkSettings(ctx context.Context, faults []string, replicas int) []string {
	response, err := c.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: c.topic,
		ConfigNames: []string{"cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"},
	}}})
	if ctx.Err() != nil {
		return faults
	}
	if err != nil {
		return append(faults, fmt.Sprintf("settings are not told: %v", err))
	}
	for _, resource := range response.Resources {
		for _, entry := range resource.ConfigEntries {
			if fault := settingFault(entry.ConfigName, entry.ConfigValue, replicas); fault != "" {
				faults = append(faults, fault)
			}
		}
	}
	return faults
}

// settingFault says what is wrong with the value of a topic's setting; empty when it is right.
func settingFault(name, value string, replicas int) string {
	number, err := strconv.ParseInt(value, 10, 64)
	switch {
	case name == "cleanup.policy" && value != "delete":
		return "cleanup.policy is " + value + ", should be delete: compaction removes events"
	case name == "cleanup.policy" || err != nil:
		return ""
	case (name == "retention.ms" || name == "retention.bytes") && number >= 0:
		return fmt.Sprintf("%s is %d, should be -1: a restore from this topic will not be whole", name, number)
	case name == "max.message.bytes" && number < maxRecordBytes:
		return fmt.Sprintf("%s is %d, should be %d: a large event would stop the mirror", name, number, maxRecordBytes)
	case name == "min.insync.replicas" && replicas > 1 && number < int64(replicas-1):
		return fmt.Sprintf("%s is %d, should be %d: an acknowledged event may stand on one broker only", name, number, replicas-1)
	}
	return ""
}
