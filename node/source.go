package node

import (
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/projections"
)

// source is where projections read from: the store, or the topic that the mirror writes.
func (n *Node) source() (projections.Source, error) {
	if n.config.Source == SourceKafka {
		return kafkalog.NewReader(n.kafka.options)
	}
	return n.local, nil
}
