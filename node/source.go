package node

import (
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/projections"
)

// source is where projections read from: the store, or a topic, which is the feed where there is one. Personal fields are sealed in it.
func (n *Node) source() (projections.Source, error) {
	switch {
	case n.config.Source != SourceKafka:
		return n.local, nil
	case n.kafka.feed != nil:
		return kafkalog.NewReader(n.kafka.feedOptions)
	}
	return kafkalog.NewReader(n.kafka.options)
}

// opened is the source of projections that may hold personal data, and drop them when they are erased.
func (n *Node) opened() (projections.Source, error) {
	if n.config.Source != SourceKafka {
		return n.sealed, nil
	}
	topic, err := n.source()
	if err != nil {
		return nil, err
	}
	return sealed.NewCopy(topic, n.keys.file), nil
}
