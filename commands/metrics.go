package commands

import (
	"context"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Observer is told of every message that was handled. It is called by the goroutine that dispatched the message and must
// not block.
type Observer interface {
	// Dispatched says which message was handled, how long it took, and with what result: a receipt or an error, whose
	// eventstore.ClassOf tells a refusal from a fault.
	Dispatched(m *Message, took time.Duration, receipt eventstore.Receipt, err error)
}

// Metrics tells an observer of every message.
func Metrics(o Observer) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, m Message) (eventstore.Receipt, error) {
			start := time.Now()
			receipt, err := next(ctx, m)
			o.Dispatched(&m, time.Since(start), receipt, err)
			return receipt, err
		}
	}
}
