package commands

import (
	"context"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// Timeout gives each message at most d, less when its context ends sooner. A message that ran out of time may have been
// appended or not; its error is of class Transient.
func Timeout(d time.Duration) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, m Message) (eventstore.Receipt, error) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return next(ctx, m)
		}
	}
}
