package commands

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/tributary-es/tributary/eventstore"
)

// PanicError is what Recovery makes of a panic. It is of class Broken.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns what was panicked with; the stack is for logs.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Class returns eventstore.Broken.
func (e *PanicError) Class() eventstore.Class { return eventstore.Broken }

// Recovery turns a panic while a message is handled into a *PanicError. The streams involved are free again, and what was
// folded of them is forgotten.
func Recovery() Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, m Message) (receipt eventstore.Receipt, err error) {
			defer func() {
				if v := recover(); v != nil {
					receipt, err = eventstore.Receipt{}, &PanicError{Value: v, Stack: debug.Stack()}
				}
			}()
			return next(ctx, m)
		}
	}
}
