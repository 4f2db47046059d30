package node

import (
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/projections"
)

// source is where projections read from: the store, or the topic that the mirror writes. Personal fields are sealed in it.
func (n *Node) source() (projections.Source, error) {
	if n.config.Source == SourceKafka {
		return kafkalog.NewReader(n.kafka.options)
	}
	return n.local, nil
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
