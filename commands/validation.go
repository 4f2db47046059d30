package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Validation refuses messages with commands that find fault with themselves: commands that have a method
// Validate() error. The faults of all commands are joined, and the error matches eventstore.ErrInvalid. Aggregates have a
// Validate of their own, which the bus calls anyway; this is for what holds of a command whoever decides it.
func Validation() Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, m Message) (eventstore.Receipt, error) {
			var faults []error
			for _, cmd := range m.Commands {
				if v, ok := cmd.(interface{ Validate() error }); ok {
					if err := v.Validate(); err != nil {
						faults = append(faults, fmt.Errorf("%T: %w", cmd, err))
					}
				}
			}
			if len(faults) > 0 {
				return eventstore.Receipt{}, fmt.Errorf("%w: %w", eventstore.ErrInvalid, errors.Join(faults...))
			}
			return next(ctx, m)
		}
	}
}
