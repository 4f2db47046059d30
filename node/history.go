package node

import (
	"sync"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
)

// history says what of the log's streams counts, for a projection that is corrected after conflicts; nil for another one. A topic
// has the events of this site alone: what is made from it takes them as they come.
func (n *Node) history(log eventstore.Reader, categories []string) projections.History {
	if len(categories) == 0 || n.config.Source == SourceKafka {
		return nil
	}
	return counting.New(log, rulesOf(n.bus))
}

// rulesOf returns the resolvers of a bus.
func rulesOf(b *commands.Bus) counting.Rules {
	resolvers := sync.OnceValue(b.Resolvers) // when the first event comes, all are registered
	return counting.Rules{
		AllCount: func(category string) bool {
			switch resolvers()[category] {
			case commands.ByCRDT, commands.ByLastWriter, commands.ByEscrow:
				return true
			}
			return false
		},
		Void: func(category string, events []eventstore.Recorded) (map[eventstore.Dot]bool, error) {
			j, err := b.Judge(category, events)
			if err != nil {
				return nil, err
			}
			void := make(map[eventstore.Dot]bool, len(j.Void))
			for _, v := range j.Void {
				void[v.Event] = true
			}
			return void, nil
		},
	}
}
