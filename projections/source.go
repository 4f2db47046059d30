package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Source is where a runner reads the log from. An eventstore.Reader is one, and so is kafkalog's reader of the topic: the
// runner's code is the same for both, but for a model that is further than the source. A source that is an
// eventstore.Appender is the log itself: the model speaks of events that the log does not have, and is dropped. Any other
// is a copy, such as a topic that is being filled again: it is waited for. A model of another incarnation is dropped
// either way.
type Source interface {
	// Subscribe follows the log after a position, as eventstore.Reader.Subscribe.
	Subscribe(ctx context.Context, after eventstore.Position, f eventstore.Filter) (eventstore.Subscription, error)
	// Log names the log and says how far it can be read.
	Log(ctx context.Context) (eventstore.LogState, error)
}

// ErrSourceBehind: the source, a copy of the log, has not come to where the model stands.
var ErrSourceBehind error = classed{"source is behind the model", eventstore.Transient}

// beginning returns ErrDropped when a log has dropped its first events, from which every model is filled. It is asked before a model is
// touched. What else keeps them from being read is for who reads them, and what a copy of the log has is for its reader.
func beginning(ctx context.Context, source Source, log eventstore.LogState) error {
	if _, original := source.(eventstore.Appender); !original || log.Durable.IsZero() {
		return nil
	}
	sub, err := source.Subscribe(ctx, eventstore.Position{}, eventstore.Filter{MaxChunk: 1})
	if err == nil {
		_, err = sub.Next(ctx)
		sub.Close()
	}
	if errors.Is(err, eventstore.ErrTruncated) {
		// Not wrapped: who is refused because of this has not asked for the events that are gone.
		return fmt.Errorf("%w: %s", ErrDropped, err.Error())
	}
	return nil
}

// place says how a model's cursor stands to the source's log: nil when it fits, ErrSourceBehind when it will,
// eventstore.ErrWrongIncarnation when the model is of another log.
func place(source Source, at Cursor, log eventstore.LogState) error {
	if fits(at, log) {
		return nil
	}
	cause := eventstore.ErrWrongIncarnation
	if _, original := source.(eventstore.Appender); !original && at.Position.Incarnation == log.ID.Incarnation {
		cause = ErrSourceBehind
	}
	return fmt.Errorf("%w: the model is at %s, %s ends at %s", cause, at, log.ID, log.Durable)
}
