package projections

import (
	"context"

	"github.com/tributary-es/tributary/eventstore"
)

// Source is where a runner reads the log from. An eventstore.Reader is one, and so is kafkalog's reader of the topic: the
// runner's code is the same for both.
type Source interface {
	// Subscribe follows the log after a position, as eventstore.Reader.Subscribe.
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error)
	// Log names the log and says how far it can be read.
	Log(ctx context.Context) (eventstore.LogState, error)
}
