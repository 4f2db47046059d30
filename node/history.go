package node

import (
	"context"
	"iter"
	"sync"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
)

// history says what of the log's streams counts, for a projection that is corrected after conflicts; nil for another one. A topic
// that is no feed has the events of this site alone: what is made from it takes them as they come.
func (n *Node) history(log eventstore.Reader, categories []string) projections.History {
	if len(categories) == 0 || n.config.Source == SourceKafka && n.kafka.feed == nil {
		return nil
	}
	return counting.New(log, rulesOf(n.bus))
}

// unknown returns what reports whether only a newer program knows an event: another site has recorded it in a stream of which this
// one folds the state, and it is of a type that nothing here reads.
func (n *Node) unknown() func(*eventstore.Recorded) bool {
	return func(e *eventstore.Recorded) bool {
		if e.Dot.Log.Site == n.config.Site || e.Kind == eventstore.KindSystem || e.Kind == eventstore.KindResolution {
			return false
		}
		return n.bus.Lacks(e.Stream.Category, e.Type)
	}
}

// dropping is the log for who has to know, of streams whose beginning was dropped too, who wrote them.
type dropping struct {
	*sealed.Store
	local *pebblestore.Store
}

var _ counting.Dropping = dropping{}

// LastDots implements counting.Dropping.
func (d dropping) LastDots(ctx context.Context, stream eventstore.StreamID, count uint64) (eventstore.Vector, error) {
	return d.local.LastDots(ctx, stream, count)
}

// withheld reads streams without what is personal of those whose erasure is on record: what read models have dropped of them
// does not come back with a correction.
type withheld struct{ dropping }

// Read implements eventstore.Reader.
func (w withheld) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range w.Store.Read(ctx, stream, from) {
			if err == nil {
				err = w.Withhold(ctx, &e)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
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
