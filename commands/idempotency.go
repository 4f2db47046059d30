package commands

import (
	"context"

	"github.com/tributary-es/tributary/eventstore"
)

// Idempotency gives messages without an ID the one that derive returns; an empty one leaves the message as it is. It is
// for sources whose commands say themselves which occurrence they stand for, such as the line of a file or the offset of
// a record: read twice, they have one effect.
func Idempotency(derive func(Message) string) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, m Message) (eventstore.Receipt, error) {
			if m.ID == "" {
				m.ID = derive(m)
			}
			return next(ctx, m)
		}
	}
}
